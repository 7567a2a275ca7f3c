//! Metadata values: numbers, texts, and arrays of them, which stay in the file until they are read.

use super::cursor::{Cursor, Reason};

/// One metadata value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// An unsigned integer of 8, 16, 32 or 64 bits.
    Unsigned(u64),
    /// A signed integer of 8, 16, 32 or 64 bits.
    Signed(i64),
    /// A float of 32 or 64 bits.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// A text.
    String(&'a str),
    /// Many values of one type.
    Array(Array<'a>),
}

/// An array that lies in the file; reading it makes the values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Array<'a> {
    element: ValueType,
    len: usize,
    /// The elements, checked to be complete.
    bytes: &'a [u8],
}

/// The type of a value, as the file numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

const TYPES: [ValueType; 13] = [
    ValueType::U8,
    ValueType::I8,
    ValueType::U16,
    ValueType::I16,
    ValueType::U32,
    ValueType::I32,
    ValueType::F32,
    ValueType::Bool,
    ValueType::String,
    ValueType::Array,
    ValueType::U64,
    ValueType::I64,
    ValueType::F64,
];

impl ValueType {
    pub(super) fn read(cursor: &mut Cursor) -> Result<Self, Reason> {
        let code = cursor.u32()?;
        let known = usize::try_from(code).ok().and_then(|code| TYPES.get(code));
        known.copied().ok_or_else(|| format!("its type {code} is unknown"))
    }

    pub(super) fn code(self) -> u32 {
        self as u32
    }

    /// Bytes of one value, where all have the same.
    fn size(self) -> Option<u64> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::U8 | Self::U16 | Self::U32 | Self::U64 => "unsigned integers",
            Self::I8 | Self::I16 | Self::I32 | Self::I64 => "signed integers",
            Self::F32 | Self::F64 => "floats",
            Self::Bool => "booleans",
            Self::String => "strings",
            Self::Array => "arrays",
        }
    }
}

impl<'a> Value<'a> {
    /// Reads a value and moves past it. Arrays are walked, not copied.
    pub(super) fn read(cursor: &mut Cursor<'a>, kind: ValueType) -> Result<Self, Reason> {
        Ok(match kind {
            ValueType::U8 => Self::Unsigned(u8::from_le_bytes(cursor.array()?).into()),
            ValueType::U16 => Self::Unsigned(u16::from_le_bytes(cursor.array()?).into()),
            ValueType::U32 => Self::Unsigned(cursor.u32()?.into()),
            ValueType::U64 => Self::Unsigned(cursor.u64()?),
            ValueType::I8 => Self::Signed(i8::from_le_bytes(cursor.array()?).into()),
            ValueType::I16 => Self::Signed(i16::from_le_bytes(cursor.array()?).into()),
            ValueType::I32 => Self::Signed(i32::from_le_bytes(cursor.array()?).into()),
            ValueType::I64 => Self::Signed(i64::from_le_bytes(cursor.array()?)),
            ValueType::F32 => Self::Float(f32::from_le_bytes(cursor.array()?).into()),
            ValueType::F64 => Self::Float(f64::from_le_bytes(cursor.array()?)),
            ValueType::Bool => match cursor.array()? {
                [0] => Self::Bool(false),
                [1] => Self::Bool(true),
                [other] => return Err(format!("a boolean is {other}, neither 0 nor 1")),
            },
            ValueType::String => Self::String(cursor.string()?),
            ValueType::Array => Self::Array(Array::read(cursor)?),
        })
    }

    /// What it is, for messages.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Unsigned(value) => format!("the unsigned integer {value}"),
            Self::Signed(value) => format!("the signed integer {value}"),
            Self::Float(value) => format!("the float {value}"),
            Self::Bool(value) => format!("the boolean {value}"),
            Self::String(_) => "a string".to_owned(),
            Self::Array(array) => format!("an array of {} {}", array.len, array.element.name()),
        }
    }
}

impl<'a> Array<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, Reason> {
        let element = ValueType::read(cursor)?;
        let len = cursor.u64()?;
        let mut rest = cursor.clone();
        match element.size() {
            Some(size) => {
                let n_bytes = len.checked_mul(size);
                rest.skip(n_bytes.ok_or_else(|| format!("its length {len} is too large"))?)?;
            }
            None if element == ValueType::Array => {
                return Err("is an array of arrays, which no model needs".to_owned());
            }
            // Ends at the end of the file at the latest: every string takes 8 bytes or more.
            None => {
                for index in 0..len {
                    rest.string_bytes().map_err(|reason| format!("element {index} {reason}"))?;
                }
            }
        }
        let bytes = cursor.take((rest.position() - cursor.position()) as u64)?;
        Ok(Self { element, len: usize::try_from(len).unwrap_or(usize::MAX), bytes })
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements one by one, without a copy; the index and the reason of the first that cannot
    /// be read (a string that is no UTF-8) ends it.
    pub(super) fn values(self) -> impl Iterator<Item = Result<Value<'a>, Reason>> {
        let mut cursor = Cursor::new(self.bytes);
        (0..self.len).map(move |index| {
            Value::read(&mut cursor, self.element)
                .map_err(|reason| format!("element {index}: {reason}"))
        })
    }
}
