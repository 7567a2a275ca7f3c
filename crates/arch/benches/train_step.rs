//! A training step of small models: forward, loss, backward, clipping norm, AdamW. Blocks as one autograd node each, and op
//! by op, which is the obvious implementation; f32 and bf16 autocast.
//!
//! The ratios, and the rate of floating-point operations, are printed at the end.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark, not a library")]
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use forerun_arch::{
    Activation, Decoder, DecoderConfig, Forward, NormPlacement, Positions, flops_per_token,
};
use forerun_tensors::{
    AdamW, Autocast, adamw_step, backward, chunked_cross_entropy, global_norm, keep_freed_memory,
};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use tch::{Device, Kind, Tensor};

/// A model with its optimiser and one batch.
struct Bench {
    name: &'static str,
    threads: i32,
    model: Decoder,
    /// Inputs and targets, `[batch, seq]`.
    tokens: [Tensor; 2],
    moments: [Vec<Tensor>; 3],
}

impl Bench {
    fn new(name: &'static str, threads: i32, config: &DecoderConfig, shape: [i64; 2]) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let model = Decoder::new(config, &mut rng, Device::Cpu).unwrap();
        let tokens = [1, 2].map(|step| {
            let ids =
                Tensor::arange(shape[0] * shape[1], (Kind::Int64, Device::Cpu)) * (7919 * step);
            ids.remainder(config.vocab_size).view(shape)
        });
        let like = |make: fn(&Tensor) -> Tensor| {
            model.parameters().iter().map(|p| make(&p.tensor.detach())).collect::<Vec<_>>()
        };
        let step = |_: &Tensor| Tensor::zeros([0_i64; 0], (Kind::Float, Device::Cpu));
        let moments = [like(Tensor::zeros_like), like(Tensor::zeros_like), like(step)];
        Self { name, threads, model, tokens, moments }
    }

    /// The d 64 byte model that the experiments train by the dozen, a worker process of one thread each.
    fn small() -> Self {
        let config = DecoderConfig {
            vocab_size: 256,
            d_model: 64,
            n_layers: 2,
            n_heads: 4,
            d_ff: 256,
            ..DecoderConfig::default()
        };
        Self::new("d 64, 2 layers, 16 x 128", 1, &config, [16, 128])
    }

    /// What other people's programs are compared with.
    fn peers() -> Self {
        let config = DecoderConfig {
            vocab_size: 8192,
            d_model: 256,
            n_layers: 4,
            n_heads: 4,
            d_ff: 1024,
            norm: NormPlacement::Pre,
            activation: Activation::Gelu,
            positions: Positions::Rope { base: 10_000.0 },
            ..DecoderConfig::default()
        };
        Self::new("d 256, 4 layers, 8 x 256", 2, &config, [8, 256])
    }

    fn n_tokens(&self) -> i64 {
        self.tokens[0].numel() as i64
    }

    fn step(&self, op_by_op: bool, kind: Kind) {
        let [inputs, targets] = &self.tokens;
        let model = &self.model;
        model.parameters().zero_grad();
        {
            let narrow = kind != Kind::Float;
            let _autocast = narrow.then(|| Autocast::enable(Device::Cpu, kind).unwrap());
            let options = Forward { train: true, op_by_op, ..Forward::default() };
            let hidden = model.hidden(inputs, &options).unwrap().flatten(0, 1);
            let targets = targets.view([-1]);
            let loss = chunked_cross_entropy(&hidden, model.head(), &targets, 1.0, 1024).unwrap();
            backward(&(loss / self.n_tokens())).unwrap();
        }
        let parameters: Vec<&Tensor> = model.parameters().iter().map(|p| &p.tensor).collect();
        let gradients: Vec<Tensor> = parameters.iter().map(|tensor| tensor.grad()).collect();
        let gradients: Vec<&Tensor> = gradients.iter().collect();
        let _ = global_norm(&gradients).unwrap();
        let hyper = AdamW { lr: 1e-4, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 };
        let [mean, square, steps] =
            self.moments.each_ref().map(|list| list.iter().collect::<Vec<_>>());
        adamw_step(&hyper, &parameters, &gradients, &mean, &square, &steps).unwrap();
    }
}

const KINDS: [(&str, Kind); 2] = [("f32", Kind::Float), ("bf16", Kind::BFloat16)];

fn train_step(criterion: &mut Criterion) {
    keep_freed_memory();
    let benches = [Bench::small(), Bench::peers()];
    let mut group = criterion.benchmark_group("train step");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2));
    for bench in &benches {
        tch::set_num_threads(bench.threads);
        group.throughput(Throughput::Elements(bench.n_tokens() as u64));
        for (kind_name, kind) in KINDS {
            let id = BenchmarkId::new(bench.name, kind_name);
            group.bench_with_input(id, &kind, |bencher, &kind| {
                bencher.iter(|| bench.step(false, kind));
            });
        }
    }
    group.finish();
    if std::env::args().any(|argument| argument == "--profile-time") {
        return;
    }
    for bench in &benches {
        tch::set_num_threads(bench.threads);
        for (kind_name, kind) in KINDS {
            let now = if bench.threads == 1 { own } else { wall };
            let [fused, slow] =
                interleaved(|| bench.step(false, kind), || bench.step(true, kind), now);
            let rate = bench.n_tokens() as f64 / fused;
            let seq = bench.tokens[0].size()[1];
            let flops = rate * flops_per_token(bench.model.config(), seq) / 1e9;
            println!(
                "{} {kind_name}: {rate:.0} tokens/s, {flops:.0} GFLOP/s, {:.2} times as fast as op by op",
                bench.name,
                slow / fused
            );
        }
    }
}

/// The best of 8 rounds of two programs that take turns, in seconds a step.
fn interleaved(a: impl Fn(), b: impl Fn(), now: fn() -> f64) -> [f64; 2] {
    const STEPS: u32 = 8;
    let time = |program: &dyn Fn()| {
        let began = now();
        (0..STEPS).for_each(|_| program());
        (now() - began) / f64::from(STEPS)
    };
    (0..8).fold([f64::INFINITY; 2], |best, _| [best[0].min(time(&a)), best[1].min(time(&b))])
}

/// Seconds that this thread has run, so that other programs do not count; where that is not known, as [`wall`].
fn own() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = stat.and_then(|stat| stat.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(wall, |nanoseconds| nanoseconds * 1e-9)
}

/// Seconds since the first call.
fn wall() -> f64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed().as_secs_f64()
}

criterion_group!(benches, train_step);
criterion_main!(benches);
