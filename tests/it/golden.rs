//! The golden checker: what it prints and how it exits.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use safetensors_bytes::flip_last_byte;

fn carried() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/arch")
}

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_golden")).args(arguments).output().unwrap();
    let text = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (status.code(), text)
}

fn check(folder: &Path) -> (Option<i32>, String) {
    run(&["--dir", folder.to_str().unwrap()])
}

/// A folder `arch` that holds some of the carried files.
fn copy(stems: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("arch");
    fs::create_dir(&folder).unwrap();
    for stem in stems {
        for file in [format!("{stem}.json"), format!("{stem}.safetensors")] {
            fs::copy(carried().join(&file), folder.join(&file)).unwrap();
        }
    }
    (root, folder)
}

/// As [`copy`], with the checkpoint that the files are about.
fn copy_checkpoint(name: &str) -> (tempfile::TempDir, PathBuf) {
    let (root, folder) = copy(&[&format!("{name}_io")]);
    fs::create_dir(folder.join(name)).unwrap();
    for entry in carried().join(name).read_dir().unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.join(name).join(path.file_name().unwrap())).unwrap();
    }
    (root, folder)
}

mod safetensors_bytes {
    use std::fs;
    use std::path::Path;

    /// Changes the exponent of the last number of the file.
    pub(crate) fn flip_last_byte(path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        *bytes.last_mut().unwrap() ^= 0x10;
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn every_carried_file_passes() {
    let (code, text) = run(&[]);
    assert_eq!(code, Some(0), "{text}");
    for entry in carried().read_dir().unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(stem) = name.strip_suffix(".json") else { continue };
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(stem));
        let fields: Vec<&str> = line.unwrap().split_whitespace().collect();
        assert_eq!((fields.len(), fields[1]), (4, "pass"), "{text}");
        assert!(fields[2].parse::<u32>().unwrap() > 0 && fields[3].contains('/'), "{text}");
    }
    assert_eq!(check(&carried()).0, Some(0));
}

#[test]
fn a_changed_number_fails() {
    for stem in ["xpos", "bca_resolution", "preln_decoder", "phi3small_parts"] {
        let (_root, folder) = copy(&[stem]);
        flip_last_byte(&folder.join(format!("{stem}.safetensors")));
        let (code, text) = check(&folder);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.lines().next().unwrap().contains("  fail "), "{text}");
    }
}

#[test]
fn a_changed_checkpoint_fails() {
    let (_root, folder) = copy_checkpoint("phi3_tiny_longrope");
    assert_eq!(check(&folder).0, Some(0));
    let config = folder.join("phi3_tiny_longrope/config_hub_style_su.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("1.06", "1.08")).unwrap();
    let (code, said) = check(&folder);
    assert!(code == Some(1) && said.contains("L7.sin"), "{said}");
    fs::write(&config, text.replace("\"su\"", "\"ntk\"")).unwrap();
    let (code, said) = check(&folder);
    assert!(code == Some(1) && said.contains("`ntk` is not one of"), "{said}");
    fs::write(&config, text).unwrap();
    flip_last_byte(&folder.join("phi3_tiny_longrope/model.safetensors"));
    let (code, said) = check(&folder);
    assert!(code == Some(1) && said.contains("L7.logits"), "{said}");
    fs::remove_dir_all(folder.join("phi3_tiny_longrope")).unwrap();
    assert_eq!(check(&folder).0, Some(1));
}

#[test]
fn a_changed_constant_of_the_initialisation_fails() {
    let (_root, folder) = copy(&["xpos"]);
    let text = fs::read_to_string(carried().join("init.json")).unwrap();
    fs::write(folder.join("init.json"), &text).unwrap();
    assert_eq!(check(&folder).0, Some(0));
    let changed = text.replacen("1.782709687623856", "1.782709697623856", 1);
    fs::write(folder.join("init.json"), changed).unwrap();
    assert_eq!(check(&folder).0, Some(1));
}

#[test]
fn a_missing_companion_fails() {
    for (kept, lost) in [("json", "safetensors"), ("safetensors", "json")] {
        let (_root, folder) = copy(&["xpos", "bca_resolution"]);
        fs::remove_file(folder.join(format!("xpos.{lost}"))).unwrap();
        let (code, text) = check(&folder);
        assert_eq!(code, Some(1), "only the {kept} is left: {text}");
        assert!(text.contains("missing"), "{text}");
        assert!(
            text.lines().any(|line| line.starts_with("bca_resolution") && line.contains("pass"))
        );
    }
}

#[test]
fn files_of_other_names_and_kinds_are_listed() {
    let (_root, folder) = copy(&["xpos"]);
    for suffix in ["json", "safetensors"] {
        let other = folder.join(format!("xpos_again.{suffix}"));
        fs::rename(folder.join(format!("xpos.{suffix}")), other).unwrap();
    }
    fs::write(folder.join("retnet.json"), r#"{"source": "another"}"#).unwrap();
    fs::write(folder.join("index.json"), "{}").unwrap();
    let (code, text) = check(&folder);
    assert_eq!(code, Some(0), "{text}");
    let statuses: Vec<&str> =
        text.lines().take(2).map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(statuses, ["not-implemented", "pass"], "{text}");
}

#[test]
fn an_empty_or_unknown_folder_exits_with_2() {
    let (root, folder) = copy(&[]);
    for path in [folder, root.path().join("nowhere"), root.path().to_owned()] {
        let (code, text) = check(&path);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.starts_with("golden: "), "{text}");
    }
    assert_eq!(run(&["--nonsense"]).0, Some(2));
}

/// A folder `scaling` that holds some of the carried files.
fn copy_scaling(names: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("scaling");
    fs::create_dir(&folder).unwrap();
    for name in names {
        fs::copy(carried().with_file_name("scaling").join(name), folder.join(name)).unwrap();
    }
    (root, folder)
}

#[test]
fn every_carried_fit_is_reproduced() {
    let (code, text) = check(&carried().with_file_name("scaling"));
    assert_eq!(code, Some(0), "{text}");
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        assert_eq!((fields.len(), fields[1]), (4, "pass"), "{text}");
        assert!(fields[2].parse::<u32>().unwrap() > 0 && fields[3].contains('/'), "{text}");
    }
    assert!(text.lines().count() >= 8, "{text}");
}

#[test]
fn a_changed_fit_and_a_lost_table_fail() {
    let stem = "synth_transfer_violation_A";
    let (table, reference) = (format!("{stem}.csv"), format!("{stem}.ref.json"));
    let (_root, folder) = copy_scaling(&[&table, &reference]);
    assert_eq!(check(&folder).0, Some(0));
    let text = fs::read_to_string(folder.join(&reference)).unwrap();
    let changed = text.replacen("0.0846383100", "0.0849383100", 1);
    assert_ne!(text, changed);
    fs::write(folder.join(&reference), changed).unwrap();
    let (code, said) = check(&folder);
    assert!(code == Some(1) && said.contains("gamma_hat"), "{said}");
    fs::write(folder.join(&reference), text).unwrap();
    fs::remove_file(folder.join(&table)).unwrap();
    let (code, said) = check(&folder);
    assert!(code == Some(1) && said.contains(&table), "{said}");
}

#[test]
fn other_files_are_not_implemented_yet() {
    let root = tempfile::tempdir().unwrap();
    for (kind, expected) in [("scaling", "law  not-implemented"), ("prefopt", "law.ref  not-")] {
        let folder = root.path().join(kind);
        fs::create_dir(&folder).unwrap();
        let mut names = vec!["law.ref.json"];
        names.extend(["law.csv", "speed_perf.ref.json"].iter().filter(|_| kind == "scaling"));
        names.iter().for_each(|name| fs::write(folder.join(name), "{}").unwrap());
        let (code, text) = check(&folder);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.lines().next().unwrap().starts_with(expected), "{text}");
        assert!(!text.contains("speed_perf"), "{text}");
    }
}
