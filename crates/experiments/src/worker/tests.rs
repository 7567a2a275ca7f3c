use anyhow::Error;
use tch::TchError;

use super::*;

const FULL: &str = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried \
                    to allocate 4 bytes.";

#[track_caller]
fn check(error: impl Into<Error>, expected: bool) {
    let error = error.into().context("the cell");
    assert_eq!(is_out_of_memory(&error), expected, "{error:#}");
}

fn torch(text: &str) -> TchError {
    TchError::Torch(text.to_owned())
}

#[test]
fn out_of_memory_is_known_in_the_error_of_every_crate() {
    check(torch(FULL), true);
    check(forerun_tensors::Error::from(torch(FULL)), true);
    check(forerun_arch::Error::from(torch(FULL)), true);
    check(forerun_train::Error::from(torch(FULL)), true);
    check(torch("mat1 and mat2 shapes cannot be multiplied"), false);
    let source = "a disk that is out of memory cells".into();
    check(forerun_train::Error::Caller { who: "observer", source }, false);
}
