//! The loss of a run four times as large, on four times as many tokens, as any that was fitted.

use forerun_scaling::law::{Chinchilla, internal, predict};
use forerun_scaling::{
    BootstrapConfig, FitConfig, Objective, Observations, Quantity, Resampling, bootstrap, fit,
    profile,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::{Noise, Tally, is_slow, n_sets, percentiles};

const TRUTH: [f64; 5] = [480., 2100., 1.8, 0.35, 0.37];
const TARGET: [(&str, f64); 2] = [("n", 2.56e10), ("d", 1e12)];

/// Sets that are bootstrapped too; the bootstrap costs a hundred times what a profile does.
const N_BOOTSTRAPPED: u64 = 200;

/// Draws of a bootstrap.
const DRAWS: usize = 400;

/// `n` runs, sizes 30 million to 6.4 billion, 1 to 256 billion tokens, spread evenly in logarithms.
fn runs(n: usize, noise: Noise, seed: u64) -> Observations {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let law = Chinchilla::new();
    let theta = internal(&law, &TRUTH);
    let (mut sizes, mut tokens, mut loss) = (vec![], vec![], vec![]);
    for _ in 0..n {
        let size = 3e7 * (rng.random::<f64>() * (6.4e9_f64 / 3e7).ln()).exp();
        let horizon = 1e9 * (rng.random::<f64>() * 256_f64.ln()).exp();
        let clean = predict(&law, &theta, &[("n", size), ("d", horizon)]).unwrap();
        loss.push(clean * (0.004 * noise.sample(&mut rng)).exp());
        sizes.push(size);
        tokens.push(horizon);
    }
    Observations::new("loss", loss).with_input("n", sizes).with_input("d", tokens)
}

fn check(objective: Objective, n: usize, noise: Noise) -> Option<String> {
    let law = Chinchilla::new();
    let truth = predict(&law, &internal(&law, &TRUTH), &TARGET).unwrap();
    let quantity = Quantity::prediction(&law, &TARGET).unwrap();
    let config = FitConfig::new(objective);
    let mut tally = Tally::default();
    for seed in 0..n_sets() {
        let runs = runs(n, noise, seed);
        let Ok(fitted) = fit(&law, &runs, &config) else {
            tally.count("profile", None, truth);
            continue;
        };
        let found = profile(&law, &runs, &config, &fitted, &quantity, 0.95);
        tally.count("profile", found.ok().map(|found| found.interval), truth);
        tally.count("covariance", fitted.interval(&quantity, 0.95), truth);
        if !is_slow() || seed >= N_BOOTSTRAPPED {
            continue;
        }
        for (resampling, names) in [
            (Resampling::Pairs, ["pairs, percentiles", "pairs"]),
            (Resampling::Residual, ["residuals, percentiles", "residuals"]),
        ] {
            let draws = BootstrapConfig { n_draws: DRAWS, resampling, recheck_every: DRAWS + 1 };
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let drawn = bootstrap(&law, &runs, &config, &fitted, &draws, &mut rng).unwrap();
            tally.count(names[0], Some(percentiles(&drawn, &quantity)), truth);
            tally.count(names[1], Some(drawn.summary(&quantity).ci95), truth);
        }
    }
    tally.check(&format!("loss, {}, {n} runs, {noise:?}", objective.name()), "profile", noise)
}

#[test]
fn predicted_losses() {
    let mut outside = vec![];
    for n in if is_slow() { vec![25, 60] } else { vec![25] } {
        for noise in [Noise::Normal, Noise::Heavy] {
            for objective in [Objective::NlsLog, Objective::HUBER, Objective::Lad] {
                outside.extend(check(objective, n, noise));
            }
        }
    }
    assert!(outside.is_empty(), "{outside:#?}");
}
