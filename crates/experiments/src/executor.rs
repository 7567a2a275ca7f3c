//! The local executor: computes the missing cells of a plan in worker processes, up to `jobs` at a time.
//!
//! Each worker is this same binary with one libtorch thread (unless the plan says otherwise), so results do not
//! depend on `jobs`, and a cell that dies (out of memory, killed, a crash in foreign code) takes nothing with it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cell::Cell;
use crate::interrupt;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::protocol::Message;
use crate::store::Store;

/// How the sweep ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Cells that were computed now.
    pub(crate) computed: usize,
    /// Cells that were there already.
    pub(crate) reused: usize,
    /// Label and cause of each cell that could not be computed.
    pub(crate) failed: BTreeMap<String, String>,
    /// Whether the user stopped it.
    pub(crate) interrupted: bool,
}

struct Running {
    child: Child,
    /// Held open: the worker stops when it closes.
    stdin: Option<ChildStdin>,
    last: Option<Message>,
}

/// Computes every cell of `plan` that `store` lacks.
///
/// # Errors
/// Only what makes going on senseless: the store cannot be written, no process can be started. A cell that fails
/// is in the answer.
pub(crate) fn sweep(plan: &Plan, store: &Store, jobs: usize, progress: &mut Progress) -> Result<Swept> {
    interrupt::install();
    let mut sweep = Sweep::new(plan, store, progress);
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
    sweep.fail_what_is_left();
    Ok(std::mem::take(&mut sweep.swept))
}

struct Sweep<'a> {
    plan: &'a Plan,
    store: &'a Store,
    progress: &'a mut Progress,
    waiting: Vec<usize>,
    running: BTreeMap<usize, Running>,
    swept: Swept,
}

/// What the reader thread of a worker's output passes on: `None` is the end of the output.
type Told = (usize, Option<Message>);

impl<'a> Sweep<'a> {
    fn new(plan: &'a Plan, store: &'a Store, progress: &'a mut Progress) -> Self {
        let (done, waiting): (Vec<usize>, Vec<usize>) =
            (0..plan.cells.len()).partition(|&index| store.is_done(&plan.cells[index].key));
        let swept = Swept { reused: done.len(), ..Swept::default() };
        progress.begin(plan, &done);
        Self { plan, store, progress, waiting, running: BTreeMap::new(), swept }
    }

    /// The first waiting cell whose needs are met.
    fn next_ready(&mut self) -> Option<usize> {
        let ready = |&index: &usize| self.cell(index).needs.iter().all(|key| self.store.is_done(key));
        let place = self.waiting.iter().position(ready)?;
        Some(self.waiting.remove(place))
    }

    fn cell(&self, index: usize) -> &'a Cell {
        &self.plan.cells[index].cell
    }

    fn start(&mut self, index: usize, tell: &Sender<Told>) -> Result<()> {
        let planned = &self.plan.cells[index];
        let dir = self.store.prepare(&planned.key, &planned.cell)?;
        let mut child = spawn(&dir, planned.cell.machine.threads)?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("the worker's output is not a pipe")?;
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
        self.running.insert(index, Running { child, stdin, last: None });
        Ok(())
    }

    fn listen(&mut self, told: &Receiver<Told>) -> Result<()> {
        match told.recv_timeout(Duration::from_millis(100)) {
            Ok((index, Some(message))) => {
                match &message {
                    Message::Progress { fraction, note } => self.progress.advanced(index, *fraction, note),
                    Message::Waiting => self.progress.advanced(index, 0.0, "computed by another run; waiting for it"),
                    _ => {}
                }
                if let Some(running) = self.running.get_mut(&index) {
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
        let planned = &self.plan.cells[index];
        if self.store.is_done(&planned.key) {
            self.swept.computed += 1;
            self.progress.finished(index);
            return Ok(());
        }
        if self.swept.interrupted && status.success() {
            self.progress.stopped(index);
            return Ok(());
        }
        let dir = self.store.dir(&planned.key);
        let cause = match running.last {
            Some(Message::Failed { error }) => error,
            _ => format!("its worker ended with {status}{}", last_words(&dir)),
        };
        self.progress.failed(index, &cause);
        self.swept.failed.insert(planned.cell.label.clone(), cause);
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
    fn fail_what_is_left(&mut self) {
        if self.swept.interrupted {
            return;
        }
        for index in std::mem::take(&mut self.waiting) {
            let cause = "a cell that it needs could not be computed".to_owned();
            self.progress.failed(index, &cause);
            self.swept.failed.insert(self.cell(index).label.clone(), cause);
        }
    }
}

/// Kills the workers if the sweep itself ends early; their checkpoints stay.
impl Drop for Sweep<'_> {
    fn drop(&mut self) {
        for running in self.running.values_mut() {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}

fn spawn(dir: &Path, threads: u32) -> Result<Child> {
    let binary = std::env::current_exe().context("cannot find this program's own file")?;
    let log = File::options().create(true).append(true).open(dir.join("log.txt"))?;
    let mut command = Command::new(&binary);
    command.arg("worker").arg(dir).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
    for variable in ["OMP_NUM_THREADS", "MKL_NUM_THREADS"] {
        command.env(variable, threads.to_string());
    }
    detach(&mut command);
    command.spawn().with_context(|| format!("cannot start `{}`", binary.display()))
}

/// Keeps the terminal's Ctrl-C from the worker: the parent tells it to stop, once.
#[cfg(unix)]
fn detach(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(not(unix))]
fn detach(_command: &mut Command) {}

/// The last line of a worker's log, for the message about a worker that died without a word.
fn last_words(dir: &Path) -> String {
    let log = fs::read_to_string(dir.join("log.txt")).unwrap_or_default();
    match log.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("; its log ends: {}", line.trim()),
        None => String::new(),
    }
}
