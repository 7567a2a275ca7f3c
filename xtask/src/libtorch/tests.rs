use super::*;

const HEADER: &str = "\
#pragma once
/// Indicates the major version of LibTorch.
#define TORCH_VERSION_MAJOR 2
#define TORCH_VERSION_MINOR 13
#define TORCH_VERSION_PATCH 0
#define TORCH_VERSION \\
  \"2.13.0\"
";

fn folder(header: &str, libraries: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in
        [(VERSION_HEADERS[0], header)].into_iter().chain(libraries.iter().map(|name| (*name, "")))
    {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn check(header: &str, libraries: &[&str], expected: Result<bool, &str>) {
    let dir = folder(header, libraries);
    match (examine(dir.path().to_path_buf(), Origin::Caller), expected) {
        (Finding::Found(libtorch), Ok(cuda)) => assert_eq!(libtorch.cuda, cuda),
        (Finding::Unusable { reason, .. }, Err(expected)) => {
            assert!(reason.contains(expected), "{reason}")
        }
        (finding, expected) => panic!("{finding:?} is not {expected:?}"),
    }
}

#[test]
fn the_version_is_read_from_the_headers() {
    assert_eq!(parse_version(HEADER).as_deref(), Some("2.13.0"));
    assert_eq!(parse_version(&HEADER.replace("13", "4")).as_deref(), Some("2.4.0"));
    assert_eq!(parse_version("#include <torch/headeronly/version.h>"), None);
    assert_eq!(parse_version(&HEADER.replace("PATCH", "OTHER")), None);
}

#[cfg(target_os = "linux")]
#[test]
fn only_a_whole_libtorch_of_our_version_is_found() {
    let cpu = ["lib/libc10.so", "lib/libtorch.so", "lib/libtorch_cpu.so"];
    check(HEADER, &cpu, Ok(false));
    check(HEADER, &[&cpu[..], &["lib/libtorch_cuda.so"]].concat(), Ok(true));
    check(HEADER, &cpu[1..], Err("lacks `"));
    check(&HEADER.replace("13", "12"), &cpu, Err("is libtorch 2.12.0"));
    check("", &cpu, Err("has no libtorch headers"));
}

#[test]
fn the_callers_libtorch_goes_before_ours() {
    let root = tempfile::tempdir().unwrap();
    let mut workspace = Workspace { root: root.path().to_path_buf(), callers_libtorch: None };
    assert_eq!(find(&workspace), Finding::Missing);
    fs::create_dir(workspace.libtorch_parent()).unwrap();
    let origin = |workspace: &Workspace| match find(workspace) {
        Finding::Unusable { origin, .. } => origin,
        finding => panic!("{finding:?}"),
    };
    assert_eq!(origin(&workspace), Origin::Repository);
    workspace.callers_libtorch = Some("/nowhere/torch".into());
    assert_eq!(origin(&workspace), Origin::Caller);
}
