use tch::TchError;

use super::*;

fn check(error: Error, out_of_memory: bool) {
    assert_eq!(error.is_out_of_memory(), out_of_memory, "{error}");
}

#[test]
fn a_cause_below_the_models_error_counts_and_other_errors_do_not() {
    let exhausted = || TchError::Torch("CUDA out of memory".into());
    check(Error::model(Box::new(exhausted())), true);
    check(Error::model("shapes differ".into()), false);
    check(Error::data(Box::new(exhausted())), false);
    check(TchError::Torch("expected 2 dims".into()).into(), false);
}

#[test]
fn a_real_allocation_that_cannot_succeed_is_recognised() {
    let huge = tch::Tensor::f_empty([1 << 60], (tch::Kind::Float, tch::Device::Cpu));
    check(huge.unwrap_err().into(), true);
}
