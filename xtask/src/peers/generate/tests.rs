use super::*;

#[test]
fn the_share_of_the_bandwidth_is_that_of_the_weights_read_once_a_step() {
    // 160 tokens a second of 8 texts are 20 steps, which read 10 GB.
    assert!((share(&[150.0, 160.0, 190.0], 8.0, 500e6, 20e9) - 50.0).abs() < 1e-9);
}
