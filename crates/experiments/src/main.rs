//! `forerun-experiments`: the binary that `cargo xtask` starts, and that starts itself as a worker.

fn main() {
    std::process::exit(forerun_experiments::cli::main());
}
