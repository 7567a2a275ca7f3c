//! How one pass over a model is computed.

use tch::{Device, Kind};

/// Up to so many rows a product is a matter of reading the matrix.
const FEW: i64 = 8;

/// How one pass over a model is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    /// Whether our own kernels may run: on the CPU, without a graph.
    pub(crate) fast: bool,
    /// Whether there are so few rows that the kernel for that multiplies.
    pub(crate) few: bool,
    /// Format of what goes into a product and comes out of it.
    pub(crate) kind: Kind,
}

impl Pass {
    /// Without a graph, over `rows` tokens of a model whose matrices are of kind `weights`.
    pub(crate) fn inference(device: Device, rows: i64, weights: Kind) -> Self {
        let fast = device == Device::Cpu;
        let few = fast && rows <= FEW;
        // The kernels know no f16: then only a product itself is computed in it.
        let kind = if few || fast && weights == Kind::Half { Kind::Float } else { weights };
        Self { fast, few, kind }
    }

    /// With a graph, if the caller records one.
    pub(crate) fn differentiable(weights: Kind) -> Self {
        Self { fast: false, few: false, kind: weights }
    }
}
