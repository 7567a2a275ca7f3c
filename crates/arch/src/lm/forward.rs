//! Running a model: over whole sequences, with a graph, or token by token with a cache.

use forerun_tensors::{Error as TensorError, ensure};
use tch::{Kind, Tensor};

use super::attention::{Context, Sight, Work};
use super::block::Stream;
use super::cache::LmCache;
use super::rope::RopeTable;
use super::{CausalLm, Pass};
use crate::error::Result;

/// Tokens of a prompt that go through the model at once: enough for the products, few enough for memory.
pub(super) const CHUNK: i64 = 512;

impl CausalLm {
    /// Next-token logits of `tokens`, i64 `[batch, seq]`: f32 `[batch, seq, vocab]`. Differentiable: where a weight requires a
    /// gradient, it is recorded. Texts of different lengths may be filled up on the right, which no earlier token sees; but LongRoPE goes by
    /// `seq`, so that the texts of a batch that is longer than the model's first training are all read with the factors for long ones.
    ///
    /// # Errors
    /// [`TensorError::Shape`] if `tokens` is not a non-empty matrix; [`TensorError::Tch`] if an id is not in the vocabulary.
    pub fn logits(&self, tokens: &Tensor) -> Result<Tensor> {
        let (batch, seq) = self.batch_of(tokens)?;
        let pass = Pass::differentiable(self.kind);
        let hidden = self.whole(tokens, &mut |_| Ok(()))?;
        Ok(self.project(&hidden, pass)?.f_view([batch, seq, -1])?)
    }

    /// As [`Self::logits`], of texts of different lengths that are filled up on the left: `padding` says by how many tokens each. Positions
    /// count from a text's own beginning, and nothing but itself sees a token that fills up, whose logits mean nothing. LongRoPE
    /// goes by the longest text.
    ///
    /// # Errors
    /// As [`Self::logits`]; [`TensorError::Config`] if a padding is negative or leaves nothing, there is not one for each text, or
    /// the model is a Phi-3-small, whose blocks would be shifted.
    pub fn logits_padded(&self, tokens: &Tensor, padding: &[i64]) -> Result<Tensor> {
        let (batch, seq) = self.batch_of(tokens)?;
        let want = format!("one a text, {batch}");
        ensure(padding.len() as i64 == batch, "padding", &want, padding.len())?;
        ensure(!self.is_sparse(), "family", "one without block-sparse attention", "Phi3Small")?;
        for padding in padding {
            ensure((0..seq).contains(padding), "padding", &format!("in 0..{seq}"), padding)?;
        }
        let longest = seq - padding.iter().min().copied().unwrap_or_default();
        let padding = Tensor::f_from_slice(padding)?.f_to_device(self.device)?;
        let place = Tensor::f_arange(seq, (Kind::Int64, self.device))?;
        let position = place.f_sub(&padding.f_unsqueeze(1)?)?.f_clamp_min(0)?.f_flatten(0, 1)?;
        let table = self.rope.rows(self.rope.range(longest), 0..seq)?;
        let gather =
            |table: &Tensor| table.f_index_select(0, &position)?.f_unflatten(0, [batch, seq]);
        let rotation = RopeTable { cos: gather(&table.cos)?, sin: gather(&table.sin)? };
        let work = Work::Whole { batch, sight: Sight::padded(seq, padding) };
        let pass = Pass::differentiable(self.kind);
        let x = self.embed(&tokens.f_flatten(0, 1)?)?;
        let hidden = self.through(x, Context { pass, rotation, work }, &mut |_| Ok(()))?;
        Ok(self.project(&hidden, pass)?.f_view([batch, seq, -1])?)
    }

    /// The last hidden states of `tokens`, i64 `[batch, seq]`: `[batch, seq, d_model]` of the weights' kind, after the final
    /// norm. Differentiable, as [`Self::logits`].
    ///
    /// # Errors
    /// As [`Self::logits`].
    pub fn hidden(&self, tokens: &Tensor) -> Result<Tensor> {
        let (batch, seq) = self.batch_of(tokens)?;
        Ok(self.whole(tokens, &mut |_| Ok(()))?.f_view([batch, seq, -1])?)
    }

    /// The residual stream of `tokens`, i64 `[batch, seq]`: the embeddings, then the output of each block, `n_layers + 1` tensors, f32
    /// `[batch, seq, d_model]`.
    ///
    /// # Errors
    /// As [`Self::logits`].
    pub fn residual_stream(&self, tokens: &Tensor) -> Result<Vec<Tensor>> {
        let (batch, seq) = self.batch_of(tokens)?;
        let mut all = Vec::new();
        let _ = self.whole(tokens, &mut |stream| {
            all.push(stream.sum()?.f_view([batch, seq, -1])?);
            Ok(())
        })?;
        Ok(all)
    }

    /// Cosines and sines by which a text of `seq_len` tokens is turned, with their scale: two f32 tables `[seq_len, rotary_dim / 2]`.
    ///
    /// # Errors
    /// [`TensorError::Config`] if `seq_len` is not positive.
    pub fn rotation(&self, seq_len: i64) -> Result<(Tensor, Tensor)> {
        ensure(seq_len > 0, "seq_len", "positive", seq_len)?;
        let RopeTable { cos, sin } = self.rope.rows(self.rope.range(seq_len), 0..seq_len)?;
        Ok((cos, sin))
    }

    /// Reads the tokens that follow those in `cache`, without a graph: logits after the last one, f32 `[vocab]`.
    ///
    /// # Errors
    /// [`TensorError::Config`] if there is no token or one is not in the vocabulary. After any other error the cache is not to be used again.
    pub fn extend(&self, tokens: &[i64], cache: &mut LmCache) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        let mut last = None;
        self.read(tokens, cache, &mut |hidden, pass| {
            let (n, _) = hidden.size2()?;
            last = Some((hidden.f_narrow(0, n - 1, 1)?, pass));
            Ok(())
        })?;
        let Some((hidden, pass)) = last else { return Err(no_tokens()) };
        // A single row is few, whatever the chunk was.
        let one = Pass::inference(self.device, 1, self.kind);
        let hidden = hidden.f_to_kind(if pass.fast { one.kind } else { pass.kind })?;
        Ok(self.project(&hidden, one)?.f_flatten(0, -1)?)
    }

    /// Reads one more token of each sequence, without a graph: logits after each, f32 `[sequences, vocab]`.
    ///
    /// # Errors
    /// As [`Self::extend`]; [`TensorError::Config`] if there are not as many tokens as caches.
    pub fn step(&self, tokens: &[i64], caches: &mut [&mut LmCache]) -> Result<Tensor> {
        let want = format!("as many as caches, {}", caches.len());
        ensure(tokens.len() == caches.len() && !tokens.is_empty(), "tokens", &want, tokens.len())?;
        let stays = |cache: &&mut LmCache| self.rope.range(cache.position() + 1) == cache.range;
        let pass = Pass::inference(self.device, tokens.len() as i64, self.kind);
        if !pass.fast || self.is_sparse() || !caches.iter().all(stays) {
            let each =
                tokens.iter().zip(caches).map(|(&token, cache)| self.extend(&[token], cache));
            return Ok(Tensor::f_stack(&each.collect::<Result<Vec<_>>>()?, 0)?);
        }
        let _no_grad = tch::no_grad_guard();
        self.check(tokens)?;
        let hidden = self.one_each(tokens, caches, pass)?;
        self.project(&hidden, pass)
    }

    /// Hidden states after the final norm of every chunk of `tokens` in turn, `[n, d_model]`.
    pub(super) fn read(
        &self,
        tokens: &[i64],
        cache: &mut LmCache,
        on_chunk: &mut dyn FnMut(Tensor, Pass) -> Result<()>,
    ) -> Result<()> {
        self.check(tokens)?;
        let range = self.rope.range(cache.position() + tokens.len() as i64);
        let mut again = Vec::new();
        if range != cache.range && cache.position() > 0 {
            again.append(&mut cache.ids);
            again.extend(tokens);
            cache.clear();
        }
        cache.range = range;
        let tokens = if again.is_empty() { tokens } else { &again };
        for chunk in tokens.chunks(CHUNK as usize) {
            let pass = Pass::inference(self.device, chunk.len() as i64, self.kind);
            on_chunk(self.read_chunk(chunk, cache, pass)?, pass)?;
        }
        Ok(())
    }

    fn read_chunk(&self, tokens: &[i64], cache: &mut LmCache, pass: Pass) -> Result<Tensor> {
        let n_new = tokens.len() as i64;
        if n_new == 1 && pass.fast && !self.is_sparse() {
            return self.one_each(tokens, &mut [cache], pass);
        }
        cache.prepare(n_new)?;
        let new = cache.position()..cache.position() + n_new;
        let keys = cache.first_position()..new.end;
        let rotation = self.rope.rows(cache.range, new.clone())?;
        let sight = Sight::new(new, keys, self.device);
        let x = self.embed(&Tensor::f_from_slice(tokens)?)?;
        let work = Work::Next { cache: &mut *cache, sight };
        let hidden = self.through(x, Context { pass, rotation, work }, &mut |_| Ok(()))?;
        self.remember(tokens, &mut [cache]);
        Ok(hidden)
    }

    fn one_each(&self, tokens: &[i64], caches: &mut [&mut LmCache], pass: Pass) -> Result<Tensor> {
        let mut rows = Vec::with_capacity(caches.len());
        for cache in caches.iter_mut() {
            cache.prepare(1)?;
            let position = cache.position();
            rows.push(self.rope.rows(cache.range, position..position + 1)?);
        }
        let rotation = match rows.pop() {
            Some(only) if rows.is_empty() => only,
            last => {
                rows.extend(last);
                let join = |part: fn(&RopeTable) -> &Tensor| {
                    Tensor::f_cat(&rows.iter().map(part).collect::<Vec<_>>(), 0)
                };
                RopeTable { cos: join(|row| &row.cos)?, sin: join(|row| &row.sin)? }
            }
        };
        let x = self.embed(&Tensor::f_from_slice(tokens)?)?;
        let work = Work::One { caches: &mut *caches };
        let hidden = self.through(x, Context { pass, rotation, work }, &mut |_| Ok(()))?;
        if let [cache] = caches {
            self.remember(tokens, &mut [cache]);
        } else {
            for (&token, cache) in tokens.iter().zip(caches) {
                self.remember(&[token], &mut [cache]);
            }
        }
        Ok(hidden)
    }

    /// Counts what one sequence has read.
    fn remember(&self, tokens: &[i64], cache: &mut [&mut LmCache; 1]) {
        let [cache] = cache;
        cache.advance(tokens.len() as i64);
        if self.rope.has_ranges() {
            cache.ids.extend(tokens);
        }
    }

    fn whole(
        &self,
        tokens: &Tensor,
        visit: &mut dyn FnMut(&Stream) -> Result<()>,
    ) -> Result<Tensor> {
        let (batch, seq) = self.batch_of(tokens)?;
        let pass = Pass::differentiable(self.kind);
        let rotation = self.rope.rows(self.rope.range(seq), 0..seq)?;
        let work = Work::Whole { batch, sight: Sight::new(0..seq, 0..seq, self.device) };
        let x = self.embed(&tokens.f_flatten(0, 1)?)?;
        self.through(x, Context { pass, rotation, work }, visit)
    }

    /// All blocks and the final norm.
    fn through(
        &self,
        x: Tensor,
        mut context: Context<'_, '_>,
        visit: &mut dyn FnMut(&Stream) -> Result<()>,
    ) -> Result<Tensor> {
        let mut stream = Stream { x, change: None };
        visit(&stream)?;
        for (layer, block) in self.blocks.iter().enumerate() {
            stream = block.forward(layer, stream, &mut context)?;
            visit(&stream)?;
        }
        Ok(stream.normed(&self.final_norm, &context)?.1)
    }

    /// f32 `[rows, d_model]`.
    fn embed(&self, tokens: &Tensor) -> Result<Tensor> {
        let tokens = tokens.f_to_device(self.device)?;
        let x = self.embedding.look_up(&tokens)?;
        match self.config.phi3_small() {
            Some(small) => Ok(x.f_mul_scalar(small.mup_embedding_multiplier)?),
            None => Ok(x),
        }
    }

    /// f32 `[rows, vocab]`.
    pub(super) fn project(&self, hidden: &Tensor, pass: Pass) -> Result<Tensor> {
        let mut logits = self.head.run(hidden, pass)?.f_to_kind(Kind::Float)?;
        if self.logit_scale() != 1.0 {
            logits = logits.f_mul_scalar(self.logit_scale())?;
        }
        match &self.barred {
            Some(ids) => Ok(logits.f_index_fill(-1, ids, f64::NEG_INFINITY)?),
            None => Ok(logits),
        }
    }

    fn is_sparse(&self) -> bool {
        self.config.phi3_small().is_some()
    }

    fn batch_of(&self, tokens: &Tensor) -> Result<(i64, i64)> {
        match tokens.size().as_slice() {
            &[batch, seq] if batch > 0 && seq > 0 && tokens.kind() == Kind::Int64 => {
                Ok((batch, seq))
            }
            size => {
                let want = "[batch, seq], i64, not empty".to_owned();
                Err(TensorError::Shape { arg: "tokens", want, got: size.to_vec() }.into())
            }
        }
    }

    fn check(&self, tokens: &[i64]) -> Result<()> {
        let vocab = self.config.vocab_size;
        let outside = tokens.iter().find(|token| !(0..vocab).contains(*token));
        if tokens.is_empty() {
            return Err(no_tokens());
        }
        match outside {
            None => Ok(()),
            Some(token) => {
                Ok(ensure(false, "token id", &format!("from 0 to {}", vocab - 1), token)?)
            }
        }
    }
}

fn no_tokens() -> crate::Error {
    let (want, got) = ("at least one".to_owned(), "none".to_owned());
    TensorError::Config { field: "tokens".to_owned(), want, got }.into()
}
