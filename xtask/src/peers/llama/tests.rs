use super::*;

#[test]
fn a_missing_compiler_is_explained_in_one_line() {
    let error = compiler_headers("/nowhere/cc").unwrap_err();
    assert_eq!(
        error.to_string(),
        "a C++ compiler and make are needed to build llama.cpp (Debian, Ubuntu: `apt install g++ make`): `/nowhere/cc \
         -print-file-name=include` does not start"
    );
}

#[test]
fn what_failed_says_its_last_line() {
    let mut command = Command::new("sh");
    command.args(["-c", "echo first >&2; echo last >&2; echo >&2; exit 3"]);
    let error = output_of(&mut command, "no shell").unwrap_err().to_string();
    assert!(error.ends_with("failed: last"), "{error}");
}

#[test]
fn the_line_that_says_most_is_found() {
    let build = "error: failed to run custom build command for `llama-cpp-sys-2`\n  --- stderr\n  CMake Error: no such folder\n";
    assert_eq!(reason(build), "CMake Error: no such folder");
    assert_eq!(reason("error: linking failed\n\nnote: see above\n"), "error: linking failed");
    assert_eq!(reason("\n"), "it did not say why");
}

#[test]
fn the_environment_goes_before_the_callers_path() {
    let path = path_with(Path::new("/first")).unwrap();
    assert_eq!(env::split_paths(&path).next(), Some(PathBuf::from("/first")));
    assert_eq!(
        env::split_paths(&path).skip(1).collect::<Vec<_>>(),
        env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect::<Vec<_>>()
    );
}
