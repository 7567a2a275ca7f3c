use super::*;

#[test]
fn groups_are_in_the_order_in_which_they_first_appear() {
    assert_eq!(group(&[7, 2, 7, 9, 2, 0]), [vec![0, 2], vec![1, 4], vec![3], vec![5]]);
}
