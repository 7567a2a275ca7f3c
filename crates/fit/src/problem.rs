//! From a table and the name of a law to what is fitted: one part, or one a family.

mod doubts;
mod groups;
mod horizon;

use anyhow::{Result, bail};
use clap::ValueEnum;
use forerun_scaling::law::{Chinchilla, DataConstrained, Family, LrHorizon, Mixing};
use forerun_scaling::parabola::ParabolaConfig;
use forerun_scaling::sweep::{Reading as SweepReading, SweepCell};
use forerun_scaling::{Constraint, FitConfig, Law, Observations, Table};

use crate::data::{Columns, fault};

pub(crate) use groups::of_scale;

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

impl LawName {
    /// What it reads under names of our own, where a table has it.
    fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Chinchilla | Self::ChinchillaTied => &["n", "d", "loss", "weight"],
            Self::DataConstrained => &["n", "d", "u", "loss", "weight"],
            Self::LrHorizon => &["n", "d", "batch", "lr", "loss", "weight"],
            Self::Multilingual | Self::Mixing => &["n", "d", "family", "loss", "weight"],
        }
    }
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

impl Part {
    /// What a parameter is called beside those of other parts. Only `gamma_FAMILY` of the family itself says whose it is.
    pub(crate) fn qualified(&self, parameter: &str) -> String {
        let is_own = self.name.is_empty() || parameter == format!("gamma_{}", self.name);
        if is_own { parameter.to_owned() } else { format!("{parameter}_{}", self.name) }
    }

    /// Groups of points that the cluster bootstrap draws.
    pub(crate) fn n_groups(&self) -> usize {
        let clusters = self.observations.clusters().unwrap_or_default();
        clusters.iter().max().map_or(0, |last| last + 1)
    }
}

/// What makes Chinchilla's law Gadre's.
pub(crate) fn tie() -> Constraint {
    Constraint::Equal("alpha".into(), "beta".into())
}

/// Everything that is fitted.
pub(crate) struct Problem {
    pub(crate) law: LawName,
    pub(crate) parts: Vec<Part>,
    /// Its sweep over learning rates, where there is one.
    pub(crate) swept: Option<SweepReading>,
    /// The runs of that sweep: learning rate and loss.
    pub(crate) sweep: Vec<(f64, f64)>,
    /// Names of the shares, in the order of their columns.
    pub(crate) shares: Vec<String>,
    pub(crate) notes: Vec<String>,
    /// What looks wrong about the table.
    pub(crate) warnings: Vec<String>,
    /// Why no interval of this table may hold what it says; among the warnings too.
    pub(crate) doubt: Option<String>,
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
            swept: None,
            sweep: vec![],
            shares: vec![],
            notes: vec![],
            warnings: vec![],
            doubt: None,
        };
        problem.notes.extend(reading.columns.taken(table, law.columns())?);
        match law {
            LawName::Chinchilla | LawName::ChinchillaTied => {
                let observations = points(table, reading, &["n", "d"])?;
                problem.single(Box::new(Chinchilla::new()), observations);
            }
            LawName::DataConstrained => {
                let observations = points(table, reading, &["n", "d", "u"])?;
                problem.single(Box::new(DataConstrained::default()), observations);
            }
            LawName::LrHorizon => problem.add_horizon(table, reading)?,
            LawName::Multilingual | LawName::Mixing => problem.add_families(table, reading)?,
        }
        if let Some(part) = problem.parts.first() {
            let doubts = doubts::about(part.law.as_ref(), &part.observations);
            problem.warnings.extend(doubts);
        }
        Ok(problem)
    }

    /// The cells of a sweep; none for other tables.
    pub(crate) fn cells(&self) -> &[SweepCell] {
        self.swept.as_ref().map_or(&[], |swept| &swept.cells)
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
        let observations = weighed(table.observations(loss, &pairs)?, table, reading)?;
        check_varies(&observations, table, loss)?;
        let cells = groups::of_scale(&observations);
        let observations = groups::with(observations, table, reading, &["n", "d"])?;
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

/// Shares of a row may be rounded, no more.
pub(crate) const ROUNDING: f64 = 0.01;

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

/// Fewer rows than these are refused for that.
const FEWEST: usize = 6;

/// Losses that are all the same fit any law, and tell nothing.
fn check_varies(points: &Observations, table: &Table, column: &str) -> Result<()> {
    let losses = points.target();
    if losses.len() >= FEWEST && losses.iter().all(|loss| *loss == losses[0]) {
        let reason = format!("is {} in every row: there is nothing to fit", losses[0]);
        bail!(fault(table, None, column, reason));
    }
    Ok(())
}

fn points(table: &Table, reading: &Reading, inputs: &[&str]) -> Result<Observations> {
    let columns = reading.columns.require_all(table, &[inputs, &["loss"]].concat())?;
    let pairs: Vec<(&str, &str)> =
        inputs.iter().copied().zip(columns.iter().map(String::as_str)).collect();
    let loss = &columns[inputs.len()];
    let observations = weighed(table.observations(loss, &pairs)?, table, reading)?;
    check_varies(&observations, table, loss)?;
    groups::with(observations, table, reading, &["n"])
}

/// With the weights of the table, where it has some.
fn weighed(points: Observations, table: &Table, reading: &Reading) -> Result<Observations> {
    let Some(column) = reading.columns.find(table, "weight")? else { return Ok(points) };
    let weights = table.numbers(&column)?;
    let points = points.with_weights(weights).with_column_name("weights", &column);
    points.check()?;
    Ok(points)
}
