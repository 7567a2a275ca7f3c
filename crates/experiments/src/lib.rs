//! The composition: named experiments that rerun a paper's central claim on this machine.
//!
//! An experiment is a one-way street. A TOML file becomes a [`config::Experiment`]; the experiment becomes a
//! [`plan::Plan`], a list of [`cell::Cell`]s; the executor computes the cells that are missing from the
//! [`store::Store`], each in a worker process of its own; [`outcome`] gathers their results into the run
//! directory; and the report is rendered from that directory alone. Only this crate chooses paths, reads the
//! clock and sets global state.
//!
//! ```
//! let names: Vec<_> = forerun_experiments::catalog::CATALOG.iter().map(|entry| entry.name).collect();
//! assert!(names.contains(&"quickstart"));
//! ```

mod body;
pub mod catalog;
pub mod cell;
pub mod cli;
mod commands;
pub mod compare;
pub mod config;
pub mod data;
mod environment;
mod evaluate;
mod executor;
mod external;
mod horizon;
mod interrupt;
mod length;
mod magneto;
mod merge;
mod model;
mod multilingual;
mod names;
pub mod outcome;
pub mod plan;
pub mod pretrained;
mod process;
mod progress;
mod protocol;
mod quantization;
mod record;
mod report_parts;
mod run;
pub mod store;
mod tensorboard;
mod train_lm;
mod train_stack;
mod training_log;
mod unigram;
mod update_size;
mod worker;
