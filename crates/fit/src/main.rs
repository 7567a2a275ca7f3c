//! `forerun-scaling`: the binary that `cargo xtask fit`, `recommend`, `audit-lr` and `import` start.

use std::process::ExitCode;

fn main() -> ExitCode {
    forerun_fit::cli::main()
}
