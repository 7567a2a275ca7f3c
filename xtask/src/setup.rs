//! Making sure that there is a libtorch and a compiler for its bindings.

use anyhow::{Result, bail};

use crate::libtorch::{self, Finding, Libtorch, Origin, VERSION};
use crate::python::Python;
use crate::wheels::{self, LIBTORCH, WHEELS, Wheel};
use crate::workspace::Workspace;
use crate::{compiler, disk, install, lock, output};

/// Finds libtorch, or installs it.
///
/// # Errors
/// Each names what is missing and the way out. Nothing half-done is left.
pub(crate) fn ensure(workspace: &Workspace) -> Result<Libtorch> {
    if let Some(libtorch) = usable(workspace)? {
        compiler::check()?;
        return Ok(libtorch);
    }
    if !wheels::for_this_platform() {
        bail!(
            "set-up can install libtorch on Linux x86-64 only; on this platform, set LIBTORCH to the folder of a \
             libtorch {VERSION} (not tested here)"
        );
    }
    compiler::check()?;
    install_once(workspace, &WHEELS, &Python::find(&LIBTORCH)?)
}

/// Installs libtorch unless another process does so while we wait for it.
fn install_once(workspace: &Workspace, wheels: &[Wheel], python: &Python) -> Result<Libtorch> {
    let lock = lock::take(&workspace.root, &LIBTORCH)?;
    if let Some(libtorch) = usable(workspace)? {
        return Ok(libtorch);
    }
    let bytes = disk::megabytes(wheels.iter().map(|wheel| wheel.bytes).sum());
    output::note(format!(
        "libtorch {VERSION} is not here yet; fetching it once ({bytes}) into .libtorch/"
    ));
    install::install(&workspace.root, wheels, python, &lock)?;
    match usable(workspace)? {
        Some(libtorch) => Ok(libtorch),
        None => bail!("libtorch was installed, but cannot be used; run `cargo xtask doctor`"),
    }
}

/// A libtorch that can use GPUs. It is the caller's, because it is several gigabytes large.
pub(crate) fn require_cuda(workspace: &Workspace) -> Result<Libtorch> {
    match usable(workspace)? {
        Some(libtorch) if libtorch.cuda => {
            compiler::check()?;
            Ok(libtorch)
        }
        _ => bail!(
            "set-up installs the CPU's libtorch only; for GPUs run `python3 -m pip install torch=={VERSION}` and set \
             LIBTORCH to the folder `torch` that `python3 -m pip show --files torch` locates"
        ),
    }
}

/// `None` if it is set-up's task to make one; an error if it is the caller's.
fn usable(workspace: &Workspace) -> Result<Option<Libtorch>> {
    match libtorch::find(workspace) {
        Finding::Found(libtorch) => Ok(Some(libtorch)),
        Finding::Unusable { dir, origin: Origin::Caller, reason } => bail!(
            "LIBTORCH names `{}`, which {reason}; name a libtorch {VERSION}, or unset LIBTORCH to have it installed",
            dir.display()
        ),
        Finding::Unusable { origin: Origin::Repository, .. } | Finding::Missing => Ok(None),
    }
}

#[cfg(test)]
mod tests;
