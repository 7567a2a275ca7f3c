use super::*;

fn shell(script: &str) -> Process {
    Process::start("the rival", Command::new("sh").args(["-c", script])).unwrap()
}

#[test]
fn answers_are_json_objects_and_the_rest_is_chatter() {
    assert_eq!(parse("{\"ready\": true}\n").unwrap()["ready"], true);
    for line in ["", "warning: slow", "17", "[1]", "{half"] {
        assert_eq!(parse(line), None, "{line}");
    }
}

#[test]
fn a_program_answers_in_turn() {
    let mut process =
        shell("echo hello; while read line; do echo \"{\\\"got\\\": \\\"$line\\\"}\"; done");
    assert_eq!(process.ask("steps 3").unwrap()["got"], "steps 3");
    assert_eq!(process.ask("steps 4").unwrap()["got"], "steps 4");
}

#[test]
fn a_program_that_ends_is_reported_with_its_last_words() {
    let mut process = shell("echo trace >&2; echo 'ImportError: no torch' >&2; exit 3");
    let error = process.answer().unwrap_err().to_string();
    assert_eq!(error, "the rival ended (exit status: 3): ImportError: no torch");
    let error = shell("exit 0").answer().unwrap_err().to_string();
    assert_eq!(error, "the rival ended (exit status: 0): it did not say why");
}

#[test]
fn fields_of_a_status_are_bytes() {
    let status = "Name:\tVmHWM: 1 kB\nVmHWM:\t    1234 kB\nVmRSS:\t 12 kB\nThreads:\t1\n";
    assert_eq!(field(status, "VmHWM"), Some(1234 * 1024));
    assert_eq!(field(status, "VmRSS"), Some(12 * 1024));
    assert_eq!(field(status, "Threads"), None);
    assert_eq!(field(status, "VmSwap"), None);
}

#[test]
fn processor_time_is_read_behind_the_name() {
    let stat = "42 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0";
    assert_eq!(ticks(stat), Some(3.0));
    assert_eq!(ticks("42 (sh) S 1 2"), None);
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_that_works_takes_processor_time() {
    let mut process = shell(
        "echo {}; read line; i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo {}; read line",
    );
    process.answer().unwrap();
    let before = process.processor_seconds().unwrap();
    process.ask("go").unwrap();
    assert!(process.processor_seconds().unwrap() > before);
}

#[cfg(target_os = "linux")]
#[test]
fn memory_that_a_program_takes_shows_in_its_peak() {
    // 64 MB as a variable of the shell; then its end.
    let script =
        "echo {}; read line; x=$(head -c 64000000 /dev/zero | tr '\\0' x); x=; echo {}; read line";
    let mut process = shell(script);
    process.answer().unwrap();
    let before = process.resident().unwrap();
    process.forget_peak();
    process.ask("go").unwrap();
    let peak = process.peak().unwrap();
    assert!(peak > before + 60_000_000, "{before} {peak}");
}

#[test]
fn nanoseconds_are_the_first_field() {
    assert_eq!(nanoseconds("2500000000 12 7\n"), Some(2.5));
    assert_eq!(nanoseconds("x 12 7\n"), None);
    assert_eq!(nanoseconds(""), None);
}
