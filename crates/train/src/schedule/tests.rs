use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

fn check(schedule: Schedule, expected: Expect) {
    let curve: Vec<String> =
        (0..=12).map(|step| format!("{:.3}", schedule.fraction(step, 3, 12))).collect();
    expected.assert_eq(&curve.join(" "));
}

#[test]
fn curves_of_twelve_updates_three_of_them_warming_up() {
    check(
        Schedule::Constant,
        expect!["0.250 0.500 0.750 1.000 1.000 1.000 1.000 1.000 1.000 1.000 1.000 1.000 1.000"],
    );
    check(
        Schedule::Linear { final_fraction: 0.0 },
        expect!["0.250 0.500 0.750 1.000 0.889 0.778 0.667 0.556 0.444 0.333 0.222 0.111 0.000"],
    );
    check(
        Schedule::Cosine { final_fraction: 0.1 },
        expect!["0.250 0.500 0.750 1.000 0.973 0.895 0.775 0.628 0.472 0.325 0.205 0.127 0.100"],
    );
    check(
        Schedule::Polynomial { power: 2.0, final_fraction: 0.0 },
        expect!["0.250 0.500 0.750 1.000 0.790 0.605 0.444 0.309 0.198 0.111 0.049 0.012 0.000"],
    );
    let wsd = |shape| Schedule::WarmupStableDecay { decay_steps: 4, final_fraction: 0.2, shape };
    check(
        wsd(DecayShape::Linear),
        expect!["0.250 0.500 0.750 1.000 1.000 1.000 1.000 1.000 1.000 0.800 0.600 0.400 0.200"],
    );
    check(
        wsd(DecayShape::OneMinusSqrt),
        expect!["0.250 0.500 0.750 1.000 1.000 1.000 1.000 1.000 1.000 0.600 0.434 0.307 0.200"],
    );
}

#[test]
fn files_name_schedules_in_snake_case_and_unknown_fields_are_refused() {
    let parse = |json: &str| serde_json::from_str::<Schedule>(json);
    assert_eq!(parse("\"constant\"").unwrap(), Schedule::Constant);
    assert_eq!(parse(r#"{"cosine":{}}"#).unwrap(), Schedule::Cosine { final_fraction: 0.1 });
    let error = parse(r#"{"linear":{"final_frac":0.1}}"#).unwrap_err().to_string();
    assert!(error.contains("unknown field `final_frac`"), "{error}");
}

/// A schedule with its warm-up and length, and the steepest fall per update that its formula allows.
fn any_schedule() -> impl Strategy<Value = (Schedule, u64, u64, f64)> {
    (1_u64..300, 0.0..1.0_f64, 0.0..=1.0_f64, 0.2..4.0_f64, 0_u8..6, 0.0..1.0_f64).prop_map(
        |(steps, warm, final_fraction, power, kind, decay)| {
            let warmup = (warm * steps as f64) as u64;
            let n = (steps - warmup) as f64;
            let decay_steps = 1 + (decay * (n - 1.0)) as u64;
            let wsd = |shape| Schedule::WarmupStableDecay { decay_steps, final_fraction, shape };
            let (schedule, steepest) = match kind {
                0 => (Schedule::Constant, 0.0),
                1 => (Schedule::Linear { final_fraction }, 1.0 / n),
                2 => (Schedule::Cosine { final_fraction }, PI / 2.0 / n),
                // Concave powers fall fastest in their last update, convex ones in their first.
                3 if power < 1.0 => {
                    (Schedule::Polynomial { power, final_fraction }, n.recip().powf(power))
                }
                3 => (Schedule::Polynomial { power, final_fraction }, power / n),
                4 => (wsd(DecayShape::Linear), 1.0 / decay_steps as f64),
                _ => (wsd(DecayShape::OneMinusSqrt), (decay_steps as f64).recip().sqrt()),
            };
            (schedule, warmup, steps, steepest)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_schedule_is_continuous_below_its_peak_and_ends_at_its_floor(
        (schedule, warmup, steps, steepest) in any_schedule()
    ) {
        schedule.validate(warmup, steps).unwrap();
        let at = |step| schedule.fraction(step, warmup, steps);
        prop_assert_eq!(at(warmup), 1.0);
        prop_assert!((at(steps) - schedule.final_fraction()).abs() < 1e-15);
        prop_assert_eq!(at(steps + 7), at(steps));
        for step in 0..steps {
            // 1e-12: rounding of the formulas, far below any rate that matters.
            prop_assert!(at(step) > 0.0 && at(step) <= 1.0 + 1e-12);
            let rise = at(step + 1) - at(step);
            if step < warmup {
                prop_assert!((rise - 1.0 / (warmup + 1) as f64).abs() < 1e-12);
            } else {
                prop_assert!(rise <= 1e-12 && -rise <= steepest + 1e-12, "{rise} at {step}");
            }
        }
    }
}
