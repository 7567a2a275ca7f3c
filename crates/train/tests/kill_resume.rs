//! Killed at random moments with SIGKILL and started again, a run leaves the same metrics and the same weights as
//! one that was left alone: twenty runs out of twenty of one model, ten out of ten of a stack with a member that
//! diverges.
//!
//! The child is this test binary again, told by environment variables what to train and in which folder.

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
    BoxError, EvalMetrics, EvalSet, Member, Observer, Outcome, StackData, StepMetrics, TrainConfig,
    train, train_stack,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::tiny::{Noisy, Tiny, TinyStack, config};

const FOLDER: &str = "FORERUN_TRAIN_KILL_RESUME_FOLDER";
const KIND: &str = "FORERUN_TRAIN_KILL_RESUME_KIND";
const STEPS: u64 = 40;
const SINGLE: &str = "single";
const STACK: &str = "stack";
/// A learning rate with which a member is beyond 16 nats after ten updates.
const DIVERGING: f64 = 2.0;

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
        self.member_step(0, m)
    }

    fn member_step(&mut self, i: usize, m: &StepMetrics) -> Result<ControlFlow<()>, BoxError> {
        let &StepMetrics { step, tokens, loss, lr, grad_norm, .. } = m;
        self.write(format!("{i} {step} {tokens} {loss} {lr} {grad_norm}\n"))?;
        if i == 0 {
            println!("step {step}");
            io::stdout().flush()?;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn evaluation(&mut self, m: &EvalMetrics) -> Result<ControlFlow<()>, BoxError> {
        self.member_evaluation(0, m)
    }

    fn member_evaluation(
        &mut self,
        i: usize,
        m: &EvalMetrics,
    ) -> Result<ControlFlow<()>, BoxError> {
        self.write(format!("evaluation {i} {} {}\n", m.step, m.loss))?;
        Ok(ControlFlow::Continue(()))
    }

    fn member_diverged(&mut self, i: usize, step: u64, loss: f64) -> Result<(), BoxError> {
        Ok(self.write(format!("diverged {i} {step} {loss}\n"))?)
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
    let (mut data, checkpoints) = (Noisy::default(), folder.join("checkpoints"));
    if std::env::var(KIND).unwrap() == STACK {
        let model = TinyStack::new((1..4).map(|seed| Tiny::new(seed, 0.0)).collect());
        let members = [0.02, DIVERGING, 0.005].map(|lr| Member { lr });
        let config = TrainConfig { clip_norm: None, max_loss: 16.0, ..config };
        let data = StackData::Shared(&mut data);
        let end = train_stack(&model, data, Some(eval), &config, &members, &checkpoints, &mut log)
            .unwrap();
        let is_finished =
            |i: usize| matches!(end.members[i], Outcome::Finished { step: STEPS, .. });
        let diverged = matches!(end.members[1], Outcome::Diverged { .. });
        assert!(is_finished(0) && diverged && is_finished(2), "{end:?}");
        return;
    }
    let model = Tiny::new(1, 0.3);
    let outcome = train(&model, &mut data, Some(eval), &config, &checkpoints, &mut log).unwrap();
    assert!(matches!(outcome, Outcome::Finished { step: STEPS, .. }), "{outcome:?}");
}

fn spawn(kind: &str, folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads", "1"])
        .env(FOLDER, folder)
        .env(KIND, kind)
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
    check(SINGLE, 20, |metrics| assert_eq!(metrics.lines().count() as u64, STEPS + STEPS / 7 + 1));
}

#[test]
fn a_killed_and_resumed_stack_equals_an_undisturbed_one() {
    check(STACK, 10, |metrics| {
        let diverged: Vec<&str> = metrics.lines().filter(|l| l.starts_with("diverged")).collect();
        let step: u64 = diverged[0].split(' ').nth(2).unwrap().parse().unwrap();
        assert!(diverged.len() == 1 && (2..30).contains(&step), "{diverged:?}");
    });
}

/// Compares `runs` killed ones with one that was left alone, whose metrics `look` sees.
fn check(kind: &str, runs: u64, look: fn(&str)) {
    if std::env::var_os(FOLDER).is_some() {
        return;
    }
    let alone = tempfile::tempdir().unwrap();
    assert!(spawn(kind, alone.path()).wait_with_output().unwrap().status.success());
    let expected = result(alone.path());
    look(&expected.0);

    // Two at a time: most of a run is waiting, for a process to start and for the disk.
    let kills = |part: Range<u64>| part.map(|run| killed_run(kind, run, &expected)).sum::<u64>();
    let killed = std::thread::scope(|scope| {
        let other_half = scope.spawn(|| kills(runs / 2..runs));
        kills(0..runs / 2) + other_half.join().unwrap()
    });
    assert!(killed >= runs, "{killed} kills struck; the test would show nothing");
}

/// One run with its kills, compared with the undisturbed one; returns how many kills struck.
fn killed_run(kind: &str, run: u64, expected: &(String, Vec<u8>, Vec<u8>)) -> u64 {
    let mut rng = ChaCha20Rng::seed_from_u64(run);
    let folder = tempfile::tempdir().unwrap();
    let mut killed = 0;
    let kills = 1 + run % 2;
    for _ in 0..kills {
        let updates = rng.next_u64() % (STEPS / kills);
        let delay = Duration::from_micros(rng.next_u64() % 5000);
        let status = kill_after(spawn(kind, folder.path()), updates, delay);
        assert!(status.success() || status.signal() == Some(9), "run {run}: {status}");
        killed += u64::from(!status.success());
    }
    assert!(spawn(kind, folder.path()).wait_with_output().unwrap().status.success(), "run {run}");
    assert!(result(folder.path()) == *expected, "run {run} differs from the undisturbed one");
    killed
}
