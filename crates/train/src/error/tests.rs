use tch::TchError;

use super::*;

fn check(error: Error, out_of_memory: bool) {
    assert_eq!(error.is_out_of_memory(), out_of_memory, "{error}");
}

#[test]
fn libtorchs_texts_for_exhausted_memory_are_known() {
    for text in [
        "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.11 GiB",
        "CUDA error: out of memory",
        "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to \
         allocate 4611686018427387904 bytes. Error code 12 (Cannot allocate memory)",
        "DefaultCPUAllocator: not enough memory: you tried to allocate 80 bytes.",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "std::bad_alloc",
    ] {
        check(TchError::Torch(text.into()).into(), true);
    }
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
