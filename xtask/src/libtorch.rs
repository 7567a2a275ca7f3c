//! Finding libtorch, and reading from its headers which version it is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::{env, fs};

use crate::workspace::Workspace;

/// What tch 0.26 is written for.
pub(crate) const VERSION: &str = "2.13.0";

/// Where the version is defined: since 2.9 or so, and before.
const VERSION_HEADERS: [&str; 2] =
    ["include/torch/headeronly/version.h", "include/torch/csrc/api/include/torch/version.h"];

/// A libtorch of the right version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Libtorch {
    /// The folder with `include` and `lib`, absolute.
    pub(crate) dir: PathBuf,
    /// Who put it there.
    pub(crate) origin: Origin,
    /// Whether it can use NVIDIA GPUs.
    pub(crate) cuda: bool,
}

/// Whose libtorch it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The caller's: the environment variable `LIBTORCH` names it.
    Caller,
    /// Ours: set-up made it.
    Repository,
}

/// What there is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// One that can be used.
    Found(Libtorch),
    /// A folder that is no libtorch, not a whole one, or of another version.
    Unusable {
        /// The folder.
        dir: PathBuf,
        /// Whose it is.
        origin: Origin,
        /// Why not, to follow the folder's name.
        reason: String,
    },
    /// Neither the caller nor set-up has named or made one.
    Missing,
}

impl fmt::Display for Libtorch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let devices = if self.cuda { "CPU and CUDA" } else { "CPU" };
        let origin = match self.origin {
            Origin::Caller => "named by LIBTORCH",
            Origin::Repository => "made by set-up",
        };
        write!(f, "libtorch {VERSION} ({devices}) in {}, {origin}", self.dir.display())
    }
}

/// Looks at the caller's libtorch, else at the repository's.
pub(crate) fn find(workspace: &Workspace) -> Finding {
    match &workspace.callers_libtorch {
        Some(dir) => examine(dir.clone(), Origin::Caller),
        None if fs::symlink_metadata(workspace.libtorch_parent()).is_err() => Finding::Missing,
        None => examine(workspace.our_libtorch(), Origin::Repository),
    }
}

fn examine(dir: PathBuf, origin: Origin) -> Finding {
    let (prefix, suffix) = (env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
    let library = |name: &str| dir.join("lib").join(format!("{prefix}{name}{suffix}"));
    let reason = match version(&dir) {
        None => "has no libtorch headers".to_owned(),
        Some(version) if version != VERSION => format!("is libtorch {version}"),
        Some(_) => {
            match ["c10", "torch", "torch_cpu"].map(library).iter().find(|path| !path.exists()) {
                Some(missing) => format!("lacks `{}`", missing.display()),
                None => {
                    let cuda = library("torch_cuda").exists();
                    return Finding::Found(Libtorch { dir, origin, cuda });
                }
            }
        }
    };
    Finding::Unusable { dir, origin, reason }
}

/// The version that the headers in `dir` define, such as `2.13.0`.
pub(crate) fn version(dir: &Path) -> Option<String> {
    let headers =
        VERSION_HEADERS.iter().filter_map(|header| fs::read_to_string(dir.join(header)).ok());
    headers.into_iter().find_map(|header| parse_version(&header))
}

fn parse_version(header: &str) -> Option<String> {
    let number = |name: &str| {
        header.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            let defined = words.next() == Some("#define") && words.next() == Some(name);
            words.next().filter(|_| defined)?.parse::<u32>().ok()
        })
    };
    let [major, minor, patch] =
        ["MAJOR", "MINOR", "PATCH"].map(|part| number(&format!("TORCH_VERSION_{part}")));
    Some(format!("{}.{}.{}", major?, minor?, patch?))
}

#[cfg(test)]
mod tests;
