//! The formats that kernels read and write: f32 and bf16, and of weights f16 too.

use tch::Kind;

use crate::error::{Error, Result};

/// A number in memory; kernels compute in f32.
pub(super) trait Element: Copy + Send + Sync + 'static {
    const KIND: Kind;

    fn get(self) -> f32;
    /// Rounds to nearest, ties to even.
    fn put(x: f32) -> Self;
}

impl Element for f32 {
    const KIND: Kind = Kind::Float;

    #[inline(always)]
    fn get(self) -> f32 {
        self
    }

    #[inline(always)]
    fn put(x: f32) -> Self {
        x
    }
}

/// The upper half of an f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Bf16(pub(super) u16);

impl Element for Bf16 {
    const KIND: Kind = Kind::BFloat16;

    #[inline(always)]
    fn get(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }

    #[inline(always)]
    fn put(x: f32) -> Self {
        const NAN: u32 = 0x7fc0;
        let bits = x.to_bits();
        let odd = (bits >> 16) & 1;
        let rounded = bits.wrapping_add(0x7fff + odd) >> 16;
        Self(if x.is_nan() { NAN } else { rounded } as u16)
    }
}

/// An IEEE number of 16 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct F16(pub(super) u16);

impl Element for F16 {
    const KIND: Kind = Kind::Half;

    #[inline(always)]
    fn get(self) -> f32 {
        // 2^112, the difference of the two formats' exponents; exact also for what is subnormal in f16.
        const SCALE: f32 = f32::from_bits(0x7780_0000);
        let bits = u32::from(self.0);
        let magnitude = (bits & 0x7fff) << 13;
        let scaled = (f32::from_bits(magnitude) * SCALE).to_bits();
        let special = 0x7f80_0000 | magnitude;
        let magnitude = if bits & 0x7c00 == 0x7c00 { special } else { scaled };
        f32::from_bits(magnitude | (bits & 0x8000) << 16)
    }

    #[inline(always)]
    fn put(x: f32) -> Self {
        // 65,520 rounds to what is no longer a number; below 2^-14 the mantissa has fewer bits.
        const TOO_LARGE: u32 = 0x477f_f000;
        const NORMAL: u32 = 0x3880_0000;
        const HALF: u32 = 0x3f00_0000;
        let bits = x.to_bits();
        let magnitude = bits & 0x7fff_ffff;
        let odd = (magnitude >> 13) & 1;
        let normal = (magnitude.wrapping_add(0xfff + odd) >> 13).wrapping_sub(112 << 10);
        let small = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(HALF);
        let rounded = if magnitude < NORMAL { small } else { normal };
        let rounded = if magnitude >= TOO_LARGE { 0x7c00 } else { rounded };
        let rounded = if x.is_nan() { 0x7e00 } else { rounded };
        Self((rounded | (bits >> 16) & 0x8000) as u16)
    }
}

/// `body` with the type `$E` of the elements of `$kind`.
macro_rules! by_kind {
    ($arg:literal, $tensor:expr, $E:ident => $body:expr) => {
        match $tensor.f_kind()? {
            tch::Kind::Float => {
                type $E = f32;
                $body
            }
            tch::Kind::BFloat16 => {
                type $E = $crate::kernels::element::Bf16;
                $body
            }
            other => $crate::kernels::element::unsupported($arg, other),
        }
    };
}
pub(super) use by_kind;

pub(super) fn unsupported<T>(arg: &str, got: Kind) -> Result<T> {
    let field = format!("kind of {arg}");
    Err(Error::Config { field, want: "Float or BFloat16".to_owned(), got: format!("{got:?}") })
}

#[cfg(test)]
mod tests;
