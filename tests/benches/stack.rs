//! Training a stack of models against training them one by one, as a worker of an experiment does: one thread a
//! worker, two workers at once, whole updates (data, loss, clipping, AdamW). Model-tokens a second of both together.
//!
//! Each size is trained one by one, op by op and with fused blocks, and as stacks of 1 to 16, the stack with fused
//! blocks unless the column says otherwise. The programs take turns; the better of two rounds counts. Time is what the
//! worker's thread ran where the system tells (Linux), so that whatever else runs on the machine blurs less.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark, not a library")]

use std::env;
use std::io::{BufRead, BufReader, Lines, Write};
use std::ops::ControlFlow;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use forerun_arch::{Decoder, DecoderConfig, n_params};
use forerun_tests::Language;
use forerun_train::{
    BoxError, Member, Observer, Sequences, StackData, StepMetrics, TrainConfig, train, train_stack,
};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::RngCore;
use tch::{Device, Tensor};

const WORKERS: usize = 2;
const ROUNDS: usize = 2;
const SEQ_LEN: usize = 128;
const VOCAB: i64 = 256;
/// `d_model` and layers; heads have 16 channels or so.
const SIZES: [(i64, i64); 5] = [(32, 1), (64, 2), (64, 4), (96, 4), (128, 5)];
const BATCHES: [usize; 2] = [4, 16];
const DEPTHS: [usize; 5] = [1, 2, 4, 8, 16];
/// One update to warm up, then updates for this long, at least one.
const MEASURED: Duration = Duration::from_millis(500);
/// Says to a process that it is a worker.
const WORKER: &str = "FORERUN_BENCH_STACK_WORKER";

/// What a worker trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Program {
    d_model: i64,
    n_layers: i64,
    batch_size: usize,
    /// 0: one model by itself.
    depth: usize,
    op_by_op: bool,
    /// Products in bf16.
    narrow: bool,
}

impl Program {
    fn line(&self) -> String {
        let &Self { d_model, n_layers, batch_size, depth, op_by_op, narrow } = self;
        let [op_by_op, narrow] = [op_by_op, narrow].map(u8::from);
        format!("{d_model} {n_layers} {batch_size} {depth} {op_by_op} {narrow}")
    }

    fn parse(line: &str) -> Self {
        let numbers: Vec<i64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        let [d_model, n_layers, batch_size, depth, flags @ ..] = &numbers[..] else {
            unreachable!()
        };
        let (d_model, n_layers) = (*d_model, *n_layers);
        let (batch_size, depth) = (*batch_size as usize, *depth as usize);
        let (op_by_op, narrow) = (flags[0] == 1, flags[1] == 1);
        Self { d_model, n_layers, batch_size, depth, op_by_op, narrow }
    }

    fn config(&self) -> DecoderConfig {
        let &Self { d_model, n_layers, .. } = self;
        DecoderConfig {
            vocab_size: VOCAB,
            d_model,
            n_layers,
            n_heads: (d_model / 16).max(2),
            d_ff: 4 * d_model,
            ..DecoderConfig::default()
        }
    }

    /// Model-tokens a second.
    fn measure(&self) -> f64 {
        let training: TrainConfig = serde_json::from_value(serde_json::json!({
            "seq_len": SEQ_LEN, "batch_size": self.batch_size, "micro_batch_size": self.batch_size,
            "steps": 1_000_000, "optimiser": {"lr": 1e-3}, "clip_norm": 1.0,
            "precision": if self.narrow { "bf16" } else { "f32" },
        }))
        .unwrap();
        let new = |seed| {
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            Decoder::new(&self.config(), &mut rng, Device::Cpu).unwrap()
        };
        let (mut watch, folder) = (Watch::new(), tempfile::tempdir().unwrap());
        let (folder, op_by_op) = (folder.path(), self.op_by_op);
        if self.depth == 0 {
            let model = Language { decoder: &new(1), op_by_op };
            train(&model, &mut Rows(1), None, &training, folder, &mut watch).unwrap();
        } else {
            let models: Vec<Decoder> = (0..self.depth as u64).map(new).collect();
            let decoder = Decoder::stack(&models).unwrap();
            let model = Language { decoder: &decoder, op_by_op };
            let mut rows: Vec<Rows> = (0..self.depth as u64).map(Rows).collect();
            let data = rows.iter_mut().map(|rows| rows as &mut dyn Sequences).collect();
            let members = vec![Member { lr: 1e-3 }; self.depth];
            let data = StackData::Own(data);
            train_stack(&model, data, None, &training, &members, folder, &mut watch).unwrap();
        }
        let tokens = watch.updates as usize * self.depth.max(1) * self.batch_size * SEQ_LEN;
        tokens as f64 / watch.elapsed.as_secs_f64()
    }
}

/// Random bytes, which cost what text costs.
struct Rows(u64);

impl Sequences for Rows {
    fn rows(&mut self, first_index: u64, n: usize) -> Result<Tensor, BoxError> {
        let mut rng = ChaCha20Rng::seed_from_u64(self.0 ^ first_index);
        let mut bytes = vec![0; n * (SEQ_LEN + 1)];
        rng.fill_bytes(&mut bytes);
        let ids: Vec<i64> = bytes.into_iter().map(i64::from).collect();
        Ok(Tensor::from_slice(&ids).view([n as i64, -1]))
    }
}

/// Counts updates after the first one, until enough time has passed.
struct Watch {
    started: Instant,
    since: Option<Duration>,
    updates: u64,
    elapsed: Duration,
}

impl Watch {
    fn new() -> Self {
        Self { started: Instant::now(), since: None, updates: 0, elapsed: Duration::ZERO }
    }
}

/// How long this thread has run on a processor.
fn thread_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?))
}

impl Observer for Watch {
    fn step(&mut self, metrics: &StepMetrics) -> Result<ControlFlow<()>, BoxError> {
        self.member_step(0, metrics)
    }

    fn member_step(&mut self, member: usize, _: &StepMetrics) -> Result<ControlFlow<()>, BoxError> {
        if member > 0 {
            return Ok(ControlFlow::Continue(()));
        }
        let now = thread_time().unwrap_or_else(|| self.started.elapsed());
        self.elapsed = now - *self.since.get_or_insert(now);
        if self.elapsed < MEASURED {
            self.updates += 1;
            return Ok(ControlFlow::Continue(()));
        }
        Ok(ControlFlow::Break(()))
    }
}

/// A process with one libtorch thread that measures what it is told on its standard input.
struct Worker {
    process: Child,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    fn start() -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .env(WORKER, "1")
            .env("OMP_NUM_THREADS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Self { process, to, from: BufReader::new(from).lines() }
    }

    fn ask(&mut self, program: &Program) {
        writeln!(self.to, "{}", program.line()).unwrap();
    }

    fn answer(&mut self) -> f64 {
        self.from.next().unwrap().unwrap().parse().unwrap()
    }

    fn stop(mut self) {
        drop(self.to);
        self.process.wait().unwrap();
    }
}

fn work() {
    tch::set_num_threads(1);
    for line in std::io::stdin().lines() {
        println!("{}", Program::parse(&line.unwrap()).measure());
    }
}

/// Model-tokens a second of all workers together, the best of the rounds, for each program.
fn measure(programs: &[Program], workers: &mut [Worker]) -> Vec<f64> {
    let mut best = vec![0.0_f64; programs.len()];
    for _ in 0..ROUNDS {
        for (program, best) in programs.iter().zip(&mut best) {
            workers.iter_mut().for_each(|worker| worker.ask(program));
            *best = best.max(workers.iter_mut().map(Worker::answer).sum());
        }
    }
    best
}

fn main() {
    if env::var_os(WORKER).is_some() {
        return work();
    }
    let mut workers: Vec<Worker> = (0..WORKERS).map(|_| Worker::start()).collect();
    println!(
        "model-tokens a second of {WORKERS} workers of one thread, {SEQ_LEN} tokens a sequence"
    );
    println!("stacks with fused blocks; the last column goes op by op");
    for narrow in [false, true] {
        let precision = if narrow { "bf16" } else { "f32" };
        print!("\n{precision:<10} {:>7} {:>10} {:>10}", "", "one by one", "");
        print!("\n{:>10} {:>7} {:>10} {:>10}", "parameters", "tokens", "op by op", "fused");
        DEPTHS.iter().for_each(|depth| print!(" {:>9}", format!("stack {depth}")));
        println!(" {:>12}  best / op by op  best / fused  pays from", "stack 8 ops");
        for (d_model, n_layers) in SIZES {
            for batch_size in BATCHES {
                let depth = 0;
                let single =
                    Program { d_model, n_layers, batch_size, depth, op_by_op: true, narrow };
                row(single, &mut workers);
            }
        }
    }
    workers.into_iter().for_each(Worker::stop);
}

fn row(single: Program, workers: &mut [Worker]) {
    let fused = Program { op_by_op: false, ..single };
    let mut programs = vec![single, fused];
    programs.extend(DEPTHS.map(|depth| Program { depth, ..fused }));
    programs.push(Program { depth: 8, ..single });
    let speeds = measure(&programs, workers);
    let (one_by_one, stacks) = (speeds[0].max(speeds[1]), &speeds[2..2 + DEPTHS.len()]);
    let best = stacks.iter().fold(0.0_f64, |best, &speed| best.max(speed));
    let pays = DEPTHS.iter().zip(stacks).find(|(_, speed)| **speed > one_by_one);
    let pays = pays.map_or("never".to_owned(), |(depth, _)| depth.to_string());
    let tokens = single.batch_size * SEQ_LEN;
    print!(
        "{:>10} {tokens:>7} {:>10.0} {:>10.0}",
        n_params(&single.config()),
        speeds[0],
        speeds[1]
    );
    stacks.iter().for_each(|speed| print!(" {speed:>9.0}"));
    let (to_ops, to_fused) = (best / speeds[0], best / speeds[1]);
    println!(" {:>12.0} {to_ops:>16.2} {to_fused:>13.2} {pays:>10}", speeds[7]);
}
