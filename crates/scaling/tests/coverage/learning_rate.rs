//! The best learning rate at four times the longest horizon of a sweep.

mod world;

use forerun_scaling::audit::{Target, predict_fitted};
use forerun_scaling::parabola::{ParabolaConfig, Window};
use forerun_scaling::sweep::{self, Reading, Sweep, SweepCell, Valleys, WEAK};
use forerun_scaling::units::{CountUnit, Params, Tokens};
use forerun_scaling::{FitConfig, Interval, Objective, fit};

use crate::{Noise, Tally, is_slow, n_sets};
use world::{Layout, Valley, World, best};

/// What `sweep::read` and `audit::predict_fitted` give.
const OURS: &str = "as read";

/// That, where no doubt is said.
const SURE: &str = "as read, no doubt";

/// Which way sweeps were read.
fn branch(read: &Reading) -> &'static str {
    match read.valleys {
        Valleys::OneSlant { tested_with, .. } if tested_with < WEAK => "as read, weakly tested",
        Valleys::OneSlant { .. } => SURE,
        Valleys::Rough { .. } => "as read, rough",
        Valleys::Untested => "as read, untested",
    }
}

fn interval(cells: &[SweepCell], target: &Target) -> Option<Interval> {
    let optima = sweep::optima(cells).ok()?;
    let law = sweep::horizon_law(&optima, CountUnit::Billions).ok()?;
    let fitted = fit(&law, &optima, &FitConfig::new(Objective::NlsLog)).ok()?;
    predict_fitted(&law, &fitted, target).ok()?.interval
}

/// Sets of a world, from a first seed on.
fn tally(world: World, seed: u64, with_rivals: bool) -> Tally {
    let (n, d) = world.layout.target();
    let target = Target { n: Params(n), d: Tokens(d), batch: None };
    let truth = best(n, d);
    let mut tally = Tally::default();
    for seed in seed..seed + n_sets() {
        let [n, d, lr, loss] = world.runs(seed);
        let sweep = Sweep { n: Some(&n), d: &d, batch: None, lr: &lr, loss: &loss };
        let all = ParabolaConfig::default();
        let read = sweep::read(&sweep, &all).unwrap();
        let found = interval(&read.cells, &target);
        tally.count(OURS, found, truth);
        tally.count(branch(&read), found, truth);
        if read.n_lost > 0 {
            tally.count("as read, cells lost", found, truth);
        }
        if !with_rivals {
            continue;
        }
        let near = ParabolaConfig { window: Window::Around(2), ..all };
        for (method, cells) in [
            ("as read, 2 either side", sweep::cells(&sweep, &near)),
            ("parabolas", sweep::parabolas(&sweep, &all)),
            ("parabolas, 2 either side", sweep::parabolas(&sweep, &near)),
        ] {
            tally.count(method, interval(&cells.unwrap(), &target), truth);
        }
    }
    tally
}

const FEW: Layout = Layout::new(1, 5, 7, 2.);
const FINE: Layout = Layout::new(1, 5, 9, std::f64::consts::SQRT_2);
const MANY: Layout = Layout::new(3, 5, 7, 2.);

/// Worlds in which the steps, comparisons and tests of `sweep::reach` were chosen.
#[test]
fn best_learning_rates() {
    let mut outside = vec![];
    for layout in [FEW, FINE, MANY] {
        for valley in [Valley::Parabola, Valley::BROKEN, Valley::EXPONENTIAL] {
            let world = World::new(layout, valley);
            // Five cells of seven rates do not always tell where valleys end.
            let is_dark = layout.sizes * layout.rates == 7 && !valley.is_smooth();
            let band = if is_dark { 0.88..=0.97 } else { 0.93..=0.97 };
            outside.extend(tally(world, 0, is_slow()).check_band(&world.name(), OURS, band));
        }
    }
    assert!(outside.is_empty(), "{outside:#?}");
}

/// Worlds of other shapes, errors and layouts.
fn held_out() -> Vec<World> {
    let eight = Layout::new(2, 4, 7, 2.);
    let twice = Layout { seeds: 2, ..FEW };
    let broken = |at, jump, cubic| Valley::Broken { at, jump, cubic };
    let plain = [
        (FINE, broken(1., 1., 0.15)),
        (MANY, broken(1., 1., 0.15)),
        (MANY, broken(2., 1., 0.15)),
        (FINE, broken(1., 0., 0.15)),
        (MANY, broken(1.5, 0., 0.15)),
        (FINE, broken(1., 0.5, 0.15)),
        (MANY, broken(1.5, 0.5, 0.15)),
        (FINE, broken(1., 1., 0.05)),
        (MANY, broken(1.5, 1., 0.05)),
        (FINE, broken(1., 1., 0.3)),
        (MANY, broken(1.5, 1., 0.3)),
    ];
    let mut worlds: Vec<World> = plain.map(|(layout, valley)| World::new(layout, valley)).into();
    for layout in [FINE, MANY] {
        for valley in [Valley::BROKEN, Valley::EXPONENTIAL] {
            let world = World::new(layout, valley);
            worlds.extend([0.0005, 0.003].map(|noise| World { noise, ..world }));
            worlds.push(World { errors: Noise::Heavy, ..world });
        }
    }
    let layouts = [
        Layout::new(3, 5, 5, 2.),
        eight,
        twice,
        Layout::new(1, 3, 5, 2.),
        Layout::new(1, 4, 6, 2.),
    ];
    for layout in layouts {
        worlds.extend(
            [Valley::Parabola, Valley::BROKEN, Valley::EXPONENTIAL].map(|v| World::new(layout, v)),
        );
    }
    worlds
}

/// Worlds that were made when everything was settled.
fn last() -> Vec<World> {
    let broken = Valley::Broken { at: 1.25, jump: 0.7, cubic: -0.2 };
    let mut worlds = vec![];
    for valley in [Valley::Quartic, Valley::Exponential { c: 0.9 }, broken] {
        worlds.push(World::new(Layout::new(2, 3, 8, 1.7), valley));
        worlds.push(World::new(Layout::new(2, 5, 6, 1.6), valley));
        let fine = World::new(Layout::new(3, 4, 9, 1.5), valley);
        worlds.push(World { errors: Noise::Heavy, noise: 0.001, ..fine });
    }
    worlds
}

#[test]
fn best_learning_rates_of_held_out_worlds() {
    if !is_slow() {
        return;
    }
    let mut outside = vec![];
    let held_out = held_out().into_iter().map(|world| (world, 1_000_000));
    for (world, seed) in held_out.chain(last().into_iter().map(|world| (world, 2_000_000))) {
        let band = if world.valley.is_smooth() { 0.93..=0.98 } else { 0.83..=0.98 };
        outside.extend(tally(world, seed, false).check_band(&world.name(), OURS, band));
    }
    assert!(outside.is_empty(), "{outside:#?}");
}
