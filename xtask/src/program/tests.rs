use super::*;
use crate::libtorch::Origin;

const MESSAGES: &str = r#"not JSON
{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"golden"},"executable":null}
{"reason":"compiler-artifact","target":{"kind":["test"],"name":"golden"},"executable":"/target/debug/deps/golden-1"}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"golden"},"executable":"/target/debug/golden"}
{"reason":"build-finished","success":true}
"#;

#[test]
fn cargo_says_where_the_program_lies() {
    assert_eq!(find_executable(MESSAGES.as_bytes(), "golden"), Some("/target/debug/golden".into()));
    assert_eq!(find_executable(MESSAGES.as_bytes(), "forerun-experiments"), None);
    assert_eq!(find_executable("".as_bytes(), "golden"), None);
}

#[test]
fn libtorch_comes_first_on_the_library_path_and_once() {
    let libtorch = Libtorch { dir: "/somewhere/torch".into(), origin: Origin::Caller, cuda: false };
    let path = library_path(&libtorch).unwrap();
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    assert_eq!(folders[0], Path::new("/somewhere/torch/lib"));
    assert_eq!(folders.iter().filter(|folder| **folder == folders[0]).count(), 1);
}
