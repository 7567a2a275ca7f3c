//! How a tensor's numbers are stored.

use std::fmt;

use super::cursor::Reason;

/// How numbers are stored: plainly, or in blocks that share a scale. Names and codes are ggml's.
///
/// Bits per weight include the scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum GgmlType {
    /// 32-bit floats.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of 32-bit floats.
    Bf16,
    /// 8 bits, blocks of 32 with a scale: 8.5 bits per weight.
    Q8_0,
    /// 4 bits, blocks of 32 with a scale: 4.5 bits per weight.
    Q4_0,
    /// 4 bits, blocks of 32 with a scale and a minimum: 5 bits per weight.
    Q4_1,
    /// 5 bits, blocks of 32 with a scale: 5.5 bits per weight.
    Q5_0,
    /// 5 bits, blocks of 32 with a scale and a minimum: 6 bits per weight.
    Q5_1,
    /// 4 bits, 8 blocks of 32 with 6-bit scales and minima: 4.5 bits per weight.
    Q4K,
    /// 5 bits, 8 blocks of 32 with 6-bit scales and minima: 5.5 bits per weight.
    Q5K,
    /// 6 bits, 16 blocks of 16 with 8-bit scales: 6.5625 bits per weight.
    Q6K,
}

/// ggml's code, our type, its name, values in a block, bytes of a block.
static TABLE: [(u32, GgmlType, &str, usize, usize); 11] = [
    (0, GgmlType::F32, "F32", 1, 4),
    (1, GgmlType::F16, "F16", 1, 2),
    (2, GgmlType::Q4_0, "Q4_0", 32, 18),
    (3, GgmlType::Q4_1, "Q4_1", 32, 20),
    (6, GgmlType::Q5_0, "Q5_0", 32, 22),
    (7, GgmlType::Q5_1, "Q5_1", 32, 24),
    (8, GgmlType::Q8_0, "Q8_0", 32, 34),
    (12, GgmlType::Q4K, "Q4_K", 256, 144),
    (13, GgmlType::Q5K, "Q5_K", 256, 176),
    (14, GgmlType::Q6K, "Q6_K", 256, 210),
    (30, GgmlType::Bf16, "BF16", 1, 2),
];

/// Types that ggml knows and we do not read, so that a message can name them.
static OTHERS: [(u32, &str); 23] = [
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
];

impl GgmlType {
    /// All types that can be read, in the order of ggml's codes.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.1)
    }

    /// Values that one block holds; the length of a row is a multiple of it.
    #[must_use]
    pub fn block_values(self) -> usize {
        self.row().3
    }

    /// Bytes that one block takes.
    #[must_use]
    pub fn block_bytes(self) -> usize {
        self.row().4
    }

    pub(super) fn code(self) -> u32 {
        self.row().0
    }

    pub(super) fn from_code(code: u32) -> Result<Self, Reason> {
        if let Some(row) = TABLE.iter().find(|row| row.0 == code) {
            return Ok(row.1);
        }
        let other = OTHERS.iter().find(|other| other.0 == code);
        let readable: Vec<&str> = TABLE.iter().map(|row| row.2).collect();
        let readable = readable.join(", ");
        Err(match other {
            Some((_, name)) => format!("its type {name} cannot be read; {readable} can"),
            None => format!("its type {code} is unknown"),
        })
    }

    fn row(self) -> &'static (u32, Self, &'static str, usize, usize) {
        TABLE.iter().find(|row| row.1 == self).unwrap_or(&TABLE[0])
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().2)
    }
}
