//! The two formats that kernels read and write.

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
