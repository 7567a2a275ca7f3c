//! What the tests of several modules need: small wheels of our own, and a `python3` that copies instead of fetching.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::wheels::{LIBTORCH, Wheel};

pub(crate) fn leak<T: ?Sized>(value: Box<T>) -> &'static T {
    Box::leak(value)
}

/// A wheel of `files` in `dir`, pinned.
pub(crate) fn wheel(
    dir: &Path,
    package: &'static str,
    files: &[(&str, &str)],
    keep: &'static [&'static str],
) -> Wheel {
    let path = dir.join(format!("{package}.whl"));
    let mut zip = ZipWriter::new(fs::File::create(&path).unwrap());
    for (name, text) in files {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap();
    let hash: String =
        Sha256::digest(fs::read(&path).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
    let sha256 = leak(hash.into_boxed_str());
    let (version, platform, purpose) = ("1", "any", &LIBTORCH);
    Wheel { package, version, platform, sha256, bytes: 1, kept_bytes: 1, keep, purpose }
}

/// A `python3` whose pip copies the wheels that lie beside it, and logs each.
pub(crate) fn copying_python(dir: &Path) -> PathBuf {
    let path = dir.join("python3");
    let script = r#"#!/bin/sh
case "$*" in
    "-m pip --version") echo "pip 1.0 from /nowhere (python 3.11)" ;;
    *) here=$(dirname "$0")
       for word in "$@"; do
           case "$word" in *==*) package=${word%%==*} ;; esac
           dest=$word # the last one
       done
       echo "$package" >>"$here/log"
       cp "$here/$package.whl" "$dest/" ;;
esac
"#;
    // Another process writes it: what other threads start must not hold it open, or it cannot be executed.
    let write = "printf '%s' \"$1\" >\"$0\" && chmod +x \"$0\"";
    let written =
        Command::new("/bin/sh").args(["-c", write]).arg(&path).arg(script).status().unwrap();
    assert!(written.success());
    path
}
