//! One root number, any number of independent random streams, each known by a label.
//!
//! A stream's key is SHA-256 of root and label, so that a new consumer of randomness does not shift
//! the others, and the order in which streams are asked for does not matter.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Root of all randomness of a run or of a part of it.
///
/// The streams of a given root and label never change between versions of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(u64);

impl Seed {
    /// Takes `root` as the seed of everything below it.
    pub fn new(root: u64) -> Self {
        Self(root)
    }

    /// The number itself, as written into a manifest.
    pub fn root(self) -> u64 {
        self.0
    }

    /// Random stream named `label`, such as `data/shuffle`.
    pub fn stream(self, label: &str) -> ChaCha20Rng {
        ChaCha20Rng::from_seed(self.digest("stream", label))
    }

    /// Seed of a part of the run, such as one cell; its streams are unrelated to ours.
    pub fn child(self, label: &str) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = self.digest("child", label);
        Self(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
    }

    /// SHA-256 of `forerun-seed-1`, the purpose, the root and the label, each of the texts ended by a
    /// zero byte. The purpose keeps a child's number apart from a stream's key.
    fn digest(self, purpose: &str, label: &str) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(b"forerun-seed-1\0");
        hasher.update(purpose.as_bytes());
        hasher.update(b"\0");
        hasher.update(self.0.to_le_bytes());
        hasher.update(label.as_bytes());
        hasher.finalize().into()
    }
}

#[cfg(test)]
mod tests;
