use super::*;

use crate::wheels::WHEELS;

/// pip's own words in, our one line out.
fn check(pip_said: &str, expected: &str) {
    let line = explain(&WHEELS[0], pip_said, Path::new("/home/me/forerun/.libtorch.partial-1"))
        .to_string();
    assert!(line.starts_with(expected) || line.contains(expected), "{line}");
    assert!(!line.contains('\n'));
}

#[test]
fn each_way_in_which_pip_fails_has_its_own_way_out() {
    let no_network = "\
WARNING: Retrying (Retry(total=4, ...)) after connection broken by 'NewConnectionError('<pip._vendor.urllib3...>: Failed \
to establish a new connection: [Errno -3] Temporary failure in name resolution')': /simple/torch/
ERROR: Could not find a version that satisfies the requirement torch==2.13.0 (from versions: none)
ERROR: No matching distribution found for torch==2.13.0";
    check(no_network, "no connection to the package index");
    let no_retries = "\
ERROR: Could not find a version that satisfies the requirement torch==2.13.0 (from versions: none)
ERROR: No matching distribution found for torch==2.13.0";
    check(no_retries, "no connection to the package index");
    let not_there = "\
ERROR: Could not find a version that satisfies the requirement torch==2.13.0 (from versions: 1.0)
ERROR: No matching distribution found for torch==2.13.0";
    check(not_there, "the package index that it is set to use has no such file");
    check(
        "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
        "the disk of",
    );
    check("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]", "set PIP_CERT");
    check(
        "Traceback\nValueError: odd\n\n",
        "pip could not fetch torch 2.13.0: ValueError: odd; repair that",
    );
    check("", "it did not say why");
}

#[test]
fn pip_is_asked_for_the_pinned_file_whatever_python_runs_it() {
    assert_eq!(
        arguments(&WHEELS[0]).join(" "),
        "download --no-deps --only-binary=:all: --python-version 3.11 --implementation cp --abi cp311 --platform \
         manylinux_2_28_x86_64 torch==2.13.0"
    );
}

#[test]
fn a_refused_file_is_told_by_both_hashes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wheel");
    fs::write(&file, "abc").unwrap();
    // FIPS 180-2, appendix B.1.
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(sha256(&file).unwrap(), abc);
    let error = tampered(&WHEELS[0], abc).to_string();
    assert!(error.contains(abc) && error.contains(WHEELS[0].sha256), "{error}");
}
