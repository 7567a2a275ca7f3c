//! Products with matrices of 4 or 8 bits a weight, which stay packed in memory.
//!
//! A token at a time, a product with a matrix is as slow as the matrix is read: a quarter of the bytes is a quarter of
//! the time. So the weights are unpacked in registers, and multiplied as whole numbers: the row of activations is itself
//! rounded to 8 bits, each [group](WeightFormat) of it with a scale of its own, as llama.cpp does
//! (<https://github.com/ggml-org/llama.cpp>, `Q8_1`). A prompt goes the same way, eight rows at a time.
//!
//! Rounding the activations moves a product too, by far less than rounding the weights to 4 bits does. Where that is
//! too much, [`PackedMatrix::dequantize`] gives the weights themselves.

mod activations;
#[cfg(target_arch = "x86_64")]
mod avx2;
mod layout;
mod portable;
mod product;
mod tile;
#[cfg(target_arch = "x86_64")]
mod vnni;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::element::{Element, by_kind};
use super::loans::Loans;
use super::rows::Rows;
use crate::error::{Error, Result, ensure};
use layout::Shape;

pub use product::packed_linear;

/// How the weights of a [`PackedMatrix`] are stored.
///
/// As a text, also in files, `int8`, `int8-g32`, `int4-g32`, `int4-g64` or `int4-g128`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum WeightFormat {
    /// Codes 0 to 15 with a scale and an offset, both f16, for each group of so many columns of a row: a weight is
    /// `scale * code + offset`. `4 + 32 / group` bits a weight.
    Int4 {
        /// 32, 64 or 128; divides the columns.
        group: i64,
    },
    /// Codes -127 to 127 with one f32 scale for each row. Activations are rounded in groups of 32 columns.
    Int8,
    /// Codes -127 to 127 with one f16 scale for each 32 columns of a row: 8.5 bits a weight.
    Int8Grouped,
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int8 => f.write_str("int8"),
            Self::Int8Grouped => f.write_str("int8-g32"),
            Self::Int4 { group } => write!(f, "int4-g{group}"),
        }
    }
}

impl FromStr for WeightFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        const GROUPS: [i64; 3] = [32, 64, 128];
        let int4 = GROUPS.map(|group| Self::Int4 { group });
        let mut known = int4.into_iter().chain([Self::Int8, Self::Int8Grouped]);
        known.find(|known| known.to_string() == text).ok_or_else(|| Error::Config {
            field: "weight format".to_owned(),
            want: "int8, int8-g32, int4-g32, int4-g64 or int4-g128".to_owned(),
            got: format!("`{text}`"),
        })
    }
}

impl TryFrom<String> for WeightFormat {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<WeightFormat> for String {
    fn from(format: WeightFormat) -> Self {
        format.to_string()
    }
}

/// A matrix of packed weights, `[out, in]`, on the CPU.
///
/// Sixteen rows are stored together, so that one instruction multiplies four columns of each. The matrix is one
/// tensor of bytes ([`Self::data`]) in which nothing depends on the processor, and which may lie in a mapped file.
#[derive(Debug)]
pub struct PackedMatrix {
    /// u8 `[blocks of 16 rows, bytes of a block]`.
    data: Tensor,
    shape: Shape,
    format: WeightFormat,
}

impl PackedMatrix {
    /// Packs `codes`, u8 `[out, in]` of at most 15, with `scale` and `offset`, f32 `[out, in / group]`, which
    /// are rounded to f16. GGUF's Q4_0 and Q4_1 are of this kind and keep every bit.
    ///
    /// # Errors
    /// [`Error::Config`] if `group` is not 32, 64 or 128 or does not divide `in`, a code is above 15, or a scale or offset above 65,504;
    /// [`Error::Shape`] if the shapes do not fit together.
    pub fn int4(codes: &Tensor, scale: &Tensor, offset: &Tensor, group: i64) -> Result<Self> {
        let format = WeightFormat::Int4 { group };
        let (out, columns) = matrix_size("codes", codes)?;
        let shape = Shape::new(format, out, columns)?;
        let mut loans = Loans::default();
        let codes = loans.bytes("codes", codes, [shape.rows, shape.columns])?;
        let worst = codes.iter().copied().max().unwrap_or(0);
        ensure(worst < 16, "codes", "at most 15", worst)?;
        let scale = f16s(&mut loans, "scale", scale, &shape)?;
        let offset = f16s(&mut loans, "offset", offset, &shape)?;
        Self::filled(format, shape, |data| layout::pack_int4(&shape, codes, &scale, &offset, data))
    }

    /// Packs `codes`, i8 `[out, in]` above -128, with `scale`, f32 `[out]`.
    ///
    /// # Errors
    /// [`Error::Config`] if a code is -128; [`Error::Shape`] if the shapes do not fit together.
    pub fn int8(codes: &Tensor, scale: &Tensor) -> Result<Self> {
        let (out, columns) = matrix_size("codes", codes)?;
        let shape = Shape::new(WeightFormat::Int8, out, columns)?;
        let mut loans = Loans::default();
        let codes = eights(&mut loans, codes, &shape)?;
        let scale = scale.f_unsqueeze(0)?;
        let scale = loans.rows_of::<f32>("scale", &scale, [1, shape.rows])?;
        Self::filled(WeightFormat::Int8, shape, |data| {
            layout::pack_int8(&shape, codes, scale.row(0), data)
        })
    }

    /// Packs `codes`, i8 `[out, in]` above -128, with `scale`, f32 `[out, in / 32]`, which is rounded to f16. GGUF's Q8_0 is of
    /// this kind and keeps every bit.
    ///
    /// # Errors
    /// [`Error::Config`] if 32 does not divide `in`, a code is -128, or a scale above 65,504; [`Error::Shape`] if the shapes do not
    /// fit together.
    pub fn int8_grouped(codes: &Tensor, scale: &Tensor) -> Result<Self> {
        let (out, columns) = matrix_size("codes", codes)?;
        let format = WeightFormat::Int8Grouped;
        let shape = Shape::new(format, out, columns)?;
        let mut loans = Loans::default();
        let codes = eights(&mut loans, codes, &shape)?;
        let scale = f16s(&mut loans, "scale", scale, &shape)?;
        Self::filled(format, shape, |data| layout::pack_int8_grouped(&shape, codes, &scale, data))
    }

    fn filled(format: WeightFormat, shape: Shape, fill: impl FnOnce(&mut [u8])) -> Result<Self> {
        let size = [shape.blocks() as i64, shape.block_bytes() as i64];
        let data = Tensor::f_zeros(size, (Kind::Uint8, Device::Cpu))?;
        fill(Loans::default().bytes_mut("data", &data, [shape.blocks(), shape.block_bytes()])?);
        Ok(Self { data, shape, format })
    }

    /// A matrix `[out, columns]` over bytes that [`Self::data`] gave, without a copy.
    ///
    /// # Errors
    /// [`Error::Config`] as for [`Self::int4`]; [`Error::Shape`] if `data` is not u8 of [`Self::data_shape`].
    pub fn from_data(data: Tensor, format: WeightFormat, out: i64, columns: i64) -> Result<Self> {
        let shape = Shape::new(format, out, columns)?;
        let want = Self::data_shape(format, out, columns)?;
        if data.size() != want || data.f_kind()? != Kind::Uint8 || !data.is_contiguous() {
            let want = format!("{want:?}, u8, contiguous");
            return Err(Error::Shape { arg: "packed data", want, got: data.size() });
        }
        Ok(Self { data, shape, format })
    }

    /// The shape of [`Self::data`] for a matrix `[out, columns]`: blocks of 16 rows, and bytes of a block.
    ///
    /// # Errors
    /// [`Error::Config`] as for [`Self::int4`].
    pub fn data_shape(format: WeightFormat, out: i64, columns: i64) -> Result<[i64; 2]> {
        let shape = Shape::new(format, out, columns)?;
        Ok([shape.blocks() as i64, shape.block_bytes() as i64])
    }

    /// The bytes, u8 of [`Self::data_shape`].
    pub fn data(&self) -> &Tensor {
        &self.data
    }

    /// How they are stored.
    pub fn format(&self) -> WeightFormat {
        self.format
    }

    /// `[out, in]`.
    pub fn size(&self) -> [i64; 2] {
        [self.shape.rows as i64, self.shape.columns as i64]
    }

    /// A handle to the same bytes.
    pub fn share(&self) -> Self {
        Self { data: self.data.shallow_clone(), ..*self }
    }

    /// The weights as numbers, `[out, in]` of `kind` (f32 or bf16).
    ///
    /// # Errors
    /// [`Error::Config`] for another kind.
    pub fn dequantize(&self, kind: Kind) -> Result<Tensor> {
        let out = Tensor::f_empty(self.size(), (kind, Device::Cpu))?;
        let all: Vec<usize> = (0..self.shape.rows).collect();
        by_kind!("out", out, Y => self.read_rows::<Y>(&all, &out))?;
        Ok(out)
    }

    /// The rows `indices`, i64 of any shape, as a table of embeddings gives them: `[.., in]` of `kind` (f32 or bf16).
    ///
    /// # Errors
    /// [`Error::Config`] for another kind, or if an index is not below `out`.
    pub fn look_up(&self, indices: &Tensor, kind: Kind) -> Result<Tensor> {
        let flat = Vec::<i64>::try_from(indices.f_flatten(0, -1)?)?;
        let mut rows = Vec::with_capacity(flat.len());
        for index in flat {
            let row = usize::try_from(index).ok().filter(|&row| row < self.shape.rows);
            let want = format!("from 0 to below {}", self.shape.rows);
            ensure(row.is_some(), "index", &want, index)?;
            rows.extend(row);
        }
        let out = Tensor::f_empty([rows.len() as i64, self.size()[1]], (kind, Device::Cpu))?;
        by_kind!("out", out, Y => self.read_rows::<Y>(&rows, &out))?;
        let mut size = indices.size();
        size.push(self.size()[1]);
        Ok(out.f_view(size.as_slice())?)
    }

    fn read_rows<Y: Element>(&self, rows: &[usize], out: &Tensor) -> Result<()> {
        let mut loans = Loans::default();
        let data = loans.bytes("packed data", &self.data, self.data_size())?;
        let out = loans.rows_mut::<Y>("out", out, [rows.len(), self.shape.columns])?;
        layout::read_rows(&self.shape, data, rows, out)
    }

    fn data_size(&self) -> [usize; 2] {
        [self.shape.blocks(), self.shape.block_bytes()]
    }
}

/// Larger numbers are infinite in f16.
const LARGEST_F16: f64 = 65_504.0;

/// One number for each group of each row, none too large for f16.
fn f16s<'a>(
    loans: &mut Loans,
    arg: &'static str,
    x: &'a Tensor,
    shape: &Shape,
) -> Result<Rows<'a, f32>> {
    let rows = loans.rows_of::<f32>(arg, x, [shape.rows, shape.groups()])?;
    let worst = f64::try_from(x.f_abs()?.f_max()?)?;
    // NaN is not below it either.
    ensure(worst <= LARGEST_F16, arg, "at most 65,504 in size", worst)?;
    Ok(rows)
}

/// Codes of 8 bits.
fn eights<'a>(loans: &mut Loans, codes: &'a Tensor, shape: &Shape) -> Result<&'a [i8]> {
    let codes = loans.signed_bytes("codes", codes, [shape.rows, shape.columns])?;
    let worst = codes.iter().copied().min().unwrap_or(0);
    ensure(worst > i8::MIN, "codes", "above -128", worst)?;
    Ok(codes)
}

fn matrix_size(arg: &'static str, tensor: &Tensor) -> Result<(i64, i64)> {
    match *tensor.size() {
        [rows, columns] if rows > 0 && columns > 0 => Ok((rows, columns)),
        _ => {
            let want = "[out, in], not empty".to_owned();
            Err(Error::Shape { arg, want, got: tensor.size() })
        }
    }
}

#[cfg(test)]
mod tests;
