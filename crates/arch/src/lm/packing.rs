//! Packed weights in a model, and what calibrating them needs.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use forerun_tensors::ensure;
use forerun_tensors::kernels::{PackedMatrix, WeightFormat};
use tch::Tensor;

use super::projection::Map;
use super::{CausalLm, Projection, Table};
use crate::error::Result;
use crate::quantize::{Hessian, Method, PackedLinear, QuantizeConfig, gptq, round_to_nearest};

impl CausalLm {
    /// What the inputs of the linear maps that `chosen` accepts by name look like on `texts`, token ids, each read from its beginning. All
    /// Hessians are in memory together, 4 bytes for each pair of input channels: a large model is calibrated a few layers at a time.
    ///
    /// # Errors
    /// [`forerun_tensors::Error::Config`] if there is no text, or as [`Self::extend`].
    pub fn calibrate(
        &mut self,
        texts: &[&[i64]],
        chosen: &dyn Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, Hessian>> {
        let go_on = &mut |_, _| ControlFlow::Continue(());
        Ok(self.calibrate_watched(texts, chosen, go_on)?.unwrap_or_default())
    }

    /// As [`Self::calibrate`]; before each text `on_text` is told how many are read and how many there are, and may end the work: none then.
    ///
    /// # Errors
    /// As [`Self::calibrate`].
    pub fn calibrate_watched(
        &mut self,
        texts: &[&[i64]],
        chosen: &dyn Fn(&str) -> bool,
        on_text: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Option<BTreeMap<String, Hessian>>> {
        ensure(!texts.is_empty(), "texts", "at least one", "none")?;
        for map in self.projections_mut().filter(|map| chosen(map.name())) {
            map.observe(true)?;
        }
        let mut whole = true;
        let mut read = Ok(());
        for (n_read, text) in texts.iter().enumerate() {
            whole = on_text(n_read, texts.len()).is_continue();
            if !whole {
                break;
            }
            read = self.log_probs(text).map(|_| ());
            if read.is_err() {
                break;
            }
        }
        let mut found = BTreeMap::new();
        for map in self.projections_mut() {
            if let Some(hessian) = map.observe(false)? {
                found.insert(map.name().to_owned(), hessian);
            }
        }
        read.map(|()| whole.then_some(found))
    }

    /// Packs the linear maps of the blocks, the embedding table and the head, in memory: what [`crate::quantize_folder`] does in files.
    /// `hessian` is asked for the inputs of a map by its name, if the method needs them.
    ///
    /// # Errors
    /// [`forerun_tensors::Error::Config`] with the name of a map that is packed already or has no Hessian, or if weights cannot be
    /// rounded. The maps before are packed then.
    pub fn pack(
        &mut self,
        config: &QuantizeConfig,
        hessian: &mut dyn FnMut(&str) -> Result<Option<Hessian>>,
    ) -> Result<()> {
        for map in self.projections_mut() {
            let matrix = match config.method {
                Method::Nearest => round_to_nearest(weight_of(map)?, config.blocks)?,
                Method::Gptq(options) => {
                    let found = hessian(map.name())?;
                    ensure(found.is_some(), map.name(), "calibrated", "no hessian")?;
                    let Some(found) = found else { continue };
                    gptq(weight_of(map)?, &found, config.blocks, &options)?
                }
            };
            exchange(map, matrix)?;
        }
        match config.tables {
            Some(format) => self.pack_tables(format),
            None => Ok(()),
        }
    }

    /// Embedding and head, which stay the same numbers if they are tied.
    fn pack_tables(&mut self, format: WeightFormat) -> Result<()> {
        let Table::Plain(table) = &self.embedding else {
            return Ok(ensure(false, "embedding", "a matrix of numbers", "a packed one")?);
        };
        let table = round_to_nearest(table, format)?;
        let head = match self.config.tie_embeddings {
            true => table.share(),
            false => round_to_nearest(weight_of(&self.head)?, format)?,
        };
        exchange(&mut self.head, head)?;
        self.embedding = Table::Packed(table);
        Ok(())
    }
}

/// The weights of `map` as numbers.
fn weight_of(map: &Projection) -> Result<&Tensor> {
    match map.map() {
        Map::Plain(linear) => Ok(&linear.weight),
        Map::Packed(packed) => {
            ensure(false, map.name(), "a matrix of numbers", "a packed one")?;
            Ok(packed.matrix.data())
        }
    }
}

fn exchange(map: &mut Projection, matrix: PackedMatrix) -> Result<()> {
    let bias = map.linear().and_then(|linear| linear.bias.as_ref()).map(Tensor::shallow_clone);
    map.exchange(PackedLinear { matrix, bias })?;
    Ok(())
}

#[cfg(test)]
mod tests;
