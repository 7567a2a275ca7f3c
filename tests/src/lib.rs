//! Golden vectors: files of inputs, weights and outputs from reference implementations, and the checker that
//! holds this workspace to them. [`check_folder`] checks one folder, whose base name says whose format it has.
//!
//! Files are recognised by the beginning of their name and by their JSON. Sizes, options and counts come from the
//! JSON, so that other files of the same format can be checked.
//!
//! [`Language`] is what the tests, benchmarks and programs of this package train.

mod arch;
mod attention;
mod checkpoint;
mod decoder;
mod decoder_config;
mod folder;
mod init;
mod language;
mod phi3_small;
mod report;
mod scaling;

pub use folder::{FolderError, check_folder};
pub use language::Language;
pub use report::{Line, Status, exit_code};
