//! Scaling laws of language models: fitted robustly, from many starts, with intervals for what people ask of them.
//!
//! A [`Law`] predicts a loss or a best learning rate; [`fit()`] finds its parameters for an [`Objective`] and reports every
//! optimum it met; [`bootstrap()`] and [`profile()`] give intervals for parameters and for any [`Quantity`] that follows
//! from them. [`parabola`] reads the best learning rate off a sweep, or says that the sweep does not show it.
//! Nothing here chooses a path, reads the clock, prints or panics; randomness is handed in.
//!
//! ```
//! use forerun_scaling::law::{Chinchilla, internal, predict};
//! use forerun_scaling::{Fit, FitConfig, Observations, fit};
//!
//! // Losses of 12 runs that follow a law exactly.
//! let law = Chinchilla::new();
//! let truth = internal(&law, &[480., 2100., 1.8, 0.35, 0.37]); // A, B, E, alpha, beta
//! let (mut n, mut d, mut loss) = (vec![], vec![], vec![]);
//! for params in [1e8, 4e8, 1.6e9] {
//!     for tokens in [2e9, 8e9, 3.2e10, 1.28e11] {
//!         loss.push(predict(&law, &truth, &[("n", params), ("d", tokens)])?);
//!         n.push(params);
//!         d.push(tokens);
//!     }
//! }
//! let runs = Observations::new("loss", loss).with_input("n", n).with_input("d", d);
//! let fit: Fit = fit(&law, &runs, &FitConfig::default())?;
//! assert!((fit.value("alpha").unwrap_or(0.) - 0.35).abs() < 1e-6);
//! # Ok::<(), forerun_scaling::Error>(())
//! ```

mod error;
mod kernels;
mod linalg;
mod solve;
mod starts;

pub mod allocation;
pub mod audit;
pub mod bootstrap;
pub mod compare;
pub mod distribution;
pub mod fit;
pub mod golden;
pub mod independence;
pub mod interval;
pub mod isoflop;
pub mod law;
pub mod mixture;
pub mod next_run;
pub mod objective;
pub mod observations;
pub mod parabola;
pub mod profile;
pub mod quantity;
pub mod sweep;
pub mod table;
pub mod units;

pub use bootstrap::{Bootstrap, BootstrapConfig, Resampling, bootstrap, common_draws};
pub use error::{Error, Result};
pub use fit::{Fit, FitConfig, fit};
pub use interval::Interval;
pub use law::Law;
pub use objective::{Constraint, Objective, OutlierRule};
pub use observations::Observations;
pub use profile::{Profile, profile};
pub use quantity::Quantity;
pub use table::Table;
