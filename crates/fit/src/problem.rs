//! From a table and the name of a law to what is fitted: one part, or one a family.

use anyhow::{Result, bail};
use clap::ValueEnum;
use forerun_scaling::law::{Chinchilla, DataConstrained, Family, LrHorizon, Mixing};
use forerun_scaling::parabola::ParabolaConfig;
use forerun_scaling::sweep::{self, Sweep, SweepCell};
use forerun_scaling::units::CountUnit;
use forerun_scaling::{Constraint, FitConfig, Law, Observations, Table};

use crate::data::{Columns, fault};

/// The laws that `--law` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LawName {
    /// L = E + A/N^alpha + B/D^beta
    Chinchilla,
    /// The same with alpha = beta
    ChinchillaTied,
    /// The same for tokens seen more than once; needs unique tokens, `u`
    DataConstrained,
    /// L_i = (E + A/N^alpha + B/D^beta) p_i^-gamma, one fit a family
    Multilingual,
    /// LR* = C N^-alpha D^-beta, from a sweep or from known optima
    LrHorizon,
    /// L_i = c + exp(sum_j t_j p_j), one fit a domain
    Mixing,
}

/// One fit: a law with its data.
pub(crate) struct Part {
    /// The family or domain; empty where there is one part.
    pub(crate) name: String,
    pub(crate) law: Box<dyn Law>,
    /// The same law where it is a family's.
    pub(crate) family: Option<Family>,
    /// The same law where it is of learning rates.
    pub(crate) horizon: Option<LrHorizon>,
    pub(crate) observations: Observations,
}

/// What makes Chinchilla's law Gadre's.
pub(crate) fn tie() -> Constraint {
    Constraint::Equal("alpha".into(), "beta".into())
}

/// Everything that is fitted.
pub(crate) struct Problem {
    pub(crate) law: LawName,
    pub(crate) parts: Vec<Part>,
    /// Cells of a sweep over learning rates.
    pub(crate) cells: Vec<SweepCell>,
    /// Its runs: learning rate and loss.
    pub(crate) sweep: Vec<(f64, f64)>,
    /// Names of the shares, in the order of their columns.
    pub(crate) shares: Vec<String>,
    pub(crate) notes: Vec<String>,
    /// What looks wrong about the table.
    pub(crate) warnings: Vec<String>,
}

/// How to read the table.
pub(crate) struct Reading {
    pub(crate) columns: Columns,
    /// Let shares be 0.
    pub(crate) offset: bool,
    pub(crate) parabola: ParabolaConfig,
}

impl Problem {
    pub(crate) fn new(law: LawName, table: &Table, reading: &Reading) -> Result<Self> {
        let mut problem = Self {
            law,
            parts: vec![],
            cells: vec![],
            sweep: vec![],
            shares: vec![],
            notes: vec![],
            warnings: vec![],
        };
        match law {
            LawName::Chinchilla | LawName::ChinchillaTied => {
                let observations = observations(table, reading, &["n", "d"])?;
                problem.single(Box::new(Chinchilla::new()), observations);
            }
            LawName::DataConstrained => {
                let observations = observations(table, reading, &["n", "d", "u"])?;
                problem.single(Box::new(DataConstrained::default()), observations);
            }
            LawName::LrHorizon => problem.add_horizon(table, reading)?,
            LawName::Multilingual | LawName::Mixing => problem.add_families(table, reading)?,
        }
        if let Some(part) = problem.parts.first() {
            problem.warnings.extend(few_values(part.law.as_ref(), &part.observations));
            problem.warnings.extend(small_counts(&part.observations));
        }
        Ok(problem)
    }

    /// Constraints that the law's name stands for.
    pub(crate) fn constrain(&self, config: FitConfig) -> FitConfig {
        match self.law {
            LawName::ChinchillaTied => FitConfig { constraints: vec![tie()], ..config },
            _ => config,
        }
    }

    fn single(&mut self, law: Box<dyn Law>, observations: Observations) {
        self.parts.push(Part {
            name: String::new(),
            law,
            family: None,
            horizon: None,
            observations,
        });
    }

    fn add_horizon(&mut self, table: &Table, reading: &Reading) -> Result<()> {
        let column = |name: &str| -> Result<Option<Vec<f64>>> {
            let column = reading.columns.find(table, name)?;
            column.map(|column| Ok(table.numbers(&column)?)).transpose()
        };
        let lr = table.numbers(&reading.columns.require(table, "lr")?)?;
        let d = table.numbers(&reading.columns.require(table, "d")?)?;
        let (n, batch, loss) = (column("n")?, column("batch")?, column("loss")?);
        let optima = match loss {
            Some(loss) => {
                let sweep =
                    Sweep { n: n.as_deref(), d: &d, batch: batch.as_deref(), lr: &lr, loss: &loss };
                self.cells = sweep::cells(&sweep, &reading.parabola)?;
                self.sweep = lr.iter().copied().zip(loss.iter().copied()).collect();
                let shown =
                    self.cells.iter().filter(|cell| cell.optimum.vertex().is_some()).count();
                self.notes.push(format!(
                    "{shown} of {} cells of the sweep show a best learning rate",
                    self.cells.len()
                ));
                sweep::optima(&self.cells)?
            }
            None => {
                self.notes.push(
                    "no column of losses: the learning rates are taken as the best ones".into(),
                );
                let mut optima = Observations::new("lr", lr)
                    .with_input("d", d)
                    .with_rows(table.row_numbers().to_vec())
                    .with_file(table.file.clone());
                for (name, column) in [("n", n), ("batch", batch)] {
                    if let Some(column) = column {
                        optima = optima.with_input(name, column);
                    }
                }
                optima.check()?;
                optima
            }
        };
        let law = sweep::horizon_law(&optima, CountUnit::Billions)?;
        let part = Part {
            name: String::new(),
            law: Box::new(law.clone()),
            family: None,
            horizon: Some(law),
            observations: optima,
        };
        self.parts.push(part);
        Ok(())
    }

    /// One part a family: rows with a column `family`, or one column `loss_…` each.
    fn add_families(&mut self, table: &Table, reading: &Reading) -> Result<()> {
        let shares = Columns::with_prefix(table, "p_");
        if shares.len() < 2 {
            bail!(fault(
                table,
                None,
                "p_…",
                "the shares of a mixture need a column each: p_NAME".into()
            ));
        }
        check_sums(table, &shares)?;
        self.shares = shares.iter().map(|(name, _)| name.clone()).collect();
        let mut families: Vec<(String, Table, String)> = vec![];
        if let Some(column) = reading.columns.find(table, "family")? {
            let loss = reading.columns.require(table, "loss")?;
            let labels = table.text(&column)?;
            for (name, _) in &shares {
                let own = table.filter(|row| labels[row] == name);
                if !own.is_empty() {
                    families.push((name.clone(), own, loss.clone()));
                }
            }
        } else {
            for (name, column) in Columns::with_prefix(table, "loss_") {
                if self.shares.contains(&name) {
                    families.push((name, table.clone(), column));
                }
            }
        }
        if families.is_empty() {
            let reason = "a column `family` with names of shares, or columns loss_NAME, is needed";
            bail!(fault(table, None, "family", reason.into()));
        }
        for (name, rows, loss) in families {
            self.add_family(&name, &rows, &loss, &shares, reading)?;
        }
        Ok(())
    }

    fn add_family(
        &mut self,
        name: &str,
        table: &Table,
        loss: &str,
        shares: &[(String, String)],
        reading: &Reading,
    ) -> Result<()> {
        let mut inputs: Vec<(String, String)> =
            shares.iter().map(|(share, column)| (format!("p_{share}"), column.clone())).collect();
        inputs.push(("p".into(), format!("p_{name}")));
        let scale = ["n", "d"].map(|input| reading.columns.find(table, input));
        for (input, column) in ["n", "d"].into_iter().zip(scale) {
            inputs.extend(column?.map(|column| (input.to_owned(), column)));
        }
        let pairs: Vec<(&str, &str)> =
            inputs.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let observations = table.observations(loss, &pairs)?;
        let cells = scale_cells(&observations);
        let observations = observations.with_clusters(cells.clone());
        let (law, family): (Box<dyn Law>, Option<Family>) = if self.law == LawName::Mixing {
            let names: Vec<&str> =
                inputs.iter().take(shares.len()).map(|(name, _)| name.as_str()).collect();
            (Box::new(Mixing::new(&names)), None)
        } else {
            let one_scale = cells.iter().all(|cell| *cell == cells[0]);
            let family = if one_scale { Family::at_one_scale(name) } else { Family::new(name) };
            let family = if reading.offset { family.with_offset() } else { family };
            (Box::new(family.clone()), Some(family))
        };
        self.parts.push(Part { name: name.into(), law, family, horizon: None, observations });
        Ok(())
    }
}

/// Values of an input that an exponent needs.
const MIN_VALUES: usize = 3;

/// Says so if a size or a horizon takes too few values for a power law with a floor.
fn few_values(law: &dyn Law, points: &Observations) -> Option<String> {
    let has_floor = law.parameters().iter().any(|parameter| parameter.name == "E");
    let few = ["n", "d"].into_iter().filter_map(|name| {
        let mut values = points.input(name)?.to_vec();
        values.sort_by(f64::total_cmp);
        values.dedup();
        let n = values.len();
        let unit = if n == 1 { "value" } else { "values" };
        (n < MIN_VALUES).then(|| {
            format!(
                "`{name}` takes {n} {unit}, and an exponent needs {MIN_VALUES}: runs at other values of `{name}` would \
                 tell most"
            )
        })
    });
    let few: Vec<String> = few.filter(|_| has_floor).collect();
    (!few.is_empty()).then(|| few.join("; "))
}

/// Counts below these are not those of a language model.
const SMALL: [(&str, f64); 2] = [("n", 1e4), ("d", 1e5)];

/// Says so if counts look like millions or billions: compute is counted as `6 n d`, and constants would differ.
fn small_counts(points: &Observations) -> Option<String> {
    let found = SMALL.iter().filter_map(|&(name, small)| {
        let largest = points.input(name)?.iter().copied().fold(0., f64::max);
        (largest < small).then_some((name, largest))
    });
    let found: Vec<(&str, f64)> = found.collect();
    let largest: Vec<String> =
        found.iter().map(|(name, largest)| format!("`{name}` is at most {largest}")).collect();
    let units: Vec<String> = found.iter().map(|(name, _)| format!("{name}=1e9")).collect();
    (!found.is_empty()).then(|| {
        format!(
            "{}, which looks like millions or billions: laws and compute (6 n d) want raw counts; for billions say \
             --unit {}",
            largest.join(" and "),
            units.join(",")
        )
    })
}

/// Which rows have the same size and horizon.
fn scale_cells(observations: &Observations) -> Vec<usize> {
    let at =
        |name: &str, i: usize| observations.input(name).map_or(0, |values| values[i].to_bits());
    let mut known: Vec<(u64, u64)> = vec![];
    (0..observations.len())
        .map(|i| {
            let key = (at("n", i), at("d", i));
            known.iter().position(|k| *k == key).unwrap_or_else(|| {
                known.push(key);
                known.len() - 1
            })
        })
        .collect()
}

/// Shares of a row may be rounded, no more.
const ROUNDING: f64 = 0.01;

fn check_sums(table: &Table, shares: &[(String, String)]) -> Result<()> {
    let columns: Vec<Vec<f64>> =
        shares.iter().map(|(_, column)| table.numbers(column)).collect::<Result<_, _>>()?;
    for (row, &number) in table.row_numbers().iter().enumerate() {
        let sum: f64 = columns.iter().map(|column| column[row]).sum();
        if sum.is_nan() || (sum - 1.).abs() > ROUNDING {
            let reason = format!("the shares of this row sum to {sum}, not to 1");
            bail!(fault(table, Some(number), "p_…", reason));
        }
    }
    Ok(())
}

fn observations(table: &Table, reading: &Reading, inputs: &[&str]) -> Result<Observations> {
    let loss = reading.columns.require(table, "loss")?;
    let columns: Vec<(&str, String)> = inputs
        .iter()
        .map(|&input| Ok((input, reading.columns.require(table, input)?)))
        .collect::<Result<_>>()?;
    let pairs: Vec<(&str, &str)> =
        columns.iter().map(|(name, column)| (*name, column.as_str())).collect();
    let mut observations = table.observations(&loss, &pairs)?;
    if let Some(weights) = reading.columns.find(table, "weight")? {
        observations = observations.with_weights(table.numbers(&weights)?);
        observations.check()?;
    }
    Ok(observations)
}
