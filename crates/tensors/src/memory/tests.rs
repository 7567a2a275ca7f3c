#[cfg(target_os = "linux")]
#[test]
fn a_large_tensor_takes_the_memory_of_the_one_before() {
    use std::process::Command;

    use tch::{Device, Kind, Tensor};

    use super::keep_freed_memory;

    const ALONE: &str = "FORERUN_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        // In a process of its own and on its main thread: the setting is the process's, and the heap is shared.
        let name = "memory::tests::a_large_tensor_takes_the_memory_of_the_one_before";
        let mut alone = Command::new(std::env::current_exe().unwrap());
        let output = alone.args(["--exact", name, "--test-threads=1"]).env(ALONE, "1").output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let faults = || -> u64 {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        // man 5 proc_pid_stat: minflt is the tenth field, and the name is the second.
        let after_name = stat.rsplit_once(')').unwrap().1;
        after_name.split_whitespace().nth(7).unwrap().parse().unwrap()
    };
    tch::set_num_threads(1);
    let told = keep_freed_memory();
    assert_eq!(told, cfg!(target_env = "gnu"));
    let mut pages = [0; 4];
    for pages in &mut pages {
        let before = faults();
        drop(Tensor::ones([96 << 20], (Kind::Uint8, Device::Cpu)));
        *pages = faults() - before;
    }
    // Unless pages are huge, 96 MiB are 24576 of them.
    assert!(!told || pages[1..].iter().all(|&pages| pages < 200), "{pages:?}");
}
