//! The report: all blocks and figures, and texts that try to break out of the page.

use forerun_runs::plot::{
    Axis, Bar, BarSeries, Bars, Figure, HeatCell, HeatMap, Panel, Panels, Plot, Point,
    ReferenceLine, Series, Style, Xy,
};
use forerun_runs::recommendation::{Recommendation, RecommendedInterval};
use forerun_runs::report::{Block, Claim, Command, KeyNumber, KeyValues, Report, Sample};
use forerun_runs::seed::Seed;
use forerun_runs::table::{Cell, Column, Table};
use forerun_runs::verdict::{Direction, Diverged, Effect, Method, Replicate, Rule, judge};
use rand::Rng;

/// Every kind of block once.
pub(crate) fn report() -> Report {
    let heading = |text: &str| Block::Heading(text.to_owned());
    let blocks = vec![
        Block::Caveat("All numbers on this page are made up to show what reports look like.".into()),
        key_numbers(),
        heading("Verdicts"),
        Block::Verdicts(claims()),
        heading("What to set"),
        Block::Recommendations(recommendations()),
        heading("Beyond the training length"),
        Block::Paragraph(
            "Each arm was trained on windows of 256 tokens and evaluated on longer ones. The \
             perplexity of the arm without blockwise causal attention grows beyond the training \
             length; with it, the extra context keeps helping."
                .into(),
        ),
        Block::Figure(length()),
        Block::Table(results()),
        heading("Training"),
        Block::Figure(loss()),
        Block::Figure(panels()),
        heading("Sweep"),
        Block::Figure(heat()),
        Block::Figure(bars()),
        Block::Figure(log_bars()),
        Block::Figure(scatter()),
        heading("Generated text"),
        Block::Sample(sample()),
        Block::Sample(hostile()),
        heading("Notes"),
        Block::List(vec![
            "The books are of one language and one century.".into(),
            "Two of the nine learning rates were tried at one width only.".into(),
        ]),
        Block::Note("Timings depend on the machine; losses do not.".into()),
        heading("Repeat it"),
        Block::Command(Command {
            label: "The same experiment on the same data:".into(),
            lines: vec![
                "cargo xtask run-experiment length-extrapolation --scale small --seeds 5 --set train.steps=400".into(),
            ],
        }),
        Block::KeyValues(manifest()),
    ];
    Report {
        title: "Length extrapolation".into(),
        summary: "Does a model trained on 256 tokens use more of them? A gallery of everything \
                  that a report can hold, with invented numbers."
            .into(),
        blocks,
    }
}

fn key_numbers() -> Block {
    let number = |value: &str, unit: &str, label: &str| KeyNumber {
        value: value.into(),
        unit: unit.into(),
        label: label.into(),
    };
    Block::KeyNumbers(vec![
        number("-0.31", "nats", "loss at 2048 tokens, xPos against RoPE"),
        number("8×", "", "longest length without a rise of the loss"),
        number("14.2k", "tokens/s", "training throughput on two cores"),
        number("2 min 41 s", "", "total time"),
    ])
}

fn claims() -> Vec<Claim> {
    let rule = |metric: &str, direction, effect, margin| Rule {
        metric: metric.into(),
        arm: "xpos".into(),
        baseline: "rope".into(),
        effect,
        direction,
        margin,
        confidence: 0.95,
        min_seeds: 3,
        paired: true,
        interval: Method::default(),
        diverged: Diverged::default(),
        resolution: 0.0,
        replicate: Replicate::default(),
    };
    let claim = |text: &str, unit: &str, rule: Rule, arm: &[f64], baseline: &[f64]| {
        let judgement = judge(&rule, arm, baseline, &mut Seed::new(1).stream("verdict"));
        judgement.ok().map(|judgement| Claim {
            text: text.into(),
            unit: unit.into(),
            rule,
            judgement,
        })
    };
    let claims = [
        claim(
            "xPos with blockwise causal attention keeps the loss falling beyond the training length",
            "nats per token",
            rule("loss_at_2048", Direction::Lower, Effect::Difference, 0.02),
            &[2.31, 2.35, 2.28, 2.33, 2.30],
            &[2.61, 2.70, 2.58, 2.66, 2.60],
        ),
        claim(
            "Both arms train equally fast",
            "",
            rule("tokens_per_sec", Direction::Same, Effect::Ratio, 0.05),
            &[13_900.0, 14_050.0, 13_800.0],
            &[15_900.0, 16_100.0, 15_800.0],
        ),
        claim(
            "Attention resolution predicts the loss at 4096 tokens",
            "nats per token",
            rule("loss_at_4096", Direction::Lower, Effect::Difference, 0.02),
            &[2.30, 2.52, 2.21],
            &[2.41, 2.39, 2.44],
        ),
    ];
    claims.into_iter().flatten().collect()
}

fn recommendations() -> Vec<Recommendation> {
    vec![
        Recommendation {
            setting: "optimiser.lr".into(),
            value: 1.2e-3.into(),
            unit: None,
            interval: Some(RecommendedInterval { low: 8e-4, high: 1.9e-3, confidence: 0.95 }),
            basis: "Lowest validation loss in 5 of 5 seeds; the loss is flat within the interval."
                .into(),
            caveats: vec!["Not tried above 10 million parameters.".into()],
        },
        Recommendation {
            setting: "positions".into(),
            value: "xpos".into(),
            unit: None,
            interval: None,
            basis: "The only arm whose loss does not rise up to eight times the training length."
                .into(),
            caveats: vec![],
        },
    ]
}

const LENGTHS: [f64; 7] = [64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];

fn length() -> Figure {
    let arm = |name: &str, values: &[f64], spread: f64| {
        let points = LENGTHS.iter().zip(values).map(|(&x, &y)| {
            Point::with_interval(x, y, y * (1.0 - spread), y * (1.0 + spread * 1.2))
        });
        Series::new(name, Style::LinePoints, points.collect())
    };
    let plot = Xy {
        x: Axis::log2("evaluation length", "tokens"),
        y: Axis::log10("validation perplexity", "per token"),
        series: vec![
            arm("xPos, blockwise causal", &[14.1, 12.2, 11.0, 10.6, 10.3, 10.2, 10.1], 0.03),
            arm("xPos", &[14.2, 12.1, 11.0, 11.4, 13.1, 16.8, 21.0], 0.05),
            arm("RoPE", &[14.0, 12.0, 10.9, 19.5, 61.0, 240.0, f64::INFINITY], 0.08),
        ],
        lines: vec![
            ReferenceLine::Vertical { at: 256.0, label: "training length".into() },
            ReferenceLine::Horizontal { at: 39.0, label: "unigram model".into() },
        ],
    };
    let caption = "Mean of 5 seeds; bands are 95 % intervals. Lower is better.";
    let title = "Perplexity against evaluation length";
    Figure { caption: caption.into(), ..Figure::new(title, Plot::Xy(plot)) }
}

fn results() -> Table {
    let row = |arm: &str, loss: (f64, f64), long: Cell, tokens: u64, remark: &str| {
        vec![
            arm.into(),
            Cell::plus_minus(loss.0, loss.1),
            long,
            Cell::Count(tokens),
            Cell::setting(1.2e-3),
            remark.into(),
        ]
    };
    Table {
        caption: "Arms at the end of training".into(),
        columns: vec![
            Column::text("arm"),
            Column::number("loss", "nats per token"),
            Column::number("loss at 2048", "nats per token"),
            Column::number("training tokens", ""),
            Column::number("learning rate", ""),
            Column::text("remark"),
        ],
        rows: vec![
            row("xPos, blockwise causal", (2.398, 0.021), Cell::number(2.322, 4), 1_638_400, ""),
            row("xPos", (2.397, 0.024), Cell::number(2.821, 4), 1_638_400, ""),
            row("RoPE", (2.389, 0.019), Cell::number(5.48, 3), 1_638_400, "diverged at 4096"),
            row("none", (2.61, 0.11), "diverged".into(), 819_200, "stopped at step 200"),
        ],
    }
}

fn loss() -> Figure {
    let mut rng = Seed::new(2).stream("loss");
    let mut arm = |name: &str, floor: f64, rate: f64, diverges: bool| {
        let mut points = Vec::new();
        for step in 1..=2000 {
            let x = f64::from(step);
            let noise = rng.random_range(-1.0..1.0) * 0.12;
            let y = floor + 3.2 * (-x * rate).exp() + 8.0 / (x + 8.0) + noise;
            let y = if diverges && step > 1200 { f64::NAN } else { y };
            points.push(Point::new(x, y));
        }
        Series::new(name, Style::Line, points)
    };
    let plot = Xy {
        x: Axis::new("step", ""),
        y: Axis { max: Some(5.0), ..Axis::new("training loss", "nats per token") },
        series: vec![
            arm("Sub-LN (Magneto)", 2.3, 0.004, false),
            arm("Pre-LN", 2.5, 0.003, false),
            arm("Post-LN", 3.1, 0.0025, true),
        ],
        lines: vec![],
    };
    let caption = "One seed. The axis is cut at 5 nats.";
    Figure { caption: caption.into(), ..Figure::new("Training loss", Plot::Xy(plot)) }
}

fn panels() -> Figure {
    let panel = |width: u32, shift: f64| {
        let arm = |name: &str, best: f64, steep: f64| {
            let point = |i: i32| {
                let lr = 1e-4 * 2_f64.powi(i);
                let off = (lr / best).log2();
                let y = 2.4 + shift + steep * off * off;
                let y = if lr > best * 12.0 { f64::NAN } else { y };
                Point::with_interval(lr, y, y - 0.03, y + 0.03)
            };
            Series::new(name, Style::LinePoints, (0..8).map(point).collect())
        };
        Panel {
            title: format!("width {width}"),
            series: vec![arm("standard", 0.2 / f64::from(width), 0.05), arm("muP", 1.6e-3, 0.04)],
            lines: vec![ReferenceLine::Vertical { at: 1.6e-3, label: "proposed".into() }],
        }
    };
    let plot = Panels {
        x: Axis::log10("learning rate", ""),
        y: Axis::new("validation loss", "nats per token"),
        panels: vec![panel(64, 0.3), panel(128, 0.1), panel(256, 0.0)],
    };
    let caption = "With muP the best learning rate does not move with the width.";
    let title = "Loss against learning rate for three widths";
    Figure { caption: caption.into(), ..Figure::new(title, Plot::Panels(plot)) }
}

fn heat() -> Figure {
    let rates = ["1e-4", "2e-4", "4e-4", "8e-4", "1.6e-3", "3.2e-3", "6.4e-3", "1.3e-2"];
    let depths = ["2", "4", "8", "16", "32"];
    let cell = |row: usize, column: usize| match (row, column) {
        (row, column) if row + column > 9 => HeatCell::Text("diverged".into()),
        (4, 0) => HeatCell::Missing,
        _ => {
            let (row, column) = (row as f64, column as f64);
            HeatCell::Value(2.3 + 0.05 * (column - 5.0 + row).powi(2) - 0.06 * row)
        }
    };
    let cells = (0..5).map(|r| (0..8).map(|c| cell(r, c)).collect()).collect();
    let plot = HeatMap {
        x_label: "learning rate".into(),
        y_label: "layers".into(),
        columns: rates.map(String::from).to_vec(),
        rows: depths.map(String::from).to_vec(),
        cells,
        value: Axis::new("validation loss", "nats per token"),
        mark: Some((4, 1)),
    };
    let caption = "The outlined cell has the lowest loss. One cell was not measured.";
    let title = "Loss for each depth and learning rate";
    Figure { caption: caption.into(), ..Figure::new(title, Plot::Heat(plot)) }
}

fn bars() -> Figure {
    let series = |name: &str, values: &[(f64, f64)]| BarSeries {
        name: name.into(),
        values: values.iter().map(|&(v, by)| Bar::with_interval(v, v - by, v + by)).collect(),
        slot: None,
    };
    let plot = Bars {
        axis: Axis::new("change of the loss", "nats per token"),
        categories: ["blockwise causal", "xPos decay", "Sub-LN", "longer warm-up"]
            .map(String::from)
            .to_vec(),
        series: vec![
            series("at 256 tokens", &[(0.01, 0.02), (-0.01, 0.02), (-0.06, 0.02), (0.02, 0.03)]),
            series(
                "at 2048 tokens",
                &[(-0.5, 0.06), (-0.31, 0.05), (-0.07, 0.03), (f64::NAN, 0.0)],
            ),
        ],
        lines: vec![ReferenceLine::Vertical { at: -0.02, label: "margin of the claim".into() }],
    };
    Figure::new("What each part contributes", Plot::Bars(plot))
}

fn log_bars() -> Figure {
    let plot = Bars {
        axis: Axis::log10("throughput", "tokens per second"),
        categories: ["naive attention, one head at a time", "fused attention", "fused, bf16"]
            .map(String::from)
            .to_vec(),
        series: vec![BarSeries {
            name: String::new(),
            values: vec![
                Bar::with_interval(820.0, 790.0, 860.0),
                Bar::with_interval(14_200.0, 13_900.0, 14_600.0),
                Bar::with_interval(21_500.0, 20_100.0, 22_800.0),
            ],
            slot: None,
        }],
        lines: vec![],
    };
    Figure::new("Training throughput", Plot::Bars(plot))
}

fn scatter() -> Figure {
    let mut rng = Seed::new(3).stream("scatter");
    let mut arm = |name: &str, offset: f64| {
        let mut point = |i: i32| {
            let x = 1e6 * 10_f64.powf(f64::from(i) * 0.25);
            let y = 1.7 + offset + 40.0 * x.powf(-0.24) + rng.random_range(-0.02..0.02);
            Point::with_interval(x, y, y - 0.06, y + 0.06)
        };
        Series::new(name, Style::Points, (0..9).map(&mut point).collect())
    };
    let law = |i: i32| {
        let x = 1e6 * 10_f64.powf(f64::from(i) * 0.05);
        let y = 1.7 + 40.0 * x.powf(-0.24);
        Point::with_interval(x, y, y - 0.03, y + 0.03)
    };
    let plot = Xy {
        x: Axis::log10("training data", "tokens"),
        y: Axis::new("validation loss", "nats per token"),
        series: vec![
            Series::new("fitted law", Style::Line, (0..=50).map(law).collect()),
            arm("measured, used by the fit", 0.0),
            arm("measured, held out", 0.05),
        ],
        lines: vec![ReferenceLine::Horizontal { at: 1.7, label: "irreducible loss".into() }],
    };
    Figure::new("Law and measurements", Plot::Xy(plot))
}

fn sample() -> Sample {
    Sample {
        title: "xPos, temperature 0.8, top-p 0.95".into(),
        prompt: "It was a grey morning, and the harbour ".into(),
        text: "lay still under the rain. The captain had not come down, and nobody spoke of it; \
               the men were mending the nets, one after the other, as though there were time \
               enough for everything.\n\n“He will come,” said the boy."
            .into(),
    }
}

fn hostile() -> Sample {
    Sample {
        title: "Text that tries to be markup".into(),
        prompt: "</blockquote><script>document.title='broken'</script>".into(),
        text: "<img src=\"https://example.invalid/x.png\" onerror=\"alert(1)\"> & ‘quotes’ \
               \u{202e}backwards\u{202c} \u{1b}[31mred\u{1b}[0m | *stars* `ticks` \
               averyveryveryveryveryveryveryveryveryveryveryveryveryveryveryverylongword"
            .into(),
    }
}

fn manifest() -> KeyValues {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    KeyValues {
        caption: "Manifest".into(),
        pairs: vec![
            pair("commit", "0123456789abcdef0123456789abcdef01234567"),
            pair("rustc", "1.95.0"),
            pair("libtorch", "2.13.0"),
            pair("device", "cpu, 2 threads"),
            pair("seed", "7"),
            pair(
                "data",
                "books.parquet sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            ),
            pair("started", "2026-11-22T19:31:07Z"),
        ],
    }
}
