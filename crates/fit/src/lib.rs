//! The command line of `forerun-scaling`: somebody's table of runs in, a table, a JSON file and a report with pictures out.
//!
//! Methods are in `forerun-scaling`, tables, plots and reports in `forerun-runs`; neither knows the other, and this crate
//! joins them without libtorch. What it writes as JSON is [`output::FitOutput`].
//!
//! ```
//! assert_eq!(forerun_fit::number::parse("7B").unwrap(), 7e9);
//! ```

mod approaches;
mod audit;
pub mod cli;
mod compared;
mod data;
mod derived;
mod figures;
mod fitting;
mod import;
mod independent;
mod mixtures;
pub mod number;
pub mod output;
mod problem;
mod recommend;
mod render;
mod retrospective;
mod solved;
