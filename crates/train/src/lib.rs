//! The training loop: AdamW with parameter groups, learning-rate schedules, mixed precision, gradient accumulation
//! and clipping, evaluation, checkpoints, and resumption that is exact to the last bit.
//!
//! The crate knows neither architectures nor files of text: whoever calls [`train`] implements [`Model`] and
//! [`Sequences`], and hears of every update through an [`Observer`]. Diverging and running out of memory are an
//! [`Outcome`], not an error. [`train_stack`] trains several models of one shape at once, each with its own learning
//! rate and data: `train_stack(model, StackData::Own(sources), eval, &config, &[Member { lr }, ..], dir, observer)`.
//!
//! ```
//! use std::ops::ControlFlow;
//!
//! use forerun_tensors::{Parameter, Parameters, Role, init::normal};
//! use forerun_train::{BoxError, Model, Observer, Outcome, Pass, Sequences, StepMetrics, TrainConfig, train};
//! use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
//! use tch::{Device, Kind, Tensor};
//!
//! /// Predicts the next token from the last one alone.
//! struct Bigrams(Parameters);
//!
//! impl Model for Bigrams {
//!     fn parameters(&self) -> &Parameters {
//!         &self.0
//!     }
//!     fn hidden(&self, tokens: &Tensor, _pass: Pass) -> Result<Tensor, BoxError> {
//!         let table = &self.0.get("embedding").ok_or("no embedding")?.tensor;
//!         Ok(Tensor::f_embedding(table, tokens, -1, false, false)?) // [batch, seq, d_model]
//!     }
//!     fn head(&self) -> &Tensor {
//!         &self.0.get("head").unwrap().tensor
//!     }
//!     fn logit_scale(&self) -> f64 {
//!         1.0
//!     }
//!     fn flops_per_token(&self, _seq_len: i64) -> f64 {
//!         6.0 * 10.0 * 16.0
//!     }
//! }
//!
//! /// Counts from the row's index, modulo 10.
//! struct Counting;
//!
//! impl Sequences for Counting {
//!     fn rows(&mut self, first_index: u64, n: usize) -> Result<Tensor, BoxError> {
//!         let starts = Tensor::f_arange_start(first_index as i64, (first_index + n as u64) as i64, (Kind::Int64, Device::Cpu))?;
//!         let steps = Tensor::f_arange(9, (Kind::Int64, Device::Cpu))?;
//!         Ok(starts.f_unsqueeze(1)?.f_add(&steps)?.f_remainder(10)?)
//!     }
//! }
//!
//! struct LastLoss(f64);
//!
//! impl Observer for LastLoss {
//!     fn step(&mut self, metrics: &StepMetrics) -> Result<ControlFlow<()>, BoxError> {
//!         self.0 = metrics.loss;
//!         Ok(ControlFlow::Continue(()))
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut rng = ChaCha20Rng::seed_from_u64(1);
//! let mut parameters = Parameters::new();
//! for (name, role) in [("embedding", Role::Embedding), ("head", Role::Matrix)] {
//!     let tensor = normal(&[10, 16], 0.3, &mut rng, Device::Cpu)?.set_requires_grad(true);
//!     parameters.push(Parameter { name: name.into(), tensor, role, lr_multiplier: 1.0 })?;
//! }
//! let config: TrainConfig = serde_json::from_str(
//!     r#"{"seq_len": 8, "batch_size": 10, "micro_batch_size": 5, "steps": 60, "warmup_steps": 5,
//!         "optimiser": {"lr": 0.05}, "schedule": {"cosine": {}}, "clip_norm": 1.0, "checkpoint_every": 20}"#,
//! )?;
//! let (folder, mut last) = (tempfile::tempdir()?, LastLoss(f64::NAN));
//! let outcome = train(&Bigrams(parameters), &mut Counting, None, &config, folder.path(), &mut last)?;
//! assert!(matches!(outcome, Outcome::Finished { step: 60, loss, .. } if loss < 0.1 && loss == last.0));
//! assert!(folder.path().join("step-60/model.safetensors").exists());
//! # Ok(())
//! # }
//! ```

mod batch;
mod checkpoint;
mod clock;
mod config;
mod error;
mod evaluate;
mod members;
mod model;
mod observer;
mod optimiser;
mod run;
mod schedule;
mod stack;
mod step;
mod train;

pub use batch::{Batch, StackData};
pub use checkpoint::{
    Checkpoint,
    state::{Divergence, Progress, State},
};
pub use config::{OptimiserConfig, Precision, TrainConfig};
pub use error::{BoxError, Error, Result};
pub use evaluate::{EvalSet, Evaluated, evaluate, evaluate_stack};
pub use forerun_tensors::IGNORED;
pub use model::{Model, Pass, Sequences};
pub use observer::{EvalMetrics, Observer, StepMetrics};
pub use optimiser::Optimiser;
pub use schedule::{DecayShape, Schedule};
pub use stack::{Member, StackOutcome, train_stack};
pub use step::{accumulate_gradients, clip_gradients};
pub use train::{Outcome, train};
