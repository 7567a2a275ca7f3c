//! A program that stays alive and takes its turns: told by lines on its standard input, it answers in JSON lines.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process::show;

/// One program in a comparison.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    tell: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// Reads what it says on standard error, so that it never waits for us.
    complaints: Option<JoinHandle<String>>,
}

impl Process {
    /// Starts `command`. It is called `name` in what we say about it.
    pub(crate) fn start(name: &str, command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().with_context(|| format!("cannot start `{}`", show(command)))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(tell), Some(answers), Some(errors)) = pipes else {
            bail!("{name} has no standard streams");
        };
        Ok(Self {
            name: name.to_owned(),
            child,
            tell: Some(tell),
            answers: BufReader::new(answers),
            complaints: Some(std::thread::spawn(move || last_words(errors))),
        })
    }

    /// Its next answer.
    ///
    /// # Errors
    /// With its last words, if it ended instead.
    pub(crate) fn answer(&mut self) -> Result<Value> {
        loop {
            let mut line = String::new();
            let read = self.answers.read_line(&mut line);
            if read.with_context(|| format!("cannot read what {} says", self.name))? == 0 {
                return self.ended();
            }
            if let Some(answer) = parse(&line) {
                return Ok(answer);
            }
        }
    }

    /// Tells it `line`, and waits for its answer.
    pub(crate) fn ask(&mut self, line: &str) -> Result<Value> {
        if let Some(tell) = &mut self.tell
            && writeln!(tell, "{line}").and_then(|()| tell.flush()).is_err()
        {
            return self.ended();
        }
        self.answer()
    }

    /// Resident memory now, bytes; `None` where the system does not say.
    pub(crate) fn resident(&self) -> Option<u64> {
        field(&self.status()?, "VmRSS")
    }

    /// The most resident memory since the start or the last [`Self::forget_peak`], bytes.
    pub(crate) fn peak(&self) -> Option<u64> {
        field(&self.status()?, "VmHWM")
    }

    /// Lets the peak start from what is resident now, where the system allows that.
    pub(crate) fn forget_peak(&self) {
        let _ = fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5");
    }

    /// Processor time of all its threads so far, seconds, to a hundredth.
    pub(crate) fn processor_seconds(&self) -> Option<f64> {
        ticks(&fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?)
    }

    /// Processor time of its first thread so far, seconds, to the nanosecond while it waits for us; `None` where the
    /// system does not say.
    pub(crate) fn first_thread_seconds(&self) -> Option<f64> {
        nanoseconds(&fs::read_to_string(format!("/proc/{}/schedstat", self.child.id())).ok()?)
    }

    fn status(&self) -> Option<String> {
        fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()
    }

    fn ended<T>(&mut self) -> Result<T> {
        self.tell = None;
        let status =
            self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        let words = self.complaints.take().and_then(|thread| thread.join().ok());
        let words = words.filter(|words| !words.is_empty());
        let words = words.unwrap_or_else(|| "it did not say why".to_owned());
        bail!("{} ended ({status}): {words}", self.name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.tell = None; // a program in its right mind ends now
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer is a JSON object; libraries may print what they like between answers.
fn parse(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok().filter(Value::is_object)
}

/// The last line that is not blank; for Python, the exception.
fn last_words(mut errors: impl Read) -> String {
    let mut bytes = vec![];
    let _ = errors.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

/// A field of `/proc/PID/status`, which counts in units of 1024 bytes.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// User and system time of `/proc/PID/stat`, which counts in hundredths of a second.
fn ticks(stat: &str) -> Option<f64> {
    // The name before it may hold anything, blanks and brackets too.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((field(11)? + field(12)?) / 100.0)
}

/// The first field of `/proc/PID/schedstat`, which counts nanoseconds, as seconds.
fn nanoseconds(schedstat: &str) -> Option<f64> {
    let field = schedstat.split_whitespace().next()?;
    Some(field.parse::<f64>().ok()? * 1e-9)
}

#[cfg(test)]
mod tests;
