use super::*;

#[test]
fn tokens_lie_between_ends_in_order_and_an_open_end_stays_open() {
    let open = f64::INFINITY;
    assert_eq!(tokens_between(6e20, [1e9, 2e9]), [5e10, 1e11]);
    assert_eq!(tokens_between(6e20, [1e9, open]), [-open, 1e11]);
    assert_eq!(tokens_between(6e20, [-open, 2e9]), [5e10, open]);
    assert_eq!(tokens_between(6e20, [-open, open]), [-open, open]);
}
