//! The records of a run: what it was seeded with, where its files lie, what it measured, and whether
//! that bears out a claim.
//!
//! Nothing here chooses a path, reads the clock, prints or panics: paths, times and seeds are handed
//! in. Files are written whole or not at all ([`atomic`]), or appended and cut back ([`metrics`]), so
//! that a run which is killed at any moment can be resumed.
//!
//! ```
//! use forerun_runs::seed::Seed;
//! use forerun_runs::verdict::{Direction, Effect, Rule, Verdict, judge};
//!
//! // Written before the run: xPos lowers the loss at length 4096 by more than 0.02 nats.
//! let rule: Rule = toml::from_str(
//!     r#"
//!     metric = "loss_at_4096"
//!     arm = "xpos"
//!     baseline = "rope"
//!     effect = "difference"
//!     direction = "lower"
//!     margin = 0.02
//!     "#,
//! )?;
//! let mut rng = Seed::new(7).stream("verdict");
//! let judgement = judge(&rule, &[2.10, 2.13, 2.08], &[2.61, 2.70, 2.63], &mut rng)?;
//! assert_eq!(judgement.verdict, Verdict::Reproduced, "{}", judgement.reason);
//!
//! // The same means with noisy seeds say nothing.
//! let judgement = judge(&rule, &[1.8, 2.4, 2.11], &[2.7, 2.3, 2.94], &mut rng)?;
//! assert_eq!(judgement.verdict, Verdict::Inconclusive);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod number;
mod text;

pub mod atomic;
pub mod import;
pub mod lock;
pub mod manifest;
pub mod metrics;
pub mod plot;
pub mod recommendation;
pub mod report;
pub mod results;
pub mod run_dir;
pub mod seed;
pub mod stats;
pub mod table;
pub mod tensorboard;
pub mod verdict;

pub use error::{Error, Result};
