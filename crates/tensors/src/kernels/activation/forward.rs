//! The forward pass, over rows.

use tch::Tensor;

use super::{Constants, Middle, ensure_stats, split_optional};
use crate::error::Result;
use crate::kernels::element::Element;
use crate::kernels::loans::Loans;
use crate::kernels::machine::{Job, Machine, run};
use crate::kernels::rows::{GRAIN, Part, Rows, RowsMut, parts};

struct Forward<'a, U, A> {
    constants: Constants<'a>,
    u: Rows<'a, U>,
    gate: Option<Rows<'a, U>>,
    part: Part,
    a: RowsMut<'a, A>,
    stats: Option<RowsMut<'a, f32>>,
}

impl<U: Element, A: Element> Job for Forward<'_, U, A> {
    #[inline(always)]
    fn run<M: Machine>(self) {
        let Self { constants, u, gate, part: Part { group, rows }, mut a, mut stats } = self;
        let mut scratch = vec![0.0f32; if stats.is_some() { u.shape()[1] } else { 0 }];
        for (i, row) in rows.enumerate() {
            let (u, gate, a) = (u.row(row), gate.map(|gate| gate.row(row)), a.row(i));
            match (&constants.norm, &mut stats) {
                (Some(norm), Some(stats)) => {
                    constants.values::<M, U, f32>(group, u, gate, &mut scratch);
                    let found = norm.forward::<M, f32, A>(group, &scratch, a);
                    stats.row(i).copy_from_slice(&found);
                }
                _ => constants.values::<M, U, A>(group, u, gate, a),
            }
        }
    }
}

pub(super) fn forward<U: Element, A: Element>(
    middle: &Middle<'_>,
    a: &Tensor,
    stats: Option<&Tensor>,
) -> Result<()> {
    ensure_stats(middle, stats)?;
    let mut loans = Loans::default();
    let u: Rows<'_, U> = loans.rows("u", middle.u)?;
    let shape @ [rows, width] = u.shape();
    let zeros = vec![0.0; width];
    let constants = Constants::new(&mut loans, middle, shape, &zeros)?;
    let gate = middle.gate.map(|gate| loans.rows_of::<U>("gate", gate.u, shape)).transpose()?;
    let parts = parts(rows, constants.groups(), width);
    let a = loans.rows_mut::<A>("a", a, shape)?.split(&parts);
    let stats = stats.map(|stats| loans.rows_mut("stats", stats, [rows, 2])).transpose()?;
    let stats = split_optional(stats, &parts);
    let jobs = parts.into_iter().zip(a.into_iter().zip(stats));
    run(jobs.map(|(part, (a, stats))| Forward { constants, u, gate, part, a, stats }), GRAIN)
}
