//! Row kernels against the operations of libtorch that they stand for, on one thread.
//!
//! The ratios of the fastest runs, taken turn by turn, are printed at the end.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark, not a library")]
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use forerun_tensors::init;
use forerun_tensors::kernels::{
    Activation, Middle, NormParams, NormSums, NormType, activation_backward_into, activation_into,
    bias_residual, column_sums, cross_entropy_rows, norm_backward_into, norm_into,
};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use tch::{Device, Kind, Tensor};

const ROWS: i64 = 2048;
const VOCAB: i64 = 256;

/// A kernel and what libtorch does in its place.
struct Pair {
    name: String,
    kernel: Box<dyn Fn()>,
    torch: Box<dyn Fn()>,
}

fn randn(shape: &[i64], kind: Kind) -> Tensor {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    init::normal(shape, 1.0, &mut rng, Device::Cpu).unwrap().to_kind(kind)
}

fn clones<const N: usize>(tensors: [&Tensor; N]) -> [Tensor; N] {
    tensors.map(Tensor::shallow_clone)
}

/// `$kernel` and `$torch` with the tensors named.
macro_rules! pair {
    ($name:expr, [$($x:ident),*], $kernel:expr, $torch:expr) => {{
        let [$($x),*] = clones([$(&$x),*]);
        let kernel = {
            let [$($x),*] = clones([$(&$x),*]);
            Box::new(move || { black_box(&[$(&$x),*]); let _ = black_box($kernel); })
        };
        Pair { name: $name, kernel, torch: Box::new(move || { let _ = black_box($torch); }) }
    }};
}

fn norms(d: i64, kind: Kind) -> Vec<Pair> {
    let (x, dy, y) = (randn(&[ROWS, d], kind), randn(&[ROWS, d], kind), randn(&[ROWS, d], kind));
    let (w, b) = (randn(&[d], Kind::Float), randn(&[d], Kind::Float));
    let stats = randn(&[ROWS, 2], Kind::Float);
    // What autograd runs backwards, with a product by `dy` besides.
    let leaves = [&x, &w, &b].map(|x| x.copy().set_requires_grad(true));
    let loss = tch::with_grad(|| {
        let [x, w, b] = &leaves;
        (x.layer_norm([d], Some(w), Some(b), 1e-5, true) * &dy).sum(Kind::Float)
    });
    let (dw, db) = (w.zeros_like(), b.zeros_like());
    fn params<'a>(w: &'a Tensor, b: &'a Tensor) -> NormParams<'a> {
        NormParams { kind: NormType::Layer, weight: w, bias: Some(b), eps: 1e-5 }
    }
    let forward = pair!(
        format!("norm, {kind:?}, {d} channels"),
        [x, y, w, b, stats],
        norm_into(&x, &params(&w, &b), &y, &stats).unwrap(),
        x.native_layer_norm([x.size()[1]], Some(&w), Some(&b), 1e-5)
    );
    let backward = pair!(
        format!("norm backward, {kind:?}, {d} channels"),
        [x, dy, y, w, b, stats, dw, db, loss],
        {
            black_box(&loss);
            let sums = NormSums { d_weight: &dw, d_bias: Some(&db) };
            norm_backward_into(&dy, &x, &stats, &params(&w, &b), None, &y, &sums).unwrap()
        },
        {
            black_box((&dw, &db, &y, &stats, &x, &w, &b, &dy));
            Tensor::run_backward(&[&loss], &leaves, true, false)
        }
    );
    vec![forward, backward]
}

fn activations(d: i64, kind: Kind) -> Vec<Pair> {
    let (u, da, a) = (randn(&[ROWS, d], kind), randn(&[ROWS, d], kind), randn(&[ROWS, d], kind));
    let (b, sums) = (randn(&[d], Kind::Float), randn(&[d], Kind::Float));
    let own = b.to_kind(kind);
    fn middle<'a>(kind: Activation, u: &'a Tensor, b: &'a Tensor) -> Middle<'a> {
        Middle { kind, u, bias: Some(b), gate: None, norm: None }
    }
    let forward = pair!(
        format!("bias and gelu, {kind:?}, {d} channels"),
        [u, a, b, own],
        {
            black_box(&own);
            activation_into(&middle(Activation::Gelu, &u, &b), &a, None).unwrap()
        },
        {
            black_box((&a, &b));
            (&u + &own).gelu("none")
        }
    );
    let backward = pair!(
        format!("bias and gelu backward, {kind:?}, {d} channels"),
        [u, da, a, b, own, sums],
        {
            black_box(&own);
            let sums = forerun_tensors::kernels::ActivationSums {
                d_bias: Some(&sums),
                ..Default::default()
            };
            activation_backward_into(&da, &middle(Activation::Gelu, &u, &b), None, &a, None, &sums)
                .unwrap()
        },
        {
            black_box((&a, &b, &sums));
            let du = (&u + &own).gelu_backward(&da, "none");
            let d_bias = du.sum_dim_intlist([0i64].as_slice(), false, Kind::Float);
            (du, d_bias)
        }
    );
    let swish = pair!(
        format!("bias and swish, {kind:?}, {d} channels"),
        [u, a, b, own],
        {
            black_box(&own);
            activation_into(&middle(Activation::Swish, &u, &b), &a, None).unwrap()
        },
        {
            black_box((&a, &b));
            (&u + &own).silu()
        }
    );
    vec![forward, backward, swish]
}

fn others(d: i64, kind: Kind) -> Vec<Pair> {
    let (x, r) = (randn(&[ROWS, d], kind), randn(&[ROWS, d], kind));
    let b = randn(&[d], Kind::Float);
    let own = b.to_kind(kind);
    vec![
        pair!(
            format!("bias and residual, {kind:?}, {d} channels"),
            [x, r, b, own],
            {
                black_box(&own);
                bias_residual(&x, Some(&b), Some((&r, 1.0))).unwrap()
            },
            {
                black_box(&b);
                &x + &own + &r
            }
        ),
        pair!(
            format!("column sums, {kind:?}, {d} channels"),
            [x],
            column_sums(&x, 1).unwrap(),
            x.sum_dim_intlist([0i64].as_slice(), false, Kind::Float)
        ),
    ]
}

fn losses(kind: Kind) -> Vec<Pair> {
    let logits = randn(&[ROWS, VOCAB], kind);
    let targets = Tensor::from_slice(&(0..ROWS).map(|i| i % VOCAB).collect::<Vec<_>>());
    vec![pair!(
        format!("cross-entropy and its gradient, {kind:?}, vocabulary {VOCAB}"),
        [logits, targets],
        cross_entropy_rows(&logits, &targets, 1.0).unwrap(),
        {
            let wide = logits.to_kind(Kind::Float);
            let lse = wide.logsumexp([-1i64].as_slice(), true);
            let index = targets.unsqueeze(1);
            let nll = &lse - wide.gather(1, &index, false);
            let minus = Tensor::full([ROWS, 1], -1.0, (Kind::Float, Device::Cpu));
            let grad = (wide - lse).exp().scatter_add(1, &index, &minus).to_kind(logits.kind());
            (nll, grad)
        }
    )]
}

fn pairs() -> Vec<Pair> {
    let mut pairs = Vec::new();
    for kind in [Kind::Float, Kind::BFloat16] {
        for d in [64, 256] {
            pairs.extend(norms(d, kind));
            pairs.extend(activations(4 * d, kind));
            pairs.extend(others(d, kind));
        }
        pairs.extend(losses(kind));
    }
    pairs
}

/// The fastest of several runs, each of some calls.
fn fastest(bodies: [&dyn Fn(); 2]) -> [Duration; 2] {
    let mut best = [Duration::MAX; 2];
    for _ in 0..15 {
        for (body, best) in bodies.iter().zip(&mut best) {
            let start = Instant::now();
            for _ in 0..4 {
                body();
            }
            *best = (*best).min(start.elapsed() / 4);
        }
    }
    best
}

fn kernels(criterion: &mut Criterion) {
    tch::set_num_threads(1);
    let _no_grad = tch::no_grad_guard();
    let pairs = pairs();
    let mut group = criterion.benchmark_group("kernels");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
        .throughput(Throughput::Elements(ROWS as u64));
    for Pair { name, kernel, torch } in &pairs {
        group.bench_function(BenchmarkId::new("kernel", name), |bencher| bencher.iter(kernel));
        group.bench_function(BenchmarkId::new("libtorch", name), |bencher| bencher.iter(torch));
    }
    group.finish();
    println!("times faster than libtorch's operations, {ROWS} rows, one thread:");
    for Pair { name, kernel, torch } in &pairs {
        let [own, theirs] = fastest([kernel.as_ref(), torch.as_ref()]);
        let ratio = theirs.as_secs_f64() / own.as_secs_f64();
        println!("  {ratio:5.2}  {name}: {own:.1?}, libtorch {theirs:.1?}");
    }
}

criterion_group!(benches, kernels);
criterion_main!(benches);
