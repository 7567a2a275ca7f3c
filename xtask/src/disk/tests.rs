use super::*;
use crate::wheels::LIBTORCH;

fn check(row: &str, expected: Option<u64>) {
    let table =
        format!("Filesystem     1024-blocks     Used Available Capacity Mounted on\n{row}\n");
    assert_eq!(parse_df(&table), expected, "{row}");
}

#[test]
fn the_table_of_df_is_understood() {
    check("/dev/vda         263174212 14223344  81234567      15% /", Some(81_234_567 * 1024));
    check("a b:/share c     100 50  50      50% /mnt/a folder", Some(50 * 1024));
    check("tmpfs            100 100  0     100% /tmp", Some(0));
    check("overlay          - - - - /", None);
    assert_eq!(parse_df("df: unknown option"), None);
}

#[test]
fn too_little_room_is_refused_with_both_numbers() {
    let dir = tempfile::tempdir().unwrap();
    check_passes(dir.path());
    let error = super::check(dir.path(), u64::MAX, &LIBTORCH).unwrap_err().to_string();
    assert!(
        error.contains("needs 18446744073710 MB free") && error.contains("set LIBTORCH"),
        "{error}"
    );
}

fn check_passes(dir: &Path) {
    super::check(dir, 1, &LIBTORCH).unwrap();
}

#[test]
fn a_disk_that_fills_up_is_told_from_other_trouble() {
    let explained = |kind: io::ErrorKind| explain(kind.into(), Path::new("/x")).to_string();
    assert!(explained(io::ErrorKind::StorageFull).contains("is full; free some space"));
    assert!(
        explained(io::ErrorKind::PermissionDenied).contains("cannot write `/x`: permission denied")
    );
}

#[cfg(target_os = "linux")]
#[test]
fn the_systems_own_full_disk_is_recognised() {
    use std::io::Write;
    let mut full = std::fs::File::create("/dev/full").unwrap();
    let error = full.write_all(b"x").unwrap_err();
    assert!(explain(error, Path::new("/dev/full")).to_string().contains("is full"));
}
