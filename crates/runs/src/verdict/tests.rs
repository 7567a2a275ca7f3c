mod simulations;

use expect_test::expect;
use proptest::prelude::*;

use super::*;
use crate::seed::Seed;

fn rule(direction: Direction, margin: f64) -> Rule {
    Rule {
        metric: "loss".into(),
        arm: "xpos".into(),
        baseline: "rope".into(),
        effect: Effect::Difference,
        direction,
        margin,
        confidence: default_confidence(),
        min_seeds: default_min_seeds(),
        paired: default_paired(),
        interval: Method::Student,
        diverged: Diverged::Inconclusive,
        resolution: 0.0,
        replicate: Replicate::default(),
    }
}

fn run(rule: &Rule, arm: &[f64], baseline: &[f64]) -> Judgement {
    judge(rule, arm, baseline, &mut Seed::new(0).stream("judge")).unwrap()
}

fn check(rule: &Rule, arm: &[f64], baseline: &[f64], verdict: Verdict, reason: &str) {
    let judgement = run(rule, arm, baseline);
    assert_eq!(judgement.verdict, verdict, "{}", judgement.reason);
    assert!(judgement.reason.contains(reason), "{}", judgement.reason);
}

const BASELINE: [f64; 4] = [2.0, 2.1, 1.9, 2.2];
const LOWER: [f64; 4] = [1.5, 1.59, 1.42, 1.7];

#[test]
fn a_clear_effect_is_reproduced_or_not_by_direction_and_margin() {
    use Direction::{Higher, Lower, Same};
    use Verdict::{Inconclusive, NotReproduced, Reproduced};
    for (direction, margin, verdict) in [
        (Lower, 0.0, Reproduced),
        (Lower, 0.4, Reproduced),
        (Lower, 0.5, Inconclusive),
        (Lower, 0.6, NotReproduced),
        (Lower, -0.1, Reproduced), // no worse than
        (Higher, 0.0, NotReproduced),
        (Higher, -0.6, Reproduced),
        (Higher, -0.4, NotReproduced),
        (Same, 0.6, Reproduced),
        (Same, 0.5, Inconclusive),
        (Same, 0.1, NotReproduced),
    ] {
        check(&rule(direction, margin), &LOWER, &BASELINE, verdict, "");
    }
}

#[test]
fn people_can_read_a_judgement() {
    let judgement = run(&rule(Direction::Lower, 0.02), &LOWER, &BASELINE);
    expect![[r#"
        {
          "verdict": "reproduced",
          "effect": -0.49749999999999983,
          "interval": {
            "low": -0.5175224522533594,
            "high": -0.47747754774664075
          },
          "n_seeds": 4,
          "reason": "`loss` of `xpos` against `rope`: difference -0.4975, 95 % interval [-0.5175, -0.4775] from 4 seeds; all of it is below -0.02, as claimed"
        }"#]].assert_eq(&serde_json::to_string_pretty(&judgement).unwrap());
    let ratio = Rule { effect: Effect::Ratio, ..rule(Direction::Same, 0.5) };
    expect!["`loss` of `xpos` against `rope`: ratio 0.7567, 95 % interval [0.7389, 0.775] from 4 seeds; all of it is between 0.5 and 1.5, as claimed"].assert_eq(&run(&ratio, &LOWER, &BASELINE).reason);
    let unsure = run(&rule(Direction::Higher, 1e-5), &[0.1, -0.2, 0.3], &[0.0, 0.0, 1e-9]);
    expect!["`loss` of `xpos` against `rope`: difference 0.06667, 95 % interval [-0.5585, 0.6918] from 3 seeds; only a part of it is above 1e-5, as was claimed"].assert_eq(&unsure.reason);
    let back: Judgement = serde_json::from_str(&serde_json::to_string(&unsure).unwrap()).unwrap();
    assert_eq!(back, unsure);
}

#[test]
fn a_ratio_is_that_of_geometric_means_and_its_margin_a_fraction() {
    let arm = BASELINE.map(|x| x * 0.9);
    let arm = [arm[0] * 1.001, arm[1] * 0.999, arm[2], arm[3]];
    let rule = |direction, margin| Rule { effect: Effect::Ratio, ..rule(direction, margin) };
    let judgement = run(&rule(Direction::Lower, 0.08), &arm, &BASELINE);
    assert!((judgement.effect.unwrap() - 0.9).abs() < 1e-6);
    assert_eq!(judgement.verdict, Verdict::Reproduced);
    check(&rule(Direction::Lower, 0.12), &arm, &BASELINE, Verdict::NotReproduced, "below 0.88");
    check(
        &rule(Direction::Same, 0.15),
        &arm,
        &BASELINE,
        Verdict::Reproduced,
        "between 0.85 and 1.15",
    );
    let negative = [1.0, -1.0, 1.0, 1.0];
    let reason = "a ratio needs positive values, `xpos` has -1";
    check(&rule(Direction::Lower, 0.0), &negative, &BASELINE, Verdict::Inconclusive, reason);
}

#[test]
fn too_few_seeds_are_inconclusive_however_clear() {
    let rule = Rule { min_seeds: 5, ..rule(Direction::Lower, 0.0) };
    let reason = "4 seeds with a value, the rule asks for 5";
    check(&rule, &LOWER, &BASELINE, Verdict::Inconclusive, reason);
    for n in 0..2 {
        let judgement = run(&rule, &LOWER[..n], &BASELINE[..n]);
        assert_eq!(judgement.verdict, Verdict::Inconclusive);
        assert_eq!(judgement.n_seeds, n);
        assert_eq!(judgement.interval, None);
        assert_eq!(judgement.effect.is_some(), n > 0);
    }
}

#[test]
fn seeds_that_diverged_are_settled_as_the_rule_says() {
    let mut arm = LOWER;
    arm[1] = f64::NAN;
    let with = |diverged| Rule { diverged, ..rule(Direction::Lower, 0.1) };
    let counts =
        "without a finite value (diverged or missing): 1 of 4 seeds of `xpos`, 0 of 4 of `rope`";
    check(&with(Diverged::Inconclusive), &arm, &BASELINE, Verdict::Inconclusive, counts);
    let dropped = run(&with(Diverged::Drop), &arm, &BASELINE);
    assert_eq!((dropped.verdict, dropped.n_seeds), (Verdict::Reproduced, 3));
    assert!(dropped.reason.ends_with(&format!("left out {counts}")), "{}", dropped.reason);
    let counted = run(&with(Diverged::Value(5.5)), &arm, &BASELINE);
    assert_eq!((counted.verdict, counted.n_seeds), (Verdict::Inconclusive, 4));
    assert!(counted.reason.ends_with(&format!("counted as 5.5 {counts}")), "{}", counted.reason);
    // What is dropped can leave too few.
    arm[2] = f64::INFINITY;
    check(&with(Diverged::Drop), &arm, &BASELINE, Verdict::Inconclusive, "asks for 3; left out");
    // Without pairs each arm loses its own.
    let unpaired = Rule { paired: false, ..with(Diverged::Drop) };
    assert_eq!(run(&unpaired, &LOWER[..3], &[2.0, f64::NAN, 2.1, 1.9]).n_seeds, 3);
}

#[test]
fn seeds_without_noise_need_a_resolution() {
    let (ones, zeros) = ([1.0; 3], [0.0; 3]);
    for paired in [true, false] {
        let continuous = Rule { paired, ..rule(Direction::Higher, 0.0) };
        check(&continuous, &ones, &zeros, Verdict::Inconclusive, "the seeds do not differ");
        // Differences that are equal but for rounding say no more.
        let (arm, baseline) = ([0.3, 0.4, 0.5], [0.1, 0.2, 0.3]);
        if paired {
            check(&continuous, &arm, &baseline, Verdict::Inconclusive, "the seeds do not differ");
        }
        let grid = Rule { resolution: 1.0, ..continuous };
        check(&grid, &ones.map(|x| 3.0 * x), &zeros, Verdict::Reproduced, "");
        check(&grid, &ones.map(|x| x / 2.0), &zeros, Verdict::Inconclusive, "only a part of it");
    }
}

#[test]
fn paired_arms_of_different_lengths_are_an_error() {
    let mut rng = Seed::new(0).stream("");
    let error = judge(&rule(Direction::Lower, 0.0), &LOWER, &BASELINE[..3], &mut rng).unwrap_err();
    let expected = "`baseline` must be 4 values, as many as the arm has, got 3";
    assert_eq!(error.to_string(), expected);
    let unpaired = Rule { paired: false, ..rule(Direction::Lower, 0.0) };
    check(&unpaired, &LOWER, &BASELINE[..3], Verdict::Reproduced, "from 3 seeds");
}

#[test]
fn a_rule_is_read_with_defaults_and_without_typing_errors() {
    let text = r#"
        metric = "loss"
        arm = "xpos"
        baseline = "rope"
        effect = "difference"
        direction = "lower"
        margin = 0.02
    "#;
    let read: Rule = toml::from_str(text).unwrap();
    assert_eq!(read, rule(Direction::Lower, 0.02));
    let more =
        format!("{text}\ninterval = \"bootstrap\"\nmin_seeds = 8\ndiverged = {{ value = 5.5 }}");
    let read: Rule = toml::from_str(&more).unwrap();
    assert_eq!((read.interval, read.diverged), (Method::Bootstrap, Diverged::Value(5.5)));
    read.validate().unwrap();
    assert_eq!(toml::from_str::<Rule>(&toml::to_string(&read).unwrap()).unwrap(), read);
    assert!(toml::from_str::<Rule>(&format!("{text}\nmargins = 1.0")).is_err());
}

#[test]
fn rules_out_of_range_are_refused_by_field() {
    let check = |change: &dyn Fn(&mut Rule), expected: &str| {
        let mut rule = rule(Direction::Lower, 0.0);
        change(&mut rule);
        assert_eq!(rule.validate().unwrap_err().to_string(), expected);
    };
    check(&|r| r.metric.clear(), "`metric` must be a name, got nothing");
    check(&|r| r.baseline = "xpos".into(), "`baseline` must be another arm than `arm`, got xpos");
    check(&|r| r.margin = f64::NAN, "`margin` must be finite, got NaN");
    check(
        &|r| r.direction = Direction::Same,
        "`margin` must be above 0 for the direction `same`, got 0",
    );
    check(&|r| r.confidence = 95.0, "`confidence` must be between 0.5 and 1, got 95");
    check(&|r| r.min_seeds = 1, "`min_seeds` must be at least 2, got 1");
    check(
        &|r| r.interval = Method::Bootstrap,
        "`min_seeds` must be at least 5 for the interval `bootstrap`, got 3",
    );
    check(&|r| r.resolution = -1.0, "`resolution` must be finite and not below 0, got -1");
    check(&|r| r.diverged = Diverged::Value(f64::NAN), "`diverged.value` must be finite, got NaN");
    check(
        &|r| (r.effect, r.margin) = (Effect::Ratio, 1.5),
        "`margin` must be between -1 and 1 for a ratio, got 1.5",
    );
}

#[test]
fn detectable_effects_are_those_of_the_noncentral_t() {
    // Shift δ with P(T'(n − 1, δ√n) > t(0.975, n − 1)) = 0.9, for sd 1; by scipy.stats.nct, SciPy 1.17.
    for (n_seeds, expected) in EXPECTED_SHIFTS {
        let got = detectable_effect(&rule(Direction::Higher, 0.0), n_seeds, 1.0).unwrap().unwrap();
        assert!(
            (got / expected - 1.0).abs() < 0.02,
            "{got} instead of {expected}, {n_seeds} seeds"
        );
        let shifted =
            detectable_effect(&rule(Direction::Lower, 2.0), n_seeds, 0.5).unwrap().unwrap();
        assert!((shifted - (2.0 + got / 2.0)).abs() < 0.1 * got);
    }
}

const EXPECTED_SHIFTS: [(usize, f64); 4] = [(3, 3.9234), (4, 2.5069), (5, 1.9659), (10, 1.1546)];

#[test]
fn a_design_without_power_says_so() {
    let few = Rule { min_seeds: 5, ..rule(Direction::Lower, 0.0) };
    assert_eq!(detectable_effect(&few, 4, 1.0).unwrap(), None);
    assert_eq!(power(&few, 4, 1.0, 100.0).unwrap(), 0.0);
    // Equal arms are not found to be the same within a margin that the noise exceeds.
    assert_eq!(detectable_effect(&rule(Direction::Same, 0.5), 3, 1.0).unwrap(), None);
    let same = detectable_effect(&rule(Direction::Same, 5.0), 3, 0.5).unwrap().unwrap();
    assert!(same > 0.0 && same < 5.0);
    assert!(power(&rule(Direction::Same, 5.0), 3, 0.5, same).unwrap() >= POWER);
    assert!(power(&rule(Direction::Same, 5.0), 3, 0.5, same * 1.02).unwrap() < POWER);
    assert!(detectable_effect(&rule(Direction::Lower, 0.0), 3, f64::NAN).is_err());
    assert!(detectable_effect(&rule(Direction::Lower, 0.0), 3, 0.0).is_err());
}

#[test]
fn more_seeds_and_less_noise_detect_smaller_effects() {
    for method in [Method::Student, Method::Bootstrap] {
        let rule = Rule { interval: method, min_seeds: 5, ..rule(Direction::Lower, 0.1) };
        let size = |n, sd| detectable_effect(&rule, n, sd).unwrap().unwrap();
        let reference = size(5, 0.3);
        assert!(size(7, 0.3) < reference);
        assert!(size(5, 0.2) < reference);
        assert!((power(&rule, 5, 0.3, reference).unwrap() - POWER).abs() < 0.005);
    }
}

#[test]
fn numbers_are_short_and_keep_their_size() {
    for (value, expected) in [
        (0.0, "0"),
        (95.0, "95"),
        (99.9, "99.9"),
        (-0.123_456, "-0.1235"),
        (1234.5, "1234"),
        (123_456.7, "123457"),
        (1200.0, "1200"),
        (0.000_1, "0.0001"),
        (3.2e-7, "3.2e-7"),
    ] {
        assert_eq!(short(value), expected);
    }
}

fn values() -> impl Strategy<Value = Vec<(f64, f64)>> {
    prop::collection::vec((0.5_f64..20.0, 0.5_f64..20.0), 3..8)
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let ratio = prop_oneof![Just(Effect::Difference), Just(Effect::Ratio)];
    let direction =
        prop_oneof![Just(Direction::Higher), Just(Direction::Lower), Just(Direction::Same)];
    (ratio, direction, 0.001..0.9_f64, any::<bool>()).prop_map(
        |(effect, direction, margin, paired)| Rule { effect, paired, ..rule(direction, margin) },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn order_of_seeds_does_not_matter(rule in any_rule(), mut pairs in values()) {
        let split = |pairs: &[(f64, f64)]| -> (Vec<f64>, Vec<f64>) { pairs.iter().copied().unzip() };
        let (a, b) = split(&pairs);
        let one = run(&rule, &a, &b);
        pairs.reverse();
        pairs.rotate_left(1);
        let (a, b) = split(&pairs);
        let two = run(&rule, &a, &b);
        prop_assert_eq!(one.verdict, two.verdict);
        prop_assert!((one.effect.unwrap() - two.effect.unwrap()).abs() < 1e-9);
    }

    #[test]
    fn exchanged_arms_mirror_a_difference(pairs in values(), margin in -1.0..1.0_f64, paired: bool) {
        let (a, b): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        let one = run(&Rule { paired, ..rule(Direction::Higher, margin) }, &a, &b);
        let two = run(&Rule { paired, ..rule(Direction::Lower, margin) }, &b, &a);
        prop_assert_eq!(one.verdict, two.verdict);
        prop_assert_eq!(one.effect.map(|effect| -effect), two.effect);
    }

    #[test]
    fn a_wider_margin_never_helps_a_direction(mut rule in any_rule(), pairs in values()) {
        prop_assume!(rule.direction != Direction::Same);
        let (a, b): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        let rank = |verdict| match verdict {
            Verdict::NotReproduced => 0,
            Verdict::Inconclusive => 1,
            Verdict::Reproduced => 2,
        };
        let strict = run(&rule, &a, &b);
        rule.margin -= 0.3;
        prop_assert!(rank(run(&rule, &a, &b).verdict) >= rank(strict.verdict));
    }

    #[test]
    fn the_effect_lies_in_its_interval_and_the_verdict_follows(rule in any_rule(), pairs in values()) {
        let (a, b): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        let judgement = run(&rule, &a, &b);
        prop_assert_eq!(judgement.n_seeds, a.len());
        let (effect, interval) = (judgement.effect.unwrap(), judgement.interval.unwrap());
        prop_assert!(interval.contains(effect));
        let zero = if rule.effect == Effect::Ratio { 1.0 } else { 0.0 };
        let (low, high) = (interval.low - zero, interval.high - zero);
        let expected = match rule.direction {
            Direction::Higher => (low > rule.margin, high < rule.margin),
            Direction::Lower => (high < -rule.margin, low > -rule.margin),
            Direction::Same => (
                low > -rule.margin && high < rule.margin,
                high < -rule.margin || low > rule.margin,
            ),
        };
        let got = (judgement.verdict == Verdict::Reproduced, judgement.verdict == Verdict::NotReproduced);
        prop_assert_eq!(got, expected);
    }
}

#[test]
fn a_reason_calls_replicates_what_the_rule_calls_them() {
    let replicate = Replicate { one: "piece of text".into(), many: "pieces of text".into() };
    let of_text = Rule { replicate, ..rule(Direction::Lower, 0.1) };
    let reason = |rule: &Rule, arm: &[f64]| run(rule, arm, &BASELINE[..arm.len()]).reason;
    assert!(reason(&of_text, &LOWER).contains("] from 4 pieces of text; all of it"));
    assert_eq!(reason(&of_text, &[1.0]), "1 piece of text with a value, the rule asks for 3");
    assert!(reason(&of_text, &BASELINE).starts_with("the pieces of text do not differ"));
    let gone = [f64::NAN, 1.5, 1.4, 1.7];
    assert!(reason(&of_text, &gone).contains("1 of 4 pieces of text of `xpos`"));
    let of_seeds = Rule { replicate: Replicate::default(), ..of_text.clone() };
    for values in [&LOWER[..], &[1.0], &BASELINE, &gone] {
        let renamed = reason(&of_text, values).replace("piece of text", "seed");
        assert_eq!(reason(&of_seeds, values), renamed.replace("pieces of text", "seeds"));
    }
    // A configuration that names none is as it was.
    let text = serde_json::to_string(&of_seeds).unwrap();
    assert!(!text.contains("replicate"), "{text}");
    assert_eq!(serde_json::from_str::<Rule>(&text).unwrap(), of_seeds);
    let nameless = Replicate { one: String::new(), ..of_text.replicate.clone() };
    let error = Rule { replicate: nameless, ..of_seeds }.validate().unwrap_err().to_string();
    assert_eq!(error, "`replicate.one` must be a noun, got nothing");
}
