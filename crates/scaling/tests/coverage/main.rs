//! How often 95 % intervals contain the truth, on synthetic sets whose truth is known.
//!
//! `RUN_SLOW=1 cargo test -p forerun-scaling --test coverage -- --nocapture` takes 1,000 sets a case, holds the interval
//! that the crate gives to a band around 95 %, and prints the tables of `docs/decisions/0005-scaling-intervals.md`, in which the
//! alternatives stand beside it. Without it 160 sets are taken. All seeds are fixed: a count that is within its band
//! today is within it tomorrow.

#![allow(clippy::unwrap_used, reason = "a test's own data")]
#![allow(clippy::print_stdout, reason = "the tables that a document quotes")]

mod learning_rate;
mod loss;
mod mixture;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use forerun_scaling::{Bootstrap, Interval, Quantity};
use rand_chacha::ChaCha20Rng;
use rand_distr::{Distribution, StandardNormal, StudentT};

/// Sets a case.
fn n_sets() -> u64 {
    if is_slow() { 1000 } else { 160 }
}

fn is_slow() -> bool {
    std::env::var_os("RUN_SLOW").is_some()
}

/// Errors of the logarithm of a loss.
#[derive(Clone, Copy, Debug)]
enum Noise {
    Normal,
    /// Student's t with 3 degrees of freedom, of the same scale.
    Heavy,
}

impl Noise {
    fn sample(self, rng: &mut ChaCha20Rng) -> f64 {
        match self {
            Self::Normal => StandardNormal.sample(rng),
            Self::Heavy => StudentT::new(3.).unwrap().sample(rng),
        }
    }
}

/// The central draws alone, as the literature has them.
fn percentiles(bootstrap: &Bootstrap, quantity: &Quantity) -> Interval {
    forerun_scaling::interval::percentile_interval(&bootstrap.values(quantity), 0.95)
}

/// How often the intervals of each method held the truth, and how wide they were in the logarithm.
#[derive(Default)]
struct Tally {
    methods: BTreeMap<&'static str, Held>,
}

#[derive(Default)]
struct Held {
    inside: u64,
    total: u64,
    widths: Vec<f64>,
}

impl Held {
    fn share(&self) -> f64 {
        self.inside as f64 / self.total as f64
    }

    fn median_width(&self) -> f64 {
        let mut widths = self.widths.clone();
        widths.sort_by(f64::total_cmp);
        widths[widths.len() / 2]
    }
}

impl Tally {
    /// Counts an interval; one that could not be made holds nothing.
    fn count(&mut self, method: &'static str, interval: Option<Interval>, truth: f64) {
        let held = self.methods.entry(method).or_default();
        held.total += 1;
        held.inside += u64::from(interval.is_some_and(|interval| interval.contains(truth)));
        let width = interval.map_or(f64::INFINITY, |i| (i.high / i.low).ln());
        held.widths.push(width);
    }

    fn print(&self, title: &str) {
        println!("| {title} | sets | inside, % | median width, % |\n|---|---|---|---|");
        for (method, held) in &self.methods {
            let (share, width) = (100. * held.share(), 100. * held.median_width());
            println!("| {method} | {} | {share:.1} | {width:.2} |", held.total);
        }
        println!();
    }

    /// What leaves the band that the crate's own interval must keep to, if it does: with 1,000 sets 93 to 97 %, and to 98 %
    /// with heavy tails, where a little too wide is no fault (three binomial standard deviations are 2.1 points); with
    /// 160 sets three of them, 5.2 points, below 95 %.
    fn check(&self, title: &str, method: &str, noise: Noise) -> Option<String> {
        self.print(title);
        let (low, high) = match (is_slow(), noise) {
            (true, Noise::Normal) => (0.93, 0.97),
            (true, Noise::Heavy) => (0.93, 0.98),
            (false, _) => (0.898, 1.),
        };
        self.outside(title, method, low..=high)
    }

    /// What leaves a band of its own. Of 160 sets a binomial standard deviation more may be missing, and all may be inside.
    fn check_band(&self, title: &str, method: &str, band: RangeInclusive<f64>) -> Option<String> {
        self.print(title);
        let (low, high) = band.into_inner();
        let slack = (low * (1. - low) / 160.).sqrt();
        let (low, high) = if is_slow() { (low, high) } else { (low - slack, 1.) };
        self.outside(title, method, low..=high)
    }

    fn outside(&self, title: &str, method: &str, band: RangeInclusive<f64>) -> Option<String> {
        let share = self.methods[method].share();
        (!band.contains(&share)).then(|| format!("{title}, {method}: {share}"))
    }
}
