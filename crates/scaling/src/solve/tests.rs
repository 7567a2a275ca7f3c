
use std::path::Path;
use std::time::Instant;

use super::*;
use crate::fit::{FitConfig, Prepared};
use crate::law::Chinchilla;
use crate::objective::OutlierRule;
use crate::table::Table;

#[test]
fn scratch_steps() {
    let t = Table::read_csv(Path::new("/work/shared/golden/scaling/chinchilla_epoch245.csv")).unwrap();
    let obs = t.observations("loss", &[("n", "N"), ("d", "D")]).unwrap();
    let law = Chinchilla::new();
    for objective in [Objective::HUBER, Objective::Lad, Objective::NlsLog, Objective::Nls] {
        let config = FitConfig { objective, outliers: OutlierRule::DropHighest(5), constraints: vec![] };
        let prepared = Prepared::new(&law, &obs, &config).unwrap();
        let problem = prepared.problem(&law, objective);
        let t0 = Instant::now();
        let mut starts = vec![];
        for _ in 0..20 { starts = law.starts(&prepared.design, &prepared.log_target, &prepared.weights); }
        println!("{objective:?} starts {:?}", t0.elapsed() / 20);
        let mut ws = Workspace::default();
        for start in &starts {
            ws.free = start.clone();
            let mut best = std::time::Duration::MAX;
            let mut outcome = None;
            for _ in 0..5 {
                ws.free = start.clone();
                let t0 = Instant::now();
                outcome = Some(minimise(&problem, &mut ws, Stop::COLD));
                best = best.min(t0.elapsed());
            }
            println!("   {:?} {best:?} from {:?}", outcome.unwrap(), start);
        }
        let opt = ws.free.clone();
        let mut best = std::time::Duration::MAX;
        let mut outcome = None;
        for _ in 0..5 {
            ws.free = opt.iter().enumerate().map(|(i, x)| x * (1. + 0.03 * (i as f64 - 2.))).collect();
            let t0 = Instant::now();
            outcome = Some(minimise(&problem, &mut ws, Stop::WARM));
            best = best.min(t0.elapsed());
        }
        println!("   warm {:?} {best:?}", outcome.unwrap());
    }
}
