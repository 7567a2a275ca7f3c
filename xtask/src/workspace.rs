//! Where the repository is, and which packages it has.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The checkout that the commands work on.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    /// The folder of the root `Cargo.toml`, absolute.
    pub(crate) root: PathBuf,
    /// What the caller's environment variable `LIBTORCH` names, absolute; `None` if it is our own or there is none.
    pub(crate) callers_libtorch: Option<PathBuf>,
}

impl Workspace {
    /// The checkout that this program was started in. `XTASK_ROOT` names another one; tests use it.
    pub(crate) fn locate() -> Result<Self> {
        if let Some(root) = env::var_os("XTASK_ROOT") {
            return Self::at(std::path::absolute(root)?);
        }
        // At run time, so that a checkout that was moved after the build finds itself.
        let manifest_dir =
            env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&manifest_dir).parent().context("xtask has no parent folder")?;
        Self::at(root.to_path_buf())
    }

    fn at(root: PathBuf) -> Result<Self> {
        let mut workspace = Self { root, callers_libtorch: None };
        if let Some(value) = env::var_os("LIBTORCH").filter(|value| !value.is_empty()) {
            let named = std::path::absolute(value)?;
            // `.cargo/config.toml` names ours when the caller names none.
            workspace.callers_libtorch =
                Some(named).filter(|named| *named != workspace.our_libtorch());
        }
        Ok(workspace)
    }

    /// The folder that set-up makes. Beside libtorch, it holds the libraries that libtorch needs.
    pub(crate) fn libtorch_parent(&self) -> PathBuf {
        self.root.join(".libtorch")
    }

    /// The libtorch that set-up makes.
    pub(crate) fn our_libtorch(&self) -> PathBuf {
        self.libtorch_parent().join("torch")
    }

    /// The package that `name` means: `tokens` and `forerun-tokens` are the same.
    pub(crate) fn package(&self, name: &str) -> Result<String> {
        let packages = self.packages("workspace_members")?;
        let full = format!("forerun-{name}");
        match packages.iter().find(|package| **package == name || **package == full) {
            Some(package) => Ok(package.clone()),
            None => bail!("there is no crate `{name}`; the crates are {}", packages.join(", ")),
        }
    }

    /// The packages that build without libtorch.
    pub(crate) fn default_members(&self) -> Result<Vec<String>> {
        self.packages("workspace_default_members")
    }

    /// Names of the packages that a list of `cargo metadata` holds.
    fn packages(&self, list: &str) -> Result<Vec<String>> {
        let metadata = self.metadata()?;
        let ids = metadata[list]
            .as_array()
            .with_context(|| format!("`cargo metadata` has no `{list}`"))?;
        let packages =
            metadata["packages"].as_array().context("`cargo metadata` has no `packages`")?;
        let name =
            |id: &Value| packages.iter().find(|package| package["id"] == *id)?["name"].as_str();
        Ok(ids.iter().filter_map(name).map(str::to_owned).collect())
    }

    fn metadata(&self) -> Result<Value> {
        let output = Command::new(cargo_program())
            .args(["metadata", "--no-deps", "--format-version=1", "--offline"])
            .current_dir(&self.root)
            .output()
            .context("cannot start cargo")?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr);
            bail!("`cargo metadata` failed: {}", message.trim());
        }
        serde_json::from_slice(&output.stdout).context("`cargo metadata` printed no JSON")
    }
}

/// The cargo that started us, so that the toolchain stays the same.
pub(crate) fn cargo_program() -> std::ffi::OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
