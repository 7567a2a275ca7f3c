//! Killed at random moments with SIGKILL and started again, a run leaves the same metrics and the same weights as
//! one that was left alone: twenty runs out of twenty.
//!
//! The child is this test binary again, told by an environment variable to train in a folder.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests may panic; the parent reads stdout"
)]

#[allow(dead_code, reason = "shared with the other tests, which need more of it")]
#[path = "it/tiny.rs"]
mod tiny;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::ops::{ControlFlow, Range};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use forerun_train::{
    BoxError, EvalMetrics, EvalSet, Observer, Outcome, StepMetrics, TrainConfig, train,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::tiny::{Noisy, Tiny, config};

const FOLDER: &str = "FORERUN_TRAIN_KILL_RESUME_FOLDER";
const STEPS: u64 = 40;
const RUNS: u64 = 20;

/// A log on disk, and a line on standard output after every update.
struct Log(File);

impl Log {
    fn write(&mut self, line: String) -> io::Result<()> {
        self.0.write_all(line.as_bytes())
    }
}

impl Observer for Log {
    fn resumed(&mut self, _step: u64, offsets: &BTreeMap<String, u64>) -> Result<(), BoxError> {
        self.0.set_len(offsets.get("metrics").copied().unwrap_or(0))?;
        self.0.seek(SeekFrom::End(0))?;
        Ok(())
    }

    fn step(&mut self, m: &StepMetrics) -> Result<ControlFlow<()>, BoxError> {
        self.write(format!("{} {} {} {} {}\n", m.step, m.tokens, m.loss, m.lr, m.grad_norm))?;
        println!("step {}", m.step);
        io::stdout().flush()?;
        Ok(ControlFlow::Continue(()))
    }

    fn evaluation(&mut self, m: &EvalMetrics) -> Result<ControlFlow<()>, BoxError> {
        self.write(format!("evaluation {} {}\n", m.step, m.loss))?;
        Ok(ControlFlow::Continue(()))
    }

    fn log_offsets(&mut self) -> Result<BTreeMap<String, u64>, BoxError> {
        self.0.sync_data()?;
        Ok(BTreeMap::from([("metrics".to_owned(), self.0.stream_position()?)]))
    }
}

#[test]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = Path::new(&folder);
    tch::set_num_threads(1);
    let config = TrainConfig { steps: STEPS, checkpoint_every: 4, eval_every: 7, ..config() };
    let log =
        OpenOptions::new().create(true).truncate(false).write(true).open(folder.join("metrics"));
    let (mut log, mut held_out) = (Log(log.unwrap()), Noisy::default());
    let eval = EvalSet { data: &mut held_out, n_rows: 3 };
    let (model, mut data) = (Tiny::new(1, 0.3), Noisy::default());
    let checkpoints = folder.join("checkpoints");
    let outcome = train(&model, &mut data, Some(eval), &config, &checkpoints, &mut log).unwrap();
    assert!(matches!(outcome, Outcome::Finished { step: STEPS, .. }), "{outcome:?}");
}

fn spawn(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads", "1"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Kills the child `delay` after it has reported `updates` updates, unless it ends before.
fn kill_after(mut child: Child, updates: u64, delay: Duration) -> ExitStatus {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut reports = lines.filter(|line| line.contains("step "));
    if updates == 0 || reports.nth(updates as usize - 1).is_some() {
        let since = Instant::now();
        while since.elapsed() < delay {
            std::hint::spin_loop();
        }
    }
    child.kill().unwrap();
    child.wait().unwrap()
}

/// The metrics and the last checkpoint's tensors.
fn result(folder: &Path) -> (String, Vec<u8>, Vec<u8>) {
    let last = folder.join(format!("checkpoints/step-{STEPS}"));
    let tensors = |name: &str| fs::read(last.join(name)).unwrap();
    let metrics = fs::read_to_string(folder.join("metrics")).unwrap();
    (metrics, tensors("model.safetensors"), tensors("optimizer.safetensors"))
}

#[test]
fn killed_and_resumed_equals_undisturbed() {
    if std::env::var_os(FOLDER).is_some() {
        return;
    }
    let alone = tempfile::tempdir().unwrap();
    assert!(spawn(alone.path()).wait_with_output().unwrap().status.success());
    let expected = result(alone.path());
    assert_eq!(expected.0.lines().count() as u64, STEPS + STEPS / 7 + 1);

    // Two at a time: most of a run is waiting, for a process to start and for the disk.
    let kills = |runs: Range<u64>| runs.map(|run| killed_run(run, &expected)).sum::<u64>();
    let killed = std::thread::scope(|scope| {
        let other_half = scope.spawn(|| kills(RUNS / 2..RUNS));
        kills(0..RUNS / 2) + other_half.join().unwrap()
    });
    assert!(killed >= RUNS, "{killed} kills struck; the test would show nothing");
}

/// One run with its kills, compared with the undisturbed one; returns how many kills struck.
fn killed_run(run: u64, expected: &(String, Vec<u8>, Vec<u8>)) -> u64 {
    let mut rng = ChaCha20Rng::seed_from_u64(run);
    let folder = tempfile::tempdir().unwrap();
    let mut killed = 0;
    let kills = 1 + run % 2;
    for _ in 0..kills {
        let updates = rng.next_u64() % (STEPS / kills);
        let delay = Duration::from_micros(rng.next_u64() % 5000);
        let status = kill_after(spawn(folder.path()), updates, delay);
        assert!(status.success() || status.signal() == Some(9), "run {run}: {status}");
        killed += u64::from(!status.success());
    }
    assert!(spawn(folder.path()).wait_with_output().unwrap().status.success(), "run {run}");
    assert!(result(folder.path()) == *expected, "run {run} differs from the undisturbed one");
    killed
}
