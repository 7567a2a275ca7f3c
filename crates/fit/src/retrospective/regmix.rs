//! A mixture for the mean loss of 13 domains: RegMix, 512 runs; half are fitted, one of the other half is chosen.

use anyhow::Result;
use forerun_scaling::law::{Design, Family, Law, Mixing, predict_all};
use forerun_scaling::{FitConfig, Objective, Observations, Table, fit};

use super::Tried;
use crate::data::Columns;

pub(super) fn regrets(table: &Table) -> Result<Vec<Tried>> {
    let shares = Columns::with_prefix(table, "p_");
    let domains: Vec<String> =
        Columns::with_prefix(table, "loss_").into_iter().map(|(domain, _)| domain).collect();
    let train = table.filter(|row| row % 2 == 0);
    let test = table.filter(|row| row % 2 == 1);
    let actual = mean_loss(&test, &domains)?;
    let best = actual.iter().copied().fold(f64::INFINITY, f64::min);
    let names: Vec<&str> = shares.iter().map(|(_, column)| column.as_str()).collect();
    let own = predicted(&train, &test, &domains, &names, &|domain| {
        Box::new(Family::at_one_scale(domain).with_offset())
    })?;
    let cross = predicted(&train, &test, &domains, &names, &|_| Box::new(Mixing::new(&names)))?;
    let p: Vec<Vec<f64>> = names.iter().map(|name| test.numbers(name)).collect::<Result<_, _>>()?;
    let typical: Vec<f64> =
        p.iter().map(|column| column.iter().sum::<f64>() / column.len() as f64).collect();
    let uniform = vec![1. / names.len() as f64; names.len()];
    let nearest = |target: &[f64]| -> Vec<f64> {
        let distance = |row: usize| p.iter().zip(target).map(|(c, t)| (c[row] - t).abs()).sum();
        (0..test.len()).map(distance).collect()
    };
    let chosen = |score: &[f64]| {
        let row = (0..score.len()).min_by(|&i, &j| score[i].total_cmp(&score[j]));
        vec![row.map_or(f64::NAN, |row| actual[row] - best)]
    };
    Ok(vec![
        Tried {
            method: "each loss from its own share, (p + epsilon)^-gamma",
            regrets: chosen(&own),
        },
        Tried { method: "each loss from all shares, c + exp(t r)", regrets: chosen(&cross) },
        Tried { method: "the run nearest to uniform", regrets: chosen(&nearest(&uniform)) },
        Tried { method: "the run nearest to proportional", regrets: chosen(&nearest(&typical)) },
        Tried {
            method: "a run by chance",
            regrets: actual.iter().map(|loss| loss - best).collect(),
        },
    ])
}

fn mean_loss(table: &Table, domains: &[String]) -> Result<Vec<f64>> {
    let mut sum = vec![0.; table.len()];
    for domain in domains {
        let losses = table.numbers(&format!("loss_{domain}"))?;
        sum.iter_mut().zip(losses).for_each(|(sum, loss)| *sum += loss / domains.len() as f64);
    }
    Ok(sum)
}

/// The predicted mean loss of every test run.
fn predicted(
    train: &Table,
    test: &Table,
    domains: &[String],
    shares: &[&str],
    law: &dyn Fn(&str) -> Box<dyn Law>,
) -> Result<Vec<f64>> {
    let mut sum = vec![0.; test.len()];
    for domain in domains {
        let points = |table: &Table| -> Result<Observations> {
            let own = format!("p_{domain}");
            let mut inputs = vec![("p", own.as_str())];
            inputs.extend(shares.iter().map(|share| (*share, *share)));
            Ok(table.observations(&format!("loss_{domain}"), &inputs)?)
        };
        let law = law(domain);
        let fit = fit(law.as_ref(), &points(train)?, &FitConfig::new(Objective::NlsLog))?;
        let design = Design::new(law.as_ref(), &points(test)?)?;
        let losses = predict_all(law.as_ref(), &fit.theta, &design);
        sum.iter_mut().zip(losses).for_each(|(sum, loss)| *sum += loss / domains.len() as f64);
    }
    Ok(sum)
}
