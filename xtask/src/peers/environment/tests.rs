use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::tidy::root;

fn check_pip(errors: &str, expected: &str) {
    assert_eq!(explain_pip("train", errors).to_string(), expected, "{errors}");
}

#[test]
fn why_pip_failed_is_said_in_one_line() {
    check_pip(
        "WARNING: Retrying\nERROR: Could not find a version that satisfies the requirement torch==2.13.0 (from versions: none)",
        "pip could not install the packages of `peers train`: no connection to the package index, or it is empty; check \
         the network (pip heeds HTTPS_PROXY and PIP_INDEX_URL) and try again",
    );
    check_pip(
        "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
        "the disk became full while pip installed the packages of `peers train`",
    );
    check_pip(
        "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]'))",
        "pip could not install the packages of `peers train`: the server's certificate is not trusted; behind a proxy \
         of your own, set PIP_CERT to its certificate",
    );
    check_pip(
        "ERROR: torch has an invalid wheel\nnote: see above",
        "pip could not install the packages of `peers train`: torch has an invalid wheel",
    );
    check_pip("\n", "pip could not install the packages of `peers train`: it did not say why");
}

#[test]
fn a_python_without_venv_is_explained() {
    let errors =
        "The virtual environment was not created successfully because ensurepip is not\navailable.";
    assert_eq!(
        explain_venv(errors).to_string(),
        "`python3` cannot make virtual environments; install what it lacks (Debian, Ubuntu: `apt install python3-venv`)"
    );
    assert_eq!(
        explain_venv("Segmentation fault").to_string(),
        "`python3 -m venv` failed: Segmentation fault"
    );
}

#[test]
fn a_missing_python_is_explained() {
    let error = run(&mut Command::new("/nowhere/python3"), explain_venv).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Python 3 is needed to run other people's programs, and `/nowhere/python3` was not found; install it with venv \
         and pip (Debian, Ubuntu: `apt install python3-venv`)"
    );
}

/// A repository with an environment that was made already, of `requirements`.
fn repository(requirements: &str) -> (tempfile::TempDir, Workspace) {
    let folder = tempfile::tempdir().unwrap();
    let workspace = Workspace { root: folder.path().to_path_buf(), callers_libtorch: None };
    let programs = folder.path().join("xtask/peers/some");
    let bin = folder.path().join("target/peers-venv/some/bin");
    fs::create_dir_all(&programs).unwrap();
    fs::create_dir_all(&bin).unwrap();
    fs::write(programs.join("requirements.txt"), requirements).unwrap();
    let python = bin.join("python");
    fs::write(&python, "#!/bin/sh\necho it runs\n").unwrap();
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    let mark = digest(&programs.join("requirements.txt")).unwrap();
    fs::write(bin.parent().unwrap().join(MARK), mark).unwrap();
    (folder, workspace)
}

#[test]
fn an_environment_is_used_again_while_its_requirements_stay() {
    // More than any disk has: if it were made anew, that would be the error.
    let needs = Needs { peer: "some", bytes: u64::MAX };
    let (folder, workspace) = repository("a==1\n");
    let environment = Environment::ensure(&workspace, needs).unwrap();
    let output = environment.program("x.py").output().unwrap();
    assert_eq!(output.stdout, b"it runs\n");

    fs::write(folder.path().join("xtask/peers/some/requirements.txt"), "a==2\n").unwrap();
    let error = Environment::ensure(&workspace, needs).unwrap_err().to_string();
    assert!(error.starts_with("the packages of `peers some` need "), "{error}");
}

#[test]
fn every_package_of_every_peer_is_pinned() {
    let folders = fs::read_dir(root().join("xtask/peers")).unwrap();
    let folders: Vec<_> = folders.map(|entry| entry.unwrap().path()).collect();
    assert!(folders.len() >= 2, "{folders:?}");
    for folder in folders {
        let path = folder.join("requirements.txt");
        let text = fs::read_to_string(&path).unwrap();
        let lines =
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let loose: Vec<&str> = lines.filter(|line| !is_pinned(line)).collect();
        assert!(loose.is_empty(), "{}: {loose:?}", path.display());
    }
}

/// `name==1.2.3`, with a marker or without.
fn is_pinned(requirement: &str) -> bool {
    let pin = requirement.split(';').next().unwrap_or_default().trim();
    let plain = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    pin.split_once("==").is_some_and(|(name, version)| plain(name, "-_.") && plain(version, "."))
}

#[test]
fn what_is_not_pinned_is_noticed() {
    for loose in
        ["torch", "torch>=2", "torch==2.*", "torch==2,!=3", "-r other.txt", "torch @ file:///x"]
    {
        assert!(!is_pinned(loose), "{loose}");
    }
    assert!(is_pinned("nvidia-cublas==13.1.1.3; sys_platform == \"linux\""));
}
