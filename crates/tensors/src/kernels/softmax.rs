//! Cross-entropy of rows of logits, with its gradient in their place.

use tch::{Device, Kind, Tensor};

use super::element::{Element, by_kind};
use super::lanes::{largest, sum};
use super::loans::Loans;
use super::machine::{Job, Machine, run};
use super::math::{exp, fma};
use super::rows::{GRAIN, Part, Rows, RowsMut, parts};
use crate::cross_entropy::IGNORED;
use crate::error::{Result, ensure};

/// Negative log-likelihood of each row's target in nats, f32 `[rows]`, 0 where the target (i64 `[rows]`) is
/// [`IGNORED`]; `logits`, `[rows, vocab]`, are multiplied by `logit_scale` first, and are replaced by the gradient
/// of the sum with respect to what they were: `logit_scale * (softmax - one_hot)`, 0 where ignored.
///
/// # Errors
/// As for every kernel, see the [module](self::super); also if a target is not in the vocabulary.
pub fn cross_entropy_rows(logits: &Tensor, targets: &Tensor, logit_scale: f64) -> Result<Tensor> {
    let nll = new_nll(logits)?;
    by_kind!("logits", logits, E => with_gradient::<E>(logits, targets, logit_scale, &nll))?;
    Ok(nll.f_squeeze_dim(1)?)
}

/// As [`cross_entropy_rows`], but `logits` stay as they are.
///
/// # Errors
/// As for [`cross_entropy_rows`].
pub fn nll_rows(logits: &Tensor, targets: &Tensor, logit_scale: f64) -> Result<Tensor> {
    let nll = new_nll(logits)?;
    by_kind!("logits", logits, E => without_gradient::<E>(logits, targets, logit_scale, &nll))?;
    Ok(nll.f_squeeze_dim(1)?)
}

fn new_nll(logits: &Tensor) -> Result<Tensor> {
    Ok(Tensor::f_empty([logits.size2()?.0, 1], (Kind::Float, Device::Cpu))?)
}

fn ensure_known(targets: &[i64], vocab: usize) -> Result<()> {
    let outside = |&&target: &&i64| target != IGNORED && !(0..vocab as i64).contains(&target);
    match targets.iter().find(outside) {
        None => Ok(()),
        Some(target) => {
            let want = format!("{IGNORED} or in the vocabulary of {vocab}");
            ensure(false, "target", &want, format!("{target}, which is out of bounds"))
        }
    }
}

/// `e^(scale * x - max)` into `powers`; the negative log-likelihood of `target` and the sum of the powers.
#[inline(always)]
fn softmax<M: Machine, E: Element>(
    x: &[E],
    scale: f32,
    target: usize,
    powers: &mut [f32],
) -> (f32, f32) {
    let n = x.len();
    let most = largest(x, scale);
    let powers = &mut powers[..n];
    for i in 0..n {
        powers[i] = exp::<M>(fma::<M>(scale, x[i].get(), -most));
    }
    let total = sum(powers);
    (total.ln() - fma::<M>(scale, x[target].get(), -most), total)
}

struct WithGradient<'a, E> {
    logits: RowsMut<'a, E>,
    targets: &'a [i64],
    scale: f32,
    vocab: usize,
    nll: RowsMut<'a, f32>,
}

impl<E: Element> Job for WithGradient<'_, E> {
    #[inline(always)]
    fn run<M: Machine>(mut self) {
        let scale = self.scale;
        let mut powers = vec![0.0; self.vocab];
        for (i, &target) in self.targets.iter().enumerate() {
            let (logits, nll) = (self.logits.row(i), &mut self.nll.row(i)[0]);
            if target == IGNORED {
                *nll = 0.0;
                logits.fill(E::put(0.0));
                continue;
            }
            let target = target as usize;
            let (found, total) = softmax::<M, E>(logits, scale, target, &mut powers);
            *nll = found;
            let factor = scale / total;
            let n = powers.len();
            let logits = &mut logits[..n];
            for i in 0..n {
                logits[i] = E::put(powers[i] * factor);
            }
            logits[target] = E::put(fma::<M>(powers[target], factor, -scale));
        }
    }
}

fn with_gradient<E: Element>(
    logits: &Tensor,
    targets: &Tensor,
    scale: f64,
    nll: &Tensor,
) -> Result<()> {
    let mut loans = Loans::default();
    let (rows, vocab) = logits.size2()?;
    let (rows, vocab) = (rows as usize, vocab as usize);
    let targets = loans.indices("targets", targets, rows)?;
    ensure_known(targets, vocab)?;
    let parts = parts(rows, 1, vocab);
    let logits = loans.rows_mut::<E>("logits", logits, [rows, vocab])?.split(&parts);
    let nll = loans.rows_mut("nll", nll, [rows, 1])?.split(&parts);
    let jobs = parts.into_iter().zip(logits.into_iter().zip(nll));
    let job = |(part, (logits, nll)): (Part, _)| WithGradient {
        logits,
        targets: &targets[part.rows],
        scale: scale as f32,
        vocab,
        nll,
    };
    run(jobs.map(job), GRAIN)
}

struct WithoutGradient<'a, E> {
    logits: Rows<'a, E>,
    targets: &'a [i64],
    scale: f32,
    part: Part,
    nll: RowsMut<'a, f32>,
}

impl<E: Element> Job for WithoutGradient<'_, E> {
    #[inline(always)]
    fn run<M: Machine>(mut self) {
        let mut powers = vec![0.0; self.logits.shape()[1]];
        for (i, row) in self.part.rows.enumerate() {
            let found = match self.targets[row] {
                IGNORED => 0.0,
                target => {
                    let x = self.logits.row(row);
                    softmax::<M, E>(x, self.scale, target as usize, &mut powers).0
                }
            };
            self.nll.row(i)[0] = found;
        }
    }
}

fn without_gradient<E: Element>(
    logits: &Tensor,
    targets: &Tensor,
    scale: f64,
    nll: &Tensor,
) -> Result<()> {
    let mut loans = Loans::default();
    let logits: Rows<'_, E> = loans.rows("logits", logits)?;
    let [rows, vocab] = logits.shape();
    let targets = loans.indices("targets", targets, rows)?;
    ensure_known(targets, vocab)?;
    let parts = parts(rows, 1, vocab);
    let nll = loans.rows_mut("nll", nll, [rows, 1])?.split(&parts);
    let jobs = parts.into_iter().zip(nll);
    let scale = scale as f32;
    run(jobs.map(|(part, nll)| WithoutGradient { logits, targets, scale, part, nll }), GRAIN)
}

#[cfg(test)]
mod tests;
