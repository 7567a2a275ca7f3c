//! Keys and values of earlier tokens, so that a new token costs one row instead of a forward pass.
//!
//! Keys are kept as they leave their projection, before any rotation: positions can then be measured from the
//! first key that is still held, which is exact for RoPE and xPos at any length, and what reference
//! implementations store compares directly. Keys that the mask can never show again are dropped, so that under
//! blockwise causal attention or a sliding window memory does not grow with the text.

use forerun_tensors::Mask;
use tch::{Kind, Tensor};

use crate::decoder::Decoder;
use crate::error::{Error, Result};

/// Fewer rows than this are not worth another allocation.
const MIN_CAPACITY: i64 = 64;

/// What a [`Decoder`] remembers of the tokens it has seen, for all layers.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<Option<Layer>>,
    batch_size: i64,
    /// Rows of the buffers.
    capacity: i64,
    /// Buffer rows that hold live keys.
    start: i64,
    end: i64,
    /// Absolute position of the row at `start`.
    first: i64,
}

/// Two buffers, `[batch, kv_heads, capacity, head_dim]`.
#[derive(Debug)]
struct Layer {
    keys: Tensor,
    values: Tensor,
}

/// Where one layer puts its new keys and values.
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    layer: &'a mut Option<Layer>,
    capacity: i64,
    start: i64,
    end: i64,
}

impl KvCache {
    /// An empty cache for `batch_size` sequences of `model`.
    #[must_use]
    pub fn new(model: &Decoder, batch_size: i64) -> Self {
        let layers = (0..model.config().n_layers).map(|_| None).collect();
        Self { layers, batch_size, capacity: 0, start: 0, end: 0, first: 0 }
    }

    /// Sequences side by side.
    #[must_use]
    pub fn batch_size(&self) -> i64 {
        self.batch_size
    }

    pub(crate) fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// Tokens seen so far: the position of the next one.
    #[must_use]
    pub fn position(&self) -> i64 {
        self.first + self.len()
    }

    /// Tokens whose keys and values are held.
    #[must_use]
    pub fn len(&self) -> i64 {
        self.end - self.start
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Position of the first token that is held.
    #[must_use]
    pub fn first_position(&self) -> i64 {
        self.first
    }

    /// Keys (before rotation) and values of a layer, each `[batch, kv_heads, held, head_dim]`; none
    /// before the first step or for a layer that does not exist.
    ///
    /// # Errors
    /// [`Error::Tensors`] if libtorch refuses.
    pub fn layer(&self, index: usize) -> Result<Option<(Tensor, Tensor)>> {
        let Some(Some(layer)) = self.layers.get(index) else { return Ok(None) };
        let live = |buffer: &Tensor| buffer.f_narrow(2, self.start, self.len());
        Ok(Some((live(&layer.keys)?, live(&layer.values)?)))
    }

    /// Drops what `mask` can no longer show and makes room for `n_new` tokens.
    pub(crate) fn prepare(&mut self, mask: Mask, n_new: i64) -> Result<()> {
        let needed = mask.first_key(self.position());
        if needed < self.first {
            let reason = format!(
                "position {} under {mask:?} sees keys from {needed} on, but those before {} were dropped",
                self.position(),
                self.first,
            );
            return Err(Error::Cache { reason });
        }
        let dropped = (needed - self.first).min(self.len());
        self.start += dropped;
        self.first += dropped;
        if self.end + n_new > self.capacity { self.reallocate(n_new) } else { Ok(()) }
    }

    /// Moves what is live to the front of new buffers, which are larger unless half of them is free.
    fn reallocate(&mut self, n_new: i64) -> Result<()> {
        let live = self.len();
        let needed = (2 * (live + n_new)).max(MIN_CAPACITY);
        let capacity = if needed <= self.capacity { self.capacity } else { needed };
        let moved = |buffer: &Tensor| -> Result<Tensor> {
            let (batch, heads, _, head_dim) = buffer.size4()?;
            let options = (buffer.kind(), buffer.device());
            let larger = Tensor::f_empty([batch, heads, capacity, head_dim], options)?;
            larger.f_narrow(2, 0, live)?.f_copy_(&buffer.f_narrow(2, self.start, live)?)?;
            Ok(larger)
        };
        let moved = |layer: &Option<Layer>| match layer {
            Some(Layer { keys, values }) => {
                Ok(Some(Layer { keys: moved(keys)?, values: moved(values)? }))
            }
            None => Ok(None),
        };
        // All of them before the first is replaced: a failure must not leave layers of two capacities.
        self.layers = self.layers.iter().map(moved).collect::<Result<_>>()?;
        (self.capacity, self.start, self.end) = (capacity, 0, live);
        Ok(())
    }

    /// The slot of layer `index` for the tokens that [`Self::prepare`] made room for.
    pub(crate) fn slot(&mut self, index: usize) -> Option<Slot<'_>> {
        let layer = self.layers.get_mut(index)?;
        Some(Slot { layer, capacity: self.capacity, start: self.start, end: self.end })
    }

    /// Counts the tokens that every layer has now stored.
    pub(crate) fn advance(&mut self, n_new: i64) {
        self.end += n_new;
    }
}

impl Slot<'_> {
    /// Stores new keys and values, `[batch, kv_heads, new, head_dim]`; returns all live ones.
    pub(crate) fn extend(
        self,
        k: &Tensor,
        v: &Tensor,
    ) -> forerun_tensors::Result<(Tensor, Tensor)> {
        let Self { layer, capacity, start, end } = self;
        let (batch, heads, n_new, head_dim) = k.size4()?;
        let buffer =
            |kind: Kind| Tensor::f_empty([batch, heads, capacity, head_dim], (kind, k.device()));
        let layer = match layer {
            Some(layer) => layer,
            None => layer.insert(Layer { keys: buffer(k.kind())?, values: buffer(v.kind())? }),
        };
        let store = |buffer: &Tensor, new: &Tensor| {
            buffer.f_narrow(2, end, n_new)?.f_copy_(new)?;
            buffer.f_narrow(2, start, end + n_new - start)
        };
        Ok((store(&layer.keys, k)?, store(&layer.values, v)?))
    }
}

#[cfg(test)]
mod tests;
