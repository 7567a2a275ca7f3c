use tch::{Device, Kind, Tensor};

use super::keep_freed_memory;

/// Pages that this thread has had to fault in so far.
#[cfg(target_os = "linux")]
fn faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    // man 5 proc_pid_stat: minflt is the tenth field, and the name is the second.
    after_name.split_whitespace().nth(7).unwrap().parse().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn a_large_tensor_takes_the_memory_of_the_one_before() {
    tch::set_num_threads(1);
    let told = keep_freed_memory();
    assert_eq!(told, cfg!(target_env = "gnu"));
    let mut pages = [0; 4];
    for pages in &mut pages {
        let before = faults();
        drop(Tensor::ones([48 << 20], (Kind::Uint8, Device::Cpu)));
        *pages = faults() - before;
    }
    // Unless huge pages are on, 48 MiB are 12288 pages.
    assert!(!told || pages[3] < 1000, "{pages:?}");
}
