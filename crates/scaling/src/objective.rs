//! What a fit minimises: always a **sum** over points, as a mean stops optimisers with absolute tolerances early.

use serde::{Deserialize, Serialize};

use crate::error::{Result, ensure};

/// The quantity that a fit makes small. `r` is `ln prediction - ln target`, but for the level.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// `Σ w ρ(r)` with Huber's `ρ`: `r² / 2` up to `delta`, then `delta (|r| - delta / 2)`. Hoffmann et al. 2022 take
    /// a delta of 1e-3.
    Huber {
        /// Where the square turns into a line, in units of log loss.
        delta: f64,
    },
    /// `Σ w |r|`, least absolute deviations. A Huber likelihood whose scale is fitted too, as in Besiroglu et al. 2024
    /// (arXiv:2404.10102), shrinks its scale until it is this.
    Lad,
    /// `½ Σ w r²`.
    NlsLog,
    /// `½ Σ w (prediction - target)²`.
    Nls,
}

impl Objective {
    /// Huber on the log loss with the literature's delta of 1e-3.
    pub const HUBER: Self = Self::Huber { delta: 1e-3 };

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Huber { .. } => "huber",
            Self::Lad => "lad",
            Self::NlsLog => "nls-log",
            Self::Nls => "nls",
        }
    }

    /// Whether residuals are of the target itself and not of its logarithm.
    pub fn is_level(self) -> bool {
        self == Self::Nls
    }

    /// Whether it is a sum of squares.
    pub fn is_square(self) -> bool {
        matches!(self, Self::NlsLog | Self::Nls)
    }

    pub(crate) fn check(self) -> Result<()> {
        match self {
            Self::Huber { delta } => {
                ensure(delta > 0. && delta.is_finite(), "delta", "positive and finite", delta)
            }
            _ => Ok(()),
        }
    }
}

/// Which points a fit leaves out; it reports each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutlierRule {
    /// None.
    #[default]
    Keep,
    /// The highest targets, this many. Epoch's replication of Chinchilla drops the 5 highest losses of 245.
    DropHighest(usize),
    /// Those whose residual from a LAD fit is beyond this many robust standard deviations (1.4826 times the median
    /// absolute residual); the fit is then repeated without them.
    ResidualBeyond(f64),
}

/// A point that was left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dropped {
    /// Its row.
    pub row: usize,
    /// Its target.
    pub target: f64,
    /// Why.
    pub reason: String,
}

/// What the caller knows of the parameters, by their names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Constraint {
    /// Two parameters of one scale are equal, as `alpha` and `beta` in Gadre et al. 2024.
    Equal(String, String),
    /// A parameter has this natural value.
    Fixed(String, f64),
}
