//! The program as people meet it: what it says when something is missing, and how it starts others. Every tool it
//! calls is a little script of ours, on a `PATH` that has nothing else.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const PIP: &str = r#"case "$*" in *--version) echo "pip 1.0 from x"; exit 0;; esac"#;

/// An empty checkout, and a folder that is the whole `PATH`.
struct Machine {
    dir: TempDir,
}

impl Machine {
    /// With a C++ compiler.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["checkout/xtask", "bin"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let machine = Self { dir };
        machine.has("c++", "exit 0");
        machine
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("checkout")
    }

    fn has(&self, name: &str, script: &str) -> PathBuf {
        let path = self.dir.path().join("bin").join(name);
        // Another process writes it. A file that we have open for writing is, for a moment, open in what other threads
        // of ours start, and cannot be executed ("text file busy").
        let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" >\"$0\" && chmod +x \"$0\"";
        let written =
            Command::new("/bin/sh").args(["-c", write]).arg(&path).arg(script).status().unwrap();
        assert!(written.success());
        path
    }

    /// A pip whose downloads are `script`.
    fn has_pip(&self, script: &str) {
        self.has("python3", &format!("{PIP}\n{script}"));
    }

    /// A folder that looks like a libtorch of version 2.`minor`.0.
    fn libtorch(&self, minor: u32) -> PathBuf {
        let torch = self.dir.path().join(format!("libtorch-{minor}"));
        let include = torch.join("include/torch/headeronly");
        fs::create_dir_all(&include).unwrap();
        let line = |part, n| format!("#define TORCH_VERSION_{part} {n}\n");
        fs::write(
            include.join("version.h"),
            line("MAJOR", 2) + &line("MINOR", minor) + &line("PATCH", 0),
        )
        .unwrap();
        fs::create_dir_all(torch.join("lib")).unwrap();
        for library in ["libc10.so", "libtorch.so", "libtorch_cpu.so"] {
            fs::write(torch.join("lib").join(library), "").unwrap();
        }
        torch
    }

    fn xtask(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", self.dir.path().join("bin"))
            .env("XTASK_ROOT", self.root());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// What lies in the checkout besides the source and the lock.
    fn leftovers(&self) -> Vec<String> {
        let names = fs::read_dir(self.root())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "xtask" && name != ".libtorch.lock").collect()
    }

    /// `setup` fails with one line, in which each of `expected` is found, and leaves nothing.
    fn check_setup_fails(&self, expected: &[&str]) {
        self.check_fails(self.xtask(&["setup"]).output().unwrap(), expected);
    }

    fn check_fails(&self, output: Output, expected: &[&str]) {
        let said = String::from_utf8(output.stderr).unwrap();
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        let [line] = errors[..] else { panic!("not one line of error: {said}") };
        assert_eq!(said.lines().last(), Some(line), "the error comes last");
        for words in expected {
            assert!(line.contains(words), "`{words}` is not in: {line}");
        }
        assert!(!said.contains("panicked") && !said.contains("backtrace"), "{said}");
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(self.leftovers(), Vec::<String>::new());
    }
}

#[test]
fn without_python_the_way_out_is_named() {
    let machine = Machine::new();
    machine.check_setup_fails(&["Python 3 is needed", "python3-pip", "LIBTORCH"]);
}

#[test]
fn without_pip_the_way_out_is_named() {
    let machine = Machine::new();
    machine.has("python3", "echo '/usr/bin/python3: No module named pip' >&2; exit 1");
    machine.check_setup_fails(&["pip is needed", "python3-pip", "LIBTORCH"]);
}

#[test]
fn a_broken_python_is_named() {
    let machine = Machine::new();
    machine.has("python3", "echo 'pyenv: version 3.9 is not installed' >&2; exit 127");
    machine.check_setup_fails(&["pyenv: version 3.9 is not installed", "LIBTORCH"]);
}

#[test]
fn without_a_network_the_way_out_is_named() {
    let machine = Machine::new();
    machine.has_pip(
        "echo \"WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('\" >&2
         echo 'ERROR: No matching distribution found for torch==2.13.0' >&2; exit 1",
    );
    machine.check_setup_fails(&["no connection to the package index", "HTTPS_PROXY", "LIBTORCH"]);
}

#[test]
fn a_wheel_of_another_hash_is_refused() {
    let machine = Machine::new();
    machine.has_pip("for word in \"$@\"; do last=$word; done; echo tampered >\"$last/torch.whl\"");
    machine.check_setup_fails(&[
        "torch 2.13.0 has SHA-256",
        "60fcdcb2f3876e21",
        "was deleted",
        "try again",
    ]);
}

#[test]
fn a_full_disk_is_noticed_before_the_download() {
    let machine = Machine::new();
    machine.has_pip("echo 'pip must not be called' >&2; exit 1");
    machine.has(
        "df",
        "echo 'Filesystem 1024-blocks Used Available Capacity Mounted on'; echo 'x 9 8 1024 99% /'",
    );
    machine.check_setup_fails(&["needs 1102 MB free", "which has 2 MB", "LIBTORCH"]);
}

#[test]
fn a_disk_that_fills_up_during_the_download_is_noticed() {
    let machine = Machine::new();
    machine.has_pip(
        "echo 'ERROR: Could not install packages: [Errno 28] No space left on device' >&2; exit 2",
    );
    machine.check_setup_fails(&["is full; free some space"]);
}

#[test]
fn a_libtorch_of_another_version_is_refused() {
    let machine = Machine::new();
    let output = machine.xtask(&["setup"]).env("LIBTORCH", machine.libtorch(4)).output().unwrap();
    machine.check_fails(
        output,
        &["LIBTORCH names `", "is libtorch 2.4.0", "name a libtorch 2.13.0", "unset LIBTORCH"],
    );
    let output = machine.xtask(&["setup"]).env("LIBTORCH", "/nowhere").output().unwrap();
    machine.check_fails(output, &["LIBTORCH names `/nowhere`, which has no libtorch headers"]);
}

#[test]
fn the_callers_libtorch_is_used_and_nothing_installed() {
    let machine = Machine::new();
    let output = machine.xtask(&["setup"]).env("LIBTORCH", machine.libtorch(13)).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success()
            && said.contains("libtorch 2.13.0 (CPU)")
            && said.contains("named by LIBTORCH")
    );
    assert_eq!(machine.leftovers(), Vec::<String>::new());
}

#[test]
fn cuda_is_the_callers_to_install() {
    let machine = Machine::new();
    let output = machine.xtask(&["setup", "--cuda"]).output().unwrap();
    machine.check_fails(
        output,
        &["the CPU's libtorch only", "pip install torch==2.13.0", "set LIBTORCH"],
    );
    let libtorch = machine.libtorch(13);
    fs::write(libtorch.join("lib/libtorch_cuda.so"), "").unwrap();
    let output = machine.xtask(&["setup", "--cuda"]).env("LIBTORCH", libtorch).output().unwrap();
    assert!(
        output.status.success()
            && String::from_utf8_lossy(&output.stdout).contains("(CPU and CUDA)")
    );
}

#[test]
fn without_a_compiler_the_way_out_is_named() {
    let machine = Machine::new();
    fs::remove_file(machine.dir.path().join("bin/c++")).unwrap();
    machine.check_setup_fails(&["a C++ compiler is needed", "apt install g++", "CXX"]);
    machine.has(
        "c++",
        "echo \"c++: error: unrecognized command line option '-std=c++20'\" >&2; exit 1",
    );
    machine.check_setup_fails(&[
        "cannot compile C++20",
        "unrecognized command line option",
        "GCC 10",
    ]);
    let output = machine.xtask(&["setup"]).env("CXX", "ccache clang++").output().unwrap();
    machine.check_fails(output, &["`ccache clang++` was not found"]);
}

#[test]
fn doctor_says_what_is_missing_and_fails() {
    let machine = Machine::new();
    let output = machine.xtask(&["doctor"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    for line in [
        "MISSING  libtorch        not installed yet; run `cargo xtask setup`",
        "MISSING  Python and pip",
        "ok       C++ compiler",
    ] {
        assert!(said.contains(line), "{said}");
    }
    let output = machine.xtask(&["doctor"]).env("LIBTORCH", machine.libtorch(13)).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("only needed to fetch libtorch, which is there"), "{said}");
}

fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what} did not happen");
        std::thread::yield_now();
    }
}

/// Kills whatever a test started, also when it fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_killed_setup_is_cleaned_up_by_the_next_one() {
    let machine = Machine::new();
    // A download that lasts as long as its file exists; pip gets no input that it could wait for.
    let started = machine.dir.path().join("started");
    machine.has_pip(&format!("echo > {0}; while [ -e {0} ]; do :; done", started.display()));
    let mut first = Killed(machine.xtask(&["setup"]).spawn().unwrap());
    wait_for("the download", || started.exists());
    assert!(machine.leftovers()[0].starts_with(".libtorch.partial-"), "{:?}", machine.leftovers());

    // A second one waits for the first, however long, and then does the work itself.
    machine.has_pip("echo 'ERROR: odd' >&2; exit 1");
    let second = machine.xtask(&["setup"]).spawn().unwrap();
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    fs::remove_file(started).unwrap();
    machine.check_fails(second.wait_with_output().unwrap(), &["ERROR: odd"]);
}

/// A checkout whose cargo builds `program`.
fn machine_with_program(program: &str) -> (Machine, Command) {
    let machine = Machine::new();
    let program = machine.has("program", program);
    let message = format!(
        r#"{{"target":{{"kind":["bin"],"name":"forerun-experiments"}},"executable":"{}"}}"#,
        program.display()
    );
    machine.has(
        "cargo",
        &format!("echo \"$*\" >{}\necho '{message}'", machine.dir.path().join("built").display()),
    );
    let mut command = machine.xtask(&["run-experiment", "quickstart", "--set", "a=b c"]);
    command.env("LIBTORCH", machine.libtorch(13));
    (machine, command)
}

#[test]
fn a_program_gets_its_arguments_and_libraries_and_gives_its_exit_code() {
    let (machine, mut command) =
        machine_with_program("printf '%s|' \"$@\" \"$LD_LIBRARY_PATH\"; exit 7");
    let output = command.output().unwrap();
    let library_path = machine.libtorch(13).join("lib");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, format!("run|quickstart|--set|a=b c|{}|", library_path.display()));
    assert_eq!(output.status.code(), Some(7));
    let built = fs::read_to_string(machine.dir.path().join("built")).unwrap();
    assert!(built.starts_with("build --workspace --bin forerun-experiments"), "{built}");
}

#[test]
fn ctrl_c_reaches_the_program_and_nobody_dies_before_it() {
    let (machine, mut command) =
        machine_with_program("trap 'exit 42' INT; echo >$HERE/ready; read line; read line");
    let mut child =
        Killed(command.env("HERE", machine.dir.path()).stdin(Stdio::piped()).spawn().unwrap());
    wait_for("the program's start", || machine.dir.path().join("ready").exists());
    interrupt(&child.0);
    let status = child.0.wait().unwrap();
    assert_eq!(status.code(), Some(42));
}

fn interrupt(child: &Child) {
    let sent = Command::new("/bin/sh")
        .args(["-c", &format!("kill -INT {}", child.id())])
        .status()
        .unwrap();
    assert!(sent.success());
}

#[test]
fn a_failed_build_is_one_line_after_cargos_own() {
    let (machine, mut command) = machine_with_program("exit 0");
    machine.has("cargo", "echo 'cargo explains' >&2; exit 101");
    machine.check_fails(
        command.output().unwrap(),
        &["`cargo build --workspace", "failed (exit status: 101)"],
    );
}
