//! Products with packed weights against libtorch's: with numbers in f32 and bf16, and its own packed kernels.
//!
//! `cargo bench -p forerun-tensors --profile dev --bench packed [-- THREADS]`. One row (a token generated) reads as many copies of a matrix
//! as exceed the caches, one after the other; more rows (a prompt) read one. The fastest of several runs counts.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark, not a library")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use forerun_tensors::kernels::{PackedMatrix, WeightFormat, packed_linear};
use tch::{Device, Kind, Tensor};

/// `[out, in]`: projections and the head of SmolLM2-135M, two of Phi-3-mini.
const SHAPES: [[i64; 2]; 6] =
    [[576, 576], [1536, 576], [576, 1536], [49_152, 576], [8192, 3072], [3072, 8192]];
const ROWS: [i64; 4] = [1, 8, 64, 256];
/// More than the processor's caches hold, bytes.
const BEYOND: i64 = 100_000_000;

/// What multiplies one input with one copy of a matrix.
type Product = Box<dyn Fn(&Tensor)>;

/// A way to multiply: its name, the bytes of a matrix, the kind of the input, a copy of the matrix.
struct Way {
    name: &'static str,
    bytes: i64,
    kind: Kind,
    product: Box<dyn Fn() -> Product>,
}

fn rand(limit: i64, size: &[i64], kind: Kind) -> Tensor {
    Tensor::randint(limit, size, (Kind::Int64, Device::Cpu)).to_kind(kind)
}

fn dense(name: &'static str, [out, columns]: [i64; 2], kind: Kind) -> Way {
    let weight = Tensor::randn([out, columns], (Kind::Float, Device::Cpu)).to_kind(kind);
    let bytes = out * columns * kind.elt_size_in_bytes() as i64;
    let product = Box::new(move || {
        let weight = weight.copy();
        Box::new(move |x: &Tensor| {
            let _ = black_box(x.linear(&weight, None::<&Tensor>));
        }) as Product
    });
    Way { name, bytes, kind, product }
}

fn packed(name: &'static str, [out, columns]: [i64; 2], format: WeightFormat) -> Way {
    let matrix = match format {
        WeightFormat::Int4 { group } => {
            let numbers = Tensor::randn([out, columns / group], (Kind::Float, Device::Cpu));
            let codes = rand(16, &[out, columns], Kind::Uint8);
            PackedMatrix::int4(&codes, &numbers, &numbers, group).unwrap()
        }
        _ => {
            let codes = (rand(255, &[out, columns], Kind::Int64) - 127).to_kind(Kind::Int8);
            let scale = Tensor::ones([out], (Kind::Float, Device::Cpu));
            PackedMatrix::int8(&codes, &scale).unwrap()
        }
    };
    let bytes = matrix.data().numel() as i64;
    let product = Box::new(move || {
        let data = matrix.data().copy();
        let matrix = PackedMatrix::from_data(data, format, out, columns).unwrap();
        Box::new(move |x: &Tensor| {
            black_box(packed_linear(x, &[&matrix]).unwrap());
        }) as Product
    });
    Way { name, bytes, kind: Kind::Float, product }
}

fn libtorch_int4([out, columns]: [i64; 2], group: i64) -> Way {
    let codes = rand(16, &[out, columns], Kind::Int);
    let weight = codes.internal_convert_weight_to_int4pack_for_cpu(1);
    let scales = Tensor::randn([columns / group, out, 2], (Kind::BFloat16, Device::Cpu));
    let bytes = out * columns / 2 + scales.numel() as i64 * 2;
    let product = Box::new(move || {
        let (weight, scales) = (weight.copy(), scales.copy());
        Box::new(move |x: &Tensor| {
            let _ = black_box(x.internal_weight_int4pack_mm_for_cpu(&weight, group, &scales));
        }) as Product
    });
    Way { name: "libtorch int4", bytes, kind: Kind::BFloat16, product }
}

fn libtorch_int8([out, columns]: [i64; 2]) -> Way {
    let weight = (rand(255, &[out, columns], Kind::Int64) - 127).to_kind(Kind::Int8);
    let scales = Tensor::randn([out], (Kind::BFloat16, Device::Cpu));
    let product = Box::new(move || {
        let (weight, scales) = (weight.copy(), scales.copy());
        Box::new(move |x: &Tensor| {
            let _ = black_box(x.internal_weight_int8pack_mm(&weight, &scales));
        }) as Product
    });
    Way { name: "libtorch int8", bytes: out * columns, kind: Kind::BFloat16, product }
}

/// Seconds of one product.
fn time(way: &Way, rows: i64, columns: i64) -> f64 {
    let copies = if rows == 1 { (BEYOND / way.bytes).clamp(1, 400) } else { 1 };
    let products: Vec<Product> = (0..copies).map(|_| (way.product)()).collect();
    let x = Tensor::randn([rows, columns], (Kind::Float, Device::Cpu)).to_kind(way.kind);
    let round = || {
        let start = Instant::now();
        products.iter().for_each(|product| product(&x));
        start.elapsed()
    };
    round();
    let (begin, mut best) = (Instant::now(), Duration::MAX);
    while begin.elapsed() < Duration::from_millis(300) {
        best = best.min(round());
    }
    best.as_secs_f64() / copies as f64
}

fn main() {
    let threads = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(2);
    tch::set_num_threads(threads);
    tch::manual_seed(1);
    let _no_grad = tch::no_grad_guard();
    println!("{threads} threads; microseconds, GFLOP/s, GB/s of weights");
    for size in SHAPES {
        let mut ways = vec![
            dense("f32", size, Kind::Float),
            dense("bf16", size, Kind::BFloat16),
            libtorch_int4(size, 64),
            libtorch_int8(size),
            packed("int4-g32", size, WeightFormat::Int4 { group: 32 }),
            packed("int4-g64", size, WeightFormat::Int4 { group: 64 }),
            packed("int8", size, WeightFormat::Int8),
        ];
        if size[1] % 128 == 0 {
            ways.push(packed("int4-g128", size, WeightFormat::Int4 { group: 128 }));
        }
        for rows in ROWS {
            println!("{:?}, {rows} rows", size);
            for way in &ways {
                let seconds = time(way, rows, size[1]);
                let flops = (2 * rows * size[0] * size[1]) as f64;
                println!(
                    "  {:<15} {:>10.1} {:>8.0} {:>8.1}",
                    way.name,
                    seconds * 1e6,
                    flops / seconds / 1e9,
                    way.bytes as f64 / seconds / 1e9
                );
            }
        }
    }
}
