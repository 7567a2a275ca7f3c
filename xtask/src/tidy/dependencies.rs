//! What may depend on what.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::{cargo, root};

/// Must build without libtorch, whatever else changes; those that do not exist yet are skipped.
const WITHOUT_LIBTORCH: [&str; 6] = [
    "xtask",
    "forerun-runs",
    "forerun-tokens",
    "forerun-scaling",
    "forerun-datagen",
    "forerun-retrieval",
];

/// Methods of papers: each is useful without the others.
const RESEARCH: [&str; 5] =
    ["forerun-arch", "forerun-retrieval", "forerun-prefopt", "forerun-scaling", "forerun-datagen"];

/// What a research crate may build on.
const FOUNDATIONS: [&str; 2] = ["forerun-tensors", "forerun-tokens"];

struct Member {
    manifest: PathBuf,
    /// Of ours, of any kind (normal, build, dev).
    dependencies: BTreeSet<String>,
}

struct Metadata {
    members: BTreeMap<String, Member>,
    default_members: BTreeSet<String>,
}

fn metadata() -> Metadata {
    let json = cargo(&["metadata", "--no-deps", "--format-version=1", "--offline"], &[]);
    let json: Value = serde_json::from_slice(&json).unwrap();
    let list = |value: &Value| value.as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let packages = list(&json["packages"]);
    let ours: BTreeSet<String> = packages.iter().map(|package| text(&package["name"])).collect();
    let member = |package: &Value| Member {
        manifest: text(&package["manifest_path"]).into(),
        dependencies: list(&package["dependencies"])
            .iter()
            .map(|dependency| text(&dependency["name"]))
            .filter(|name| ours.contains(name))
            .collect(),
    };
    let default = list(&json["workspace_default_members"]);
    let is_default = |package: &&Value| default.contains(&package["id"]);
    Metadata {
        members: packages.iter().map(|package| (text(&package["name"]), member(package))).collect(),
        default_members: packages
            .iter()
            .filter(is_default)
            .map(|package| text(&package["name"]))
            .collect(),
    }
}

/// Whether libtorch is in the graph of `package` with its default features, built and tested alone.
fn links_libtorch(package: &str, edges: &str) -> bool {
    let tree = cargo(
        &[
            "tree",
            "--offline",
            "--package",
            package,
            "--edges",
            edges,
            "--prefix=none",
            "--format={p}",
        ],
        &[],
    );
    String::from_utf8(tree).unwrap().lines().any(|line| line.starts_with("torch-sys "))
}

#[test]
fn libtorch_stays_out_of_crates_that_need_none() {
    let metadata = metadata();
    let present: Vec<&str> =
        WITHOUT_LIBTORCH.into_iter().filter(|name| metadata.members.contains_key(*name)).collect();
    assert!(present.contains(&"xtask") && present.contains(&"forerun-runs"), "{present:?}");
    for package in present {
        assert!(!links_libtorch(package, "normal,build"), "{package} links libtorch");
    }
    assert!(
        links_libtorch("forerun-tensors", "normal,build"),
        "the check sees libtorch where it is"
    );
}

#[test]
fn default_members_are_what_builds_and_tests_without_libtorch() {
    let metadata = metadata();
    let without: BTreeSet<String> = metadata
        .members
        .keys()
        .filter(|package| !links_libtorch(package, "normal,build,dev"))
        .cloned()
        .collect();
    assert_eq!(
        metadata.default_members, without,
        "`default-members` in Cargo.toml (left) must be the right"
    );
}

#[test]
fn research_crates_do_not_know_each_other() {
    for (name, member) in &metadata().members {
        if RESEARCH.contains(&name.as_str()) {
            let foreign: Vec<&String> = member
                .dependencies
                .iter()
                .filter(|name| !FOUNDATIONS.contains(&name.as_str()))
                .collect();
            assert!(
                foreign.is_empty(),
                "{name} may depend on {FOUNDATIONS:?} only, not on {foreign:?}"
            );
        }
    }
}

#[test]
fn the_layers_hold() {
    for (name, member) in &metadata().members {
        let depends_on = |other: &str| member.dependencies.contains(other);
        let composes = ["forerun-experiments", "forerun-tests"].contains(&name.as_str());
        assert!(
            composes || !depends_on("forerun-experiments"),
            "{name} must not depend on the composition"
        );
        assert!(!depends_on("xtask") && !depends_on("forerun-tests"), "{name} depends on a tool");
        if ["xtask", "forerun-tensors", "forerun-tokens", "forerun-runs"].contains(&name.as_str()) {
            assert!(
                member.dependencies.is_empty(),
                "{name} stands alone, not on {:?}",
                member.dependencies
            );
        }
        if name == "forerun-train" {
            assert!(
                member.dependencies.iter().eq(["forerun-tensors"]),
                "train reaches the rest through its traits"
            );
        }
    }
}

#[test]
fn a_package_is_named_after_its_folder() {
    for (name, member) in &metadata().members {
        let folder = member.manifest.parent().unwrap().file_name().unwrap().to_string_lossy();
        assert!(name == "xtask" || *name == format!("forerun-{folder}"), "{name} lies in {folder}");
    }
}

#[test]
fn every_member_takes_lints_and_versions_from_the_workspace() {
    for (name, member) in &metadata().members {
        let manifest = fs::read_to_string(&member.manifest).unwrap();
        assert!(
            manifest.contains("[lints]\nworkspace = true\n"),
            "{name} lacks the workspace's lints"
        );
        let mut section = "";
        for line in manifest.lines() {
            section = if line.starts_with('[') { line } else { section };
            let is_dependency = section.contains("dependencies]") && line.contains('=');
            let shared = line.contains(".workspace = true") || line.contains("workspace = true,");
            assert!(
                !is_dependency || shared,
                "{name}: versions belong into the root Cargo.toml: {line}"
            );
        }
    }
    assert!(fs::exists(root().join("Cargo.lock")).unwrap());
}
