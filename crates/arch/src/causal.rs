//! Causal attention from position 0 on, which a whole text is trained and evaluated with: what is known without a mask.

use std::cell::OnceCell;

use forerun_tensors::Result;
use forerun_tensors::kernels::{Pairs, Turn};
use tch::{Kind, Tensor};

use crate::alibi;
use crate::rotary::{Pairing, Rotation};

/// Each query sees the keys up to its own position.
#[derive(Debug)]
pub(crate) struct Causal {
    /// Tokens.
    len: i64,
    /// Of ALiBi: f64 `[heads]`.
    slopes: Option<Tensor>,
    /// Made when first asked for.
    relations: OnceCell<Relations>,
}

/// What the scores know of positions, as the kernels on the CPU read it.
#[derive(Debug)]
pub(crate) struct Relations {
    turns: Option<Turns>,
    slopes: Option<Vec<f32>>,
}

/// Cosines and sines of queries, and of keys.
#[derive(Debug)]
struct Turns {
    pairs: Pairs,
    tables: [[Tensor; 2]; 2],
}

impl Causal {
    /// Over `len` tokens; `slopes` are ALiBi's, f64 `[heads]`.
    pub(crate) fn new(len: i64, slopes: Option<&Tensor>) -> Self {
        Self { len, slopes: slopes.map(Tensor::shallow_clone), relations: OnceCell::new() }
    }

    /// What is added to the scores, f32 `[1, heads, len, len]`, minus infinity where a key is not seen; nothing
    /// where the mask says it all.
    pub(crate) fn bias(&self) -> Result<Option<Tensor>> {
        let Some(slopes) = &self.slopes else { return Ok(None) };
        let positions = || 0..self.len;
        let penalty = alibi::bias(slopes, positions(), positions(), slopes.device())?;
        let seen = penalty.f_select(0, 0)?.f_select(0, 0)?.f_ones_like()?.f_tril(0)?;
        Ok(Some(penalty.f_masked_fill(&seen.f_eq(0)?, f64::NEG_INFINITY)?))
    }

    /// As the kernels read it; `rotation` is that of the whole plan.
    pub(crate) fn relations(&self, rotation: Option<&Rotation>) -> Result<Relations> {
        if let Some(relations) = self.relations.get() {
            return Ok(relations.share());
        }
        let turns = rotation.map(Turns::of).transpose()?;
        let slopes = self.slopes.as_ref().map(|slopes| slopes.f_to_kind(Kind::Float));
        let slopes = slopes.transpose()?.map(|slopes| Vec::try_from(&slopes)).transpose()?;
        Ok(self.relations.get_or_init(|| Relations { turns, slopes }).share())
    }

    /// The same, for a closure that must own what it captures.
    pub(crate) fn share(&self) -> Self {
        let relations = self.relations.get().map(Relations::share);
        Self {
            len: self.len,
            slopes: self.slopes.as_ref().map(Tensor::shallow_clone),
            relations: relations.map_or_else(OnceCell::new, OnceCell::from),
        }
    }
}

impl Relations {
    pub(crate) fn query_turn(&self) -> Option<Turn<'_>> {
        self.turns.as_ref().map(|turns| turns.of_side(0))
    }

    pub(crate) fn key_turn(&self) -> Option<Turn<'_>> {
        self.turns.as_ref().map(|turns| turns.of_side(1))
    }

    /// How much the score falls with each token of distance, head by head.
    pub(crate) fn slopes(&self) -> Option<&[f32]> {
        self.slopes.as_deref()
    }

    fn share(&self) -> Self {
        Self { turns: self.turns.as_ref().map(Turns::share), slopes: self.slopes.clone() }
    }
}

impl Turns {
    fn of(rotation: &Rotation) -> Result<Self> {
        let pairs = match rotation.pairing() {
            Pairing::Interleaved => Pairs::Interleaved,
            Pairing::HalfSplit => Pairs::HalfSplit,
        };
        Ok(Self { pairs, tables: rotation.cos_and_sin()? })
    }

    fn of_side(&self, side: usize) -> Turn<'_> {
        let [cos, sin] = &self.tables[side];
        Turn { pairs: self.pairs, cos, sin }
    }

    fn share(&self) -> Self {
        let share = |tables: &[Tensor; 2]| [tables[0].shallow_clone(), tables[1].shallow_clone()];
        Self { pairs: self.pairs, tables: [share(&self.tables[0]), share(&self.tables[1])] }
    }
}
