//! The best sampling ratios of a mixture whose families each depend on their own share alone.
//!
//! He et al. 2024 (arXiv:2410.12883): family `i` has the loss `K_i p_i^-gamma_i`, with `K_i` from size and horizon.
//! The weighted sum is strictly convex in the shares; its minimum satisfies `w_i gamma_i K_i p_i^-(gamma_i + 1) =
//! lambda` for every family that is neither absent nor at its cap, so one monotone equation in `ln lambda` is left.
//! What is added here: offsets, so that a share may be 0; caps, so that scarce data are not repeated too often; and
//! families whose loss does not fall with their share, which get none.

mod baselines;
mod errors;

pub use baselines::{proportional, temperature, uniform, unimax};
pub use errors::{amplitude_covariance, share_errors, share_intervals};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ensure};
use crate::law::{Family, Law};

/// What the mixture is to make small, over families `i`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weighing {
    /// `Σ w_i L_i(p_i) / L_i(1)`: each family relative to what it would reach alone. The paper's choice; its optimum
    /// depends on neither size nor horizon.
    #[default]
    Normalised,
    /// `Σ w_i L_i(p_i)`, nats per token; its optimum moves with size and horizon.
    Sum,
}

/// One family of a mixture: `amplitude (p + offset)^-gamma` is its part of the sum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Component {
    /// The family.
    pub name: String,
    /// Weight times loss at a share of 1; positive.
    pub amplitude: f64,
    /// How fast the loss falls with the share.
    pub gamma: f64,
    /// Added to the share; 0 in the paper's form.
    pub offset: f64,
    /// Largest share allowed: 1, or what its data last for.
    pub cap: f64,
}

impl Component {
    /// The paper's form, without a cap.
    pub fn new(name: &str, amplitude: f64, gamma: f64) -> Self {
        Self { name: name.to_owned(), amplitude, gamma, offset: 0., cap: 1. }
    }

    /// A fitted family at `n` parameters and `d` tokens, raw counts, with `weight` in the sum.
    ///
    /// # Errors
    /// [`Error::NotIdentified`] for a law with cross terms: its loss depends on other shares too.
    pub fn fitted(
        name: &str,
        law: &Family,
        theta: &[f64],
        weighing: Weighing,
        weight: f64,
        (n, d): (f64, f64),
    ) -> Result<Self> {
        let parameters = law.parameters();
        if parameters.iter().any(|parameter| parameter.name.starts_with("tau_")) {
            let reason = format!("the law of `{name}` has cross terms");
            return Err(Error::not_identified("the optimal mixture", reason));
        }
        let epsilon = parameters.iter().position(|parameter| parameter.name == "epsilon");
        let offset = epsilon.map_or(0., |index| theta[index].exp());
        let gamma = theta[law.gamma_index()];
        let amplitude = match weighing {
            Weighing::Normalised => weight * (1. + offset).powf(gamma),
            Weighing::Sum => weight * law.scale_factor(theta, n, d),
        };
        Ok(Self { name: name.to_owned(), amplitude, gamma, offset, cap: 1. })
    }

    /// The same family with at most this share.
    #[must_use]
    pub fn with_cap(self, cap: f64) -> Self {
        Self { cap, ..self }
    }

    /// Its part of the sum at share `p`; infinite where the paper's form meets a share of 0.
    pub fn value(&self, p: f64) -> f64 {
        self.amplitude * (p + self.offset).powf(-self.gamma)
    }

    /// The share at which its marginal gain is `e^ln_multiplier`.
    fn share(&self, ln_multiplier: f64) -> f64 {
        if self.gamma <= 0. {
            return 0.; // More of it does not help it, and takes from the others.
        }
        let ln_p = ((self.amplitude * self.gamma).ln() - ln_multiplier) / (1. + self.gamma);
        (ln_p.exp() - self.offset).clamp(0., self.cap)
    }

    fn is_interior(&self, p: f64) -> bool {
        p > 0. && p < self.cap
    }

    fn check(&self) -> Result<()> {
        let field = |field: &str| format!("{field} of `{}`", self.name);
        let Self { amplitude, gamma, offset, cap, .. } = *self;
        let finite = amplitude > 0. && amplitude.is_finite();
        ensure(finite, field("amplitude"), "positive and finite", amplitude)?;
        ensure(gamma.is_finite(), field("gamma"), "finite", gamma)?;
        ensure(offset >= 0. && offset.is_finite(), field("offset"), "at least 0", offset)?;
        ensure(cap > 0. && cap <= 1., field("cap"), "above 0 and at most 1", cap)
    }
}

/// Sampling ratios, and what they bring.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mixture {
    /// Shares in the order of the components; they sum to 1.
    pub shares: Vec<f64>,
    /// The weighted sum.
    pub objective: f64,
    /// What one more unit of share would bring, the same for every family that is neither absent nor capped.
    pub multiplier: f64,
}

/// The weighted sum at these shares.
pub fn objective(components: &[Component], shares: &[f64]) -> f64 {
    components.iter().zip(shares).map(|(component, &p)| component.value(p)).sum()
}

/// The shares with the smallest weighted sum.
///
/// # Errors
/// [`Error::Config`] names the field of a component that is out of range, or says that the caps leave no mixture;
/// [`Error::NotIdentified`] where no loss falls with its share.
pub fn optimise(components: &[Component]) -> Result<Mixture> {
    components.iter().try_for_each(Component::check)?;
    let helped = components.iter().filter(|component| component.gamma > 0.);
    let room: f64 = helped.clone().map(|component| component.cap).sum();
    if helped.count() == 0 {
        let reason = "no family's loss falls with its share";
        return Err(Error::not_identified("the optimal mixture", reason));
    }
    ensure(room >= 1. - 1e-12, "caps", "large enough that shares can sum to 1", room)?;
    let ln_multiplier = dual(components);
    let mut shares: Vec<f64> = components.iter().map(|c| c.share(ln_multiplier)).collect();
    spend_rest(components, &mut shares);
    let objective = objective(components, &shares);
    Ok(Mixture { shares, objective, multiplier: ln_multiplier.exp() })
}

/// `ln lambda` at which the shares sum to 1: Newton on the logarithm of the sum, which is all but straight, kept inside
/// a bracket.
fn dual(components: &[Component]) -> f64 {
    let active = || components.iter().filter(|component| component.gamma > 0.);
    let n = active().count() as f64;
    let ln_gain = |c: &Component, q: f64| (c.amplitude * c.gamma).ln() - (1. + c.gamma) * q.ln();
    // At `low` every share is at its cap; at `high` none exceeds 1 / n.
    let mut low = active().map(|c| ln_gain(c, 1. + c.offset)).fold(f64::INFINITY, f64::min);
    let mut high = active().map(|c| ln_gain(c, 1. / n)).fold(f64::NEG_INFINITY, f64::max);
    high = high.max(low);
    let mut at = 0.5 * (low + high);
    for _ in 0..200 {
        let (mut sum, mut slope) = (0., 0.);
        for component in active() {
            let p = component.share(at);
            sum += p;
            if component.is_interior(p) {
                slope -= (p + component.offset) / (1. + component.gamma);
            }
        }
        if sum >= 1. {
            low = at
        } else {
            high = at
        }
        if (sum - 1.).abs() < 1e-15 || high - low <= 1e-15 * at.abs().max(1.) {
            break;
        }
        let newton = at - sum * sum.ln() / slope;
        at = if newton > low && newton < high { newton } else { 0.5 * (low + high) };
    }
    at
}

/// Makes the sum exactly 1: rounding is spread over the families that are free to move.
fn spend_rest(components: &[Component], shares: &mut [f64]) {
    let free = |(component, &p): (&Component, &f64)| component.is_interior(p);
    let total: f64 = shares.iter().sum();
    let movable: f64 =
        components.iter().zip(shares.iter()).filter(|&pair| free(pair)).map(|(_, p)| p).sum();
    if movable > 0. {
        let factor = 1. + (1. - total) / movable;
        for (component, p) in components.iter().zip(shares.iter_mut()) {
            if component.is_interior(*p) {
                *p = (*p * factor).min(component.cap);
            }
        }
    }
}

#[cfg(test)]
mod tests;
