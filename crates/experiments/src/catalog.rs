//! The experiments that come with the project: one TOML file each, compiled in.

use anyhow::{Result, bail};

/// One named experiment.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The name on the command line: the file's stem.
    pub name: &'static str,
    /// The file's text.
    pub toml: &'static str,
}

impl Entry {
    /// The first comment of the file: what the experiment asks, in one line.
    pub fn summary(&self) -> &'static str {
        self.toml.lines().next().unwrap_or("").trim_start_matches('#').trim()
    }
}

macro_rules! catalog {
    ($($name:literal),* $(,)?) => {
        /// Every experiment, in the order in which `list` shows them.
        pub const CATALOG: &[Entry] = &[$(Entry {
            name: $name,
            toml: include_str!(concat!("../configs/", $name, ".toml")),
        }),*];
    };
}

catalog![
    "quickstart",
    "length-extrapolation",
    "magneto-stability",
    "lr-horizon",
    "lr-horizon-width",
    "lr-horizon-external",
    "multilingual-mixture",
    "phi3-quantize",
];

/// Finds an experiment by name.
///
/// # Errors
/// Lists the names there are.
pub fn find(name: &str) -> Result<Entry> {
    if let Some(entry) = CATALOG.iter().find(|entry| entry.name == name) {
        return Ok(*entry);
    }
    let names: Vec<_> = CATALOG.iter().map(|entry| entry.name).collect();
    bail!("no experiment is called `{name}`; there are: {}", names.join(", "))
}

#[cfg(test)]
mod tests;
