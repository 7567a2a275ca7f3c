//! `tensorboard_events write DIR`: writes TensorBoard events whose values, steps and tags are as odd as they may be.
//! `tensorboard_events show DIR`: prints the scalars and texts of a folder, one JSON object a line, for
//! `cargo xtask peers tensorboard`, which compares them with what TensorBoard reads.

#![allow(clippy::print_stdout, reason = "a program that answers on standard output")]

use std::path::Path;

use anyhow::{Context, Result, bail};
use forerun_runs::tensorboard::{Content, EventWriter, read_history};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use serde_json::json;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", dir] => write(Path::new(dir)),
        ["show", dir] => show(Path::new(dir)),
        _ => bail!("usage: tensorboard_events write|show DIR"),
    }
}

/// Seconds since 1970, fixed so that every run writes the same bytes.
const EPOCH: f64 = 1_790_000_000.0;

/// Tags as people write them, and worse.
const TAGS: [&str; 6] =
    ["loss", "train/loss", "train/grad_norm", "a b/c-d.e", "Überraschung/α→β", "x"];

/// Numbers at the edges of what 32 bits hold.
const EDGES: [f64; 10] = [
    0.0,
    -0.0,
    1.0 / 3.0,
    f32::MAX as f64,
    f32::MIN_POSITIVE as f64,
    1e-45,
    1e300,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
];

/// A run that was killed and taken up again at step 400, of which TensorBoard is to show one history.
fn write(dir: &Path) -> Result<()> {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let mut first = EventWriter::create(dir, "peers", EPOCH)?;
    series(&mut first, 0..500, EPOCH, &mut rng)?;
    first.text("notes/begin", 0, "# Title\n\n| a | b |\n|---|---|\n| ü | 2 |", EPOCH)?;
    first.sync()?;
    let mut second = EventWriter::resume(dir, "peers", EPOCH + 1000.0, 400)?;
    series(&mut second, 400..700, EPOCH + 1000.0, &mut rng)?;
    for (index, value) in EDGES.into_iter().enumerate() {
        let step = 1000 + index as i64 * (1 << 40);
        second.scalar("edges", step, value, EPOCH + 2000.0)?;
    }
    second.text("notes/end", 700, "", EPOCH + 2000.0)?;
    Ok(second.sync()?)
}

fn series(
    writer: &mut EventWriter,
    steps: std::ops::Range<i64>,
    from: f64,
    rng: &mut ChaCha20Rng,
) -> Result<()> {
    for step in steps {
        for tag in TAGS {
            let value = 10.0 / (1.0 + step as f64) + rng.random::<f64>();
            writer.scalar(tag, step, value, from + step as f64 * 0.25)?;
        }
    }
    Ok(())
}

fn show(dir: &Path) -> Result<()> {
    let history = read_history(dir).with_context(|| format!("cannot read `{}`", dir.display()))?;
    for event in history {
        let fields = match event.content {
            Content::Scalar { tag, value } => json!({"tag": tag, "scalar": bits(value)}),
            Content::Text { tag, text } => json!({"tag": tag, "text": text}),
            _ => continue,
        };
        let mut fields = fields;
        fields["step"] = json!(event.step);
        fields["wall_time"] = json!(event.wall_time);
        println!("{fields}");
    }
    Ok(())
}

/// The 32 bits of a float, which tell what `==` does not; any NaN is as good as another.
fn bits(value: f32) -> String {
    if value.is_nan() { "nan".to_owned() } else { format!("{:08x}", value.to_bits()) }
}
