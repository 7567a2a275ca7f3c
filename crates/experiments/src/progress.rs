//! What a person sees while a sweep runs: bars on a terminal, plain lines otherwise.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressStyle};

use crate::cli::tell;
use crate::plan::Plan;

/// Progress of one sweep, measured in the plan's FLOPs.
pub(crate) struct Progress {
    style: Style,
    log: File,
    began: Instant,
    cells: Vec<CellState>,
}

enum Style {
    Bars { screen: MultiProgress, total: ProgressBar, bars: BTreeMap<usize, ProgressBar> },
    Lines { every: Duration, last: Instant },
}

struct CellState {
    label: String,
    flops: f64,
    fraction: f64,
    /// Done before this sweep began: not part of its speed.
    reused: bool,
    active: bool,
    over: bool,
}

impl Progress {
    /// Bars if standard error is a terminal, a line every ten seconds otherwise; what stays on the screen is
    /// appended to the file `log` as well.
    pub(crate) fn new(log: &Path) -> Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        let style = if std::io::stderr().is_terminal() {
            let screen = MultiProgress::new();
            let total = screen.add(ProgressBar::new(1000));
            Style::Bars { screen, total, bars: BTreeMap::new() }
        } else {
            Style::Lines { every: Duration::from_secs(10), last: Instant::now() }
        };
        Ok(Self { style, log, began: Instant::now(), cells: Vec::new() })
    }

    pub(crate) fn begin(&mut self, plan: &Plan, done: &[usize]) {
        self.began = Instant::now();
        self.cells = plan
            .cells
            .iter()
            .enumerate()
            .map(|(index, planned)| {
                let reused = done.contains(&index);
                CellState {
                    label: planned.cell.label.clone(),
                    flops: planned.cell.cost.flops.max(1.0),
                    fraction: if reused { 1.0 } else { 0.0 },
                    reused,
                    active: false,
                    over: reused,
                }
            })
            .collect();
        if let Style::Bars { total, .. } = &self.style {
            total.set_style(template("{bar:28.cyan/238} {msg}"));
        }
        if !done.is_empty() {
            self.say(&format!("{} of {} cells are there already", done.len(), self.cells.len()));
        }
        self.refresh();
    }

    pub(crate) fn started(&mut self, index: usize) {
        self.cells[index].active = true;
        let label = self.cells[index].label.clone();
        match &mut self.style {
            Style::Bars { screen, total, bars } => {
                let bar = screen.insert_before(total, ProgressBar::new(1000));
                bar.set_style(template("{bar:28.green/238} {prefix} {wide_msg:.dim}"));
                bar.set_prefix(label);
                bars.insert(index, bar);
            }
            Style::Lines { .. } => self.say(&format!("start  {label}")),
        }
    }

    pub(crate) fn advanced(&mut self, index: usize, fraction: f64, note: &str) {
        self.cells[index].fraction = fraction.clamp(0.0, 1.0);
        match &mut self.style {
            Style::Bars { bars, .. } => {
                if let Some(bar) = bars.get(&index) {
                    bar.set_position((fraction * 1000.0) as u64);
                    bar.set_message(note.to_owned());
                }
            }
            Style::Lines { every, last } => {
                if last.elapsed() >= *every {
                    *last = Instant::now();
                    let line = format!(
                        "{:5.1} %  {}: {note}",
                        100.0 * self.share(),
                        self.cells[index].label
                    );
                    self.say(&line);
                }
            }
        }
        self.refresh();
    }

    /// Something about a cell that a person should know.
    pub(crate) fn noted(&mut self, index: usize, text: &str) {
        let line = format!("note   {}: {text}", self.cells[index].label);
        self.say(&line);
    }

    pub(crate) fn finished(&mut self, index: usize) {
        self.close(index, 1.0);
        let line = format!("done   {}", self.cells[index].label);
        self.say(&line);
    }

    pub(crate) fn stopped(&mut self, index: usize, resumable: bool) {
        let fraction = self.cells[index].fraction;
        self.close(index, fraction);
        let next = if resumable { "goes on from there" } else { "starts it again" };
        let line = format!(
            "stopped {} at {:.0} %; --resume {next}",
            self.cells[index].label,
            100.0 * fraction
        );
        self.say(&line);
    }

    pub(crate) fn failed(&mut self, index: usize, cause: &str) {
        self.close(index, 0.0);
        let line = format!("FAILED {}: {cause}", self.cells[index].label);
        self.say(&line);
    }

    pub(crate) fn interrupted(&mut self) {
        self.say("stopping: running cells end at their next step (Ctrl-C again stops at once)");
    }

    pub(crate) fn tick(&mut self) {
        self.refresh();
    }

    fn close(&mut self, index: usize, fraction: f64) {
        let cell = &mut self.cells[index];
        (cell.fraction, cell.active, cell.over) = (fraction, false, true);
        if let Style::Bars { bars, .. } = &mut self.style
            && let Some(bar) = bars.remove(&index)
        {
            bar.finish_and_clear();
        }
        self.refresh();
    }

    /// A line that stays.
    fn say(&mut self, line: &str) {
        let _ = writeln!(self.log, "{line}");
        match &self.style {
            Style::Bars { screen, .. } => {
                let _ = screen.println(line);
            }
            Style::Lines { .. } => tell(line),
        }
    }

    fn share(&self) -> f64 {
        let total: f64 = self.cells.iter().map(|cell| cell.flops).sum();
        let done: f64 = self.cells.iter().map(|cell| cell.flops * cell.fraction).sum();
        if total > 0.0 { done / total } else { 1.0 }
    }

    /// Time left at the speed of this sweep so far, once there is something to judge by.
    fn left(&self) -> Option<Duration> {
        let new = || self.cells.iter().filter(|cell| !cell.reused);
        let done: f64 = new().map(|cell| cell.flops * cell.fraction).sum();
        let rest: f64 =
            new().filter(|cell| !cell.over).map(|cell| cell.flops * (1.0 - cell.fraction)).sum();
        let spent = self.began.elapsed().as_secs_f64();
        (done > 0.0 && spent > 2.0).then(|| Duration::from_secs_f64((rest * spent / done).min(1e7)))
    }

    fn refresh(&self) {
        if let Style::Bars { total, .. } = &self.style {
            let over = self.cells.iter().filter(|cell| cell.over).count();
            let left = self
                .left()
                .map_or(String::new(), |left| format!(", about {} left", HumanDuration(left)));
            total.set_position((self.share() * 1000.0) as u64);
            total.set_message(format!("{over}/{} cells{left}", self.cells.len()));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Style::Bars { screen, .. } = &self.style {
            let _ = screen.clear();
        }
    }
}

fn template(text: &str) -> ProgressStyle {
    ProgressStyle::with_template(text)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━━─")
}
