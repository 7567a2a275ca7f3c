use std::time::{Duration, UNIX_EPOCH};

use forerun_tokens::gguf::Writer;

use super::*;

#[track_caller]
fn check(name: &str, models: &Path, expected: Result<Place, &str>) {
    match (Place::find_below(name, models), expected) {
        (Ok(found), Ok(expected)) => assert_eq!(found, expected),
        (Err(error), Err(expected)) => assert_eq!(error.to_string(), expected),
        (found, expected) => panic!("{name}: {found:?}, not {expected:?}"),
    }
}

#[test]
fn a_model_is_a_name_a_folder_or_a_file() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    let text = |name: &str| path(name).display().to_string();
    for name in ["hub", "one", "two", "none", "models/smollm2-135m"] {
        fs::create_dir_all(path(name)).unwrap();
    }
    for name in
        ["hub/config.json", "hub/x.gguf", "one/x.GGUF", "two/a.gguf", "two/b.gguf", "none/x.bin"]
    {
        fs::write(path(name), b"").unwrap();
    }
    let models = path("models");
    check(&text("hub"), &models, Ok(Place::Folder(path("hub"))));
    check(&text("one"), &models, Ok(Place::Gguf(path("one/x.GGUF"))));
    check(&text("two/b.gguf"), &models, Ok(Place::Gguf(path("two/b.gguf"))));
    let several = format!(
        "`{}` holds 2 .gguf files; name the one that is meant, `{}` for example",
        text("two"),
        text("two/a.gguf")
    );
    check(&text("two"), &models, Err(&several));
    let nothing = |name: &str| {
        format!("`{}` is no model: it holds neither config.json nor a .gguf file", text(name))
    };
    check(&text("none"), &models, Err(&nothing("none")));
    check("smollm2-135m", &models, Err(&nothing("models/smollm2-135m")));
    let other = format!(
        "`{}` is no model: a folder is wanted, or a file whose name ends in .gguf",
        text("none/x.bin")
    );
    check(&text("none/x.bin"), &models, Err(&other));
    check(
        "smollm2-135m",
        &path("elsewhere"),
        Err("the model `smollm2-135m` is not there; fetch it: cargo xtask model smollm2-135m"),
    );
    check(
        "smollm",
        &models,
        Err(
            "there is no model `smollm`: neither a folder, nor a .gguf file, nor a name that `cargo xtask model` knows (smollm2-135m)",
        ),
    );
}

#[test]
fn a_folder_is_loaded_with_its_tokenizer_and_what_ends_a_text() {
    let place = tempfile::tempdir().unwrap();
    write_drawn(place.path(), 1).unwrap();
    let folder = Place::Folder(place.path().to_owned());
    let loaded = folder.load(Some(Precision::Bf16), Device::Cpu, None).unwrap();
    assert_eq!(loaded.model.kind(), Kind::BFloat16);
    assert_eq!(loaded.defaults.eos_tokens, [256]);
    assert!(loaded.tokenizer.chat_template().is_some());
    let names: Vec<_> = folder
        .files()
        .unwrap()
        .into_iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let expected = [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(names, expected);
    // Without a tokenizer one has to be named.
    fs::remove_file(place.path().join("tokenizer.json")).unwrap();
    let error = folder.load(None, Device::Cpu, None).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "has no tokenizer.json; name one with --tokenizer (a tokenizer.json, or bytes)"
        ),
        "{error}"
    );
    let loaded = folder.load(None, Device::Cpu, Some("bytes")).unwrap();
    assert_eq!(loaded.tokenizer.tokenizer().name(), "bytes");
}

#[test]
fn a_copy_is_the_same_model_and_other_weights_are_another() {
    let place = tempfile::tempdir().unwrap();
    let [one, copy] = ["one", "copy"].map(|name| Place::Folder(place.path().join(name)));
    write_drawn(one.path(), 1).unwrap();
    write_drawn(copy.path(), 1).unwrap();
    let weights = |at: &Place| at.path().join("model.safetensors");
    let set_time = |at: &Place, secs: u64| {
        let file = fs::File::options().append(true).open(weights(at)).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(secs)).unwrap();
    };
    set_time(&one, 1_000_000_000);
    set_time(&copy, 1_500_000_000);
    let before = one.fingerprint().unwrap();
    assert_eq!(copy.fingerprint().unwrap(), before);
    // Other weights of the same size and time.
    let size = weights(&copy).metadata().unwrap().len();
    write_drawn(copy.path(), 2).unwrap();
    set_time(&copy, 1_000_000_000);
    assert_eq!(weights(&copy).metadata().unwrap().len(), size);
    let other = copy.fingerprint().unwrap();
    assert_ne!(other, before);
    fs::write(copy.path().join("tokenizer_config.json"), "{}").unwrap();
    assert_ne!(copy.fingerprint().unwrap(), other);
    // Results of experiments are found by it.
    let file = place.path().join("x.gguf");
    fs::write(&file, "abc").unwrap();
    let expected = sha256_hex(format!("x.gguf {}\n", sha256_hex(b"abc")).as_bytes());
    assert_eq!(Place::Gguf(file).fingerprint().unwrap(), expected);
}

#[test]
fn a_damaged_gguf_file_is_named() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("x.gguf");
    fs::write(&path, b"GGUF?").unwrap();
    let gguf = Place::Gguf(path.clone());
    let error = gguf.config().unwrap_err().to_string();
    assert!(error.starts_with(&format!("GGUF file `{}`", path.display())), "{error}");
    let mut writer = Writer::new();
    writer.string("general.architecture", "bert");
    fs::write(&path, writer.to_bytes().unwrap()).unwrap();
    let error = format!("{:#}", gguf.config().unwrap_err());
    assert!(error.contains("`bert` is not one of llama, phi3"), "{error}");
}

#[test]
fn known_names_are_those_that_xtask_fetches() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../xtask/src/model.rs");
    let text = fs::read_to_string(file).unwrap();
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("name: \"")?.strip_suffix("\","))
        .collect();
    assert_eq!(names, KNOWN);
}
