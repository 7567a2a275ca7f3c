//! What the inputs of a model's linear maps look like, a few blocks at a time.

use std::collections::{BTreeMap, BTreeSet};

use forerun_tensors::ensure;

use super::CausalLm;
use crate::error::Result;
use crate::quantize::Hessian;

/// Hessians of a model's linear maps on some texts, worked out when they are asked for: what [`crate::quantize_folder`] and
/// [`CausalLm::pack`] want to be handed for GPTQ.
///
/// As many blocks as are chosen are observed together; for each such part the texts are read once more. In memory at a time are the Hessians of
/// one part, 4 bytes for each pair of input channels of each map. Parts follow the order of names (0, 1, 10, 11, .., 2), as files do.
#[derive(Debug)]
pub struct Calibration<'a> {
    model: &'a mut CausalLm,
    texts: Vec<&'a [i64]>,
    /// Which part each block, as it stands in names, belongs to.
    parts: BTreeMap<String, usize>,
    found: BTreeMap<String, Hessian>,
}

impl<'a> Calibration<'a> {
    /// On `texts`, token ids, each read from its beginning.
    ///
    /// # Errors
    /// [`forerun_tensors::Error::Config`] if there is no text or `blocks_at_once` is zero.
    pub fn new(
        model: &'a mut CausalLm,
        texts: Vec<&'a [i64]>,
        blocks_at_once: usize,
    ) -> Result<Self> {
        ensure(!texts.is_empty(), "texts", "at least one", "none")?;
        ensure(blocks_at_once > 0, "blocks_at_once", "positive", blocks_at_once)?;
        let blocks: BTreeSet<String> =
            model.projections().filter_map(|map| block_of(map.name())).map(str::to_owned).collect();
        let part = |(rank, block)| (block, rank / blocks_at_once);
        let parts = blocks.into_iter().enumerate().map(part).collect();
        Ok(Self { model, texts, parts, found: BTreeMap::new() })
    }

    /// The Hessian of the linear map `name`; none if no block has a map of that name. Each can be asked for once, and those of one
    /// part should be asked for together.
    ///
    /// # Errors
    /// As [`CausalLm::calibrate`].
    pub fn hessian(&mut self, name: &str) -> Result<Option<Hessian>> {
        if let Some(known) = self.found.remove(name) {
            return Ok(Some(known));
        }
        let known = self.model.projections().any(|map| map.name() == name);
        let part_of = |name: &str| block_of(name).and_then(|block| self.parts.get(block));
        let Some(part) = part_of(name).filter(|_| known) else { return Ok(None) };
        let chosen = |name: &str| part_of(name) == Some(part);
        self.found = self.model.calibrate(&self.texts, &chosen)?;
        Ok(self.found.remove(name))
    }
}

/// The number in `model.layers.NUMBER.self_attn.q_proj`.
fn block_of(name: &str) -> Option<&str> {
    let (_, rest) = name.split_once("layers.")?;
    rest.split('.').next()
}

#[cfg(test)]
mod tests;
