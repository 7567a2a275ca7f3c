//! What the tests share: numbers from seeds, and the lock around libtorch's process-wide generator.

use std::sync::{Mutex, MutexGuard};

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use tch::{Device, Kind, Tensor};

use crate::init;

pub(crate) fn rng(seed: u64) -> ChaCha20Rng {
    tch::set_num_threads(1);
    ChaCha20Rng::seed_from_u64(seed)
}

/// Normal numbers, f32 of `shape`.
pub(crate) fn randn(shape: &[i64], seed: u64) -> Tensor {
    init::normal(shape, 1.0, &mut rng(seed), Device::Cpu).unwrap()
}

/// A leaf of normal numbers.
pub(crate) fn leaf(shape: &[i64], seed: u64) -> Tensor {
    randn(shape, seed).set_requires_grad(true)
}

pub(crate) fn floats(tensor: &Tensor) -> Vec<f64> {
    Vec::<f64>::try_from(tensor.detach().to_kind(Kind::Double).flatten(0, -1)).unwrap()
}

/// The largest absolute difference.
pub(crate) fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    let pairs = floats(a).into_iter().zip(floats(b));
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Held by every test that draws from, reads or sets the generator: it is one for the whole process.
pub(crate) fn generator_lock() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
