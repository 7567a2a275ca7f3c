//! Attention over a long sequence, on one thread: ordinary causal, blockwise causal as it is evaluated (block by
//! block), and blockwise causal with the mask written out, which is the obvious implementation.
//!
//! The ratios to the obvious implementation are printed at the end.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark, not a library")]
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use forerun_arch::attend;
use forerun_tensors::{Mask, init};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use tch::{Device, Tensor};

const HEADS: i64 = 4;
const HEAD_DIM: i64 = 64;
const BLOCK: Mask = Mask::BlockwiseCausal { block_size: 128 };

/// Queries, keys and values, `[1, heads, seq, head_dim]`.
fn inputs(seq: i64) -> [Tensor; 3] {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    [(); 3].map(|()| init::normal(&[1, HEADS, seq, HEAD_DIM], 1.0, &mut rng, Device::Cpu).unwrap())
}

fn blockwise_or_causal([q, k, v]: &[Tensor; 3], mask: Mask) -> Tensor {
    attend(q, k, v, None, mask, (HEAD_DIM as f64).powf(-0.5)).unwrap()
}

fn written_out([q, k, v]: &[Tensor; 3], mask: Mask) -> Tensor {
    let seq = q.size()[2];
    let allowed = mask.allowed(0..seq, 0..seq, Device::Cpu).unwrap(); // [seq, seq]
    Tensor::f_scaled_dot_product_attention(q, k, v, Some(&allowed), 0.0, false, None, false)
        .unwrap()
}

fn attention(criterion: &mut Criterion) {
    tch::set_num_threads(1);
    let _no_grad = tch::no_grad_guard();
    let mut group = criterion.benchmark_group("attention");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    for seq in [512, 1024, 2048, 4096] {
        let qkv = inputs(seq);
        group.throughput(Throughput::Elements(seq as u64));
        group.bench_with_input(BenchmarkId::new("causal", seq), &qkv, |bencher, qkv| {
            bencher.iter(|| black_box(blockwise_or_causal(qkv, Mask::Causal)));
        });
        group.bench_with_input(BenchmarkId::new("blockwise", seq), &qkv, |bencher, qkv| {
            bencher.iter(|| black_box(blockwise_or_causal(qkv, BLOCK)));
        });
        group.bench_with_input(
            BenchmarkId::new("blockwise, mask written out", seq),
            &qkv,
            |bencher, qkv| {
                bencher.iter(|| black_box(written_out(qkv, BLOCK)));
            },
        );
    }
    group.finish();
    for seq in [1024, 4096] {
        let qkv = inputs(seq);
        let [fast, slow] =
            interleaved(|| blockwise_or_causal(&qkv, BLOCK), || written_out(&qkv, BLOCK));
        println!(
            "{seq} tokens: blockwise is {:.1} times as fast as with the mask written out",
            slow / fast
        );
    }
}

/// The best of 10 of two programs that take turns, in seconds.
fn interleaved(a: impl Fn() -> Tensor, b: impl Fn() -> Tensor) -> [f64; 2] {
    let time = |program: &dyn Fn() -> Tensor| {
        let began = Instant::now();
        let _ = black_box(program());
        began.elapsed().as_secs_f64()
    };
    (0..10).fold([f64::INFINITY; 2], |best, _| [best[0].min(time(&a)), best[1].min(time(&b))])
}

criterion_group!(benches, attention);
criterion_main!(benches);
