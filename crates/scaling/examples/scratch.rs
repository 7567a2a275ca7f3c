#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]
use forerun_scaling::law::Chinchilla;
use forerun_scaling::*;
use rand::SeedableRng;
use std::path::Path;
fn cpu() -> f64 {
    let s = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    s.split(' ').next().unwrap().parse::<f64>().unwrap() * 1e-9
}
fn main() {
    let t = Table::read_csv(Path::new("/work/shared/golden/scaling/chinchilla_epoch245.csv")).unwrap();
    let obs = t.observations("loss", &[("n", "N"), ("d", "D")]).unwrap();
    let law = Chinchilla::new();
    for (objective, outliers) in [
        (Objective::HUBER, OutlierRule::DropHighest(5)),
        (Objective::Lad, OutlierRule::DropHighest(5)),
        (Objective::NlsLog, OutlierRule::DropHighest(5)),
        (Objective::Nls, OutlierRule::DropHighest(5)),
        (Objective::HUBER, OutlierRule::Keep),
    ] {
        let config = FitConfig { objective, outliers, constraints: vec![] };
        let t0 = cpu();
        let reps = 50;
        let mut f = fit(&law, &obs, &config).unwrap();
        for _ in 1..reps { f = fit(&law, &obs, &config).unwrap(); }
        println!("{objective:?}: {:.3} ms  obj {:.15} starts {} failed {} optima {:?}", (cpu() - t0) * 1e3 / reps as f64, f.objective_value, f.n_starts, f.n_failed, f.optima.iter().map(|o| (o.objective, o.starts)).collect::<Vec<_>>());
        println!("   {:?} se {:?} cond {:.1e} {:?}", f.natural(), f.standard_errors(), f.condition, f.warnings);
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
        let t0 = cpu();
        let b = bootstrap(&law, &obs, &config, &f, &BootstrapConfig::default(), &mut rng).unwrap();
        let dt = cpu() - t0;
        println!("   boot {:.3} s failed {} checked {} improved {}", dt, b.n_failed, b.n_checked, b.n_improved);
        for name in ["A", "B", "E", "alpha", "beta"] {
            let s = b.summary(&Quantity::parameter(&law, name).unwrap());
            print!("   {name} {:.5} [{:.5},{:.5}] tw {:.2}", s.se, s.ci95.low, s.ci95.high, s.tail_weight);
        }
        println!();
        let q = Quantity::optimal_params(units::Flops(5.76e23));
        let t0 = cpu();
        for name in ["A", "B", "E", "alpha", "beta"] {
            match profile(&law, &obs, &config, &f, &Quantity::parameter(&law, name).unwrap(), 0.95) {
                Ok(p) => print!("   {name} [{:.6},{:.6}]({})", p.interval.low, p.interval.high, p.points.len()),
                Err(e) => print!("  {e}"),
            }
        }
        match profile(&law, &obs, &config, &f, &q, 0.95) { Ok(p) => println!(" N* {:.4e} {:.4e} {:.4e} ({}) {:.3}ms", p.estimate, p.interval.low, p.interval.high, p.points.len(), (cpu()-t0)*1e3), Err(e) => println!("{e}") }
    }
}
