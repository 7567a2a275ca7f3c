//! A command in a process group of its own, so that what it starts can be ended with it.

use std::fs::File;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::process::{Signal, end_with_this_thread, into_group, signal_group};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// By itself.
    Exited(ExitStatus),
    /// It took too long.
    TimedOut,
    /// The user stopped the run.
    Stopped,
}

/// A command that runs; it is killed when this is dropped.
pub(super) struct Child {
    child: std::process::Child,
    is_over: bool,
}

impl Child {
    /// Starts `words` in `directory`; what it prints goes to `log`.
    pub(super) fn start(words: &[String], directory: &Path, log: &Path) -> Result<Self> {
        let (program, arguments) = words.split_first().context("external.command is empty")?;
        let file =
            File::create(log).with_context(|| format!("cannot write `{}`", log.display()))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        into_group(&mut command);
        end_with_this_thread(&mut command);
        let child = command.spawn().with_context(|| {
            format!("cannot start `{program}` in `{}`, external.command", directory.display())
        })?;
        Ok(Self { child, is_over: false })
    }

    /// The number of its process group.
    pub(super) fn group(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, if it has ended; what it started and left behind is killed then.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait().context("the command was lost")?;
        if status.is_some() && !self.is_over {
            signal_group(self.group(), Signal::Kill);
            self.is_over = true;
        }
        Ok(status)
    }

    /// Tells it to end, and kills it if it does not in time.
    pub(super) fn end(&mut self, grace: Duration) -> Result<()> {
        signal_group(self.group(), Signal::Terminate);
        let told = Instant::now();
        while told.elapsed() < grace {
            if self.ended()?.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill();
        Ok(())
    }

    /// Kills it and whatever it started and left behind.
    fn kill(&mut self) {
        signal_group(self.group(), Signal::Kill);
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.is_over = true;
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.is_over {
            self.kill();
        }
    }
}
