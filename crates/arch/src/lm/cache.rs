//! Keys and values of the tokens that a model has read.

use forerun_tensors::kernels::Held;
use forerun_tensors::{Error as TensorError, Result};
use tch::{Device, Kind, Tensor};

use super::CausalLm;
use super::attention::cache_kind;
use super::config::RopeRange;
use super::forward::CHUNK;

/// Fewer rows than this are not worth another allocation.
const MIN_CAPACITY: i64 = 64;

/// Bytes that are asked for at once where so many tokens are expected.
const RESERVED: i64 = 1 << 30;

/// What a [`CausalLm`] remembers of one sequence.
///
/// Keys are held rotated. What a sliding window can no longer show is dropped, so that memory does not grow beyond about twice the window.
/// Under LongRoPE the token ids are held too: when the text first becomes longer than the model's first training, all keys and values
/// are computed again with the other factors.
#[derive(Debug)]
pub struct LmCache {
    layers: Vec<Layer>,
    shape: Shape,
    /// Rows of a head in the buffers.
    capacity: i64,
    /// Rows of a head that are live.
    start: i64,
    end: i64,
    /// Position of the row at `start`.
    first: i64,
    pub(super) range: RopeRange,
    /// All tokens so far, where they may be needed again.
    pub(super) ids: Vec<i64>,
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    n_layers: i64,
    n_kv_heads: i64,
    head_dim: i64,
    window: Option<i64>,
    /// Tokens that are expected.
    room: i64,
    kind: Kind,
    device: Device,
}

/// Two buffers, `[kv_heads * capacity, head_dim]`.
#[derive(Debug)]
struct Layer {
    keys: Tensor,
    values: Tensor,
}

impl LmCache {
    /// An empty cache for one sequence of `model`, of `n_tokens` tokens if nothing comes in between: it then never takes more memory than
    /// those need. Any other number costs time or memory only: no more than 1 GiB is asked for before it is needed.
    #[must_use]
    pub fn new(model: &CausalLm, n_tokens: usize) -> Self {
        let config = model.config();
        let shape = Shape {
            n_layers: config.n_layers,
            n_kv_heads: config.n_kv_heads,
            head_dim: config.head_dim,
            window: config.sliding_window,
            room: i64::try_from(n_tokens).unwrap_or(i64::MAX),
            kind: cache_kind(model.kind(), model.device()),
            device: model.device(),
        };
        let (layers, ids, range) = (Vec::new(), Vec::new(), RopeRange::Short);
        Self { layers, shape, capacity: 0, start: 0, end: 0, first: 0, range, ids }
    }

    /// Tokens read so far: the position of the next one.
    #[must_use]
    pub fn position(&self) -> i64 {
        self.first + self.end - self.start
    }

    /// Position of the first token whose key is still held.
    #[must_use]
    pub fn first_position(&self) -> i64 {
        self.first
    }

    /// Forgets everything but the memory.
    pub fn clear(&mut self) {
        (self.start, self.end, self.first) = (0, 0, 0);
        self.ids.clear();
        self.range = RopeRange::Short;
    }

    /// Drops what the next token can no longer see and makes room for `n_new`.
    pub(super) fn prepare(&mut self, n_new: i64) -> Result<()> {
        if let Some(window) = self.shape.window {
            let needed = (self.position() - window + 1).max(self.first);
            let dropped = (needed - self.first).min(self.end - self.start);
            self.start += dropped;
            self.first += dropped;
        }
        if self.end + n_new > self.capacity { self.reallocate(n_new) } else { Ok(()) }
    }

    /// Moves what is live to the front of new buffers, which are larger unless half of them is free.
    fn reallocate(&mut self, n_new: i64) -> Result<()> {
        let live = self.end - self.start;
        let needed = live + n_new;
        let limit = self.shape.window.map_or(i64::MAX, |window| 2 * (window + CHUNK));
        let room = self.shape.room.min(limit);
        let capacity = match 2 * needed <= self.capacity {
            true => self.capacity,
            false if needed <= room && self.capacity < room => {
                (2 * needed).max(RESERVED / self.shape.row_bytes() as i64).min(room)
            }
            false => (2 * needed).max(MIN_CAPACITY),
        };
        let Shape { n_layers, n_kv_heads: heads, head_dim, kind, device, .. } = self.shape;
        let moved = |buffer: Option<&Tensor>| -> Result<Tensor> {
            let larger = Tensor::f_empty([heads * capacity, head_dim], (kind, device))?;
            if let Some(buffer) = buffer.filter(|_| live > 0) {
                let by_head =
                    |x: &Tensor, from| x.f_unflatten(0, [heads, -1])?.f_narrow(1, from, live);
                by_head(&larger, 0)?.f_copy_(&by_head(buffer, self.start)?)?;
            }
            Ok(larger)
        };
        let layer = |index: i64| {
            let old = self.layers.get(index as usize);
            Ok(Layer {
                keys: moved(old.map(|layer| &layer.keys))?,
                values: moved(old.map(|layer| &layer.values))?,
            })
        };
        // All of them before the first is replaced: a failure must not leave layers of two capacities.
        self.layers = (0..n_layers).map(layer).collect::<Result<_>>()?;
        (self.capacity, self.start, self.end) = (capacity, 0, live);
        Ok(())
    }

    /// Stores new keys and values of a layer, `[1, kv_heads, new, head_dim]`, where [`Self::prepare`] made room; returns all live ones.
    pub(super) fn extend(&self, layer: usize, k: &Tensor, v: &Tensor) -> Result<(Tensor, Tensor)> {
        let n_new = k.size4()?.2;
        let Layer { keys, values } = self.layer(layer)?;
        let store = |buffer: &Tensor, new: &Tensor| -> Result<Tensor> {
            let by_head = buffer.f_unflatten(0, [self.shape.n_kv_heads, -1])?.f_unsqueeze(0)?;
            by_head.f_narrow(2, self.end, n_new)?.f_copy_(new)?;
            Ok(by_head.f_narrow(2, self.start, self.end + n_new - self.start)?)
        };
        Ok((store(keys, k)?, store(values, v)?))
    }

    /// What the kernel for one new token needs of a layer.
    pub(super) fn held(&self, layer: usize) -> Result<Held<'_>> {
        let Layer { keys, values } = self.layer(layer)?;
        Ok(Held { keys, values, first: self.start, row: self.end })
    }

    fn layer(&self, index: usize) -> Result<&Layer> {
        let missing = || TensorError::Foreign("a cache that was not prepared".to_owned());
        self.layers.get(index).ok_or_else(missing)
    }

    /// Counts the tokens that every layer has now stored.
    pub(super) fn advance(&mut self, n_new: i64) {
        self.end += n_new;
    }

    /// Bytes of the buffers.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        if self.layers.is_empty() { 0 } else { self.shape.row_bytes() * self.capacity as usize }
    }
}

impl Shape {
    /// Of a token, in all layers.
    fn row_bytes(&self) -> usize {
        let channels = (self.n_kv_heads * self.head_dim) as usize;
        2 * self.n_layers as usize * channels * self.kind.elt_size_in_bytes()
    }
}
