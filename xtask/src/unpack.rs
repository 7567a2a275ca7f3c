//! Taking the needed files out of a wheel.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Component, Path};

use anyhow::{Context, Result, bail};
use zip::ZipArchive;

use crate::disk;

/// Unpacks what `keep` names from `wheel` below `into`: files, and folders (with a `/` at the end).
///
/// # Errors
/// If the archive is damaged, lacks something of `keep`, or holds a path that leads out of `into`.
pub(crate) fn unpack(wheel: &Path, keep: &[&str], into: &Path) -> Result<()> {
    let damaged = || format!("`{}` is damaged; run the command again", wheel.display());
    let file = File::open(wheel).with_context(damaged)?;
    let mut archive = ZipArchive::new(BufReader::new(file)).with_context(damaged)?;
    let names: Vec<String> = archive.file_names().map(str::to_owned).collect();
    if let Some(missing) =
        keep.iter().find(|pattern| !names.iter().any(|name| is_kept(name, pattern)))
    {
        bail!("`{}` holds no `{missing}`", wheel.display());
    }
    for name in names.iter().filter(|name| keep.iter().any(|pattern| is_kept(name, pattern))) {
        let mut entry = archive.by_name(name).with_context(damaged)?;
        if entry.is_symlink() || !stays_below(name) {
            bail!(
                "`{}` holds `{name}`, which leads out of its folder; it was not unpacked",
                wheel.display()
            );
        }
        let target = into.join(name);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(|error| disk::explain(error, parent))?;
        }
        let copied = File::create(&target).and_then(|mut file| io::copy(&mut entry, &mut file));
        copied.map_err(|error| disk::explain(error, &target))?;
    }
    Ok(())
}

fn is_kept(name: &str, pattern: &str) -> bool {
    let in_folder = pattern.ends_with('/') && name.starts_with(pattern);
    (in_folder || name == pattern) && !name.ends_with('/')
}

fn stays_below(name: &str) -> bool {
    !name.contains(['\\', '\0'])
        && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests;
