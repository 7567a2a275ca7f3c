//! Compiles the C++ shim against the libtorch that torch-sys found.

use std::env;
use std::path::{Path, PathBuf};
use std::process::exit;

fn main() {
    println!("cargo:rerun-if-changed=src/shim.cpp");
    println!("cargo:rerun-if-changed=src/shim.h");
    println!("cargo:rerun-if-changed=build.rs");
    // torch-sys has `links = "tch"` and tells its dependants where the libraries are.
    let lib = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from);
    let Some(root) = lib.as_deref().and_then(|lib| lib.parent()) else {
        println!(
            "cargo:error=torch-sys did not say where libtorch is; run `cargo xtask setup` or set LIBTORCH"
        );
        exit(1);
    };
    let include = root.join("include");
    println!("cargo:rustc-env=FORERUN_LIBTORCH_VERSION={}", version(&include));
    let mut build = cc::Build::new();
    build.cpp(true).std("c++20").opt_level(2).warnings(true).extra_warnings(true);
    build.define("_GLIBCXX_USE_CXX11_ABI", "1");
    // As system headers, so that warnings are about our file only.
    for folder in [include.join("torch/csrc/api/include"), include] {
        build.flag("-isystem").flag(folder);
    }
    // With it at::parallel_for uses libtorch's threads, without it one; torch-sys links the runtime on Linux.
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        build.flag_if_supported("-fopenmp");
    }
    build.file("src/shim.cpp").compile("forerun_tensors_shim");
}

/// Where the numbers stand: the first since 2.9, the other before.
const VERSION_HEADERS: [&str; 2] =
    ["torch/headeronly/version.h", "torch/csrc/api/include/torch/version.h"];

/// `2.13.0`, as libtorch's own headers below `include` have it.
fn version(include: &Path) -> String {
    let headers = VERSION_HEADERS.map(|name| include.join(name));
    let texts = headers.map(|header| {
        println!("cargo:rerun-if-changed={}", header.display());
        std::fs::read_to_string(header).unwrap_or_default()
    });
    let number = |part: &str| {
        let name = format!("#define TORCH_VERSION_{part} ");
        let mut lines = texts.iter().flat_map(|text| text.lines());
        lines.find_map(|line| line.strip_prefix(name.as_str())).map_or("?", str::trim).to_owned()
    };
    ["MAJOR", "MINOR", "PATCH"].map(number).join(".")
}
