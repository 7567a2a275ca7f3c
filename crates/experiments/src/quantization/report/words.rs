//! The report's sentences.

use forerun_runs::stats::Interval;

use super::findings::{Findings, Line};
use crate::plan::counted;
use crate::quantization::{DRAWN, Rounding, Weights};
use crate::report_parts::{self, Mean, list};

pub(super) fn summary(findings: &Findings<'_>) -> String {
    let model = model(findings);
    match findings.lines.as_slice() {
        [] => format!("Nothing was measured of {model}."),
        lines => format!(
            "What {} of the weights of {model} cost in perplexity, and bring in memory and speed.",
            counted(lines.len() as u64, "format")
        ),
    }
}

/// `smollm2-135m (134.5 million parameters)`; of a path only the end, which is what a person calls it.
fn model(findings: &Findings<'_>) -> String {
    let name = findings.body.model.as_str();
    let name = name.rsplit('/').find(|part| !part.is_empty()).unwrap_or(name);
    let name = if name == DRAWN { "a tiny model with drawn weights" } else { name };
    match findings.n_params() {
        Some(n) if n >= 1e9 => format!("{name} ({:.1} billion parameters)", n / 1e9),
        Some(n) => format!("{name} ({:.1} million parameters)", n / 1e6),
        None => name.to_owned(),
    }
}

pub(super) fn what_was_seen(findings: &Findings<'_>) -> Vec<String> {
    let Some((first, others)) = findings.lines.split_first() else {
        return vec!["No format could be measured.".to_owned()];
    };
    let speed = match first.is_timed() {
        true => format!(
            ", {:.0} tokens/s of a prompt, {:.1} tokens/s written",
            first.prompt.value, first.decode.value
        ),
        false => String::new(),
    };
    let mut seen = vec![format!(
        "{}: perplexity {:.2}, {} of weights{speed}.",
        first.arm.label,
        first.perplexity.value,
        megabytes(first.weight_bytes),
    )];
    for line in others {
        seen.push(format!(
            "{}: perplexity {}; weights {:.2} times as large{}.",
            line.arm.label,
            ratio(line.ratio),
            line.weight_bytes / first.weight_bytes,
            speeds(line)
        ));
    }
    seen
}

/// `; a prompt 1.52 times as fast (95 % interval 1.30 to 1.80), writing 3.30 times (2.90 to 3.70)`; nothing if it was not timed.
fn speeds(line: &Line<'_>) -> String {
    let Line { prompt_ratio, decode_ratio, .. } = line;
    if !prompt_ratio.value.is_finite() || !decode_ratio.value.is_finite() {
        return String::new();
    }
    let interval = |ratio: &Mean, name: &str| match ratio.interval {
        Some(Interval { low, high }) => format!(" ({name}{low:.2} to {high:.2})"),
        None => String::new(),
    };
    format!(
        "; a prompt {:.2} times as fast{}, writing {:.2} times{}",
        prompt_ratio.value,
        interval(prompt_ratio, "95 % interval "),
        decode_ratio.value,
        interval(decode_ratio, "")
    )
}

/// `1.072 (95 % interval 1.06 to 1.084) times that of f32`.
pub(super) fn ratio(ratio: Mean) -> String {
    match ratio.interval {
        Some(Interval { low, high }) => {
            format!("{:.3} times as high (95 % interval {low:.3} to {high:.3})", ratio.value)
        }
        None => format!("{:.3} times as high", ratio.value),
    }
}

pub(super) fn megabytes(bytes: f64) -> String {
    format!("{:.0} MB", bytes / 1e6)
}

pub(super) fn rounded_before(format: &str) -> String {
    format!(
        "the model's file is GGUF with weights of {format}: its publisher had rounded them already, so that every format here, f32 too, \
         starts from those numbers; what resembles {format} loses less here than it would from the weights that were trained"
    )
}

pub(super) fn design(findings: &Findings<'_>) -> String {
    let experiment = &findings.outcome.experiment;
    let (reading, calibration) = (&findings.body.reading, &findings.body.calibration);
    let rounded = |line: &Line<'_>| {
        matches!(line.arm.weights, Weights::Packed { method: Rounding::Gptq, .. })
    };
    let gptq = match findings.lines.iter().any(rounded) {
        true => format!(
            " GPTQ was calibrated on {} of {} tokens of the training text.",
            counted(calibration.n_pieces, "piece"),
            calibration.piece_tokens
        ),
        false => String::new(),
    };
    format!(
        "{} of {} tokens, spread evenly over the held-out text, each read from its beginning. Speed: {}, in each of which every \
         format in turn reads and writes {} in a process of its own, {} tokens of a piece at once, then {} one by one, with {} and no \
         other worker beside it. The weights of every format lie in files of safetensors, which are mapped, \
         not copied, where they are computed with as they are.{gptq}",
        counted(experiment.seeds, "piece"),
        reading.piece_tokens,
        counted(findings.body.timing.turns, "turn"),
        counted(findings.body.timing.n_pieces, "piece"),
        reading.prompt_tokens,
        reading.decode_tokens,
        counted(u64::from(experiment.threads), "thread"),
    )
}

pub(super) fn caveats(findings: &Findings<'_>) -> Vec<String> {
    let mut caveats = report_parts::caveats(&findings.outcome.experiment);
    caveats.extend(
        findings
            .rounded_to()
            .map(|format| report_parts::capitalised(&rounded_before(format)) + "."),
    );
    if findings.body.model == DRAWN {
        caveats.push(
            "The model's weights were drawn: it knows nothing, and no format can lose anything."
                .to_owned(),
        );
    }
    let missing = findings.missing();
    if !missing.is_empty() {
        caveats.push(format!(
            "Not measured: {}. A group must divide the width of every linear map of the model.",
            list(&missing)
        ));
    }
    if findings.lines.iter().any(|line| is_unsteady(line.prompt) || is_unsteady(line.decode)) {
        caveats.push(
            "The interval of a speed is wider than a tenth of it to either side: something else used the machine, or the turns are few."
                .to_owned(),
        );
    }
    caveats.push(
        "Speeds are those of this machine; their intervals say what other processes on it might have shown in the same minutes, on \
         the same pieces of text. A busy hour or a hot processor is not in them, and neighbouring turns are not independent either."
            .to_owned(),
    );
    caveats.push(
        "Perplexity is not what a model can do: answers to questions may suffer more, or less, than it shows.".to_owned(),
    );
    caveats.push(
        "Neighbouring pieces are of one text and not independent; the intervals say what other pieces of this text might show."
            .to_owned(),
    );
    caveats
}

/// Whether the interval of a speed is wider than a tenth of it to either side.
fn is_unsteady(speed: Mean) -> bool {
    speed.interval.is_some_and(|Interval { low, high }| (high - low) / 2.0 > 0.1 * speed.value)
}
