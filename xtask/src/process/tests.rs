use super::*;

#[test]
fn a_command_is_shown_as_one_would_type_it() {
    let mut command = Command::new("/opt/toolchain/bin/cargo");
    command.args(["nextest", "run", "-E", "package(x) & test(it's)"]);
    command.env("OMP_NUM_THREADS", "1").env("UNINTERESTING", "2").env_remove("LIBTORCH");
    assert_eq!(
        show(&command),
        r"OMP_NUM_THREADS=1 cargo nextest run -E 'package(x) & test(it'\''s)'"
    );
    assert_eq!(show(Command::new("a/cargo-thing").arg("")), "a/cargo-thing ''");
}

#[test]
fn a_failure_names_the_command() {
    let error = run(Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
    assert_eq!(error.to_string(), "`sh -c 'exit 3'` failed (exit status: 3)");
    let error = run(&mut Command::new("no-such-program-anywhere")).unwrap_err();
    assert_eq!(error.to_string(), "cannot start `no-such-program-anywhere`");
}
