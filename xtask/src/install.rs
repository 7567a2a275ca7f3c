//! Making `.libtorch`: everything happens in a temporary folder beside it, and one rename ends it.

use std::fs;
use std::path::Path;
use std::process;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::libtorch::{self, VERSION};
use crate::lock::Lock;
use crate::python::Python;
use crate::wheels::{LIBTORCH, Wheel};
use crate::{disk, download, output, unpack};

/// How the folders of unfinished set-ups begin; the process number follows.
pub(crate) const PARTIAL: &str = ".libtorch.partial-";

/// Downloads, checks and unpacks `wheels` to `root/.libtorch`, replacing what is there.
///
/// # Errors
/// `.libtorch` is then as it was, and the temporary folder is gone.
pub(crate) fn install(root: &Path, wheels: &[Wheel], python: &Python, lock: &Lock) -> Result<()> {
    if lock.is_exclusive() {
        remove_leftovers(root, PARTIAL)?;
    }
    disk::check(root, needed_bytes(wheels), &LIBTORCH)?;
    let prefix = format!("{PARTIAL}{}-", process::id());
    let partial = tempfile::Builder::new().prefix(&prefix).tempdir_in(root);
    let partial = partial.map_err(|error| disk::explain(error, root))?;
    // Not the temporary folder itself: only its owner may read that one.
    let tree = partial.path().join("tree");
    for wheel in wheels {
        let downloads = partial.path().join("downloads");
        let file = download::download(python, wheel, &downloads)?;
        output::note(format!("unpacking {} {}", wheel.package, wheel.version));
        unpack::unpack(&file, wheel.keep, &tree)?;
        fs::remove_dir_all(&downloads)
            .with_context(|| format!("cannot remove `{}`", downloads.display()))?;
    }
    write_build_version(&tree.join("torch"))?;
    move_into_place(&tree, &root.join(".libtorch"), &partial)
}

/// pip holds the largest wheel twice for a moment; later it lies beside what is unpacked.
pub(crate) fn needed_bytes(wheels: &[Wheel]) -> u64 {
    let largest = wheels.iter().map(|wheel| wheel.bytes).max().unwrap_or(0);
    let kept: u64 = wheels.iter().map(|wheel| wheel.kept_bytes).sum();
    largest + largest.max(kept)
}

/// The file in which a libtorch archive states its version; the wheel has none, and torch-sys checks it.
fn write_build_version(torch: &Path) -> Result<()> {
    match libtorch::version(torch) {
        Some(version) if version == VERSION => {
            let path = torch.join("build-version");
            fs::write(&path, format!("{version}\n")).map_err(|error| disk::explain(error, &path))
        }
        Some(version) => {
            bail!("the headers that were unpacked are of libtorch {version}, not {VERSION}")
        }
        None => bail!("the headers that were unpacked state no version"),
    }
}

/// Renames `tree` to `target`; both lie on the disk of `partial`, which is deleted afterwards.
pub(crate) fn move_into_place(tree: &Path, target: &Path, partial: &TempDir) -> Result<()> {
    if fs::symlink_metadata(target).is_ok() {
        // An unusable one. It goes into the temporary folder, and away with it.
        let old = partial.path().join("replaced");
        fs::rename(target, &old)
            .with_context(|| format!("cannot move `{}` away", target.display()))?;
    }
    fs::rename(tree, target)
        .with_context(|| format!("cannot move what was fetched to `{}`", target.display()))
}

/// Deletes what killed processes left in `dir`, which begins with `prefix`. Only with the lock: another one may be at
/// work.
pub(crate) fn remove_leftovers(dir: &Path, prefix: &str) -> Result<()> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read `{}`", dir.display()))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)) {
            fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove `{}`", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
