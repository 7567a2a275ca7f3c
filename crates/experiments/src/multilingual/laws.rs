//! The laws of families: what they are fitted to, what they know of a mixture, and the best mixture that follows.

use anyhow::{Context, Result};
use forerun_scaling::law::{Family, Law};
use forerun_scaling::mixture::{Component, Mixture, Weighing, optimise};
use forerun_scaling::{Constraint, Fit, FitConfig, Objective, Observations, fit};
use serde::{Deserialize, Serialize};

/// What is fitted, and to what the best mixture belongs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fitted {
    /// The families, in the order of the trainings.
    pub families: Vec<FittedFamily>,
    /// Whether the models differ in size and horizon.
    pub scale: FittedScale,
    /// What a fit minimises.
    pub objective: Objective,
    /// How families are weighed in the mixture.
    pub weighing: Weighing,
    /// Non-embedding parameters for which the mixture is to be best.
    pub at_params: f64,
    /// The horizon for which the mixture is to be best, tokens.
    pub at_tokens: f64,
}

/// One family of a fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FittedFamily {
    /// Its name.
    pub name: String,
    /// Weight of its loss in the objective.
    pub weight: f64,
    /// Largest share: what its text lasts for.
    pub cap: f64,
}

/// What the models of a fit differ in beside their mixtures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FittedScale {
    /// Sizes and horizons: the whole law.
    Many,
    /// Nothing: a constant times a power of the share.
    One,
}

/// What a law knows of the mixture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The family's own share, as in the paper.
    OwnShare,
    /// The shares of the others as well, see [`contrasts`].
    AllShares,
    /// Nothing: gamma is 0.
    NoShare,
}

impl Form {
    /// Begins the names of the series that hold its parameters.
    pub(super) fn series(self) -> &'static str {
        match self {
            Self::OwnShare => "theta",
            Self::AllShares => "theta-with-others",
            Self::NoShare => "theta-without-shares",
        }
    }

    /// The law of a family among these.
    pub(super) fn law(self, scale: FittedScale, names: &[String], family: usize) -> Family {
        let law = match scale {
            FittedScale::Many => Family::new(&names[family]),
            FittedScale::One => Family::at_one_scale(&names[family]),
        };
        match self {
            Self::OwnShare | Self::NoShare => law,
            Self::AllShares => {
                let inputs: Vec<String> =
                    others(names, family).iter().map(|name| contrast_input(name)).collect();
                // The last follows from the others.
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                law.with_cross_terms(&inputs[..inputs.len() - 1])
            }
        }
    }
}

/// One trained model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Model {
    /// Which stack it was in: models of one stack have size, horizon, initial weights and order of data in common.
    pub(super) stack: usize,
    pub(super) n_params: f64,
    pub(super) n_tokens: f64,
    /// By family.
    pub(super) shares: Vec<f64>,
    /// By family, nats per character.
    pub(super) losses: Vec<f64>,
}

/// What tells points of one group from those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grouped {
    /// By stack, each of which has a level of its own in a test.
    Stacks,
    /// By mixture: models of one mixture err alike where the law does not fit, whatever their size and horizon.
    Mixtures,
}

/// What one family's law is fitted to.
pub(super) fn observations(
    names: &[String],
    models: &[Model],
    family: usize,
    grouped: Grouped,
) -> Observations {
    let column = |of: &dyn Fn(&Model) -> f64| models.iter().map(of).collect::<Vec<f64>>();
    let mut observations = Observations::new("loss", column(&|model| model.losses[family]))
        .with_input("n", column(&|model| model.n_params))
        .with_input("d", column(&|model| model.n_tokens))
        .with_input("p", column(&|model| model.shares[family]));
    for (other, name) in names.iter().enumerate() {
        observations = observations
            .with_input(&share_input(name), column(&|model| model.shares[other]))
            .with_input(&contrast_input(name), column(&|model| contrasts(model, family)[other]));
    }
    let groups = match grouped {
        Grouped::Stacks => models.iter().map(|model| model.stack).collect(),
        Grouped::Mixtures => mixtures(models),
    };
    observations.with_clusters(groups)
}

/// The number of each model's mixture, in the order in which they first appear.
fn mixtures(models: &[Model]) -> Vec<usize> {
    let mut known: Vec<&[f64]> = Vec::new();
    let mut numbers = Vec::with_capacity(models.len());
    for model in models {
        let found = known.iter().position(|shares| *shares == model.shares);
        numbers.push(found.unwrap_or(known.len()));
        if found.is_none() {
            known.push(&model.shares);
        }
    }
    numbers
}

pub(super) fn share_input(family: &str) -> String {
    format!("share_{family}")
}

fn contrast_input(family: &str) -> String {
    format!("contrast_{family}")
}

/// Every share less the mean of this family's companions, halved and put between 0 and 1: what companions can differ in
/// at equal own share, with none of them left out.
fn contrasts(model: &Model, family: usize) -> Vec<f64> {
    let shares = &model.shares;
    let mean = (shares.iter().sum::<f64>() - shares[family]) / (shares.len() - 1) as f64;
    shares.iter().map(|share| 0.5 + 0.5 * (share - mean)).collect()
}

/// The names beside that of this family.
pub(super) fn others(names: &[String], family: usize) -> Vec<&str> {
    let others = names.iter().enumerate().filter(|(index, _)| *index != family);
    others.map(|(_, name)| name.as_str()).collect()
}

/// The law of one family.
pub(super) struct FamilyFit {
    pub(super) law: Family,
    /// How it could be fitted.
    pub(super) config: FitConfig,
    pub(super) fit: Fit,
}

impl Fitted {
    pub(super) fn names(&self) -> Vec<String> {
        self.families.iter().map(|family| family.name.clone()).collect()
    }

    /// The law of every family, of its own share.
    pub(super) fn laws(&self, models: &[Model]) -> Result<Vec<FamilyFit>> {
        (0..self.families.len()).map(|family| self.own_law(models, family)).collect()
    }

    fn own_law(&self, models: &[Model], family: usize) -> Result<FamilyFit> {
        let names = self.names();
        let observations = observations(&names, models, family, Grouped::Mixtures);
        let law = Form::OwnShare.law(self.scale, &names, family);
        let mut config = FitConfig::new(self.objective);
        let mut own = fit(&law, &observations, &config);
        if own.is_err() && self.scale == FittedScale::Many {
            // As Gadre et al. 2024 do: one exponent where the data do not show two.
            config.constraints.push(Constraint::Equal("alpha".to_owned(), "beta".to_owned()));
            own = fit(&law, &observations, &config);
            if let Ok(own) = &mut own {
                own.warnings
                    .push("alpha and beta are tied, as the data do not tell them apart".to_owned());
            }
        }
        let fit = own.with_context(|| format!("the law of `{}`", names[family]))?;
        Ok(FamilyFit { law, config, fit })
    }

    /// A family's law that knows something else of the mixture, fitted as `own` was; none where it cannot be.
    pub(super) fn other_law(
        &self,
        form: Form,
        models: &[Model],
        family: usize,
        own: &FamilyFit,
    ) -> Option<FamilyFit> {
        let names = self.names();
        let observations = observations(&names, models, family, Grouped::Mixtures);
        let law = form.law(self.scale, &names, family);
        let mut config = own.config.clone();
        if form == Form::NoShare {
            let gamma = law.parameters()[law.gamma_index()].name.clone();
            config.constraints.push(Constraint::Fixed(gamma, 0.0));
        }
        let fit = fit(&law, &observations, &config).ok()?;
        Some(FamilyFit { law, config, fit })
    }

    /// The best mixture if these are the parameters of every family's law.
    pub(super) fn mixture(&self, families: &[FamilyFit], thetas: &[&[f64]]) -> Result<Mixture> {
        let at = (self.at_params, self.at_tokens);
        let component = |(index, family): (usize, &FamilyFit)| -> Result<Component> {
            let FittedFamily { name, weight, cap } = &self.families[index];
            let part =
                Component::fitted(name, &family.law, thetas[index], self.weighing, *weight, at)?;
            Ok(part.with_cap(*cap))
        };
        let components: Vec<Component> =
            families.iter().enumerate().map(component).collect::<Result<_>>()?;
        Ok(optimise(&components)?)
    }
}
