//! Freed memory is kept: a program of its own, because the setting is the process's.

#![expect(clippy::unwrap_used, reason = "a test")]

use forerun_tensors::keep_freed_memory;
use tch::{Device, Kind, Tensor};

/// More than glibc ever keeps by itself.
const BYTES: i64 = 40 << 20;

fn main() {
    tch::set_num_threads(1);
    let told = keep_freed_memory();
    assert_eq!(told, cfg!(target_env = "gnu"));
    if !told || !cfg!(target_os = "linux") {
        return;
    }
    let mut pages = [0; 20];
    for pages in &mut pages {
        let before = faults();
        drop(Tensor::ones([BYTES], (Kind::Uint8, Device::Cpu)));
        *pages = faults() - before;
    }
    // A new block has 10240 pages, unless they are huge.
    assert!(pages[12..].iter().all(|&pages| pages < 20), "{pages:?}");
}

/// Pages that this process has had to fault in so far.
fn faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // man 5 proc_pid_stat: minflt is the tenth field, and the name is the second.
    let after_name = stat.rsplit_once(')').unwrap().1;
    after_name.split_whitespace().nth(7).unwrap().parse().unwrap()
}
