//! What people read.

use std::fmt::Write;

use super::Options;
use super::runner::{Runner, same};
use crate::peers::ratio::Spread;

pub(super) fn definitions(options: &Options, threads: u32) -> String {
    let Options { prompt, new, rounds, .. } = options;
    format!(
        "Prompts of {prompt} tokens are read, and continued by {new} tokens each, the likeliest one each time, with a cache; {threads} threads.
Both programs load the same weights, stay alive and take turns: {rounds} rounds, one more before them to warm up, every second round in
the opposite order. Tokens a second (of all texts of a batch together): the median of the rounds. Ratios: ours over theirs in the
same round, the median and the range. Bandwidth: how fast libtorch adds up numbers that no cache holds. In f32 the command fails
unless both choose the same tokens."
    )
}

pub(super) fn render(name: &str, runners: &[Runner; 2], bandwidth: Option<f64>) -> String {
    let [ours, theirs] = runners;
    let mut text = format!("{name}\n  {:<14} {:>12} {:>12}\n", "", "prompt", "decode");
    for runner in runners {
        let (prompt, decode) = (median(&runner.prompt), median(&runner.decode));
        let versions = runner.ready["versions"].as_str().unwrap_or_default();
        let _ = writeln!(text, "  {:<14} {prompt:>12.1} {decode:>12.1}   {versions}", runner.name);
    }
    let ratio = |ours: &[f64], theirs: &[f64]| {
        Spread::of_ratios(ours, theirs).map_or_else(|| "-".to_owned(), |ratio| ratio.to_string())
    };
    let (prompt, decode) =
        (ratio(&ours.prompt, &theirs.prompt), ratio(&ours.decode, &theirs.decode));
    let _ = writeln!(text, "  ours over theirs: prompt {prompt}; decode {decode}");
    if let (Some(bandwidth), Some(bytes)) = (bandwidth, ours.ready["weight_bytes"].as_f64()) {
        let share = share(&ours.decode, ours.batch_size, bytes, bandwidth);
        let _ = writeln!(
            text,
            "  a step reads {:.0} MB of weights, memory is read at {:.1} GB/s: decoding takes {share:.0} % of that",
            bytes / 1e6,
            bandwidth / 1e9
        );
    }
    let (same, n) = same(runners);
    let _ = writeln!(text, "  the same tokens: {:.1} % of {n}", 100.0 * same);
    text.trim_end().to_owned()
}

/// How much of `bandwidth`, bytes a second, goes into reading `bytes` once for each step of all texts, in per cent.
pub(super) fn share(decode: &[f64], batch_size: f64, bytes: f64, bandwidth: f64) -> f64 {
    100.0 * median(decode) / batch_size * bytes / bandwidth
}

fn median(rates: &[f64]) -> f64 {
    Spread::of(rates.iter().copied()).map_or(f64::NAN, |spread| spread.median)
}
