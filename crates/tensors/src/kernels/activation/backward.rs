//! The backward pass, over rows.

use tch::Tensor;

use super::{ActivationSums, After, Constants, Middle, ensure_stats, split_optional};
use crate::error::{Result, ensure};
use crate::kernels::element::Element;
use crate::kernels::lanes::accumulate;
use crate::kernels::loans::Loans;
use crate::kernels::machine::{Job, Machine, run};
use crate::kernels::norm::NormTotals;
use crate::kernels::rows::{GRAIN, Part, Rows, RowsMut, Sums, parts};

struct Backward<'a, A, U> {
    constants: Constants<'a>,
    da: RowsMut<'a, A>,
    after: After,
    /// Of a row.
    width: usize,
    /// None: it lies in `du`.
    u: Option<Rows<'a, U>>,
    /// The inner None: it lies in `d_gate`.
    gate: Option<Option<Rows<'a, U>>>,
    stats: Option<Rows<'a, f32>>,
    part: Part,
    du: RowsMut<'a, U>,
    d_gate: Option<RowsMut<'a, U>>,
    d_bias: &'a mut [f32],
    d_gate_bias: &'a mut [f32],
    norm_sums: [&'a mut [f32]; 2],
}

/// Rows of one job, f32.
struct Scratch {
    /// The nonlinearity and its derivative.
    value: Vec<f32>,
    slope: Vec<f32>,
    /// The gate with its bias, if there is one.
    gate: Vec<f32>,
    /// What the norm sees; then the gradient of the gate.
    normed: Vec<f32>,
    /// The gradient of `kind(u) * gate`; then that of `u`.
    grad: Vec<f32>,
}

impl Scratch {
    fn new(width: usize) -> Self {
        let row = || vec![0.0; width];
        Self { value: row(), slope: row(), gate: row(), normed: row(), grad: row() }
    }
}

impl<A: Element, U: Element> Backward<'_, A, U> {
    /// The activation of row `i` of this part, again.
    #[inline(always)]
    fn recompute<M: Machine>(&mut self, i: usize, row: usize, scratch: &mut Scratch) {
        let (constants, group) = (&self.constants, self.part.group);
        let u = match &self.u {
            Some(u) => u.row(row),
            None => &*self.du.row(i),
        };
        constants.both::<M, U>(group, u, &mut scratch.value, &mut scratch.slope);
        let Some(d_gate) = &mut self.d_gate else { return };
        let gate = match &self.gate {
            Some(Some(gate)) => gate.row(row),
            _ => &*d_gate.row(i),
        };
        let n = scratch.gate.len();
        let (gate, bias) = (&gate[..n], &constants.gate_bias(group)[..n]);
        for i in 0..n {
            scratch.gate[i] = gate[i].get() + bias[i];
        }
    }

    /// From the gradient of the result to that before the norm, in `scratch.grad`; then the result in its place, if asked.
    #[inline(always)]
    fn before_norm<M: Machine>(&mut self, i: usize, row: usize, scratch: &mut Scratch) {
        let da = self.da.row(i);
        let n = da.len();
        let Scratch { value, gate, normed, grad, .. } = scratch;
        let (value, gate) = (&value[..n], &gate[..n]);
        let (normed, grad) = (&mut normed[..n], &mut grad[..n]);
        let (Some(norm), Some(stats)) = (&self.constants.norm, &self.stats) else {
            for i in 0..n {
                grad[i] = da[i].get();
            }
            if self.after == After::Activation {
                for i in 0..n {
                    let gate = if self.d_gate.is_some() { gate[i] } else { 1.0 };
                    da[i] = A::put(value[i] * gate);
                }
            }
            return;
        };
        if self.d_gate.is_some() {
            for i in 0..n {
                normed[i] = value[i] * gate[i];
            }
        } else {
            normed.copy_from_slice(value);
        }
        let [d_weight, d_bias] = &mut self.norm_sums;
        let (sums, stats) = ([&mut **d_weight, &mut **d_bias], stats.row(row));
        let pulled = norm.pull::<M, A, f32>(self.part.group, da, normed, stats, sums);
        let weight = &pulled.weight[..n];
        for i in 0..n {
            grad[i] = pulled.gradient::<M>(da[i].get(), weight[i], normed[i]);
        }
        if self.after == After::Activation {
            norm.again::<M, f32, A>(self.part.group, normed, stats, da);
        }
    }

    /// From the gradient before the norm to those of the two products; sums are of what is not yet rounded.
    #[inline(always)]
    fn finish(&mut self, i: usize, scratch: &mut Scratch) {
        let du = self.du.row(i);
        let n = du.len();
        let Scratch { value, slope, gate, normed, grad } = scratch;
        let (value, slope, gate) = (&value[..n], &slope[..n], &gate[..n]);
        let (d_gated, grad) = (&mut normed[..n], &mut grad[..n]);
        if let Some(d_gate) = &mut self.d_gate {
            let d_gate = &mut d_gate.row(i)[..n];
            for i in 0..n {
                d_gated[i] = grad[i] * value[i];
                d_gate[i] = U::put(d_gated[i]);
                grad[i] = grad[i] * gate[i] * slope[i];
                du[i] = U::put(grad[i]);
            }
            accumulate(self.d_gate_bias, d_gated);
        } else {
            for i in 0..n {
                grad[i] *= slope[i];
                du[i] = U::put(grad[i]);
            }
        }
        accumulate(self.d_bias, grad);
    }
}

impl<A: Element, U: Element> Job for Backward<'_, A, U> {
    #[inline(always)]
    fn run<M: Machine>(mut self) {
        let mut scratch = Scratch::new(self.width);
        for (i, row) in self.part.rows.clone().enumerate() {
            self.recompute::<M>(i, row, &mut scratch);
            self.before_norm::<M>(i, row, &mut scratch);
            self.finish(i, &mut scratch);
        }
    }
}

pub(super) fn backward<A: Element, U: Element>(
    (da, after): (&Tensor, After),
    middle: &Middle<'_>,
    stats: Option<&Tensor>,
    du: &Tensor,
    d_gate: Option<&Tensor>,
    sums: &ActivationSums<'_>,
) -> Result<()> {
    ensure_stats(middle, stats)?;
    let got = if d_gate.is_some() { "there" } else { "absent" };
    ensure(d_gate.is_some() == middle.gate.is_some(), "d_gate", "there if a gate is", got)?;
    let mut loans = Loans::default();
    let (rows, width) = da.size2()?;
    let shape @ [rows, width] = [rows as usize, width as usize];
    let da = loans.rows_mut::<A>("da", da, shape)?;
    let zeros = vec![0.0; width];
    let constants = Constants::new(&mut loans, middle, shape, &zeros)?;
    let stats = stats.map(|stats| loans.rows_of("stats", stats, [rows, 2])).transpose()?;
    let u = loans.rows_unless::<U>("u", middle.u, du, shape)?;
    let gate = match (middle.gate, d_gate) {
        (Some(gate), Some(out)) => Some(loans.rows_unless::<U>("gate", gate.u, out, shape)?),
        _ => None,
    };
    let parts = parts(rows, constants.groups(), width);
    let da = da.split(&parts);
    let du = loans.rows_mut::<U>("du", du, shape)?.split(&parts);
    let d_gate = d_gate.map(|out| loans.rows_mut::<U>("d_gate", out, shape)).transpose()?;
    let mut d_gate = split_optional(d_gate, &parts).into_iter();
    let mut total = |arg, sum: Option<_>| -> Result<Sums<'_>> {
        let sum = sum.map(|sum| loans.parameter_mut(arg, sum, shape)).transpose()?;
        Ok(Sums::new(sum, parts.len()))
    };
    let mut d_bias = total("d_bias", sums.d_bias)?;
    let mut d_gate_bias = total("d_bias of the gate", sums.d_gate_bias)?;
    let norm = sums.norm.as_ref();
    let mut norm = NormTotals::new(&mut loans, norm, shape, parts.len())?;
    let slots = d_bias.slots(parts.len()).into_iter().zip(d_gate_bias.slots(parts.len()));
    let slots = slots.zip(norm.slots(parts.len()));
    let jobs = parts.iter().cloned().zip(da.into_iter().zip(du)).zip(slots);
    let job = |((part, (da, du)), ((d_bias, d_gate_bias), norm_sums))| Backward {
        constants,
        da,
        after,
        width,
        u,
        gate,
        stats,
        part,
        du,
        d_gate: d_gate.next().flatten(),
        d_bias,
        d_gate_bias,
        norm_sums,
    };
    run(jobs.map(job), GRAIN)?;
    d_bias.finish(&parts);
    d_gate_bias.finish(&parts);
    norm.finish(&parts);
    Ok(())
}
