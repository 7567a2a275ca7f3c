//! What a manifest says about the machine and the code. Only here is the clock read and `git` asked.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result};
use forerun_runs::atomic::sha256_file;
use forerun_runs::manifest::{Code, Machine};
use jiff::Timestamp;

/// Now.
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// The source that this binary was built from.
pub(crate) fn code() -> Code {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lock = source.join("../../Cargo.lock");
    Code {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: git(source, &["rev-parse", "HEAD"]),
        dirty: git(source, &["status", "--porcelain", "--untracked-files=no"])
            .map(|text| !text.is_empty()),
        lock_sha256: sha256_file(&lock).ok(),
        rustc: first_line("rustc", &["--version"]).unwrap_or_else(|| "unknown".to_owned()),
        libtorch: Some(forerun_tensors::LIBTORCH_VERSION.to_owned()),
    }
}

/// The machine, and how much of it this run uses.
pub(crate) fn machine(device: &str, threads: u32, jobs: usize) -> Machine {
    Machine {
        platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        processor: processor(),
        device: device.to_owned(),
        threads: threads as usize,
        jobs,
    }
}

/// This very program, even if a build has put another in its place since it was started: a sweep must not mix two.
pub(crate) fn own_program() -> Result<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    if cfg!(target_os = "linux") && running.exists() {
        return Ok(running);
    }
    std::env::current_exe().context("cannot find this program's own file")
}

/// SHA-256 of this very program, hexadecimal; it is read once.
pub(crate) fn program_sha256() -> Result<String> {
    static KNOWN: OnceLock<String> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(known.clone());
    }
    let found = sha256_file(&own_program()?)?;
    Ok(KNOWN.get_or_init(|| found).clone())
}

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn git(source: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(source).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.lines().next()?.to_owned())
}

/// The processor as it calls itself, where the system tells.
pub(crate) fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Peak resident memory of this process in bytes, where the system tells.
pub(crate) fn peak_memory_bytes() -> Option<u64> {
    status_bytes("VmHWM:")
}

/// Resident memory of this process in bytes, where the system tells.
pub(crate) fn memory_bytes() -> Option<u64> {
    status_bytes("VmRSS:")
}

fn status_bytes(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}
