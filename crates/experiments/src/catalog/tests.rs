use std::collections::BTreeSet;

use super::*;

#[test]
fn the_catalog_is_the_folder() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/configs");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let names: BTreeSet<String> = CATALOG.iter().map(|entry| entry.name.to_owned()).collect();
    assert_eq!(files, names);
}

#[test]
fn every_summary_is_one_readable_line() {
    for entry in CATALOG {
        assert!(entry.toml.starts_with("# "), "{} must begin with a comment", entry.name);
        let length = entry.summary().chars().count();
        assert!((20..=110).contains(&length), "{}: summary of {length} characters", entry.name);
    }
}

#[test]
fn an_unknown_name_lists_the_known_ones() {
    let message = find("qickstart").unwrap_err().to_string();
    assert!(
        message.starts_with("no experiment is called `qickstart`; there are: quickstart"),
        "{message}"
    );
}
