//! What the two things cost that people wait for: evaluations of the law, which do not depend on the machine. With
//! `RUN_SLOW` set, CPU seconds are printed as well, and intervals are timed.

#![allow(clippy::unwrap_used, reason = "a test's own files")]

use std::path::Path;

use forerun_scaling::allocation::{optimal_loss, optimal_params};
use forerun_scaling::law::Chinchilla;
use forerun_scaling::units::Flops;
use forerun_scaling::{
    BootstrapConfig, FitConfig, Objective, Observations, OutlierRule, Table, bootstrap, fit,
    profile,
};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

/// CPU seconds that this thread has used.
fn cpu_secs() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() * 1e-9
}

fn points() -> Observations {
    let path = "../../tests/data/scaling/chinchilla_epoch245.csv";
    let table = Table::read_csv(&Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    table.observations("loss", &[("n", "N"), ("d", "D")]).unwrap()
}

#[test]
fn an_interval_of_a_searched_optimum_takes_milliseconds() {
    if std::env::var_os("RUN_SLOW").is_none() {
        return;
    }
    let (law, points) = (Chinchilla::new(), points());
    for objective in [Objective::HUBER, Objective::Lad, Objective::NlsLog] {
        let config =
            FitConfig { outliers: OutlierRule::DropHighest(5), ..FitConfig::new(objective) };
        let fitted = fit(&law, &points, &config).unwrap();
        let flops = Flops(1e24);
        for quantity in [optimal_params(&law, flops, &[]), optimal_loss(&law, flops, &[])] {
            let start = cpu_secs();
            profile(&law, &points, &config, &fitted, &quantity, 0.95).unwrap();
            let secs = cpu_secs() - start;
            println!("{:8} {} {secs:.3} s", objective.name(), quantity.name());
            assert!(secs < 1., "{objective:?}: {secs} s");
        }
    }
}

/// Fits that are timed together.
const N_FITS: u32 = 200;

/// Largest resident memory of this process, MB.
fn peak_memory_mb() -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.
}

/// What a fit and 4,000 draws may take, evaluations of the law at all points: a third to a half more than they do.
const LIMITS: [(Objective, usize, usize); 4] = [
    (Objective::HUBER, 18, 36_000),
    (Objective::Lad, 150, 180_000),
    (Objective::NlsLog, 10, 27_000),
    (Objective::Nls, 8, 27_000),
];

#[test]
fn a_fit_takes_few_evaluations_and_a_draw_fewer() {
    let is_timed = std::env::var_os("RUN_SLOW").is_some();
    let (law, points) = (Chinchilla::new(), points());
    for (objective, per_fit, per_bootstrap) in LIMITS {
        let outliers = OutlierRule::DropHighest(5);
        let config = FitConfig { outliers, ..FitConfig::new(objective) };
        let fitted = fit(&law, &points, &config).unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let start = is_timed.then(cpu_secs);
        let draws = BootstrapConfig::default();
        let draws = bootstrap(&law, &points, &config, &fitted, &draws, &mut rng).unwrap();
        println!(
            "{:8} {} evaluations, {} searches of {} starts, {} optima; 4,000 draws {} evaluations, {} failed, {} of {} \
             improved",
            objective.name(),
            fitted.n_evaluations,
            fitted.n_searches,
            fitted.n_starts,
            fitted.optima.len(),
            draws.n_evaluations,
            draws.n_failed,
            draws.n_improved,
            draws.n_checked,
        );
        if let Some(start) = start {
            let bootstrap = cpu_secs() - start;
            let start = cpu_secs();
            (0..N_FITS).for_each(|_| drop(fit(&law, &points, &config).unwrap()));
            let one_fit = (cpu_secs() - start) / f64::from(N_FITS);
            println!("         {:.3} ms; 4,000 draws {bootstrap:.3} s", 1e3 * one_fit);
        }
        assert!(fitted.n_evaluations <= per_fit, "{objective:?}: {}", fitted.n_evaluations);
        assert!(draws.n_evaluations <= per_bootstrap, "{objective:?}: {}", draws.n_evaluations);
        assert_eq!((draws.n_draws(), fitted.optima.len()), (4000, 1));
    }
    if is_timed {
        println!("peak memory {:.0} MB", peak_memory_mb());
        assert!(peak_memory_mb() < 100.);
    }
}
