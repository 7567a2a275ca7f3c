//! Products of a few rows of activations with a block of sixteen packed rows, in the best way that the processor has.

use super::activations::SomeRows;
#[cfg(target_arch = "x86_64")]
use super::avx2;
use super::layout::Shape;
use super::portable;
#[cfg(target_arch = "x86_64")]
use super::vnni;
use crate::kernels::machine::Machine;

/// Rows of a block.
pub(super) const LANES: usize = 16;

/// One number for each row of a block.
pub(super) type Lanes = [f32; LANES];

/// `out[n][lane] = Σₖ x[n][k] weight[lane][k]` for `N` rows.
#[inline(always)]
pub(super) fn tile<M: Machine, const N: usize>(
    shape: &Shape,
    block: &[u8],
    x: SomeRows<'_>,
) -> [Lanes; N] {
    let (groups, width) = (shape.groups(), shape.width());
    assert!(block.len() == shape.block_bytes() && x.groups == groups && x.width == width);
    let per_group = N * groups;
    assert!(x.codes.len() == N * width && x.scale.len() == per_group);
    assert!(x.sum.len() == per_group && x.shift.len() == per_group);
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(proof) = M::dot_bytes() {
            return vnni::tile::<N>(proof, shape, block, x);
        }
        if let Some(proof) = M::pair_bytes() {
            return avx2::tile::<N>(proof, shape, block, x);
        }
    }
    portable::tile::<M, N>(shape, block, x)
}
