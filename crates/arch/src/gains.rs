//! By what Magneto multiplies, and DeepNorm divides, the initial weights of values, output projections and
//! MLPs, for each architecture.
//!
//! Magneto: arXiv:2210.06423, Fig. 2. DeepNorm: arXiv:2203.00555, Fig. 2, as TorchScale applies it.

/// The constants of one stack of blocks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gains {
    /// Magneto's factor on initial weights.
    pub gamma: f64,
    /// DeepNorm's factor on the residual.
    pub alpha: f64,
    /// DeepNorm's divisor of initial weights in TorchScale.
    pub div: f64,
    /// DeepNorm's factor on initial weights in its paper: 1/`div`, but for the encoder of an
    /// encoder-decoder, where the paper rounds to 0.87.
    pub beta: f64,
}

impl Gains {
    /// Of a decoder-only or an encoder-only stack of `n_layers` blocks.
    #[must_use]
    pub fn single(n_layers: i64) -> Self {
        let n = n_layers as f64;
        let div = (8.0 * n).powf(0.25);
        let gamma = (2.0 * n).ln().sqrt();
        Self { gamma, alpha: (2.0 * n).powf(0.25), div, beta: div.recip() }
    }

    /// Of the encoder of an encoder-decoder with `n_encoder` and `n_decoder` blocks.
    #[must_use]
    pub fn encoder_of(n_encoder: i64, n_decoder: i64) -> Self {
        let (n, m) = (n_encoder as f64, n_decoder as f64);
        let depth = (n.powi(4) * m).powf(1.0 / 16.0);
        let gamma = ((3.0 * m).ln() * (2.0 * n).ln() / 3.0).sqrt();
        Self { gamma, alpha: 0.81 * depth, div: depth / 1.15, beta: 0.87 / depth }
    }

    /// Of the decoder of an encoder-decoder with `n_decoder` decoder blocks.
    #[must_use]
    pub fn decoder_of(n_decoder: i64) -> Self {
        let m = n_decoder as f64;
        let div = (12.0 * m).powf(0.25);
        let gamma = (3.0 * m).ln().sqrt();
        Self { gamma, alpha: (3.0 * m).powf(0.25), div, beta: div.recip() }
    }
}
