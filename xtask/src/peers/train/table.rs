//! What `peers train` prints.

use std::fmt::Write;

use super::measure::{Contest, Products, Runner};
use super::setup::{BATCH_SIZE, D_MODEL, N_HEADS, N_LAYERS, SEQ_LEN, VOCAB_SIZE};
use super::{Options, Precision};
use crate::peers::ratio::Spread;

/// What the numbers mean; printed first.
pub(super) fn definitions(options: &Options, threads: u32) -> String {
    let Options { rounds, steps, .. } = options;
    format!(
        "A training step (forward, backward, AdamW) of a decoder: d_model {D_MODEL}, {N_LAYERS} layers, {N_HEADS} heads,
vocabulary {VOCAB_SIZE}, batch {BATCH_SIZE} x {SEQ_LEN} tokens; mean cross-entropy of every token; AdamW with decay 0.1 on all
parameters, one fused call; {threads} threads. Ours is measured once for each rival, with the rival's block. The
rivals are eager PyTorch: fused AdamW, gradients set to none, fused attention where the rival has it, no
torch.compile.
All programs stay alive and take turns: {rounds} rounds of {steps} steps each, one more before them to warm up, every second
round in the opposite order. Tokens per second: the median of the rounds. Cores: processor time over time; well
below {threads} if the machine does other things, and then no figure counts for much. Memory: peak resident memory
(VmHWM) over all steps, less what was resident (VmRSS) before the first step, when the model stood and the
optimiser did not. Ratios: ours over the rival's in the same round, the median and the range.{}",
        if options.rivals_keep_memory { KEEPS } else { "" }
    )
}

const KEEPS: &str = "\nThe rivals' allocator is told to keep freed memory, as ours is; by itself PyTorch's does not.";

/// The figures of one precision.
pub(super) fn render(precision: Precision, contests: &[Contest], products: &Products) -> String {
    let mut text = format!(
        "{}\n  {:<8} {:<22} {:>10} {:>9} {:>6} {:>8}  loss\n",
        precision.name(),
        "block",
        "program",
        "parameters",
        "tokens/s",
        "cores",
        "memory"
    );
    for contest in contests {
        for runner in [&contest.ours, &contest.rival] {
            let _ = writeln!(text, "{}", row(contest.block.name(), runner));
        }
    }
    let _ = writeln!(text, "  ours over the rival's:");
    for contest in contests {
        let _ = writeln!(
            text,
            "{}",
            ratios(contest.rival.name, contest.speed(), contest.processor(), contest.memory())
        );
    }
    let rates: Vec<String> =
        products.rates.iter().map(|(name, rate)| format!("{name} {rate:.0}")).collect();
    let _ = writeln!(text, "  matrix products alone, GFLOP/s: {}", rates.join(", "));
    for contest in contests {
        text.extend(limit(contest, products.best()));
    }
    for contest in contests {
        let _ = writeln!(text, "  {}: {}", contest.rival.name, contest.rival.ready.versions);
    }
    text.trim_end().to_owned()
}

fn row(block: &str, runner: &Runner) -> String {
    let rate = Spread::of(runner.measured.rates.iter().copied());
    let losses = &runner.measured.losses;
    format!(
        "  {block:<8} {:<22} {:>10} {:>9} {:>6} {:>8}  {} to {}",
        runner.name,
        runner.ready.parameters,
        rate.map_or_else(|| "-".to_owned(), |rate| format!("{:.0}", rate.median)),
        runner.measured.cores().map_or_else(|| "-".to_owned(), |cores| format!("{cores:.2}")),
        megabytes(runner.measured.memory),
        losses.first().map_or_else(|| "-".to_owned(), |loss| format!("{loss:.3}")),
        losses.last().map_or_else(|| "-".to_owned(), |loss| format!("{loss:.3}")),
    )
}

pub(super) fn ratios(
    rival: &str,
    speed: Option<Spread>,
    processor: Option<Spread>,
    memory: Option<f64>,
) -> String {
    let shown = |spread: Option<Spread>| spread.map_or_else(|| "-".to_owned(), |it| it.to_string());
    let (speed, processor) = (shown(speed), shown(processor));
    let memory = memory.map_or_else(|| "-".to_owned(), |memory| format!("{memory:.2}"));
    format!("  {rival:<22} speed {speed}; processor time {processor}; memory {memory}")
}

/// How much of the time the matrix products would take at the best rate that was seen.
fn limit(contest: &Contest, best: f64) -> Option<String> {
    let flops = contest.ours.ready.flops_per_token?;
    let ceiling = best * 1e9 / flops;
    let rate = Spread::of(contest.ours.measured.rates.iter().copied())?.median;
    Some(format!(
        "  {}: {:.1} MFLOP a token, so at most {ceiling:.0} tokens/s at the best of these; ours is at {:.0} %\n",
        contest.block.name(),
        flops / 1e6,
        100.0 * rate / ceiling
    ))
}

fn megabytes(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{} MB", bytes.div_ceil(1_000_000)))
}
