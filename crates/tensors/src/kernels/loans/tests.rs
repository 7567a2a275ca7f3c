use tch::Kind;

use super::Loans;
use crate::fixtures::randn;

#[test]
fn memory_that_is_lent_for_writing_is_not_lent_again() {
    let x = randn(&[6, 10], 1);
    let (left, right) = (x.narrow(0, 0, 3), x.narrow(0, 3, 3));
    let mut loans = Loans::default();
    let _read = loans.rows::<f32>("left", &left).unwrap();
    let _also = loans.rows::<f32>("left", &left).unwrap();
    let _written = loans.rows_mut::<f32>("right", &right, [3, 10]).unwrap();
    for middle in [x.narrow(0, 2, 2), x.narrow(0, 5, 1), x.narrow(0, 0, 1)] {
        assert!(loans.rows_mut::<f32>("middle", &middle, [middle.size()[0] as usize, 10]).is_err());
    }
    assert!(loans.rows::<f32>("right", &right).is_err());
    assert!(loans.rows::<f32>("left", &left).is_ok());
}

#[test]
fn what_is_not_there_is_refused() {
    let mut loans = Loans::default();
    let nothing = tch::Tensor::new();
    let message = loans.rows::<f32>("x", &nothing).unwrap_err().to_string();
    assert_eq!(message, "x is not defined");
    let deep = randn(&[1, 1, 1, 1, 1], 1);
    let message = loans.rows::<f32>("x", &deep).unwrap_err().to_string();
    assert_eq!(message, "x must have at most four dimensions, got 5");
    let message = loans.indices("targets", &randn(&[3], 1), 3).unwrap_err().to_string();
    assert_eq!(message, "kind of targets must be Int64, got Float");
    let apart = randn(&[6], 1).to_kind(Kind::Int64).view([3, 2]).select(1, 0);
    let message = loans.indices("targets", &apart, 3).unwrap_err().to_string();
    assert_eq!(message, "targets must have shape [3], contiguous, got [3]");
}
