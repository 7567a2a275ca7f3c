//! How results name what was trained, and the trainings read back from them.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use crate::outcome::Curve;

/// Series of a training: loss by family, nats per character, over the family's place in the configuration.
pub(super) const LOSS: &str = "character-loss";
/// Series of a training: share by family.
pub(super) const SHARE: &str = "share";

/// What a training is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Laws are fitted to it.
    Design,
    /// Laws are held against it.
    Check,
    /// The design of the larger size.
    Own,
    /// The larger model with one of the mixtures that are compared.
    Transfer,
}

impl Stage {
    pub(super) const ALL: [Self; 4] = [Self::Design, Self::Check, Self::Own, Self::Transfer];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Design => "design",
            Self::Check => "check",
            Self::Own => "own-design",
            Self::Transfer => "transfer",
        }
    }
}

/// One trained model: how the results name it, `design/w64/400000/3`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) stage: Stage,
    /// The size.
    pub(super) arm: String,
    /// The horizon of the configuration.
    pub(super) tokens: u64,
    /// Its place in the block, or its name among those that are compared.
    pub(super) mixture: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.stage.name(), self.arm, self.tokens, self.mixture)
    }
}

impl FromStr for Place {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let &[stage, arm, tokens, mixture] = parts.as_slice() else {
            bail!("`{text}` does not name a stage, a size, a horizon and a mixture");
        };
        let stage = Stage::ALL.into_iter().find(|known| known.name() == stage);
        let stage = stage.with_context(|| format!("`{text}` names no stage"))?;
        let tokens = tokens.parse()?;
        Ok(Self { stage, arm: arm.to_owned(), tokens, mixture: mixture.to_owned() })
    }
}

/// One trained model with what came out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trained {
    pub(super) place: Place,
    pub(super) seed: u64,
    /// By family.
    pub(super) shares: Vec<f64>,
    /// By family, nats per character; NaN where it diverged.
    pub(super) losses: Vec<f64>,
}

/// Every training among `curves` that has losses, in their order.
pub(super) fn trained(curves: &[Curve]) -> Vec<Trained> {
    let ordinates = |curve: &Curve| curve.points.iter().map(|point| point.1).collect::<Vec<f64>>();
    let of = |curve: &Curve| {
        let place = curve.arm.parse().ok()?;
        let shares = curves.iter().find(|other| {
            (other.series.as_str(), &other.arm, other.seed) == (SHARE, &curve.arm, curve.seed)
        })?;
        let (shares, losses) = (ordinates(shares), ordinates(curve));
        Some(Trained { place, seed: curve.seed, shares, losses })
    };
    curves.iter().filter(|curve| curve.series == LOSS).filter_map(of).collect()
}
