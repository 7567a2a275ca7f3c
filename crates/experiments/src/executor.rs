//! The local executor: computes the missing cells of a plan in worker processes, up to `jobs` at a time.
//!
//! Each worker is this same binary with one libtorch thread (unless the plan says otherwise), and cells that measure time run
//! alone, so results do not depend on `jobs`. A cell that dies (out of memory, killed, a crash in foreign code) takes nothing
//! with it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use forerun_runs::manifest::CellState;

use crate::cell::{Cell, CellResult};
use crate::cli::explain;
use crate::environment::own_program;
use crate::external;
use crate::interrupt;
use crate::plan::Plan;
use crate::process::{Signal, into_group, signal_group};
use crate::progress::Progress;
use crate::protocol::Message;
use crate::record::{Record, state_of};
use crate::store::Store;

/// What a worker and the libraries in it say on standard error, in the cell's folder, over all attempts.
const LOG: &str = "log.txt";

/// How long workers that were told to stop may take when the sweep itself ends early: they end their commands first.
const GRACE: Duration = external::GRACE.saturating_mul(2);

/// How the sweep ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Cells that were computed now.
    pub(crate) computed: usize,
    /// Cells that were there already, or that another run computed meanwhile.
    pub(crate) reused: usize,
    /// Label and cause of each cell that could not be computed.
    pub(crate) failed: BTreeMap<String, String>,
    /// Whether the user stopped it.
    pub(crate) interrupted: bool,
}

impl Swept {
    /// `12 cells: 8 computed, 4 reused`
    pub(crate) fn in_words(&self, n_cells: usize) -> String {
        let left = n_cells.saturating_sub(self.computed + self.reused + self.failed.len());
        let mut text =
            format!("{n_cells} cells: {} computed, {} reused", self.computed, self.reused);
        for (n, what) in [(self.failed.len(), "failed"), (left, "left to do")] {
            if n > 0 {
                text.push_str(&format!(", {n} {what}"));
            }
        }
        text
    }
}

struct Running {
    child: Child,
    /// Held open: the worker stops when it closes.
    stdin: Option<ChildStdin>,
    last: Option<Message>,
    /// The process group of a command that it has started.
    command: Option<u32>,
    /// Length of the cell's log when this worker was started: earlier attempts wrote so much.
    log_from: u64,
}

/// Computes every cell of `plan` that `store` lacks.
///
/// # Errors
/// Only what makes going on senseless: the store cannot be written, no process can be started. A cell that fails
/// is in the answer.
pub(crate) fn sweep(
    plan: &Plan,
    store: &Store,
    jobs: usize,
    progress: &mut Progress,
    record: &mut Record,
) -> Result<Swept> {
    interrupt::install();
    let mut sweep = Sweep::new(plan, store, progress, record);
    let (tell, told) = channel();
    loop {
        if interrupt::asked() && !sweep.swept.interrupted {
            sweep.interrupt();
        }
        while !sweep.swept.interrupted && sweep.running.len() < jobs.max(1) {
            let Some(index) = sweep.next_ready() else { break };
            sweep.start(index, &tell)?;
        }
        if sweep.running.is_empty() {
            break;
        }
        sweep.listen(&told)?;
    }
    sweep.fail_what_is_left()?;
    Ok(std::mem::take(&mut sweep.swept))
}

struct Sweep<'a> {
    plan: &'a Plan,
    store: &'a Store,
    progress: &'a mut Progress,
    record: &'a mut Record,
    waiting: Vec<usize>,
    running: BTreeMap<usize, Running>,
    swept: Swept,
}

/// What the reader thread of a worker's output passes on: `None` is the end of the output.
type Told = (usize, Option<Message>);

impl<'a> Sweep<'a> {
    fn new(
        plan: &'a Plan,
        store: &'a Store,
        progress: &'a mut Progress,
        record: &'a mut Record,
    ) -> Self {
        let (done, waiting): (Vec<usize>, Vec<usize>) =
            (0..plan.cells.len()).partition(|&index| store.is_done(&plan.cells[index].key));
        let swept = Swept { reused: done.len(), ..Swept::default() };
        progress.begin(plan, &done);
        Self { plan, store, progress, record, waiting, running: BTreeMap::new(), swept }
    }

    /// The waiting cell to start now, if there is one.
    fn next_ready(&mut self) -> Option<usize> {
        let waiting: Vec<&Cell> = self.waiting.iter().map(|&index| self.cell(index)).collect();
        let running: Vec<&Cell> = self.running.keys().map(|&index| self.cell(index)).collect();
        let ready = |cell: &Cell| cell.needs.iter().all(|key| self.store.is_done(key));
        let place = place_of_next(&waiting, &running, ready)?;
        Some(self.waiting.remove(place))
    }

    fn cell(&self, index: usize) -> &'a Cell {
        &self.plan.cells[index].cell
    }

    fn start(&mut self, index: usize, tell: &Sender<Told>) -> Result<()> {
        let planned = &self.plan.cells[index];
        let dir = self.store.prepare(&planned.key, &planned.cell)?;
        let log_from = fs::metadata(dir.join(LOG)).map_or(0, |metadata| metadata.len());
        let mut child = spawn(&dir, planned.cell.machine.threads)?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("the worker's output is not a pipe")?;
        self.running.insert(index, Running { child, stdin, last: None, command: None, log_from });
        let tell = tell.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Ok(message) = serde_json::from_str(&line) {
                    let _ = tell.send((index, Some(message)));
                }
            }
            let _ = tell.send((index, None));
        });
        self.progress.started(index);
        self.record.note(&planned.key, CellState::Running)
    }

    fn listen(&mut self, told: &Receiver<Told>) -> Result<()> {
        match told.recv_timeout(Duration::from_millis(100)) {
            Ok((index, Some(message))) => {
                match &message {
                    Message::Progress { fraction, note } => {
                        self.progress.advanced(index, *fraction, note)
                    }
                    Message::Waiting => self.progress.advanced(
                        index,
                        0.0,
                        "computed by another run; waiting for it",
                    ),
                    Message::Note { text } => self.progress.noted(index, text),
                    _ => {}
                }
                if let Some(running) = self.running.get_mut(&index) {
                    if let Message::Command { group } = message {
                        running.command = Some(group);
                    }
                    running.last = Some(message);
                }
                Ok(())
            }
            Ok((index, None)) => self.ended(index),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                self.progress.tick();
                Ok(())
            }
        }
    }

    fn ended(&mut self, index: usize) -> Result<()> {
        let Some(mut running) = self.running.remove(&index) else { return Ok(()) };
        let status = running.child.wait().context("a worker was lost")?;
        if !running.last.as_ref().is_some_and(Message::is_last) {
            running.end_command();
        }
        let planned = &self.plan.cells[index];
        let cause = match (self.store.result(&planned.key), running.last) {
            (Ok(Some(result)), last) => {
                return self.done(index, &result, last == Some(Message::Found));
            }
            (Ok(None), Some(Message::Stopped { resumable })) if self.swept.interrupted => {
                self.progress.stopped(index, resumable);
                return self.record.note(&planned.key, CellState::Planned);
            }
            (Ok(None), Some(Message::Failed { error })) => error,
            (Ok(None), _) => {
                let log = self.store.dir(&planned.key).join(LOG);
                format!("its worker {}{}", how_it_ended(status), last_words(&log, running.log_from))
            }
            (Err(error), _) => explain(&error),
        };
        self.failed(index, cause)
    }

    fn done(&mut self, index: usize, result: &CellResult, found: bool) -> Result<()> {
        self.progress.finished(index);
        let (count, state) = match found {
            true => (&mut self.swept.reused, CellState::Reused),
            false => (&mut self.swept.computed, state_of(result)),
        };
        *count += 1;
        self.record.note(&self.plan.cells[index].key, state)
    }

    fn failed(&mut self, index: usize, cause: String) -> Result<()> {
        self.progress.failed(index, &cause);
        self.record
            .note(&self.plan.cells[index].key, CellState::Failed { reason: cause.clone() })?;
        self.swept.failed.insert(self.cell(index).label.clone(), cause);
        Ok(())
    }

    /// Closes every worker's standard input, on which it writes a checkpoint and stops.
    fn interrupt(&mut self) {
        self.swept.interrupted = true;
        self.progress.interrupted();
        for running in self.running.values_mut() {
            running.stdin = None;
        }
    }

    /// What still waits when nothing runs needs a cell that failed.
    fn fail_what_is_left(&mut self) -> Result<()> {
        if self.swept.interrupted {
            return Ok(());
        }
        for index in std::mem::take(&mut self.waiting) {
            self.failed(index, "a cell that it needs could not be computed".to_owned())?;
        }
        Ok(())
    }
}

/// Place among the `waiting` cells of the one to start: the first that is `ready` and may run beside others. One that has to run
/// alone starts when there is no such cell and nothing runs; until it has ended, nothing else starts.
fn place_of_next(
    waiting: &[&Cell],
    running: &[&Cell],
    ready: impl Fn(&Cell) -> bool,
) -> Option<usize> {
    if running.iter().any(|cell| cell.task.runs_alone()) {
        return None;
    }
    let first = |alone: bool| {
        waiting.iter().position(|cell| cell.task.runs_alone() == alone && ready(cell))
    };
    first(false).or_else(|| first(true).filter(|_| running.is_empty()))
}

/// If the sweep itself ends early, workers are told to stop, and killed if they do not; their checkpoints stay.
impl Drop for Sweep<'_> {
    fn drop(&mut self) {
        for running in self.running.values_mut() {
            running.stdin = None;
        }
        let told = Instant::now();
        for running in self.running.values_mut() {
            running.end(GRACE.saturating_sub(told.elapsed()));
        }
    }
}

impl Running {
    /// Waits until a worker that was told to stop has done so, and kills it after `grace`.
    fn end(&mut self, grace: Duration) {
        let told = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && told.elapsed() < grace {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.end_command();
    }

    /// Ends the command of a worker that was killed and could not.
    fn end_command(&mut self) {
        if let Some(group) = self.command.take() {
            signal_group(group, Signal::Kill);
        }
    }
}

fn spawn(dir: &Path, threads: u32) -> Result<Child> {
    let binary = own_program()?;
    let log = File::options().create(true).append(true).open(dir.join(LOG))?;
    let mut command = Command::new(&binary);
    command.arg("worker").arg(dir).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
    for variable in ["OMP_NUM_THREADS", "MKL_NUM_THREADS"] {
        command.env(variable, threads.to_string());
    }
    into_group(&mut command); // Ctrl-C is ours: the worker is told to stop, once
    command.spawn().with_context(|| format!("cannot start `{}`", binary.display()))
}

/// `was killed (SIGKILL), perhaps for want of memory`, or the exit status.
#[cfg(unix)]
fn how_it_ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    const SIGKILL: i32 = 9;
    match status.signal() {
        Some(SIGKILL) => "was killed (SIGKILL), perhaps for want of memory".to_owned(),
        _ => format!("ended with {status}"),
    }
}

#[cfg(not(unix))]
fn how_it_ended(status: ExitStatus) -> String {
    format!("ended with {status}")
}

/// What the log of a worker that died without a word tells of its end; `from` is where this worker's part begins.
fn last_words(log: &Path, from: u64) -> String {
    let log = fs::read(log).unwrap_or_default();
    let own = usize::try_from(from).ok().and_then(|from| log.get(from..)).unwrap_or_default();
    match telling_line(&String::from_utf8_lossy(own)) {
        Some(line) => format!("; its log ends: {line}"),
        None => String::new(),
    }
}

/// The message of the last panic, if there was one, or else the last line.
fn telling_line(log: &str) -> Option<&str> {
    let told =
        |line: &&str| !line.is_empty() && !line.starts_with("note: run with `RUST_BACKTRACE");
    let lines: Vec<&str> = log.lines().map(str::trim).filter(told).collect();
    let panic = lines.iter().rposition(|line| line.contains("panicked at "));
    panic.and_then(|place| lines.get(place + 1)).or(lines.last()).copied()
}

#[cfg(test)]
mod tests;
