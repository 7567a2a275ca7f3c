//! What the crates on libtorch share. `tch` binds most of libtorch; this crate adds, through a small C++ shim,
//! what it lacks (mixed precision on the CPU, the fused AdamW step, autograd functions with a backward in Rust,
//! activation checkpointing, the generator's state), and what every model needs besides: named parameters,
//! attention masks, seeded initialisers, safetensors files, and the comparison with golden files.
//!
//! Everything is fallible and nothing panics: an error of libtorch's is an [`Error`] here.
//!
//! ```
//! use forerun_tensors::{Parameter, Parameters, Role, SafetensorsFile, init, load_into, save};
//! use rand::SeedableRng;
//! use tch::Device;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
//! let weight = init::xavier_normal(&[8, 4], 1.0, &mut rng, Device::Cpu)?;
//! let mut parameters = Parameters::new();
//! parameters.push(Parameter {
//!     name: "out.weight".to_owned(),
//!     tensor: weight.f_set_requires_grad(true)?,
//!     role: Role::Matrix,
//!     lr_multiplier: 1.0,
//! })?;
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("model.safetensors");
//! let sha256 = save(&path, &parameters.named_tensors(), &Default::default())?;
//! let file = SafetensorsFile::open(&path)?;
//! assert_eq!(file.shape("out.weight")?, [8, 4]);
//! assert_eq!(file.sha256()?, sha256);
//! load_into(&file, &parameters)?;
//! # Ok(())
//! # }
//! ```

mod adamw;
mod atomic;
mod autocast;
mod checkpoint;
mod cross_entropy;
mod device;
mod error;
#[cfg(test)]
mod fixtures;
mod function;
mod generator;
pub mod init;
pub mod kernels;
mod mask;
mod memory;
mod parameters;
mod safetensors;
mod shim;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use adamw::{AdamW, adamw_step, global_norm};
pub use atomic::{hex, write_atomic};
pub use autocast::Autocast;
pub use checkpoint::checkpoint;
pub use cross_entropy::{IGNORED, chunked_cross_entropy, chunked_cross_entropy_stack, token_nll};
pub use device::{LIBTORCH_VERSION, parse_device, parse_kind};
pub use error::{Error, Result, ensure, is_out_of_memory};
pub use function::{backward, custom_function};
pub use generator::{generator_state, seed_generator, set_generator_state};
pub use mask::Mask;
pub use memory::keep_freed_memory;
pub use parameters::{Parameter, Parameters, Role};
pub use safetensors::{SafetensorsFile, TensorPlan, load_into, save, save_streamed};
