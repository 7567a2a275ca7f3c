//! The whole numbers of quantised tensors, for who computes with them as they are.

use super::Gguf;
use super::blocks::{half_at, scale_and_min};
use super::kind::GgmlType;
use crate::error::Result;

/// The whole numbers of a tensor in row-major order, with what makes weights of each [`Codes::GROUP`] of them.
///
/// The f32 arithmetic of a weight gives exactly what [`Gguf::dequantize`] does.
#[derive(Clone, Debug, PartialEq)]
pub enum Codes {
    /// From 0 to 15; a weight is `scale * code + offset`.
    Four {
        /// One a weight.
        codes: Vec<u8>,
        /// One a group.
        scale: Vec<f32>,
        /// One a group.
        offset: Vec<f32>,
    },
    /// From -127 to 127; a weight is `scale * code`.
    Eight {
        /// One a weight.
        codes: Vec<i8>,
        /// One a group.
        scale: Vec<f32>,
    },
}

impl Codes {
    /// Weights that share a scale.
    pub const GROUP: usize = 32;
}

impl Gguf {
    /// The whole numbers of a tensor; none if its type is not Q4_0, Q4_1, Q4_K or Q8_0, or a number is -128.
    ///
    /// # Errors
    /// [`Error::Gguf`](crate::Error::Gguf) if there is no such tensor.
    pub fn codes(&self, name: &str) -> Result<Option<Codes>> {
        let (kind, bytes) = (self.info(name)?.kind, self.bytes(name)?);
        Ok(match kind {
            GgmlType::Q4_0 => Some(four(bytes, |block: &[u8; 18], out| {
                let scale = half_at(block, 0);
                out.push(&block[2..], [scale, -8.0 * scale]);
            })),
            GgmlType::Q4_1 => Some(four(bytes, |block: &[u8; 20], out| {
                out.push(&block[4..], [half_at(block, 0), half_at(block, 2)]);
            })),
            GgmlType::Q4K => Some(four(bytes, q4_k)),
            GgmlType::Q8_0 => eight(bytes),
            _ => None,
        })
    }
}

#[derive(Default)]
struct Fours {
    codes: Vec<u8>,
    scale: Vec<f32>,
    offset: Vec<f32>,
}

impl Fours {
    /// A group whose first half are the lower halves of `bytes`.
    fn push(&mut self, bytes: &[u8], group: [f32; 2]) {
        self.codes.extend(bytes.iter().map(|byte| byte & 15));
        self.codes.extend(bytes.iter().map(|byte| byte >> 4));
        self.scale.push(group[0]);
        self.offset.push(group[1]);
    }
}

fn four<const BYTES: usize>(bytes: &[u8], unpack: impl Fn(&[u8; BYTES], &mut Fours)) -> Codes {
    let mut out = Fours::default();
    for block in bytes.as_chunks::<BYTES>().0 {
        unpack(block, &mut out);
    }
    let Fours { codes, scale, offset } = out;
    Codes::Four { codes, scale, offset }
}

/// A scale of scales, a scale of minima, 12 bytes of both, then 4 times 32 bytes of two groups.
fn q4_k(block: &[u8; 144], out: &mut Fours) {
    let (scale, min) = (half_at(block, 0), half_at(block, 2));
    let (packed, quants) = block[4..].split_at(12);
    for (pair, bytes) in quants.chunks_exact(32).enumerate() {
        let groups = [2 * pair, 2 * pair + 1].map(|group| scale_and_min(packed, group));
        out.codes.extend(bytes.iter().map(|byte| byte & 15));
        out.codes.extend(bytes.iter().map(|byte| byte >> 4));
        out.scale.extend(groups.map(|(own, _)| scale * own));
        out.offset.extend(groups.map(|(_, own)| -min * own));
    }
}

fn eight(bytes: &[u8]) -> Option<Codes> {
    let (blocks, _) = bytes.as_chunks::<34>();
    let codes: Vec<i8> =
        blocks.iter().flat_map(|block| block[2..].iter().map(|byte| byte.cast_signed())).collect();
    let scale = blocks.iter().map(|block| half_at(block, 0)).collect();
    (!codes.contains(&i8::MIN)).then_some(Codes::Eight { codes, scale })
}
