//! The run's curves as TensorBoard events: one folder an arm and seed.

use std::path::Path;

use anyhow::Result;
use forerun_runs::tensorboard::EventWriter;

use crate::environment;
use crate::outcome::Curve;

/// Writes every curve below `dir`, which is made anew.
pub(crate) fn write(dir: &Path, curves: &[Curve]) -> Result<()> {
    if dir.exists() {
        std::fs::remove_dir_all(dir)?;
    }
    let wall_time = environment::now().as_millisecond() as f64 / 1e3;
    let mut runs: Vec<(&str, u64)> =
        curves.iter().map(|curve| (curve.arm.as_str(), curve.seed)).collect();
    runs.sort_unstable();
    runs.dedup();
    for (arm, seed) in runs {
        let folder = dir.join(format!("{arm}-seed-{seed}"));
        std::fs::create_dir_all(&folder)?;
        let mut events = EventWriter::create(&folder, "forerun", wall_time)?;
        for curve in curves.iter().filter(|curve| curve.arm == arm && curve.seed == seed) {
            for &(x, y) in curve.points.iter().filter(|point| point.1.is_finite()) {
                events.scalar(&curve.series, x as i64, y, wall_time)?;
            }
        }
        events.sync()?;
    }
    Ok(())
}
