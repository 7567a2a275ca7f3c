//! The backward pass, from the gradient of the block's output to those of its input and its parameters.

use forerun_tensors::Result;
use forerun_tensors::kernels::{
    ActivationSums, NormParams, NormSums, activation_backward_swap, bias_residual,
    column_sums_into, norm_backward_into, norm_into,
};
use tch::{Kind, Tensor};

use super::forward::Kept;
use super::parts::{Matrices, Pair, Parts, product_back, product_sum};
use super::spec::Spec;
use super::{empty, rows};

/// Gradients of the input, of its shape, and of the parameters, by member like `parts`.
pub(super) fn run(
    spec: &Spec,
    parts: &Parts<Tensor>,
    kept: &Kept,
    d_result: &Tensor,
) -> Result<(Tensor, Parts<Tensor>)> {
    let d_parts = parts.gradients()?;
    let d_result = d_result.f_contiguous()?.f_view([spec.rows(), spec.d_model()])?;
    let dx = empty(spec.rows(), spec.d_model(), Kind::Float)?;
    for member in 0..spec.n_members() {
        let (parts, sums) = (parts.member(member)?, d_parts.member(member)?);
        let matrices = Matrices::new(&parts, spec.kind)?;
        let d_qkv_bias = matrices.qkv_bias.as_ref().map(Tensor::f_zeros_like).transpose()?;
        for (index, at) in spec.chunks(member).enumerate() {
            let chunk = Chunk {
                spec,
                parts: &parts,
                matrices: &matrices,
                sums: &sums,
                d_qkv_bias: d_qkv_bias.as_ref(),
                kept: kept.at(spec, &at)?,
                n: at.end - at.start,
                first: index == 0,
            };
            chunk.run(&rows(&d_result, &at)?, &rows(&dx, &at)?)?;
        }
        if let Some(d_bias) = d_qkv_bias {
            part_biases(spec, &sums, &d_bias)?;
        }
    }
    Ok((dx.f_view([spec.batch, spec.seq, spec.d_model()])?, d_parts))
}

/// Hands the gradient of the joined biases on to each.
fn part_biases(spec: &Spec, sums: &Parts<Tensor>, d_bias: &Tensor) -> Result<()> {
    let parts = d_bias.f_split_with_sizes(spec.widths(), 0)?;
    for (pair, part) in [&sums.q, &sums.k, &sums.v].into_iter().zip(parts) {
        if let Some(bias) = &pair.bias {
            bias.shallow_clone().f_copy_(&part)?;
        }
    }
    Ok(())
}

/// Some sequences of one member.
struct Chunk<'a> {
    spec: &'a Spec,
    parts: &'a Parts<Tensor>,
    matrices: &'a Matrices,
    sums: &'a Parts<Tensor>,
    d_qkv_bias: Option<&'a Tensor>,
    kept: Kept,
    /// Rows.
    n: i64,
    /// Whether the sums of products hold nothing yet.
    first: bool,
}

impl Chunk<'_> {
    fn run(&self, d_result: &Tensor, dx: &Tensor) -> Result<()> {
        if self.spec.norms_first() { self.pre(d_result, dx) } else { self.post(d_result, dx) }
    }

    fn pre(&self, d_result: &Tensor, dx: &Tensor) -> Result<()> {
        let &Self { spec, parts, sums, ref kept, .. } = self;
        let scratch = self.empty(spec.d_model())?;
        let own = [&kept.middle, &kept.mlp_stats];
        let norm = spec.norm(&parts.mlp_norm);
        self.norm_again(own, &norm, &scratch)?;
        self.feed_back(d_result, &scratch)?;
        let d_middle = empty(self.n, spec.d_model(), Kind::Float)?;
        let into = &sums.mlp_norm.sums();
        norm_backward_into(&scratch, own[0], own[1], &norm, Some(d_result), &d_middle, into)?;

        let own = [&kept.x, &kept.attention_stats];
        let norm = spec.norm(&parts.attention_norm);
        let normed = || {
            self.norm_again(own, &norm, &scratch)?;
            Ok(scratch.shallow_clone())
        };
        self.attend_back(&d_middle, normed, &scratch)?;
        let into = &sums.attention_norm.sums();
        norm_backward_into(&scratch, own[0], own[1], &norm, Some(&d_middle), dx, into)
    }

    fn post(&self, d_result: &Tensor, dx: &Tensor) -> Result<()> {
        let &Self { spec, parts, sums, ref kept, .. } = self;
        let Some(last) = &kept.last else { return Ok(()) };
        let wide = || empty(self.n, spec.d_model(), Kind::Float);
        let (d_last, stream) = (wide()?, wide()?);
        let (norm, into) = (spec.norm(&parts.mlp_norm), sums.mlp_norm.sums());
        norm_backward_into(d_result, last, &kept.mlp_stats, &norm, None, &d_last, &into)?;

        let norm = spec.norm(&parts.attention_norm);
        norm_into(&kept.middle, &norm, &stream, &wide_stats(&kept.attention_stats)?)?;
        let scratch = match spec.kind {
            Kind::Float => stream.shallow_clone(),
            kind => stream.f_to_kind(kind)?,
        };
        self.feed_back(&d_last, &scratch)?;
        // The branch and the residual stream.
        self.join(&stream, &scratch, &d_last)?;
        let (d_middle, into) = (d_last, sums.attention_norm.sums());
        let stats = &kept.attention_stats;
        norm_backward_into(&stream, &kept.middle, stats, &norm, None, &d_middle, &into)?;

        self.attend_back(&d_middle, || Ok(kept.x.f_to_kind(spec.kind)?), &scratch)?;
        self.join(dx, &scratch, &d_middle)
    }

    /// `out = branch + alpha * stream`; `out` is f32 and may be `branch`.
    fn join(&self, out: &Tensor, branch: &Tensor, stream: &Tensor) -> Result<()> {
        if out.data_ptr() != branch.data_ptr() {
            out.shallow_clone().f_copy_(branch)?;
        }
        bias_residual(out, None, Some((stream, self.spec.alpha)))
    }

    /// From the gradient of the MLP's output, f32, to that of its input, which takes the input's place in `x`.
    fn feed_back(&self, d_out: &Tensor, x: &Tensor) -> Result<()> {
        let &Self { spec, parts, matrices, sums, ref kept, first, .. } = self;
        let d_out = self.enter(d_out, &sums.fc2)?;
        let middle = spec.middle(parts, &kept.u, kept.gate.as_ref());
        let stats = kept.middle_stats.as_ref();
        let d_active = self.empty(spec.d_ff)?;
        product_back(&d_active, &d_out, &matrices.fc2)?;
        let du = self.empty(spec.d_ff)?;
        let d_gate = kept.gate.as_ref().map(|_| self.empty(spec.d_ff)).transpose()?;
        let into = ActivationSums {
            d_bias: sums.fc1.bias.as_ref(),
            d_gate_bias: sums.gate.as_ref().and_then(|gate| gate.bias.as_ref()),
            norm: sums.middle_norm.as_ref().map(Pair::sums),
        };
        activation_backward_swap(&d_active, &middle, stats, &du, d_gate.as_ref(), &into)?;
        let active = d_active;
        product_sum(&sums.fc2.weight, &d_out, &active, first)?;
        product_sum(&sums.fc1.weight, &du, x, first)?;
        let gate = (&d_gate, &sums.gate, &matrices.gate);
        if let (Some(d_gate), Some(sum), Some(matrix)) = gate {
            product_sum(&sum.weight, d_gate, x, first)?;
            product_back(x, &du, &matrices.fc1)?;
            let _ = x.shallow_clone().f_addmm_(d_gate, matrix)?;
            return Ok(());
        }
        product_back(x, &du, &matrices.fc1)
    }

    /// From the gradient of attention's output, f32, to that of its input, into `dx`. The input is asked for when it
    /// is needed, and may be given in `dx`.
    fn attend_back(
        &self,
        d_out: &Tensor,
        input: impl FnOnce() -> Result<Tensor>,
        dx: &Tensor,
    ) -> Result<()> {
        let &Self { spec, parts, matrices, sums, ref kept, first, .. } = self;
        let d_out = self.enter(d_out, &sums.out)?;
        let d_normed = self.empty(spec.d_model())?;
        product_back(&d_normed, &d_out, &matrices.out)?;
        let d_mixed = match (&parts.inner_norm, &kept.inner_stats, &sums.inner_norm) {
            (Some(norm), Some(stats), Some(into)) => {
                let norm = spec.norm(norm);
                self.norm_again([&kept.mixed, stats], &norm, dx)?;
                product_sum(&sums.out.weight, &d_out, dx, first)?;
                let into: NormSums<'_> = into.sums();
                norm_backward_into(&d_normed, &kept.mixed, stats, &norm, None, dx, &into)?;
                dx
            }
            _ => {
                product_sum(&sums.out.weight, &d_out, &kept.mixed, first)?;
                &d_normed
            }
        };
        let d_qkv = self.empty(spec.qkv_width())?;
        let attention = spec.attention(matrices);
        attention.backward_into(&kept.qkv, &kept.mixed, &kept.lse, d_mixed, &d_qkv)?;
        if let Some(d_bias) = self.d_qkv_bias {
            column_sums_into(&d_qkv, d_bias)?;
        }
        let x = input()?;
        let parts = d_qkv.f_split_with_sizes(spec.widths(), 1)?;
        for (pair, part) in [&sums.q, &sums.k, &sums.v].into_iter().zip(parts) {
            product_sum(&pair.weight, &part, &x, first)?;
        }
        product_back(dx, &d_qkv, &matrices.qkv)
    }

    /// The gradient of a product's result in the format of the products; adds that of its bias.
    fn enter(&self, d_out: &Tensor, sums: &Pair<Tensor>) -> Result<Tensor> {
        if let Some(bias) = &sums.bias {
            column_sums_into(d_out, bias)?;
        }
        Ok(d_out.f_to_kind(self.spec.kind)?)
    }

    /// A norm as in the forward pass, of `x` whose statistics are known.
    fn norm_again(
        &self,
        [x, stats]: [&Tensor; 2],
        norm: &NormParams<'_>,
        y: &Tensor,
    ) -> Result<()> {
        norm_into(x, norm, y, &wide_stats(stats)?)
    }

    fn empty(&self, columns: i64) -> Result<Tensor> {
        empty(self.n, columns, self.spec.kind)
    }
}

/// A place for statistics that are known already: what is kept may be needed again.
fn wide_stats(like: &Tensor) -> Result<Tensor> {
    Ok(like.f_empty_like()?)
}
