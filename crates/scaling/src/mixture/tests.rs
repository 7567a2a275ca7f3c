use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use super::*;

/// Parameters of the five families of a published synthetic set, and its optimum.
const GAMMA: [f64; 5] = [0.0825, 0.1028, 0.15, 0.0825, 0.0781];

fn paper() -> Vec<Component> {
    GAMMA.iter().map(|&gamma| Component::new("family", 1., gamma)).collect()
}

fn random_mixture(n: usize, rng: &mut ChaCha20Rng) -> Vec<f64> {
    let parts: Vec<f64> = (0..n).map(|_| -rng.random::<f64>().max(1e-300).ln()).collect();
    let total: f64 = parts.iter().sum();
    parts.iter().map(|part| part / total).collect()
}

fn components(n: usize, seed: u64) -> Vec<Component> {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let mut component = |i| Component {
        offset: if i % 3 == 0 { 1e-3 * rng.random::<f64>() } else { 0. },
        ..Component::new("family", rng.random_range(0.2..4.), rng.random_range(0.01..0.8))
    };
    (0..n).map(&mut component).collect()
}

/// Largest relative difference between marginal gains of the families that are free to move.
fn stationarity(components: &[Component], mixture: &Mixture) -> f64 {
    let gain = |c: &Component, p: f64| c.amplitude * c.gamma * (p + c.offset).powf(-c.gamma - 1.);
    let pairs = components.iter().zip(&mixture.shares);
    pairs
        .filter(|(c, p)| c.is_interior(**p))
        .map(|(c, &p)| (gain(c, p) / mixture.multiplier - 1.).abs())
        .fold(0., f64::max)
}

#[test]
fn the_papers_gammas_give_the_papers_optimum() {
    let expected = [0.164606, 0.207731, 0.307757, 0.164606, 0.155299];
    let mixture = optimise(&paper()).unwrap();
    for (share, expected) in mixture.shares.iter().zip(expected) {
        assert!((share - expected).abs() < 1e-6, "{share} {expected}");
    }
    assert!(mixture.objective < objective(&paper(), &uniform(5).unwrap()));
}

#[test]
fn equal_gammas_have_the_closed_form() {
    let parts = [0.3, 1., 5.].map(|amplitude| Component::new("family", amplitude, 0.2));
    let powers = [0.3_f64, 1., 5.].map(|amplitude| amplitude.powf(1. / 1.2));
    let total: f64 = powers.iter().sum();
    for (share, power) in optimise(&parts).unwrap().shares.iter().zip(powers) {
        assert!((share - power / total).abs() < 1e-14);
    }
}

#[test]
fn a_thousand_families_are_no_harder_than_two() {
    for n in [1, 2, 23, 1000] {
        let parts = components(n, n as u64);
        let mixture = optimise(&parts).unwrap();
        assert!((mixture.shares.iter().sum::<f64>() - 1.).abs() < 1e-12, "{n}");
        assert!(stationarity(&parts, &mixture) < 1e-9, "{n}: {}", stationarity(&parts, &mixture));
    }
}

#[test]
fn caps_hold_and_the_rest_is_shared_as_before() {
    let mut parts = paper();
    parts[2] = parts[2].clone().with_cap(0.1);
    let mixture = optimise(&parts).unwrap();
    assert!((mixture.shares[2] - 0.1).abs() < 1e-15);
    assert!((mixture.shares.iter().sum::<f64>() - 1.).abs() < 1e-12);
    assert!(stationarity(&parts, &mixture) < 1e-9);
    let scarce: Vec<Component> = paper().into_iter().map(|c| c.with_cap(0.1)).collect();
    let message = optimise(&scarce).unwrap_err().to_string();
    assert_eq!(message, "caps must be large enough that shares can sum to 1, got 0.5");
}

#[test]
fn a_family_that_its_share_does_not_help_gets_none() {
    let mut parts = paper();
    parts[0].gamma = -0.02;
    assert_eq!(optimise(&parts).unwrap().shares[0], 0.);
    parts.iter_mut().for_each(|part| part.gamma = 0.);
    let message = optimise(&parts).unwrap_err().to_string();
    assert_eq!(
        message,
        "the optimal mixture is not identified: no family's loss falls with its share"
    );
}

#[test]
fn what_is_out_of_range_is_named() {
    let check = |part: Component, expected: &str| {
        assert_eq!(optimise(&[part]).unwrap_err().to_string(), expected);
    };
    check(Component::new("x", 0., 0.1), "amplitude of `x` must be positive and finite, got 0");
    check(Component::new("x", 1., f64::NAN), "gamma of `x` must be finite, got NaN");
    check(
        Component::new("x", 1., 0.1).with_cap(2.),
        "cap of `x` must be above 0 and at most 1, got 2",
    );
}

#[test]
fn unimax_fills_small_families_first() {
    let shares = unimax(&[10., 1000., 1000.], 300., 2.).unwrap();
    assert_eq!(shares, [20. / 300., 140. / 300., 140. / 300.]);
    assert!(unimax(&[10., 10.], 300., 2.).is_err());
}

#[test]
fn temperature_lies_between_proportional_and_uniform() {
    let sizes = [1e9, 8e9];
    assert_eq!(temperature(&sizes, 0.).unwrap(), uniform(2).unwrap());
    let [proportional, warm] = [proportional(&sizes).unwrap(), temperature(&sizes, 0.3).unwrap()];
    assert!(proportional[0] < warm[0] && warm[0] < 0.5);
}

#[test]
fn errors_of_shares_match_a_simulation() {
    let parts = paper();
    let shares = optimise(&parts).unwrap().shares;
    let (sd_a, sd_g) = (0.002, 0.0005);
    let covariance = [[sd_a * sd_a, 0.3 * sd_a * sd_g], [0.3 * sd_a * sd_g, sd_g * sd_g]];
    let errors = share_errors(&parts, &shares, &[covariance; 5]);
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let mut normal = || {
        let uniforms: f64 = (0..12).map(|_| rng.random::<f64>()).sum();
        uniforms - 6.
    };
    let draws = 4000;
    let mut squares = [0.; 5];
    for _ in 0..draws {
        let moved: Vec<Component> = parts
            .iter()
            .map(|part| {
                let (x, y) = (normal(), normal());
                let ln_a = sd_a * x;
                let gamma = sd_g * (0.3 * x + (1. - 0.09_f64).sqrt() * y);
                Component::new("family", ln_a.exp(), part.gamma + gamma)
            })
            .collect();
        let drawn = optimise(&moved).unwrap().shares;
        for (square, (p, best)) in squares.iter_mut().zip(drawn.iter().zip(&shares)) {
            *square += (p - best).powi(2) / f64::from(draws);
        }
    }
    for (square, error) in squares.iter().zip(&errors) {
        // 4,000 draws know a standard deviation to about 1 %; the sum of uniforms is normal enough.
        assert!((square.sqrt() / error - 1.).abs() < 0.06, "{} {error}", square.sqrt());
    }
}

#[test]
fn intervals_of_shares_are_students_around_their_errors() {
    let parts = paper();
    let shares = optimise(&parts).unwrap().shares;
    let covariances = [[[4e-6, 1e-7], [1e-7, 2.5e-7]]; 5];
    let errors = share_errors(&parts, &shares, &covariances);
    let certain = share_intervals(&parts, &shares, &covariances, &[1e9; 5], 0.95);
    let few = share_intervals(&parts, &shares, &covariances, &[4.; 5], 0.95);
    for (i, (share, error)) in shares.iter().zip(&errors).enumerate() {
        let reach = (certain[i].high / share).ln();
        assert!((reach / (1.959_964 * error / share) - 1.).abs() < 1e-5);
        assert!((certain[i].low * certain[i].high / share.powi(2) - 1.).abs() < 1e-12);
        // Five families with 4 degrees of freedom each have together more than 4 and fewer than 20.
        let quantile = (few[i].high / share).ln() * share / error;
        assert!((2.086..2.777).contains(&quantile), "{quantile}");
    }
    // A single family has the whole mixture, and no error.
    let one = share_intervals(&parts[..1], &[1.], &covariances[..1], &[4.], 0.95);
    assert_eq!((one[0].low, one[0].high), (1., 1.));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_optimum_is_feasible_stationary_and_beats_random_mixtures(
        n in 2_usize..24, seed in any::<u64>(),
    ) {
        let parts = components(n, seed);
        let mixture = optimise(&parts).unwrap();
        prop_assert!((mixture.shares.iter().sum::<f64>() - 1.).abs() < 1e-12);
        prop_assert!(mixture.shares.iter().all(|p| (0. ..=1.).contains(p)));
        prop_assert!(stationarity(&parts, &mixture) < 1e-9);
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        for _ in 0..1000 {
            let other = random_mixture(n, &mut rng);
            // Equal up to rounding is allowed; better is not.
            prop_assert!(objective(&parts, &other) >= mixture.objective * (1. - 1e-12));
        }
    }

    #[test]
    fn the_optimum_moves_with_a_permutation(n in 2_usize..24, seed in any::<u64>(), by in 1_usize..24) {
        let parts = components(n, seed);
        let mut turned = parts.clone();
        turned.rotate_left(by % n);
        let mut shares = optimise(&parts).unwrap().shares;
        shares.rotate_left(by % n);
        for (p, q) in shares.iter().zip(optimise(&turned).unwrap().shares) {
            prop_assert!((p - q).abs() < 1e-12); // sums are taken in another order
        }
    }
}
