//! Two programs with the same block, and what was measured of them.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::setup::{BATCH_SIZE, Block, SEQ_LEN, Setup};
use crate::peers::environment::Environment;
use crate::peers::process::Process;
use crate::peers::ratio::Spread;

/// One program that trains.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) name: &'static str,
    process: Process,
    /// What it said when it was ready.
    pub(super) ready: Ready,
    /// Resident memory before the first step, bytes.
    before: Option<u64>,
    pub(super) measured: Measured,
}

/// What a program says before its first step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ready {
    pub(super) parameters: u64,
    pub(super) threads: u64,
    pub(super) versions: String,
    /// Ours alone says it.
    pub(super) flops_per_token: Option<f64>,
}

impl Ready {
    pub(super) fn parse(answer: &Value) -> Option<Self> {
        answer["ready"].as_bool().filter(|ready| *ready)?;
        Some(Self {
            parameters: answer["parameters"].as_u64()?,
            threads: answer["threads"].as_u64()?,
            versions: answer["versions"].as_str()?.to_owned(),
            flops_per_token: answer["flops_per_token"].as_f64(),
        })
    }
}

/// What a program says after its turn.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Turn {
    pub(super) seconds: f64,
    pub(super) losses: Vec<f64>,
}

impl Turn {
    /// `None` unless it is an answer to `steps`, with a loss of each.
    pub(super) fn parse(answer: &Value, steps: u32) -> Option<Self> {
        let losses: Option<Vec<f64>> =
            answer["losses"].as_array()?.iter().map(Value::as_f64).collect();
        let turn = Self { seconds: answer["seconds"].as_f64()?, losses: losses? };
        let whole = answer["steps"].as_u64() == Some(u64::from(steps))
            && turn.losses.len() == steps as usize
            && turn.seconds > 0.0;
        whole.then_some(turn)
    }
}

/// All turns of one program.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Measured {
    /// Tokens per second in each round that counts.
    pub(super) rates: Vec<f64>,
    /// Processor time of each of those rounds, seconds, as far as the system says it.
    pub(super) processor: Vec<f64>,
    /// Time of each of those rounds, seconds.
    pub(super) seconds: Vec<f64>,
    /// Of every step, the uncounted ones too.
    pub(super) losses: Vec<f64>,
    /// Peak resident memory less what was resident before the first step, bytes.
    pub(super) memory: Option<u64>,
}

impl Measured {
    pub(super) fn add(&mut self, turn: Turn, processor: Option<f64>, counts: bool) {
        if counts {
            let tokens = turn.losses.len() as f64 * f64::from(BATCH_SIZE * SEQ_LEN);
            self.rates.push(tokens / turn.seconds);
            self.seconds.push(turn.seconds);
            self.processor.extend(processor);
        }
        self.losses.extend(turn.losses);
    }

    /// How many cores it had on average.
    pub(super) fn cores(&self) -> Option<f64> {
        let known = self.processor.len() == self.seconds.len() && !self.seconds.is_empty();
        known.then(|| self.processor.iter().sum::<f64>() / self.seconds.iter().sum::<f64>())
    }

    /// Whether the last losses are clearly below the first: a step without a backward pass or an update shows here.
    pub(super) fn learns(&self) -> bool {
        match (self.losses.first(), self.losses.last()) {
            (Some(first), Some(last)) => *last < first - 0.05 && last.is_finite(),
            _ => false,
        }
    }
}

impl Runner {
    fn start(name: &'static str, command: &mut Command, setup: &Setup<'_>) -> Result<Self> {
        // Libraries that start threads of their own would have as many.
        command.env("OMP_NUM_THREADS", setup.threads.to_string()).arg(setup.json().to_string());
        command.env_remove("RUST_BACKTRACE"); // the last line that it says is the reason
        let mut process = Process::start(name, command)?;
        let answer = process.answer()?;
        let ready = Ready::parse(&answer)
            .with_context(|| format!("{name} did not say that it is ready, but {answer}"))?;
        let before = process.resident();
        process.forget_peak();
        Ok(Self { name, process, ready, before, measured: Measured::default() })
    }

    pub(super) fn take_turn(&mut self, steps: u32, counts: bool) -> Result<()> {
        let before = self.process.processor_seconds();
        let answer = self.process.ask(&format!("steps {steps}"))?;
        let processor = self.process.processor_seconds().and_then(|after| Some(after - before?));
        let turn = Turn::parse(&answer, steps).with_context(|| {
            format!("{} was told to make {steps} steps and said {answer}", self.name)
        })?;
        self.measured.add(turn, processor, counts);
        let above = |peak: u64| Some(peak.saturating_sub(self.before?));
        self.measured.memory = self.process.peak().and_then(above);
        Ok(())
    }
}

/// Ours and a rival, with the same block.
#[derive(Debug)]
pub(super) struct Contest {
    pub(super) block: Block,
    pub(super) ours: Runner,
    pub(super) rival: Runner,
}

impl Contest {
    pub(super) fn start(setup: &Setup<'_>, ours: &Command, rivals: &Environment) -> Result<Self> {
        let (name, program) = setup.block.rival();
        let mut rival = rivals.program(program);
        if setup.rivals_keep_memory {
            rival.env("GLIBC_TUNABLES", KEEP_MEMORY);
        }
        Ok(Self {
            block: setup.block,
            ours: Runner::start("forerun", &mut again(ours), setup)?,
            rival: Runner::start(name, &mut rival, setup)?,
        })
    }

    pub(super) fn runners(&mut self) -> [&mut Runner; 2] {
        [&mut self.ours, &mut self.rival]
    }

    /// How many times as fast we are.
    pub(super) fn speed(&self) -> Option<Spread> {
        Spread::of_ratios(&self.ours.measured.rates, &self.rival.measured.rates)
    }

    /// How many times as much processor time we take.
    pub(super) fn processor(&self) -> Option<Spread> {
        Spread::of_ratios(&self.ours.measured.processor, &self.rival.measured.processor)
    }

    /// How many times as much memory we take.
    pub(super) fn memory(&self) -> Option<f64> {
        let bytes = |runner: &Runner| runner.measured.memory.filter(|bytes| *bytes > 0);
        Some(bytes(&self.ours)? as f64 / bytes(&self.rival)? as f64)
    }

    /// Why the two cannot be compared.
    pub(super) fn complaints(&self) -> Vec<String> {
        let [ours, rival] = [&self.ours, &self.rival];
        let mut found = unequal(rival.name, &ours.ready, &rival.ready);
        for runner in [ours, rival].into_iter().filter(|runner| !runner.measured.learns()) {
            let (first, last) = (runner.measured.losses.first(), runner.measured.losses.last());
            let name = format!("{} ({})", runner.name, self.block.name());
            found.push(format!("the loss of {name} does not fall: {first:?} to {last:?}"));
        }
        found
    }
}

/// What two programs should have in common and have not.
pub(super) fn unequal(rival: &str, ours: &Ready, theirs: &Ready) -> Vec<String> {
    let mut found = vec![];
    if ours.parameters != theirs.parameters {
        let (a, b) = (ours.parameters, theirs.parameters);
        found.push(format!("{rival} has {b} parameters, ours {a}"));
    }
    if ours.threads != theirs.threads {
        let (a, b) = (ours.threads, theirs.threads);
        found.push(format!("{rival} runs {b} threads, ours {a}"));
    }
    found
}

/// Tells glibc to keep what a program frees for its next allocation, as ours tells it from within.
const KEEP_MEMORY: &str = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=2147483647";

/// The same command once more; a `Command` cannot be cloned.
fn again(command: &Command) -> Command {
    let mut again = Command::new(command.get_program());
    again.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => again.env(name, value),
            None => again.env_remove(name),
        };
    }
    again
}

/// The rates of plain matrix products on this machine, in this run: what no training step can exceed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Products {
    /// What is multiplied, and GFLOP per second.
    pub(super) rates: Vec<(String, f64)>,
}

impl Products {
    /// Asked of the first of our programs.
    pub(super) fn ask(contests: &mut [Contest]) -> Result<Self> {
        let first = contests.first_mut().context("there is nothing to measure")?;
        let answer = first.ours.process.ask("products")?;
        Self::parse(&answer)
            .with_context(|| format!("forerun was asked for products and said {answer}"))
    }

    pub(super) fn parse(answer: &Value) -> Option<Self> {
        let rates = answer.as_object()?.iter();
        let rates: Option<Vec<_>> =
            rates.map(|(name, rate)| Some((name.clone(), rate.as_f64()?))).collect();
        rates.filter(|rates| !rates.is_empty()).map(|rates| Self { rates })
    }

    pub(super) fn best(&self) -> f64 {
        self.rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max)
    }
}
