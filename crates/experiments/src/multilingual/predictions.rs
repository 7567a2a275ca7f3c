//! Losses that laws foretell for models that they were not fitted to, beside what one would say without them.

use forerun_runs::stats;
use forerun_scaling::law::{Design, Law, predict_all};

use super::MixtureConfig;
use super::laws::{FittedScale, Form, Grouped, Model, observations};
use super::place::{Stage, Trained};
use super::verdicts::{LAW, values};
use crate::outcome::Curve;

/// Who foretells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Predictor {
    /// The law of size, horizon and own share.
    Law,
    /// The same with the shares of the other families in it.
    WithOthers,
    /// The law of size and horizon alone.
    WithoutShares,
    /// The law of size and horizon alone, times what the nearest mixture of the design did beside it: what is known
    /// without a law of the share.
    NearestMixture,
    /// The law at the largest size that it was fitted to, whatever the size.
    NoGrowth,
}

impl Predictor {
    pub(super) const ALL: [Self; 5] =
        [Self::Law, Self::WithOthers, Self::WithoutShares, Self::NearestMixture, Self::NoGrowth];

    /// The arm under which claims find its errors.
    pub(super) fn arm(self) -> &'static str {
        match self {
            Self::Law => LAW,
            Self::WithOthers => "law-with-others",
            Self::WithoutShares => "law-without-shares",
            Self::NearestMixture => "nearest-mixture",
            Self::NoGrowth => "largest-small-size",
        }
    }
}

/// Everything that foretells, read back from a run.
pub(super) struct Predictions<'a> {
    body: &'a MixtureConfig,
    names: Vec<String>,
    own: Vec<Vec<f64>>,
    all: Vec<Vec<f64>>,
    none: Vec<Vec<f64>>,
    /// The mixtures of the design, and by how much the loss of each family lies above the law without shares there, in
    /// logarithms.
    mixtures: Vec<(Vec<f64>, Vec<f64>)>,
    /// Non-embedding parameters of the largest size of the design.
    largest: f64,
}

impl<'a> Predictions<'a> {
    pub(super) fn read(body: &'a MixtureConfig, curves: &[Curve], models: &[Trained]) -> Self {
        let names: Vec<String> = body.families.iter().map(|family| family.name.clone()).collect();
        let thetas = |form: Form| -> Vec<Vec<f64>> {
            let of = |name: &String| values(curves, LAW, &format!("{}/{name}", form.series()));
            names.iter().map(|name| of(name).unwrap_or_default()).collect()
        };
        let sizes = body.design.arms.iter().filter_map(|arm| body.arm(arm));
        let largest = sizes.map(|arm| arm.n_params()).fold(f64::NAN, f64::max);
        let (own, all, none) =
            (thetas(Form::OwnShare), thetas(Form::AllShares), thetas(Form::NoShare));
        let mut read = Self { body, names, own, all, none, mixtures: Vec::new(), largest };
        let design: Vec<&Trained> =
            models.iter().filter(|model| model.place.stage == Stage::Design).collect();
        read.mixtures = read.mixtures_of(&design);
        read
    }

    fn mixtures_of(&self, design: &[&Trained]) -> Vec<(Vec<f64>, Vec<f64>)> {
        let mut known: Vec<&[f64]> = Vec::new();
        for model in design {
            if !known.contains(&model.shares.as_slice()) {
                known.push(&model.shares);
            }
        }
        let above = |shares: &[f64], family: usize| {
            let here = design.iter().filter(|model| model.shares == shares);
            let above = here.map(|model| {
                let plain = self.of(Predictor::WithoutShares, model, family);
                (model.losses[family] / plain).ln()
            });
            stats::mean(&above.filter(|above| above.is_finite()).collect::<Vec<f64>>())
        };
        let families = 0..self.names.len();
        let mixture = |shares: &&[f64]| {
            (shares.to_vec(), families.clone().map(|family| above(shares, family)).collect())
        };
        known.iter().map(mixture).collect()
    }

    /// Loss of a family in a model, nats per character; NaN where nobody knows.
    pub(super) fn of(&self, by: Predictor, model: &Trained, family: usize) -> f64 {
        let Some(arm) = self.body.arm(&model.place.arm) else { return f64::NAN };
        let (n, d) = (arm.n_params(), arm.n_tokens(model.place.tokens));
        let plain = |n| self.law(Form::NoShare, family, (n, d), &model.shares);
        match by {
            Predictor::Law => self.law(Form::OwnShare, family, (n, d), &model.shares),
            Predictor::WithOthers => self.law(Form::AllShares, family, (n, d), &model.shares),
            Predictor::WithoutShares => plain(n),
            Predictor::NearestMixture => {
                let Some((_, above)) = self.nearest(&model.shares) else { return f64::NAN };
                plain(n) * above[family].exp()
            }
            Predictor::NoGrowth => {
                self.law(Form::OwnShare, family, (n.min(self.largest), d), &model.shares)
            }
        }
    }

    /// Loss by a law for a size, a horizon and a mixture; NaN where there is no law.
    pub(super) fn law(
        &self,
        form: Form,
        family: usize,
        (n_params, n_tokens): (f64, f64),
        shares: &[f64],
    ) -> f64 {
        let (shares, losses) = (shares.to_vec(), vec![1.0; self.names.len()]);
        let model = Model { stack: 0, n_params, n_tokens, shares, losses };
        let point = observations(&self.names, &[model], family, Grouped::Stacks);
        let law = form.law(FittedScale::Many, &self.names, family);
        let theta = match form {
            Form::OwnShare => &self.own[family],
            Form::AllShares => &self.all[family],
            Form::NoShare => &self.none[family],
        };
        match Design::new(&law, &point) {
            Ok(design) if theta.len() == law.parameters().len() => {
                predict_all(&law, theta, &design)[0]
            }
            _ => f64::NAN,
        }
    }

    /// The mixture of the design that is nearest in the logarithms of shares.
    fn nearest(&self, shares: &[f64]) -> Option<&(Vec<f64>, Vec<f64>)> {
        let ln = |share: f64| share.max(1e-4).ln();
        let distance = |(other, _): &(Vec<f64>, Vec<f64>)| -> f64 {
            other.iter().zip(shares).map(|(&a, &b)| (ln(a) - ln(b)).powi(2)).sum()
        };
        self.mixtures.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)))
    }

    /// Relative error of the prediction for a family of a model, per cent.
    pub(super) fn error(&self, by: Predictor, model: &Trained, family: usize) -> f64 {
        100.0 * (self.of(by, model, family) / model.losses[family] - 1.0)
    }

    /// Mean size of the error over some models and all families, per cent.
    pub(super) fn mean_error<'m>(
        &self,
        by: Predictor,
        models: impl Iterator<Item = &'m Trained>,
    ) -> f64 {
        let families = 0..self.names.len();
        let errors: Vec<f64> = models
            .flat_map(|model| families.clone().map(|family| self.error(by, model, family).abs()))
            .collect();
        stats::mean(&errors)
    }
}
