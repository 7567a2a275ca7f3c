//! What the inputs of a model's linear maps look like, a few blocks at a time.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use forerun_tensors::ensure;

use super::CausalLm;
use crate::error::Result;
use crate::quantize::Hessian;

/// Hessians of a model's linear maps on some texts, worked out when they are asked for: what [`crate::quantize_folder`] and
/// [`CausalLm::pack`] want to be handed for GPTQ.
///
/// As many neighbouring blocks as are chosen are observed together; for each such part the texts are read once. In memory at a time are the
/// Hessians of one part, 4 bytes for each pair of input channels of each map, and of those before it that have not been asked for yet:
/// files are in the order of names (0, 1, 10, 11, .., 2). Of Phi-3-mini a block's take 4 (3 · 3072² + 8192²) bytes, 382 MB; all 32 blocks' together
/// would take 12.2 GB.
///
/// Reading a text goes through every weight once. They lie in mapped files, so that a model that is larger than memory can be read, one block's weights
/// at a time; but then each text of each part reads all of them from the disk. Where the model does not fit, few long texts and few parts are
/// what makes it bearable.
#[derive(Debug)]
pub struct Calibration<'a> {
    model: &'a mut CausalLm,
    texts: Vec<&'a [i64]>,
    blocks_at_once: usize,
    found: BTreeMap<String, Hessian>,
    n_readings: usize,
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
        Ok(Self { model, texts, blocks_at_once, found: BTreeMap::new(), n_readings: 0 })
    }

    /// The Hessian of the linear map `name`; none if no block has a map of that name. For a second time the texts are read again.
    ///
    /// # Errors
    /// As [`CausalLm::calibrate`].
    pub fn hessian(&mut self, name: &str) -> Result<Option<Hessian>> {
        self.hessian_watched(name, &mut |_, _| ControlFlow::Continue(()))
    }

    /// As [`Self::hessian`]; where texts must be read for it, `on_text` is told before each how many were and how many there are, and may
    /// end the reading: none then.
    ///
    /// # Errors
    /// As [`CausalLm::calibrate`].
    pub fn hessian_watched(
        &mut self,
        name: &str,
        on_text: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Option<Hessian>> {
        if let Some(known) = self.found.remove(name) {
            return Ok(Some(known));
        }
        let part_of = |name: &str| block_of(name).map(|block| block / self.blocks_at_once);
        let known = self.model.projections().any(|map| map.name() == name);
        let Some(part) = part_of(name).filter(|_| known) else { return Ok(None) };
        let chosen = |name: &str| part_of(name) == Some(part);
        let read = self.model.calibrate_watched(&self.texts, &chosen, on_text)?;
        let Some(found) = read else { return Ok(None) };
        self.found.extend(found);
        self.n_readings += 1;
        Ok(self.found.remove(name))
    }

    /// How often the texts have been read so far.
    #[must_use]
    pub fn n_readings(&self) -> usize {
        self.n_readings
    }
}

/// The number in `model.layers.NUMBER.self_attn.q_proj`.
fn block_of(name: &str) -> Option<usize> {
    let (_, rest) = name.split_once("layers.")?;
    rest.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests;
