//! What `peers scaling` prints.

use std::fmt::Write;

use super::measure::{Contest, Entry, MOST, Runner, SAME, Times};
use super::{DRAWS, N_POINTS, Options};
use crate::peers::ratio::Spread;

/// What ours should be at least, in times the fastest rival's processor time: for a fit, and for a bootstrap.
const GOALS: (f64, f64) = (5., 10.);
/// The memory that ours should stay below, bytes.
const MEMORY: u64 = 100_000_000;

/// What the numbers mean; printed first.
pub(super) fn definitions(options: &Options) -> String {
    let Options { rounds, rival_draws, .. } = options;
    format!(
        "Chinchilla's law, five parameters, on {N_POINTS} points; one thread a program. A fit
searches from many starts. Of the 4,500 starts every 45th is made and its time
scaled up; of a rival's {DRAWS} bootstrap refits {rival_draws} are made, and scaled up;
ours are made in full. All have analytic derivatives and one warm start a draw;
ours also draws the points, and searches one draw in a hundred from cold starts
to see whether the warm one missed its optimum, which rivals do not.
Each program stays alive and is timed from outside, start-up and imports not
counted: {rounds} rounds in turn, one more before them to warm up, every second round
in the opposite order. Times are medians; processor time is user and system.
Optimum: \"same\" if the objective is the lowest of all programs' within {SAME:.0e},
relative; \"draws\" counts the resamples that a rival carries to the lowest
objective found (a rival needs {:.0} % of them to count); for ours, its checks that
found nothing lower. Ratios are the rival's processor time over ours in the same
round, the median and the range.",
        100. * MOST
    )
}

/// The figures of one objective.
pub(super) fn render(contest: &Contest) -> String {
    let mut text = format!(
        "{}: optimum {:.9e}\n  {:<20} {:>20} {:>20}  {:<8} draws\n  {:<20} {:>10} {:>9} {:>10} {:>9}\n",
        contest.objective,
        contest.optimum(),
        "program",
        "a fit, ms",
        format!("{DRAWS} draws, s"),
        "optimum",
        "",
        "processor",
        "wall",
        "processor",
        "wall",
    );
    for entry in &contest.entries {
        let _ = writeln!(text, "{}", row(contest, entry));
    }
    let fit = contest.fastest_fit().map(|rival| (rival.name, contest.ratio(rival, |e| &e.fit)));
    let _ = writeln!(text, "{}", verdict("fit", fit, GOALS.0));
    let draws = contest
        .fastest_bootstrap()
        .map(|rival| (rival.name, contest.ratio(rival, |e| &e.bootstrap)));
    let _ = write!(text, "{}", verdict("draws", draws, GOALS.1));
    text
}

fn row(contest: &Contest, entry: &Entry) -> String {
    let middle = |values: &[f64], unit: f64| {
        let spread = Spread::of(values.iter().copied());
        spread.map_or_else(|| "-".to_owned(), |spread| digits(spread.median * unit))
    };
    let pair =
        |times: &Times, unit: f64| (middle(&times.processor, unit), middle(&times.wall, unit));
    let (fit, fit_wall) = pair(&entry.fit, 1e3);
    let (draws, draws_wall) = pair(&entry.bootstrap, 1.);
    let optimum = match contest.is_optimal(entry) {
        true => "same".to_owned(),
        false => format!("+{:.0e}", entry.objective / contest.optimum() - 1.),
    };
    let reached = match (entry.checks, entry.refits.len()) {
        (Some((held, all)), _) => format!("{held}/{all}"),
        (None, 0) => String::new(),
        (None, all) => format!("{}/{all}", contest.n_reached(entry)),
    };
    let line = format!(
        "  {:<20} {fit:>10} {fit_wall:>9} {draws:>10} {draws_wall:>9}  {optimum:<8} {reached}",
        entry.name
    );
    line.trim_end().to_owned()
}

/// Three digits that mean something.
pub(super) fn digits(value: f64) -> String {
    match value {
        value if value >= 100. => format!("{value:.0}"),
        value if value >= 10. => format!("{value:.1}"),
        value if value >= 1. => format!("{value:.2}"),
        value => format!("{value:.3}"),
    }
}

/// How ours does against the fastest rival, and whether that is what it should be.
pub(super) fn verdict(what: &str, rival: Option<(&str, Option<Spread>)>, goal: f64) -> String {
    let Some((name, Some(ratio))) = rival else {
        return format!("  {what}: no rival reaches the optimum");
    };
    let verdict = if ratio.median >= goal { "reached" } else { "missed" };
    format!("  {what}: {ratio} times less than {name}; {goal} {verdict}")
}

/// Versions and memory of every program.
pub(super) fn programs(runners: &[Runner]) -> String {
    let mut text =
        "Peak memory of the whole process, interpreter and libraries included:\n".to_owned();
    for runner in runners {
        let peak = runner.peak();
        let shown =
            peak.map_or_else(|| "-".to_owned(), |b| format!("{} MB", b.div_ceil(1_000_000)));
        let _ = writeln!(text, "  {:<20} {shown:>7}  {}", runner.name, runner.versions);
    }
    let ours = runners.first().and_then(Runner::peak);
    let verdict = match ours {
        Some(bytes) if bytes < MEMORY => "reached",
        Some(_) => "missed",
        None => "not known",
    };
    let _ = write!(text, "  ours below {} MB: {verdict}", MEMORY / 1_000_000);
    text
}
