//! Counts with their unit in the type, so that the constants of one paper cannot meet the counts of another.

use serde::{Deserialize, Serialize};

macro_rules! count {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub f64);

        impl $name {
            /// From billions: `from_billions(7.0)` is 7e9.
            pub fn from_billions(billions: f64) -> Self {
                Self(billions * 1e9)
            }

            /// In billions.
            pub fn billions(self) -> f64 {
                self.0 / 1e9
            }
        }
    };
}

count! {
    /// Parameters of a model, a raw count.
    Params
}
count! {
    /// Tokens of training, a raw count.
    Tokens
}
count! {
    /// Floating-point operations of training, a raw count; `C = 6 N D` throughout.
    Flops
}

impl Flops {
    /// What training `n` parameters on `d` tokens costs: `6 N D`.
    pub fn of_training(n: Params, d: Tokens) -> Self {
        Self(6. * n.0 * d.0)
    }
}

/// The unit in which a law's constants count parameters and tokens.
///
/// The joint learning-rate law of Bjorck et al. 2024 (arXiv:2409.19913) counts billions; with raw counts its constant
/// is `C · 1e9^(alpha + beta)`, five orders of magnitude away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CountUnit {
    /// One parameter, one token.
    #[default]
    Raw,
    /// A billion of them.
    Billions,
}

impl CountUnit {
    /// How many of them make one unit.
    pub fn size(self) -> f64 {
        match self {
            Self::Raw => 1.,
            Self::Billions => 1e9,
        }
    }

    /// As a suffix of a parameter's unit.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Raw => "raw counts",
            Self::Billions => "billions",
        }
    }
}
