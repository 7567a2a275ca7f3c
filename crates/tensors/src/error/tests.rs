use std::io;
use std::path::{Path, PathBuf};

use tch::{Device, Kind, TchError, Tensor};

use super::{Error, ensure, is_out_of_memory};

fn check(error: Error, expected: &str) {
    assert_eq!(error.to_string(), expected);
}

#[test]
fn messages_name_the_culprit_and_the_value() {
    let path = PathBuf::from("a/b.safetensors");
    check(
        ensure(false, "head_dim", "positive and even", 7).unwrap_err(),
        "head_dim must be positive and even, got 7",
    );
    let want = "[tokens, d_model]".to_owned();
    check(
        Error::Shape { arg: "hidden", want, got: vec![2, 3, 4] },
        "hidden must have shape [tokens, d_model], got [2, 3, 4]",
    );
    check(Error::file(&path, "truncated"), "`a/b.safetensors`: truncated");
    check(Error::tensor(&path, "w", "is missing"), "`a/b.safetensors`: tensor `w` is missing");
    assert!(ensure(true, "x", "y", 0).is_ok());
}

#[test]
fn the_stack_trace_of_libtorch_is_cut_off() {
    let a = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));
    let error = a.f_matmul(&a).unwrap_err();
    assert!(
        error.to_string().contains("Exception raised from"),
        "the trap that this guards is gone"
    );
    check(error.into(), "mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)");
}

#[test]
fn running_out_of_memory_is_told_apart() {
    let huge = Tensor::f_zeros([1i64 << 56], (Kind::Float, Device::Cpu));
    let error = Error::from(huge.unwrap_err());
    assert!(error.is_out_of_memory(), "{error}");
    assert!(
        !Error::Foreign("mat1 and mat2 shapes cannot be multiplied".to_owned()).is_out_of_memory()
    );
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
        assert!(Error::from(TchError::Torch(text.to_owned())).is_out_of_memory(), "{text}");
        assert!(Error::Foreign(text.to_owned()).is_out_of_memory(), "{text}");
    }
}

#[test]
fn a_cause_counts_and_the_file_system_does_not() {
    let exhausted = Error::Foreign("CUDA out of memory".to_owned());
    assert!(is_out_of_memory(&io::Error::other(exhausted)));
    let source = io::Error::other("Cannot allocate memory (os error 12)");
    assert!(!Error::io(Path::new("a"), source).is_out_of_memory());
    let reason = "holds no tensor `out of memory`";
    assert!(!Error::file(Path::new("a"), reason).is_out_of_memory());
}
