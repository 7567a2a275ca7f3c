//! The kernels written with libtorch's operations, in f64: what they are tested against.

use tch::{Kind, Tensor};

use super::{Activation, ActivationSums, Middle, NormParams, NormSums, NormType};
use crate::cross_entropy::IGNORED;
use crate::error::Result;
use crate::fixtures::{floats, randn};

fn wide(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_to_kind(Kind::Double)?)
}

/// `[channels]` as it is, `[groups, channels]` as one row per row of `rows`.
fn spread(parameter: &Tensor, rows: i64) -> Result<Tensor> {
    if parameter.dim() == 1 {
        return Ok(parameter.shallow_clone());
    }
    let (groups, channels) = parameter.size2()?;
    let view =
        parameter.f_unsqueeze(1)?.f_expand([groups, rows / groups.max(1), channels], false)?;
    Ok(view.f_reshape([rows, channels])?)
}

fn add_sums(sums: &Tensor, x: &Tensor) -> Result<()> {
    let (groups, channels) = match sums.size().as_slice() {
        &[groups, channels] => (groups, channels),
        other => (1, other[0]),
    };
    let rows = x.size()[0];
    let found = wide(x)?.f_view([groups, rows / groups, channels])?;
    let found = found.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Double)?;
    let _ = sums.shallow_clone().f_add_(&found.f_view(sums.size().as_slice())?)?;
    Ok(())
}

fn put(out: &Tensor, value: &Tensor) -> Result<()> {
    out.shallow_clone().f_copy_(value)?;
    Ok(())
}

fn normalised(x: &Tensor, params: &NormParams<'_>) -> Result<(Tensor, Tensor, Tensor)> {
    let dim = [-1i64].as_slice();
    let mean = match params.kind {
        NormType::Layer => x.f_mean_dim(dim, true, Kind::Double)?,
        NormType::Rms => x.f_mean_dim(dim, true, Kind::Double)?.f_zeros_like()?,
    };
    let centred = x.f_sub(&mean)?;
    let square = centred.f_square()?.f_mean_dim(dim, true, Kind::Double)?;
    let rstd = square.f_add_scalar(params.eps)?.f_rsqrt()?;
    Ok((centred.f_mul(&rstd)?, mean, rstd))
}

fn affine(x_hat: &Tensor, params: &NormParams<'_>) -> Result<Tensor> {
    let rows = x_hat.size()[0];
    let y = x_hat.f_mul(&spread(params.weight, rows)?)?;
    match params.bias {
        Some(bias) => Ok(y.f_add(&spread(bias, rows)?)?),
        None => Ok(y),
    }
}

pub(super) fn norm_into(
    x: &Tensor,
    params: &NormParams<'_>,
    y: &Tensor,
    stats: &Tensor,
) -> Result<()> {
    let (x_hat, mean, rstd) = normalised(&wide(x)?, params)?;
    put(y, &affine(&x_hat, params)?)?;
    put(stats, &Tensor::f_cat(&[mean, rstd], 1)?)
}

#[expect(clippy::too_many_arguments, reason = "three inputs and three outputs")]
pub(super) fn add_norm_into(
    x: &Tensor,
    change: &Tensor,
    bias: Option<&Tensor>,
    alpha: f64,
    params: &NormParams<'_>,
    sum: &Tensor,
    y: &Tensor,
    stats: &Tensor,
) -> Result<()> {
    put(sum, &biased(change, bias)?.f_add(&wide(x)?.f_mul_scalar(alpha)?)?)?;
    norm_into(sum, params, y, stats)
}

pub(super) fn norm_backward_into(
    dy: &Tensor,
    x: &Tensor,
    stats: &Tensor,
    params: &NormParams<'_>,
    add: Option<&Tensor>,
    dx: &Tensor,
    sums: &NormSums<'_>,
) -> Result<()> {
    let (dy, x) = (wide(dy)?, wide(x)?);
    let (mean, rstd) = (stats.f_narrow(1, 0, 1)?, stats.f_narrow(1, 1, 1)?);
    let x_hat = x.f_sub(&mean)?.f_mul(&rstd)?;
    add_sums(sums.d_weight, &dy.f_mul(&x_hat)?)?;
    if let Some(d_bias) = sums.d_bias {
        add_sums(d_bias, &dy)?;
    }
    let g = dy.f_mul(&spread(params.weight, x.size()[0])?)?;
    let dim = [-1i64].as_slice();
    let along = g.f_mul(&x_hat)?.f_mean_dim(dim, true, Kind::Double)?;
    let mut inner = g.f_sub(&x_hat.f_mul(&along)?)?;
    if params.kind == NormType::Layer {
        inner = inner.f_sub(&g.f_mean_dim(dim, true, Kind::Double)?)?;
    }
    let mut result = inner.f_mul(&rstd)?;
    if let Some(add) = add {
        result = result.f_add(&wide(add)?)?;
    }
    put(dx, &result)
}

fn biased(u: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let u = wide(u)?;
    match bias {
        Some(bias) => Ok(u.f_add(&spread(bias, u.size()[0])?)?),
        None => Ok(u),
    }
}

fn active(kind: Activation, u: &Tensor) -> Result<Tensor> {
    Ok(match kind {
        Activation::Gelu => u.f_gelu("none")?,
        Activation::Relu => u.f_relu()?,
        Activation::Swish => u.f_silu()?,
    })
}

fn slope(kind: Activation, grad: &Tensor, u: &Tensor) -> Result<Tensor> {
    Ok(match kind {
        Activation::Gelu => u.f_gelu_backward(grad, "none")?,
        Activation::Relu => grad.f_mul(&u.f_gt(0.0)?.f_to_kind(Kind::Double)?)?,
        Activation::Swish => u.f_silu_backward(grad)?,
    })
}

pub(super) fn activation_into(
    middle: &Middle<'_>,
    a: &Tensor,
    stats: Option<&Tensor>,
) -> Result<()> {
    let mut value = active(middle.kind, &biased(middle.u, middle.bias)?)?;
    if let Some(gate) = &middle.gate {
        value = value.f_mul(&biased(gate.u, gate.bias)?)?;
    }
    match (&middle.norm, stats) {
        (Some(norm), Some(stats)) => norm_into(&value, norm, a, stats),
        _ => put(a, &value),
    }
}

pub(super) fn activation_backward_into(
    da: &Tensor,
    middle: &Middle<'_>,
    stats: Option<&Tensor>,
    du: &Tensor,
    d_gate: Option<&Tensor>,
    sums: &ActivationSums<'_>,
) -> Result<()> {
    let u = biased(middle.u, middle.bias)?;
    let mut value = active(middle.kind, &u)?;
    let gate = middle.gate.as_ref().map(|gate| biased(gate.u, gate.bias)).transpose()?;
    let plain = value.shallow_clone();
    if let Some(gate) = &gate {
        value = value.f_mul(gate)?;
    }
    let mut grad = wide(da)?;
    if let (Some(norm), Some(stats), Some(sums)) = (&middle.norm, stats, &sums.norm) {
        let dx = grad.f_empty_like()?;
        norm_backward_into(&grad, &value, stats, norm, None, &dx, sums)?;
        grad = dx;
    }
    if let (Some(gate), Some(d_gate)) = (&gate, d_gate) {
        let change = grad.f_mul(&plain)?;
        if let Some(sums) = sums.d_gate_bias {
            add_sums(sums, &change)?;
        }
        put(d_gate, &change)?;
        grad = grad.f_mul(gate)?;
    }
    let change = slope(middle.kind, &grad, &u)?;
    if let Some(sums) = sums.d_bias {
        add_sums(sums, &change)?;
    }
    put(du, &change)
}

pub(super) fn column_sums_into(x: &Tensor, sums: &Tensor) -> Result<()> {
    add_sums(sums, x)
}

pub(super) fn bias_residual(
    out: &Tensor,
    bias: Option<&Tensor>,
    residual: Option<(&Tensor, f64)>,
) -> Result<()> {
    let mut value = biased(out, bias)?;
    if let Some((residual, alpha)) = residual {
        value = value.f_add(&wide(residual)?.f_mul_scalar(alpha)?)?;
    }
    put(out, &value)
}

pub(super) fn cross_entropy_rows(
    logits: &Tensor,
    targets: &Tensor,
    logit_scale: f64,
) -> Result<Tensor> {
    let scaled = wide(logits)?.f_mul_scalar(logit_scale)?;
    let counted = targets.f_ne(IGNORED)?.f_unsqueeze(1)?;
    let targets = targets.f_unsqueeze(1)?;
    let targets = targets.f_where_self(&counted, &targets.f_zeros_like()?)?;
    let log_probs = scaled.f_log_softmax(-1, Kind::Double)?;
    let nll = log_probs.f_gather(1, &targets, false)?.f_neg()?;
    let nll = nll.f_where_self(&counted, &nll.f_zeros_like()?)?.f_squeeze_dim(1)?;
    let minus = targets.f_ones_like()?.f_to_kind(Kind::Double)?.f_neg()?;
    let grad = log_probs.f_exp()?.f_scatter_add(1, &targets, &minus)?.f_mul_scalar(logit_scale)?;
    put(logits, &grad.f_where_self(&counted, &grad.f_zeros_like()?)?)?;
    Ok(nll)
}

/// `|got - want| <= tolerance * (1 + |want|)` everywhere, or both NaN; bf16 may be off by its rounding besides.
pub(super) fn assert_close(what: &str, got: &Tensor, want: &Tensor, tolerance: f64) {
    assert_eq!(got.size(), want.size(), "{what}");
    let tolerance = tolerance + if got.kind() == Kind::BFloat16 { 0.004 } else { 0.0 };
    for (i, (got, want)) in floats(got).into_iter().zip(floats(want)).enumerate() {
        let close = (got - want).abs() <= tolerance * (1.0 + want.abs());
        let same = got == want || (got.is_nan() && want.is_nan());
        assert!(close || same, "{what}, element {i}: {got}, not {want}");
    }
}

/// Random rows; `apart` makes them a slice of columns of a wider tensor.
pub(super) fn rows(shape: [i64; 2], kind: Kind, apart: bool, seed: u64) -> Tensor {
    let [rows, channels] = shape;
    let all = randn(&[rows, channels + if apart { 5 } else { 0 }], seed).to_kind(kind);
    all.narrow(1, if apart { 2 } else { 0 }, channels)
}

/// A random parameter: `[channels]` for 0 groups.
pub(super) fn parameter(groups: i64, channels: i64, seed: u64) -> Tensor {
    match groups {
        0 => randn(&[channels], seed),
        groups => randn(&[groups, channels], seed),
    }
}

/// f32, or bf16.
pub(super) fn kind(narrow: bool) -> Kind {
    if narrow { Kind::BFloat16 } else { Kind::Float }
}

pub(super) fn empty(like: &Tensor, kind: Kind) -> Tensor {
    Tensor::full(like.size(), f64::NAN, (kind, tch::Device::Cpu))
}
