//! Safe Rust over `shim.cpp`. All of this crate's `unsafe` that concerns libtorch is in this folder.

#![expect(unsafe_code, reason = "calls into the C++ shim; each call says why it is sound")]

mod closure;
mod parallel;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{null, null_mut};

use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

use crate::error::{Error, Result, ensure};

pub(crate) use closure::custom_function;
pub(crate) use parallel::for_each;

type BackwardFn =
    extern "C" fn(*mut c_void, *mut *mut C_tensor, usize, *mut *mut C_tensor, usize) -> *mut c_char;
type DropFn = extern "C" fn(*mut c_void);

/// Autocast state of one thread and device type, as `ft_autocast` in shim.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct AutocastState {
    pub(crate) enabled: bool,
    pub(crate) cache: bool,
    pub(crate) kind: c_int,
}

unsafe extern "C" {
    fn ft_text(bytes: *const c_char, length: usize) -> *mut c_char;
    fn ft_free(text: *mut c_char);
    safe fn ft_keep_freed_memory() -> bool;
    safe fn ft_set_grad_enabled(enabled: bool) -> bool;
    safe fn ft_grad_enabled() -> bool;
    fn ft_clear_grad(tensor: *mut C_tensor);
    fn ft_autocast_get(device: c_int, state: *mut AutocastState) -> *mut c_char;
    fn ft_autocast_set(device: c_int, state: *const AutocastState) -> *mut c_char;
    safe fn ft_autocast_enter();
    safe fn ft_autocast_leave();
    safe fn ft_autocast_clear_cache();
    fn ft_generator_get(device: c_int, state: *mut *mut C_tensor) -> *mut c_char;
    fn ft_generator_set(device: c_int, state: *const C_tensor) -> *mut c_char;
    fn ft_fused_adamw(
        count: usize,
        params: *const *const C_tensor,
        grads: *const *const C_tensor,
        exp_avgs: *const *const C_tensor,
        exp_avg_sqs: *const *const C_tensor,
        steps: *const *const C_tensor,
        lr: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        eps: f64,
    ) -> *mut c_char;
    fn ft_global_norm(
        count: usize,
        tensors: *const *const C_tensor,
        norm: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn ft_custom_function(
        n_inputs: usize,
        inputs: *const *const C_tensor,
        n_outputs: usize,
        outputs: *mut *mut C_tensor,
        always: bool,
        closure: *mut c_void,
        run: BackwardFn,
        drop: DropFn,
    ) -> *mut c_char;
    fn ft_backward(loss: *const C_tensor, gradient: *const C_tensor) -> *mut c_char;
    fn ft_from_blob(
        data: *mut c_void,
        n_dims: usize,
        shape: *const i64,
        kind: c_int,
        owner: *mut c_void,
        drop: DropFn,
        tensor: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn ft_layout_of(tensor: *const C_tensor, layout: *mut RawLayout) -> *mut c_char;
    fn ft_parallel_for(
        count: i64,
        grain: i64,
        context: *const c_void,
        body: extern "C" fn(*const c_void, i64, i64),
    ) -> *mut c_char;
}

/// `ft_layout` in shim.h.
#[repr(C)]
struct RawLayout {
    data: *mut c_void,
    kind: c_int,
    n_dims: usize,
    size: [i64; 4],
    stride: [i64; 4],
}

/// Where the numbers of a dense CPU tensor of at most four dimensions lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Not null unless the tensor is empty.
    pub(crate) data: *mut c_void,
    pub(crate) kind: Kind,
    n_dims: usize,
    size: [usize; 4],
    stride: [usize; 4],
}

impl Layout {
    /// `arg` names the tensor in an error.
    pub(crate) fn of(arg: &'static str, tensor: &Tensor) -> Result<Self> {
        let mut raw =
            RawLayout { data: null_mut(), kind: 0, n_dims: 0, size: [0; 4], stride: [0; 4] };
        // SAFETY: a valid handle; the C++ side fills the struct, whose layout is `ft_layout`'s.
        let found = unsafe { check(ft_layout_of(tensor.as_ptr(), &raw mut raw)) };
        found.map_err(|error| Error::Foreign(format!("{arg} {error}")))?;
        let kind = kind_of(raw.kind)?;
        // libtorch has neither negative sizes nor negative strides.
        let [size, mut stride] =
            [raw.size, raw.stride].map(|list| list.map(|n| n.unsigned_abs() as usize));
        for (stride, &size) in stride.iter_mut().zip(&size) {
            // Of one entry it means nothing, and libtorch puts anything there.
            *stride = if size == 1 { 0 } else { *stride };
        }
        Ok(Self { data: raw.data, kind, n_dims: raw.n_dims, size, stride })
    }

    pub(crate) fn size(&self) -> &[usize] {
        &self.size[..self.n_dims]
    }

    /// In elements; 0 where the size is 1.
    pub(crate) fn stride(&self) -> &[usize] {
        &self.stride[..self.n_dims]
    }

    /// Elements from the first to the last, both counted; 0 if there is none.
    pub(crate) fn extent(&self) -> usize {
        if self.size().contains(&0) {
            return 0;
        }
        1 + self.size().iter().zip(self.stride()).map(|(n, stride)| (n - 1) * stride).sum::<usize>()
    }
}

/// Turns gradient recording on or off for this thread until dropped, also when a panic unwinds.
pub(crate) struct GradMode {
    before: bool,
    _on_this_thread: std::marker::PhantomData<*const ()>,
}

impl GradMode {
    pub(crate) fn set(enabled: bool) -> Self {
        let before = ft_set_grad_enabled(enabled);
        Self { before, _on_this_thread: std::marker::PhantomData }
    }
}

impl Drop for GradMode {
    fn drop(&mut self) {
        ft_set_grad_enabled(self.before);
    }
}

/// Whether operations on this thread are recorded for a backward pass.
pub(crate) fn grad_enabled() -> bool {
    ft_grad_enabled()
}

pub(crate) fn keep_freed_memory() -> bool {
    ft_keep_freed_memory()
}

pub(crate) fn clear_grad(tensor: &Tensor) {
    // SAFETY: the handle is valid; dropping its gradient is what `zero_grad` on a shared handle does too.
    unsafe { ft_clear_grad(tensor.as_ptr().cast_mut()) }
}

impl AutocastState {
    pub(crate) fn get(device: Device) -> Result<Self> {
        let mut state = Self { enabled: false, cache: false, kind: 0 };
        // SAFETY: the C++ side fills the struct, whose layout is `ft_autocast`'s.
        unsafe { check(ft_autocast_get(device_type(device)?, &raw mut state))? };
        Ok(state)
    }

    pub(crate) fn set(self, device: Device) -> Result<()> {
        // SAFETY: the C++ side reads the struct, whose layout is `ft_autocast`'s.
        unsafe { check(ft_autocast_set(device_type(device)?, &raw const self)) }
    }

    pub(crate) fn with_kind(self, kind: Kind) -> Result<Self> {
        Ok(Self { kind: scalar_type(kind)?, ..self })
    }

    pub(crate) fn kind(self) -> Result<Kind> {
        kind_of(self.kind)
    }
}

pub(crate) fn enter_autocast() {
    ft_autocast_enter();
}

pub(crate) fn leave_autocast() {
    ft_autocast_leave();
}

pub(crate) fn clear_autocast_cache() {
    ft_autocast_clear_cache();
}

pub(crate) fn generator_state(device: Device) -> Result<Tensor> {
    let mut state = null_mut();
    // SAFETY: on success the C++ side has stored an owned handle.
    unsafe {
        check(ft_generator_get(device_index(device)?, &raw mut state))?;
        Ok(Tensor::from_ptr(state))
    }
}

pub(crate) fn set_generator_state(device: Device, state: &Tensor) -> Result<()> {
    // SAFETY: the handle is valid and only read; libtorch checks its size and kind.
    unsafe { check(ft_generator_set(device_index(device)?, state.as_ptr())) }
}

/// Five lists of one length; `hyper` is lr, beta1, beta2, weight_decay, eps.
pub(crate) fn fused_adamw(lists: [&[&Tensor]; 5], hyper: [f64; 5]) -> Result<()> {
    let [params, grads, exp_avgs, exp_avg_sqs, steps] = lists.map(pointers);
    let [lr, beta1, beta2, weight_decay, eps] = hyper;
    let count = params.len();
    let others = [
        ("grads", &grads),
        ("exp_avg", &exp_avgs),
        ("exp_avg_sq", &exp_avg_sqs),
        ("steps", &steps),
    ];
    for (name, list) in others {
        ensure(
            list.len() == count,
            name,
            &format!("{count} tensors, one a parameter"),
            list.len(),
        )?;
    }
    // SAFETY: five lists of `count` valid handles; shapes, kinds and layouts are checked on the C++ side.
    unsafe {
        check(ft_fused_adamw(
            count,
            params.as_ptr(),
            grads.as_ptr(),
            exp_avgs.as_ptr(),
            exp_avg_sqs.as_ptr(),
            steps.as_ptr(),
            lr,
            beta1,
            beta2,
            weight_decay,
            eps,
        ))
    }
}

/// At least one tensor.
pub(crate) fn global_norm(tensors: &[&Tensor]) -> Result<Tensor> {
    let handles = pointers(tensors);
    let mut norm = null_mut();
    // SAFETY: valid handles; on success the C++ side has stored an owned one.
    unsafe {
        check(ft_global_norm(handles.len(), handles.as_ptr(), &raw mut norm))?;
        Ok(Tensor::from_ptr(norm))
    }
}

/// Runs autograd from `loss`, with `gradient` in place of 1 if given.
pub(crate) fn backward(loss: &Tensor, gradient: Option<&Tensor>) -> Result<()> {
    let gradient = gradient.map_or(null(), Tensor::as_ptr);
    // SAFETY: valid handles or null; libtorch checks the rest.
    unsafe { check(ft_backward(loss.as_ptr(), gradient)) }
}

/// A CPU tensor over memory that `owner` keeps alive; the owner is dropped with the last view.
///
/// # Safety
/// `data` is aligned for `kind`, writable, and holds all elements of the dense `shape` as long as `owner` lives.
pub(crate) unsafe fn from_blob<T: Send + Sync + 'static>(
    data: *mut u8,
    shape: &[i64],
    kind: Kind,
    owner: T,
) -> Result<Tensor> {
    let kind = scalar_type(kind)?;
    let owner = Box::into_raw(Box::new(owner)).cast::<c_void>();
    let mut tensor = null_mut();
    // SAFETY: the caller vouches for the memory; the C++ side owns `owner` and drops it once, also on failure.
    unsafe {
        check(ft_from_blob(
            data.cast(),
            shape.len(),
            shape.as_ptr(),
            kind,
            owner,
            drop_owner::<T>,
            &raw mut tensor,
        ))?;
        Ok(Tensor::from_ptr(tensor))
    }
}

extern "C" fn drop_owner<T>(owner: *mut c_void) {
    // SAFETY: made by `Box::into_raw` in `from_blob`, and called once.
    closure::shielded(|| drop(unsafe { Box::from_raw(owner.cast::<T>()) }));
}

fn pointers(tensors: &[&Tensor]) -> Vec<*const C_tensor> {
    tensors.iter().map(|tensor| tensor.as_ptr()).collect()
}

/// # Safety
/// `text` is null or came from the shim, and is not used again.
unsafe fn check(text: *mut c_char) -> Result<()> {
    if text.is_null() {
        return Ok(());
    }
    // SAFETY: a NUL-terminated text of the shim's, freed once.
    let message = unsafe {
        let message = CStr::from_ptr(text).to_string_lossy().into_owned();
        ft_free(text);
        message
    };
    Err(Error::Foreign(message))
}

fn device_index(device: Device) -> Result<c_int> {
    match device {
        Device::Cpu => Ok(-1),
        Device::Cuda(index) if index < 128 => Ok(index as c_int),
        other => unsupported(other),
    }
}

fn device_type(device: Device) -> Result<c_int> {
    Ok(device_index(device)?.min(0))
}

fn unsupported(device: Device) -> Result<c_int> {
    ensure(false, "device", "the CPU or a CUDA device", format!("{device:?}"))?;
    Ok(0)
}

/// The inverse of [`scalar_type`].
fn kind_of(number: c_int) -> Result<Kind> {
    const KNOWN: [Kind; 10] = [
        Kind::Float,
        Kind::BFloat16,
        Kind::Int64,
        Kind::Half,
        Kind::Double,
        Kind::Uint8,
        Kind::Int8,
        Kind::Int16,
        Kind::Int,
        Kind::Bool,
    ];
    let found = KNOWN.into_iter().find(|&kind| scalar_type(kind).ok() == Some(number));
    found.ok_or_else(|| Error::Foreign(format!("scalar type {number} is not supported here")))
}

/// The numbers of c10/core/ScalarType.h.
fn scalar_type(kind: Kind) -> Result<c_int> {
    Ok(match kind {
        Kind::Uint8 => 0,
        Kind::Int8 => 1,
        Kind::Int16 => 2,
        Kind::Int => 3,
        Kind::Int64 => 4,
        Kind::Half => 5,
        Kind::Float => 6,
        Kind::Double => 7,
        Kind::Bool => 11,
        Kind::BFloat16 => 15,
        other => return Err(Error::Foreign(format!("kind {other:?} is not supported here"))),
    })
}
