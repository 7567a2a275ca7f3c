use super::runner::share_of_same;
use super::table::share;

#[test]
fn the_share_of_the_bandwidth_is_that_of_the_weights_read_once_a_step() {
    // 160 tokens a second of 8 texts are 20 steps, which read 10 GB.
    assert!((share(&[150.0, 160.0, 190.0], 8.0, 500e6, 20e9) - 50.0).abs() < 1e-9);
}

#[test]
fn tokens_that_one_program_did_not_choose_differ() {
    assert_eq!(share_of_same(&[1, 2, 3, 4], &[1, 2, 3, 4]), (1.0, 4));
    assert_eq!(share_of_same(&[1, 2, 3, 4], &[1, 2, 9, 4]), (0.75, 4));
    assert_eq!(share_of_same(&[1, 2], &[1, 2, 9, 4]), (0.5, 4));
    assert_eq!(share_of_same(&[], &[]), (0.0, 0));
}
