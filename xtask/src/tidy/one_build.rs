//! Everything is compiled once: what `run-experiment` builds, `test` finds built.
//!
//! Cargo compiles a dependency again when its features, or those of anything below it, differ. It prints what it would
//! compile as a graph of units. The option is unstable, hence `RUSTC_BOOTSTRAP`; nothing is compiled here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::cargo;
use crate::cargo::{CLIPPY, DOC};
use crate::program::{Program, build_arguments};

/// What cargo would compile of other people's code: a description of each unit with all that is below it, and its name.
fn foreign_units(arguments: &[&str]) -> BTreeMap<String, String> {
    let (command, rest) = arguments.split_first().unwrap();
    let options = ["--offline", "-Z", "unstable-options", "--unit-graph"];
    let json = cargo(&[&[*command], &options[..], rest].concat(), &[("RUSTC_BOOTSTRAP", "1")]);
    let graph: Value = serde_json::from_slice(&json).unwrap();
    let units = graph["units"].as_array().unwrap();
    let mut keys = vec![None; units.len()];
    let mut foreign = BTreeMap::new();
    for (index, unit) in units.iter().enumerate() {
        let key = describe(units, index, &mut keys);
        let id = unit["pkg_id"].as_str().unwrap();
        if !id.starts_with("path+") {
            foreign.insert(
                key,
                format!("{} ({})", id.rsplit('#').next().unwrap(), unit["mode"].as_str().unwrap()),
            );
        }
    }
    let has_libtorch = foreign.values().any(|name| name.starts_with("torch-sys@"));
    let without = Program::ALL
        .iter()
        .any(|program| !program.needs_libtorch() && arguments.contains(&program.binary()));
    assert_eq!(has_libtorch, !without, "{arguments:?} and torch-sys");
    foreign
}

/// Two units with the same description share one compilation. The description is a hash, to keep it short.
fn describe(units: &[Value], index: usize, keys: &mut [Option<String>]) -> String {
    use sha2::{Digest, Sha256};
    if let Some(key) = &keys[index] {
        return key.clone();
    }
    let unit = &units[index];
    let dependencies = unit["dependencies"].as_array().unwrap();
    let below: BTreeSet<String> = dependencies
        .iter()
        .map(|dependency| describe(units, dependency["index"].as_u64().unwrap() as usize, keys))
        .collect();
    let mut profile = unit["profile"].clone();
    profile.as_object_mut().unwrap().remove("name"); // `dev` and `test` are the same to cargo
    let fields =
        ["pkg_id", "target", "mode", "platform", "features"].map(|field| unit[field].clone());
    let text = json!([fields, profile, below]).to_string();
    let key: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    keys[index] = Some(key.clone());
    key
}

/// Nothing that `command` compiles is missing from what `others` compile.
fn check(command: &[&str], others: &[&[&str]]) {
    let shared: BTreeSet<String> =
        others.iter().flat_map(|other| foreign_units(other).into_keys()).collect();
    let units = foreign_units(command);
    let again: BTreeSet<&String> =
        units.iter().filter(|(key, _)| !shared.contains(*key)).map(|(_, name)| name).collect();
    assert!(again.is_empty(), "`cargo {}` compiles again: {again:?}", command.join(" "));
}

const TEST: [&str; 2] = ["test", "--workspace"];

#[test]
fn programs_and_tests_share_every_dependency() {
    for program in Program::ALL {
        check(&build_arguments(program.binary()), &[&TEST]);
    }
}

#[test]
fn clippy_and_rustdoc_share_every_dependency() {
    // `cargo clippy` is `cargo check` with another compiler for our own crates.
    let check_all = [&["check"], &CLIPPY[1..]].concat();
    check(&DOC, &[&check_all, &TEST]);
}

#[test]
fn clippy_does_not_compile_libtorchs_bindings_again() {
    let check_all = [&["check"], &CLIPPY[1..]].concat();
    let tests = foreign_units(&TEST);
    let bindings = |units: BTreeMap<String, String>| -> BTreeSet<String> {
        units
            .into_iter()
            .filter(|(_, name)| name.contains("torch-sys@") && name.contains("run-custom-build"))
            .map(|(key, _)| key)
            .collect()
    };
    let of_tests = bindings(tests);
    assert_eq!(of_tests.len(), 1);
    assert_eq!(bindings(foreign_units(&check_all)), of_tests);
}
