use std::io::Write;
use std::path::PathBuf;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

fn archive(dir: &Path, entries: &[(&str, &str)]) -> PathBuf {
    let path = dir.join("a.whl");
    let mut zip = ZipWriter::new(File::create(&path).unwrap());
    for (name, text) in entries {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap();
    path
}

fn files_below(dir: &Path) -> Vec<String> {
    let mut found = vec![];
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files_below(&entry.path())),
            false => found.push(entry.path().to_string_lossy().into_owned()),
        }
    }
    found.sort();
    found
}

fn check(entries: &[(&str, &str)], keep: &[&str], expected: Result<&[&str], &str>) {
    let dir = tempfile::tempdir().unwrap();
    let wheel = archive(dir.path(), entries);
    let into = dir.path().join("deep/into");
    match (unpack(&wheel, keep, &into), expected) {
        (Ok(()), Ok(names)) => {
            let names: Vec<String> =
                names.iter().map(|name| into.join(name).to_string_lossy().into_owned()).collect();
            assert_eq!(files_below(&into), names);
        }
        (Err(error), Err(expected)) => {
            assert!(error.to_string().contains(expected), "{error}");
            let beside = [wheel.to_string_lossy().into_owned()];
            let outside: Vec<String> = files_below(dir.path())
                .into_iter()
                .filter(|file| !Path::new(file).starts_with(&into))
                .collect();
            assert_eq!(outside, beside, "nothing lies outside");
        }
        (result, expected) => panic!("{result:?} is not {expected:?}"),
    }
}

#[test]
fn only_what_is_wanted_is_unpacked() {
    let entries =
        [("t/lib/a.so", "a"), ("t/lib/b.so", "b"), ("t/include/x/y.h", "y"), ("t/include.py", "p")];
    check(&entries, &["t/lib/a.so", "t/include/"], Ok(&["t/include/x/y.h", "t/lib/a.so"]));
    check(&entries, &["t/lib/c.so"], Err("holds no `t/lib/c.so`"));
    check(&entries, &["t/share/"], Err("holds no `t/share/`"));
}

#[test]
fn a_path_that_leads_out_is_refused() {
    check(&[("t/../../../evil", "x")], &["t/"], Err("leads out of its folder"));
    check(&[("t/..\\evil", "x")], &["t/"], Err("leads out of its folder"));
    check(&[("/etc/evil", "x")], &["/etc/"], Err("leads out of its folder"));
}

#[test]
fn a_link_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let wheel = dir.path().join("a.whl");
    let mut zip = ZipWriter::new(File::create(&wheel).unwrap());
    zip.add_symlink("t/link", "/etc", SimpleFileOptions::default()).unwrap();
    zip.finish().unwrap();
    let error = unpack(&wheel, &["t/"], &dir.path().join("into")).unwrap_err().to_string();
    assert!(error.contains("`t/link`"), "{error}");
}

#[test]
fn a_truncated_or_damaged_archive_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let text = "abcdefgh".repeat(1000);
    let whole = fs::read(archive(dir.path(), &[("t/a", &text)])).unwrap();
    let (cut, mut flipped) = (whole[..whole.len() / 2].to_vec(), whole.clone());
    flipped[40] ^= 0xff;
    for bytes in [cut, flipped] {
        let wheel = dir.path().join("damaged.whl");
        fs::write(&wheel, bytes).unwrap();
        assert!(unpack(&wheel, &["t/"], &dir.path().join("into")).is_err());
    }
}
