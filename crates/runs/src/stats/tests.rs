use proptest::prelude::*;
use rand::Rng;
use rand_chacha::ChaCha20Rng;
use rand_distr::{Distribution, Exp1, StandardNormal};

use super::*;
use crate::seed::Seed;

fn close(got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance * want.abs().max(1.0), "{got} instead of {want}");
}

#[test]
fn moments_and_quantiles_are_those_of_numpy() {
    let values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
    close(mean(&values), 5.0, 1e-15);
    close(variance(&values), 32.0 / 7.0, 1e-15);
    close(sd(&values), (32.0_f64 / 7.0).sqrt(), 1e-15);
    close(median(&values), 4.5, 1e-15);
    close(quantile(&values, 0.1), 3.4, 1e-15);
    close(quantile(&values, 1.0), 9.0, 0.0);
    assert_eq!(quantile(&[1.0, f64::INFINITY], 0.0), 1.0);
    assert_eq!(quantile(&[f64::INFINITY; 2], 0.5), f64::INFINITY);
}

#[test]
fn samples_that_are_too_small_give_nan() {
    for nothing in [mean(&[]), median(&[]), variance(&[1.0]), sd(&[]), quantile(&[1.0], 1.5)] {
        assert!(nothing.is_nan());
    }
    assert!(quantile(&[1.0, f64::NAN], 0.5).is_nan());
}

#[test]
fn students_t_is_that_of_scipy() {
    // scipy.stats.t.ppf(p, f) and .cdf(1.3, f), SciPy 1.17
    for (p, freedom, quantile, cdf) in [
        (0.975, 1.0, 12.706204736174694, 0.7912855998398473),
        (0.975, 2.0, 4.302652729749462, 0.8383764840919798),
        (0.95, 3.7, 2.1824938039146007, 0.8656666379136863),
        (0.995, 9.0, 3.249835541592126, 0.8870468136634754),
        (0.9, 0.5, 10.27032441023451, 0.7296926732774399),
        (0.999, 30.0, 3.3851848668293045, 0.8982495207309416),
        (0.6, 250.0, 0.2536168815819393, 0.9026008696730048),
        (0.975, 1e6, 1.959966356814107, 0.9031993655954373),
    ] {
        close(student_quantile(p, freedom), quantile, 1e-10);
        close(student_cdf(1.3, freedom), cdf, 1e-10);
    }
    assert_eq!(student_quantile(0.5, 3.0), 0.0);
    assert!(student_quantile(1.0, 3.0).is_nan());
    assert!(student_quantile(0.9, 0.0).is_nan());
    assert!(student_quantile(0.9, f64::NAN).is_nan());
}

#[test]
fn intervals_are_those_of_scipy() {
    let (a, b) = ([2.1, 2.4, 1.9, 2.6], [1.2, 1.9, 1.1]);
    let student = student_interval(&a, 0.95).unwrap();
    close(student.low, 1.7552686165752809, 1e-12);
    close(student.high, 2.7447313834247193, 1e-12);
    let welch = welch_interval(&a, &b, 0.9).unwrap();
    close(welch.low, 0.1913020967140734, 1e-12);
    close(welch.high, 1.508697903285927, 1e-12);
    let tiny = a.map(|x| x * 1e-100);
    let scaled = welch_interval(&tiny, &b.map(|x| x * 1e-100), 0.9).unwrap();
    close(scaled.low * 1e100, welch.low, 1e-9);
}

#[test]
fn rank_correlation_shares_ranks_among_equals() {
    let rho = spearman(&[1.0, 2.0, 2.0, 5.0, 9.0], &[3.0, 1.0, 4.0, 4.0, 8.0]).unwrap();
    close(rho.unwrap(), 0.7631578947368421, 1e-12);
    assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]).unwrap(), None);
    assert_eq!(spearman(&[1.0, f64::NAN], &[1.0, 2.0]).unwrap(), None);
    assert_eq!(spearman(&[], &[]).unwrap(), None);
    let error = spearman(&[1.0], &[]).unwrap_err();
    assert_eq!(error.to_string(), "`y` must be as long as `x`, 1, got 0");
}

#[test]
fn bad_samples_are_refused_by_name() {
    let check = |outcome: Result<Interval>, expected: &str| {
        assert_eq!(outcome.unwrap_err().to_string(), expected);
    };
    check(student_interval(&[1.0], 0.95), "`values` must be 2 values or more, got 1");
    check(student_interval(&[1.0, 2.0], 95.0), "`confidence` must be between 0 and 1, got 95");
    let infinite = [1.0, f64::INFINITY];
    check(welch_interval(&[1.0, 2.0], &infinite, 0.9), "`b` must be finite numbers, got inf");
    let rng = &mut Seed::new(0).stream("");
    check(studentised_bootstrap(&infinite, 0.9, rng), "`values` must be finite numbers, got inf");
}

/// Zero-mean noise of the kinds that runs show.
#[derive(Clone, Copy, Debug)]
enum Noise {
    Normal,
    /// Difference of two exponentials: heavy tails, symmetric as differences of equal arms are.
    Laplace,
    /// Exponential less its mean: skewed.
    Skewed,
}

impl Noise {
    fn sample(self, n: usize, rng: &mut ChaCha20Rng) -> Vec<f64> {
        let mut draw = || -> f64 {
            match self {
                Self::Normal => StandardNormal.sample(rng),
                Self::Laplace => {
                    let [a, b]: [f64; 2] = [Exp1.sample(rng), Exp1.sample(rng)];
                    a - b
                }
                Self::Skewed => {
                    let value: f64 = Exp1.sample(rng);
                    value - 1.0
                }
            }
        };
        (0..n).map(|_| draw()).collect()
    }
}

type Maker = fn(&[f64], &mut ChaCha20Rng) -> Interval;

fn makers() -> [(&'static str, Maker); 3] {
    [
        ("student", |values, _| student_interval(values, 0.95).unwrap()),
        ("percentile", |values, rng| percentile_bootstrap(values, mean, 0.95, rng).unwrap()),
        ("studentised", |values, rng| studentised_bootstrap(values, 0.95, rng).unwrap()),
    ]
}

/// Share of intervals that hold the true mean, and the median of width · √n / sd.
fn coverage(noise: Noise, n: usize, make: Maker, n_experiments: usize) -> (f64, f64) {
    let mut rng = Seed::new(1).stream("coverage");
    let (mut hits, mut widths) = (0, Vec::new());
    for _ in 0..n_experiments {
        let values = noise.sample(n, &mut rng);
        let interval = make(&values, &mut rng);
        hits += usize::from(interval.contains(0.0));
        widths.push(interval.width() * (n as f64).sqrt() / sd(&values));
    }
    (hits as f64 / n_experiments as f64, median(&widths))
}

#[test]
fn coverage_is_what_the_decision_on_intervals_says() {
    // 600 experiments: two standard errors are 0.018 at 0.95 and 0.035 at 0.75.
    let of = |noise, n, index: usize| coverage(noise, n, makers()[index].1, 600);
    for n in [3, 5, 8] {
        let (student, _) = of(Noise::Normal, n, 0);
        assert!((0.93..0.97).contains(&student), "student covers {student} for {n}");
        assert!(of(Noise::Laplace, n, 0).0 > 0.935);
        let (percentile, _) = of(Noise::Normal, n, 1);
        let limit = 1.0 - 0.5_f64.powi(n as i32 - 1); // the range of the sample itself
        assert!(percentile < limit.min(0.91) + 0.035, "percentile covers {percentile} for {n}");
    }
    assert_eq!(of(Noise::Normal, 3, 2).1, f64::INFINITY);
    assert!(of(Noise::Normal, 5, 2).1 > 1.2 * of(Noise::Normal, 5, 0).1);
    assert!(of(Noise::Skewed, 8, 2).0 > of(Noise::Skewed, 8, 0).0);
}

/// The table of `docs/decisions/0002-verdict-intervals.md`: `RUN_SLOW=1 cargo test -p forerun-runs table -- --nocapture`.
#[test]
fn coverage_table() {
    if std::env::var_os("RUN_SLOW").is_none() {
        return;
    }
    println!("| noise | interval | n | coverage | width |");
    for noise in [Noise::Normal, Noise::Laplace, Noise::Skewed] {
        for (name, make) in makers() {
            for n in [3, 4, 5, 6, 8, 10] {
                let (share, width) = coverage(noise, n, make, 4000);
                println!("| {noise:?} | {name} | {n} | {share:.3} | {width:.2} |");
            }
        }
    }
}

#[test]
fn a_sample_without_spread_gives_a_point() {
    let rng = &mut Seed::new(0).stream("");
    let point = Interval { low: 2.0, high: 2.0 };
    assert_eq!(studentised_bootstrap(&[2.0; 4], 0.95, rng).unwrap(), point);
    assert_eq!(student_interval(&[2.0; 4], 0.95).unwrap(), point);
    assert_eq!(welch_interval(&[3.0; 4], &[1.0; 2], 0.95).unwrap(), point);
    assert_eq!(studentised_bootstrap_difference(&[3.0; 4], &[1.0; 2], 0.95, rng).unwrap(), point);
}

#[test]
fn the_difference_of_two_samples_is_covered() {
    let (mut rng, mut hits) = (Seed::new(3).stream("two"), 0);
    for _ in 0..400 {
        let a = Noise::Normal.sample(8, &mut rng);
        let b: Vec<_> = Noise::Normal.sample(6, &mut rng).iter().map(|x| 3.0 * x + 1.0).collect();
        let interval = studentised_bootstrap_difference(&a, &b, 0.9, &mut rng).unwrap();
        hits += usize::from(interval.contains(-1.0));
    }
    assert!((340..=385).contains(&hits), "{hits} of 400 for 90 %"); // 360 ± 2.5 · 6, and some bias
}

fn sample() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(-100.0_f64..100.0, 2..10)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn quantiles_rise_from_the_least_to_the_largest(values in sample(), p in 0.0..1.0_f64, q in 0.0..1.0_f64) {
        let (least, most) = (quantile(&values, 0.0), quantile(&values, 1.0));
        prop_assert!(values.contains(&least) && values.contains(&most));
        prop_assert!(least <= quantile(&values, p.min(q)));
        prop_assert!(quantile(&values, p.min(q)) <= quantile(&values, p.max(q)));
        prop_assert!(quantile(&values, p.max(q)) <= most);
    }

    #[test]
    fn quantile_and_distribution_of_t_are_inverse(p in 0.001..0.999_f64, freedom in 0.3..300.0_f64) {
        let t = student_quantile(p, freedom);
        prop_assert!((student_cdf(t, freedom) - p).abs() < 1e-12);
        prop_assert_eq!(student_quantile(1.0 - p, freedom).is_sign_negative(), p > 0.5);
    }

    #[test]
    fn rank_correlation_sees_only_order(pairs in prop::collection::vec((-9_i32..9, -9_i32..9), 2..12)) {
        let (x, y): (Vec<f64>, Vec<f64>) = pairs.iter().map(|(x, y)| (f64::from(*x), f64::from(*y))).unzip();
        let rho = spearman(&x, &y).unwrap();
        let cubed: Vec<_> = x.iter().map(|x| x.powi(3) + 5.0).collect();
        prop_assert_eq!(spearman(&cubed, &y).unwrap(), rho);
        prop_assert_eq!(spearman(&y, &x).unwrap(), rho);
        let flipped: Vec<_> = x.iter().map(|x| -x).collect();
        prop_assert_eq!(spearman(&flipped, &y).unwrap(), rho.map(|rho| -rho));
        prop_assert!(rho.is_none_or(|rho| (-1.0..=1.0).contains(&rho)));
    }

    #[test]
    fn intervals_move_and_stretch_with_their_sample(values in sample(), shift in -9.0..9.0_f64, seed: u64) {
        prop_assume!(sd(&values) > 0.1);
        let other: Vec<_> = values.iter().map(|x| 4.0 * x + shift).collect();
        for (name, make) in makers() {
            let rng = || Seed::new(seed).stream("same");
            let (one, two) = (make(&values, &mut rng()), make(&other, &mut rng()));
            for (a, b) in [(one.low, two.low), (one.high, two.high)] {
                let moved = 4.0 * a + shift;
                let same = moved == b || (moved - b).abs() < 1e-6 * (1.0 + a.abs());
                prop_assert!(same, "{} {} {}", name, moved, b);
            }
        }
    }

    #[test]
    fn more_confidence_is_a_wider_interval(values in sample(), low in 0.5..0.99_f64, high in 0.5..0.99_f64) {
        let (low, high) = (low.min(high), low.max(high));
        let narrow = student_interval(&values, low).unwrap();
        let wide = student_interval(&values, high).unwrap();
        prop_assert!(wide.low <= narrow.low && narrow.high <= wide.high);
        prop_assert_eq!(wide.hull(narrow), wide);
    }

    #[test]
    fn the_percentile_bootstrap_stays_within_the_sample(values in sample(), seed: u64) {
        let mut rng = Seed::new(seed).stream("");
        let interval = percentile_bootstrap(&values, median, 0.99, &mut rng).unwrap();
        prop_assert!(quantile(&values, 0.0) <= interval.low);
        prop_assert!(interval.high <= quantile(&values, 1.0));
        let _ = rng.random::<u8>();
    }
}
