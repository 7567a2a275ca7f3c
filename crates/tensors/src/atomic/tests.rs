use std::fs;
use std::process;

use super::*;

fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).collect()
}

#[test]
fn a_file_is_replaced_whole_and_nothing_else_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    write_atomic(&path, b"old and long").unwrap();
    write_atomic(&path, b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(names(folder.path()), ["state.json"]);
}

#[test]
fn an_unfinished_file_leaves_the_old_one_and_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    write_atomic(&path, b"old").unwrap();
    let mut file = AtomicFile::create(&path).unwrap();
    file.write(b"half").unwrap();
    assert_eq!(names(folder.path()).len(), 2);
    drop(file);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(names(folder.path()), ["a"]);
}

/// A killed process leaves its temporary file; a later one may have the same process id and count alike.
#[test]
fn what_a_killed_process_left_is_not_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    for count in 0..500 {
        let left = format!(".a.{}-{count}.tmp", process::id());
        fs::write(folder.path().join(left), "half").unwrap();
    }
    write_atomic(&folder.path().join("a"), b"whole").unwrap();
    assert_eq!(fs::read(folder.path().join("a")).unwrap(), b"whole");
}

#[cfg(unix)]
#[test]
fn the_rights_are_those_of_an_ordinary_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let rights =
        |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
    fs::write(folder.path().join("ordinary"), "").unwrap();
    write_atomic(&folder.path().join("atomic"), b"").unwrap();
    assert_eq!(rights("atomic"), rights("ordinary"));
}

#[test]
fn errors_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none/a");
    let error = write_atomic(&path, b"x").unwrap_err();
    assert!(matches!(&error, Error::Io { path: named, .. } if *named == path), "{error}");
    let error = write_atomic(Path::new("/"), b"x").unwrap_err().to_string();
    assert_eq!(error, "`/`: the path names no file");
}

#[test]
fn bytes_become_two_digits_each() {
    assert_eq!(hex(&[0, 10, 255, 0x3c]), "000aff3c");
    assert_eq!(hex(&[]), "");
}
