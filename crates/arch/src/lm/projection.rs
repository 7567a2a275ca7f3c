//! Linear maps of a model, which can be exchanged for others, and several that read the same input.

use std::cell::RefCell;

use forerun_tensors::kernels::{Factor, few_rows};
use forerun_tensors::{Error as TensorError, Result, ensure};
use tch::{Kind, Tensor};

use super::pass::Pass;
use crate::linear::Linear;
use crate::lora::Adapter;
use crate::quantize::{Hessian, PackedLinear};

/// A linear map of a model under its name in the checkpoint.
#[derive(Debug)]
pub struct Projection {
    name: String,
    d_in: i64,
    d_out: i64,
    map: Map,
    adapter: Option<Adapter>,
    /// What has come in, while somebody calibrates.
    seen: Option<RefCell<Hessian>>,
}

/// How the weights of a [`Projection`] are held.
#[derive(Debug)]
#[non_exhaustive]
pub enum Map {
    /// A matrix as it is.
    Plain(Linear),
    /// 4 or 8 bits a weight.
    Packed(PackedLinear),
}

impl Projection {
    /// A map that the checkpoint calls `name`, without `.weight`.
    ///
    /// # Errors
    /// [`TensorError::Shape`] if the weight is not a matrix, or the bias does not fit it.
    pub fn new(name: impl Into<String>, map: impl Into<Map>) -> Result<Self> {
        let map = map.into();
        let [d_out, d_in] = map.size()?;
        Ok(Self { name: name.into(), d_in, d_out, map, adapter: None, seen: None })
    }

    /// The name in the checkpoint, without `.weight`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Channels that it reads.
    #[must_use]
    pub fn d_in(&self) -> i64 {
        self.d_in
    }

    /// Channels that it writes.
    #[must_use]
    pub fn d_out(&self) -> i64 {
        self.d_out
    }

    /// How the weights are held.
    #[must_use]
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// The matrix, if it is held as one.
    #[must_use]
    pub fn linear(&self) -> Option<&Linear> {
        match &self.map {
            Map::Plain(linear) => Some(linear),
            Map::Packed(_) => None,
        }
    }

    /// Puts another map in the place of this one's weights, and returns those.
    ///
    /// # Errors
    /// [`TensorError::Config`] if it has another size, or an adapter is merged into the weights.
    pub fn exchange(&mut self, map: impl Into<Map>) -> Result<Map> {
        let map = map.into();
        let (own, got) = ([self.d_out, self.d_in], map.size()?);
        let size = |size: [i64; 2]| format!("{size:?}");
        ensure(got == own, &format!("size of `{}`", self.name), &size(own), size(got))?;
        let merged = self.adapter.as_ref().is_some_and(Adapter::is_merged);
        ensure(!merged, &format!("adapter of `{}`", self.name), "not merged", "merged")?;
        Ok(std::mem::replace(&mut self.map, map))
    }

    /// The adapter on top.
    #[must_use]
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    pub(crate) fn adapter_mut(&mut self) -> Option<&mut Adapter> {
        self.adapter.as_mut()
    }

    /// Puts an adapter on top, or none; returns the one that was there, taken out of the weights if it was merged.
    ///
    /// # Errors
    /// [`TensorError::Config`] if it is for a map of another size, or merged into another.
    pub fn set_adapter(&mut self, adapter: Option<Adapter>) -> Result<Option<Adapter>> {
        if let Some(adapter) = &adapter {
            let (own, got) = ([self.d_out, self.d_in], adapter.size());
            let (field, want) = (format!("adapter of `{}`", self.name), format!("for {own:?}"));
            ensure(got == own, &field, &want, format!("{got:?}"))?;
            ensure(!adapter.is_merged(), &field, "not merged", "merged")?;
        }
        self.unmerge();
        Ok(std::mem::replace(&mut self.adapter, adapter))
    }

    /// Adds the adapter's share to the weights, which costs nothing from then on. Nothing happens without an adapter.
    ///
    /// # Errors
    /// [`TensorError::Config`] if the weights are packed: the sum would have to be rounded again.
    pub fn merge(&mut self) -> Result<()> {
        match (&mut self.adapter, &mut self.map) {
            (Some(adapter), Map::Plain(linear)) => adapter.merge(&mut linear.weight),
            (Some(_), Map::Packed(_)) => {
                let field = format!("weights of `{}`", self.name);
                ensure(false, &field, "numbers, to merge an adapter into", "packed")
            }
            (None, _) => Ok(()),
        }
    }

    /// Puts the weights back that were there before [`Self::merge`], bit for bit.
    pub fn unmerge(&mut self) {
        if let (Some(adapter), Map::Plain(linear)) = (&mut self.adapter, &mut self.map) {
            adapter.unmerge(&mut linear.weight);
        }
    }

    /// From now on, or no longer, collects what [`crate::gptq`] wants to know of the inputs; returns what has been
    /// collected so far.
    ///
    /// # Errors
    /// [`TensorError::Tch`] if there is no memory for it.
    pub fn observe(&mut self, on: bool) -> Result<Option<Hessian>> {
        let new = if on { Some(RefCell::new(Hessian::new(self.d_in)?)) } else { None };
        Ok(std::mem::replace(&mut self.seen, new).map(RefCell::into_inner))
    }

    /// `x` is `[rows, in]` of any floating-point kind; the result is `[rows, out]` of the same kind.
    ///
    /// # Errors
    /// [`TensorError::Tch`] or [`TensorError::Config`] if `x` has other channels.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let base = match &self.map {
            Map::Plain(linear) => linear.forward_narrow(x)?,
            Map::Packed(packed) => packed.forward(x)?,
        };
        self.finish(base, x)
    }

    /// What an adapter adds to the product; and the input is looked at.
    fn finish(&self, base: Tensor, x: &Tensor) -> Result<Tensor> {
        if let Some(seen) = &self.seen {
            seen.borrow_mut().add(x)?;
        }
        match &self.adapter {
            Some(adapter) => adapter.add(base, x),
            None => Ok(base),
        }
    }

    /// As [`Self::forward`], by the kernel for few rows where the pass allows it.
    pub(crate) fn run(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        match self.factor() {
            Some(factor) if pass.few => self.finish(few_rows(x, &[factor])?.remove(0), x),
            _ => self.forward(x),
        }
    }

    fn factor(&self) -> Option<Factor<'_>> {
        let Linear { weight, bias } = self.linear()?;
        Some(Factor { weight, bias: bias.as_ref() })
    }

    fn packed(&self) -> Option<&PackedLinear> {
        match &self.map {
            Map::Plain(_) => None,
            Map::Packed(packed) => Some(packed),
        }
    }
}

impl Map {
    /// `[out, in]`, if the bias fits.
    fn size(&self) -> Result<[i64; 2]> {
        let (size, bias) = match self {
            Self::Plain(linear) => (linear.weight.size2()?.into(), &linear.bias),
            Self::Packed(packed) => (packed.matrix.size(), &packed.bias),
        };
        match bias.as_ref().filter(|bias| bias.size() != [size[0]]) {
            None => Ok(size),
            Some(bias) => {
                let want = format!("[{}]", size[0]);
                Err(TensorError::Shape { arg: "bias", want, got: bias.size() })
            }
        }
    }
}

impl From<Linear> for Map {
    fn from(linear: Linear) -> Self {
        Self::Plain(linear)
    }
}

impl From<PackedLinear> for Map {
    fn from(packed: PackedLinear) -> Self {
        Self::Packed(packed)
    }
}

/// Maps of one input, whose outputs are pieces of given widths: one map a piece, or one for all.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) maps: Vec<Projection>,
    pub(crate) widths: Vec<i64>,
}

impl Joined {
    /// The pieces of the output for `x`, `[rows, in]`; each is `[rows, width]`, its rows contiguous.
    pub(crate) fn run(&self, x: &Tensor, pass: Pass) -> Result<Vec<Tensor>> {
        let outs = match self.together(x, pass)? {
            Some(products) => {
                let finish = |(map, product): (&Projection, Tensor)| map.finish(product, x);
                self.maps.iter().zip(products).map(finish).collect::<Result<Vec<_>>>()?
            }
            None => self.maps.iter().map(|map| map.forward(x)).collect::<Result<Vec<_>>>()?,
        };
        match outs.as_slice() {
            [joined] if self.widths.len() > 1 => self.pieces(joined),
            _ => Ok(outs),
        }
    }

    /// The bare products in one go, where there is a way.
    fn together(&self, x: &Tensor, pass: Pass) -> Result<Option<Vec<Tensor>>> {
        let packed: Option<Vec<&PackedLinear>> = self.maps.iter().map(Projection::packed).collect();
        if let Some(packed) = packed {
            return PackedLinear::forward_together(&packed, x).map(Some);
        }
        if !pass.few || x.kind() != Kind::Float {
            return Ok(None);
        }
        let factors: Option<Vec<Factor<'_>>> = self.maps.iter().map(Projection::factor).collect();
        factors.map(|factors| few_rows(x, &factors)).transpose()
    }

    fn pieces(&self, packed: &Tensor) -> Result<Vec<Tensor>> {
        let mut from = 0;
        let mut piece = |&width: &i64| {
            let piece = packed.f_narrow(1, from, width)?;
            from += width;
            Ok(piece)
        };
        self.widths.iter().map(&mut piece).collect()
    }
}

#[cfg(test)]
mod tests;
