use super::*;
use crate::Error;

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_is_replaced_and_nothing_else_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.txt");
    write_atomic(&path, b"old").unwrap();
    write_atomic(&path, b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(names(dir.path()), ["a.txt"]);
}

#[test]
fn a_writer_that_fails_half_way_leaves_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.txt");
    write_atomic(&path, b"old").unwrap();
    let outcome = write_atomic_with(&path, |file| {
        file.write_all(b"half").unwrap();
        Err(damaged(Path::new("source"), "ran dry"))
    });
    assert!(matches!(outcome, Err(Error::File { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(names(dir.path()), ["a.txt"]);
}

#[test]
fn a_missing_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = write_atomic(&dir.path().join("no/such/a.txt"), b"x").unwrap_err();
    assert!(error.to_string().starts_with("cannot create a temporary file in `"), "{error}");
    assert!(error.to_string().contains("no/such`"), "{error}");
}

#[cfg(unix)]
#[test]
fn other_users_may_read_what_the_umask_lets_them() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (plain, atomic) = (dir.path().join("plain"), dir.path().join("atomic"));
    fs::write(&plain, b"x").unwrap();
    write_atomic(&atomic, b"x").unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&plain), mode(&atomic));
}

#[test]
fn hashes_are_those_of_fips_180() {
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(sha256_hex(b"abc"), abc);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("abc");
    fs::write(&path, b"abc").unwrap();
    assert_eq!(sha256_file(&path).unwrap(), abc);
    let long = vec![7; 200_000];
    fs::write(&path, &long).unwrap();
    assert_eq!(sha256_file(&path).unwrap(), sha256_hex(&long));
}

#[test]
fn json_comes_back_and_a_cut_file_is_refused_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.json");
    write_json(&path, &[1.5, f64::MIN_POSITIVE]).unwrap();
    assert_eq!(read_json::<Vec<f64>>(&path).unwrap(), [1.5, f64::MIN_POSITIVE]);
    fs::write(&path, "[\n  1.5,").unwrap();
    let error = read_json::<Vec<f64>>(&path).unwrap_err();
    assert!(error.to_string().contains("line 2"), "{error}");
}
