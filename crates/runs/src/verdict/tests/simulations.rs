//! Simulated experiments: how often a rule finds what is not there, and misses what is.

use std::sync::LazyLock;

use rand_chacha::ChaCha20Rng;
use rand_distr::{Distribution, Exp1, StandardNormal, StudentT};

use super::*;
use crate::seed::Seed;

/// Noise of one arm, as runs show it.
#[derive(Clone, Copy, Debug)]
enum Noise {
    Normal,
    HeavyTails,
    Skewed,
}

impl Noise {
    fn draw(self, rng: &mut ChaCha20Rng) -> f64 {
        static T3: LazyLock<StudentT<f64>> = LazyLock::new(|| StudentT::new(3.0).unwrap());
        match self {
            Self::Normal => StandardNormal.sample(rng),
            Self::HeavyTails => T3.sample(rng),
            Self::Skewed => Exp1.sample(rng),
        }
    }
}

/// Counts of `reproduced` in 200 experiments. Both arms share the noise of their seed (sd 1), which
/// pairing takes out, and each has its own (sd 0.1).
fn reproduced(rule: &Rule, noise: Noise, n_seeds: usize, effect: f64, label: &str) -> usize {
    let mut rng = Seed::new(11).stream(label);
    let mut count = 0;
    for _ in 0..200 {
        let (mut arm, mut baseline) = (Vec::new(), Vec::new());
        for _ in 0..n_seeds {
            let shared = if rule.paired { noise.draw(&mut rng) } else { 0.0 };
            arm.push(10.0 + shared + effect + 0.1 * noise.draw(&mut rng));
            baseline.push(10.0 + shared + 0.1 * noise.draw(&mut rng));
        }
        if rule.effect == Effect::Ratio {
            arm.iter_mut().chain(&mut baseline).for_each(|value| *value = value.exp());
        }
        count += usize::from(
            judge(rule, &arm, &baseline, &mut rng).unwrap().verdict == Verdict::Reproduced,
        );
    }
    count
}

/// Both kinds of effect, both directions, with and without pairs, with all the seeds that runs have.
fn student_designs() -> Vec<(Rule, usize)> {
    let mut designs = Vec::new();
    for paired in [true, false] {
        for (effect, direction) in
            [(Effect::Difference, Direction::Higher), (Effect::Ratio, Direction::Lower)]
        {
            for n_seeds in [3, 4, 5, 8, 10] {
                designs.push((Rule { paired, effect, ..rule(direction, 0.0) }, n_seeds));
            }
        }
    }
    designs
}

fn bootstrap_designs() -> Vec<(Rule, usize)> {
    let rule = Rule { interval: Method::Bootstrap, min_seeds: 5, ..rule(Direction::Lower, 0.05) };
    vec![(rule.clone(), 5), (Rule { paired: false, ..rule.clone() }, 5), (rule, 8)]
}

/// The promise: identical arms are judged `reproduced` in at most 5 % of 200 experiments.
fn check_identical_arms(designs: Vec<(Rule, usize)>) {
    for (rule, n_seeds) in designs {
        // The strictest case: any difference at all would do.
        let rule = Rule { margin: 0.0, ..rule };
        for noise in [Noise::Normal, Noise::HeavyTails, Noise::Skewed] {
            let count = reproduced(&rule, noise, n_seeds, 0.0, "identical");
            assert!(count <= 10, "{count} of 200 for {n_seeds} seeds, {noise:?}, {rule:?}");
        }
    }
}

/// The promise: an effect of the size that is stated as detectable is found in at least 80 % of them.
fn check_planted_effect(designs: Vec<(Rule, usize)>) {
    for (rule, n_seeds) in designs {
        // Paired differences of two arms of sd 0.1.
        let sd = if rule.paired { 0.1 * 2.0_f64.sqrt() } else { 0.1 };
        let size = detectable_effect(&rule, n_seeds, sd).unwrap().unwrap();
        assert!(size > 0.0);
        let signed = if rule.direction == Direction::Lower { -size } else { size };
        let shift = if rule.effect == Effect::Ratio { signed.ln_1p() } else { signed };
        let count = reproduced(&rule, Noise::Normal, n_seeds, shift, "planted");
        assert!(count >= 160, "{count} of 200 for {n_seeds} seeds, {rule:?}");
        // Half of it is found far less often, so what is stated is no wild overestimate.
        let half = reproduced(&rule, Noise::Normal, n_seeds, shift / 2.0, "half");
        assert!(half < 140, "{half} of 200 for half of it, {n_seeds} seeds, {rule:?}");
    }
}

#[test]
fn identical_arms_are_reproduced_in_5_percent_of_experiments_at_most() {
    check_identical_arms(student_designs());
}

#[test]
fn identical_arms_are_reproduced_in_5_percent_at_most_by_the_bootstrap() {
    check_identical_arms(bootstrap_designs());
}

#[test]
fn an_effect_of_the_detectable_size_is_found_in_80_percent_of_experiments_at_least() {
    check_planted_effect(student_designs());
}

#[test]
fn an_effect_of_the_detectable_size_is_found_in_80_percent_at_least_by_the_bootstrap() {
    check_planted_effect(bootstrap_designs());
}

/// Counts behind `docs/decisions/0002-verdict-intervals.md`: `RUN_SLOW=1 cargo test -p forerun-runs table -- --nocapture`.
#[test]
fn calibration_table() {
    if std::env::var_os("RUN_SLOW").is_none() {
        return;
    }
    println!("| pairs | n | identical, normal | heavy tails | skewed | planted, normal |");
    for paired in [true, false] {
        for n in [3, 4, 5, 8, 10] {
            let rule = Rule { paired, ..rule(Direction::Higher, 0.0) };
            let sd = if paired { 0.1 * 2.0_f64.sqrt() } else { 0.1 };
            let size = detectable_effect(&rule, n, sd).unwrap().unwrap();
            let mean = |noise, effect| {
                let counts = (0..20).map(|i| reproduced(&rule, noise, n, effect, &i.to_string()));
                counts.sum::<usize>() as f64 / 40.0
            };
            let nulls =
                [Noise::Normal, Noise::HeavyTails, Noise::Skewed].map(|noise| mean(noise, 0.0));
            println!("| {paired} | {n} | {nulls:.1?} | {:.1} |", mean(Noise::Normal, size));
        }
    }
}
