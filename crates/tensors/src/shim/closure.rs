//! A Rust closure as the backward of an autograd node.

use std::any::Any;
use std::ffi::{c_char, c_void};
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;
use std::slice;

use tch::Tensor;
use torch_sys::C_tensor;

use super::{check, ft_custom_function, ft_text, pointers};
use crate::error::{Error, Result};

/// From the gradient of each output to the gradient of each input, if it has one.
pub(crate) type Backward = Box<dyn FnMut(&[Tensor]) -> Result<Vec<Option<Tensor>>> + Send>;

/// Puts `backward` between `inputs` and `outputs`; `always` does so even if no input requires a gradient.
/// What it returns are new handles to the outputs' memory.
pub(crate) fn custom_function(
    inputs: &[&Tensor],
    outputs: &[Tensor],
    always: bool,
    backward: Backward,
) -> Result<Vec<Tensor>> {
    let inputs = pointers(inputs);
    let mut handles: Vec<*mut C_tensor> =
        outputs.iter().map(|output| output.as_ptr().cast_mut()).collect();
    let closure = Box::into_raw(Box::new(backward)).cast::<c_void>();
    // SAFETY: valid handles, borrowed for the call; the C++ side owns the closure from here on, drops it once,
    // and enters it only once at a time. On success every entry of `handles` has become an owned handle.
    unsafe {
        check(ft_custom_function(
            inputs.len(),
            inputs.as_ptr(),
            handles.len(),
            handles.as_mut_ptr(),
            always,
            closure,
            run,
            drop_closure,
        ))?;
        Ok(handles.into_iter().map(|handle| Tensor::from_ptr(handle)).collect())
    }
}

/// What libtorch's engine calls; `ft_backward_fn` in shim.h.
extern "C" fn run(
    closure: *mut c_void,
    grads: *mut *mut C_tensor,
    n_grads: usize,
    results: *mut *mut C_tensor,
    n_results: usize,
) -> *mut c_char {
    // SAFETY: `closure` is the box that `custom_function` made, alive and not entered elsewhere; the two lists
    // have the stated lengths, and the handles in `grads` are ours.
    let (backward, grads, results) = unsafe {
        let grads = list(grads, n_grads).iter().map(|&grad| Tensor::from_ptr(grad));
        (&mut *closure.cast::<Backward>(), grads.collect::<Vec<_>>(), list(results, n_results))
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let answer = backward(&grads);
        drop(grads);
        hand_over(answer?, results)
    }));
    match outcome {
        Ok(Ok(())) => null_mut(),
        Ok(Err(error)) => shielded_text(|| error.to_string()),
        Err(payload) => {
            let text =
                shielded_text(|| format!("a Rust backward panicked: {}", message(&*payload)));
            shielded(|| drop(payload));
            text
        }
    }
}

/// The handles of a C++ vector, whose pointer may be null if it is empty; a slice's never is.
///
/// # Safety
/// As [`slice::from_raw_parts_mut`], unless `n` is 0.
unsafe fn list<'a>(first: *mut *mut C_tensor, n: usize) -> &'a mut [*mut C_tensor] {
    if n == 0 {
        return &mut [];
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts_mut(first, n) }
}

fn hand_over(answer: Vec<Option<Tensor>>, results: &mut [*mut C_tensor]) -> Result<()> {
    if answer.len() != results.len() {
        let (got, want) = (answer.len(), results.len());
        return Err(Error::Foreign(format!(
            "a Rust backward returned {got} gradients for {want} inputs"
        )));
    }
    for (result, gradient) in results.iter_mut().zip(answer) {
        if let Some(gradient) = gradient {
            *result = gradient.as_ptr().cast_mut();
            forget(gradient); // the C++ side owns the handle now
        }
    }
    Ok(())
}

extern "C" fn drop_closure(closure: *mut c_void) {
    // SAFETY: made by `Box::into_raw` in `custom_function`, and called once.
    shielded(|| drop(unsafe { Box::from_raw(closure.cast::<Backward>()) }));
}

/// Runs what may panic (a destructor) where nothing could report it; the panic hook has printed it already.
pub(super) fn shielded(body: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(body)) {
        forget(payload); // its own destructor might panic again
    }
}

fn shielded_text(text: impl FnOnce() -> String) -> *mut c_char {
    let text = catch_unwind(AssertUnwindSafe(text));
    let text = text.unwrap_or_else(|payload| {
        forget(payload);
        "a Rust backward failed, and so did describing how".to_owned()
    });
    let text = text.replace('\0', "\u{fffd}");
    // SAFETY: the bytes are copied, up to the length.
    unsafe { ft_text(text.as_ptr().cast(), text.len()) }
}

fn message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
