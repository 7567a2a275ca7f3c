use std::path::PathBuf;

use tch::{Device, Kind, Tensor};

use super::{Error, ensure};

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
