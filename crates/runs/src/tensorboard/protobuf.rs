//! The few fields of `tensorflow.Event` that scalars and text need, in protocol buffer encoding.
//!
//! Field numbers: Event { wall_time = 1, step = 2, file_version = 3, summary = 5, session_log = 7 },
//! Summary { value = 1 }, Value { tag = 1, simple_value = 2, tensor = 8, metadata = 9 },
//! SummaryMetadata { plugin_data = 1 { plugin_name = 1 }, data_class = 4 },
//! TensorProto { dtype = 1, tensor_shape = 2 { dim = 2 { size = 1 } }, tensor_content = 4,
//! float_val = 5, string_val = 8 }, SessionLog { status = 1 }.

use super::{Content, Event};

const DT_FLOAT: u64 = 1;
const DT_STRING: u64 = 7;
const DATA_CLASS_TENSOR: u64 = 2;
const SESSION_START: u64 = 1;

/// A message that is being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn int(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn double(mut self, field: u64, value: f64) -> Self {
        self.varint(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    fn message(self, field: u64, value: Self) -> Self {
        self.bytes(field, &value.0)
    }
}

pub(super) fn encode_event(event: &Event) -> Vec<u8> {
    // int64 is written as its two's complement, whatever its sign.
    let head = Message::default().double(1, event.wall_time).int(2, event.step as u64);
    let event = match &event.content {
        Content::Version(version) => head.bytes(3, version.as_bytes()),
        Content::Start => head.message(7, Message::default().int(1, SESSION_START)),
        Content::Scalar { tag, value } => {
            let value = Message::default().bytes(1, tag.as_bytes()).float(2, *value);
            head.message(5, Message::default().message(1, value))
        }
        Content::Text { tag, text } => {
            let one = Message::default().message(2, Message::default().int(1, 1));
            let tensor = Message::default().int(1, DT_STRING).message(2, one);
            let tensor = tensor.bytes(8, text.as_bytes());
            let plugin = Message::default().bytes(1, b"text");
            let metadata = Message::default().message(1, plugin).int(4, DATA_CLASS_TENSOR);
            let value = Message::default().bytes(1, tag.as_bytes());
            let value = value.message(8, tensor).message(9, metadata);
            head.message(5, Message::default().message(1, value))
        }
    };
    event.0
}

/// A field that was read.
enum Value<'a> {
    Int(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
}

impl<'a> Value<'a> {
    fn bytes(&self) -> Option<&'a [u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    fn text(&self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }
}

/// Splits a message into numbered fields; none if it is no message.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Value<'_>)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = take_varint(&mut bytes)?;
        let value = match key & 7 {
            0 => Value::Int(take_varint(&mut bytes)?),
            1 => Value::Fixed64(take_chunk(&mut bytes)?),
            2 => {
                let length = usize::try_from(take_varint(&mut bytes)?).ok()?;
                let (value, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Value::Bytes(value)
            }
            5 => Value::Fixed32(take_chunk(&mut bytes)?),
            _ => return None,
        };
        fields.push((key >> 3, value));
    }
    Some(fields)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = take_chunk(bytes)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn take_chunk<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (chunk, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*chunk)
}

/// Events of one record, one for each value in it; none if the payload is no event.
pub(super) fn decode_event(payload: &[u8]) -> Option<Vec<Event>> {
    let (mut wall_time, mut step, mut contents) = (0.0, 0, Vec::new());
    for (field, value) in fields(payload)? {
        match (field, value) {
            (1, Value::Fixed64(bytes)) => wall_time = f64::from_le_bytes(bytes),
            (2, Value::Int(value)) => step = value as i64,
            (3, value) => contents.push(Content::Version(value.text()?)),
            (5, value) => {
                for (field, value) in fields(value.bytes()?)? {
                    if field == 1 {
                        contents.extend(decode_value(value.bytes()?)?);
                    }
                }
            }
            (7, value) => {
                let log = fields(value.bytes()?)?;
                if log.iter().any(|field| matches!(field, (1, Value::Int(SESSION_START)))) {
                    contents.push(Content::Start);
                }
            }
            _ => {}
        }
    }
    Some(contents.into_iter().map(|content| Event { wall_time, step, content }).collect())
}

/// Outer none: not a message. Inner none: neither scalar nor text.
fn decode_value(bytes: &[u8]) -> Option<Option<Content>> {
    let (mut tag, mut found) = (String::new(), None);
    for (field, value) in fields(bytes)? {
        match (field, value) {
            (1, value) => tag = value.text()?,
            (2, Value::Fixed32(bytes)) => found = Some(Data::Float(f32::from_le_bytes(bytes))),
            (8, value) => found = decode_tensor(value.bytes()?)?,
            _ => {}
        }
    }
    Some(found.map(|data| match data {
        Data::Float(value) => Content::Scalar { tag, value },
        Data::Text(text) => Content::Text { tag, text },
    }))
}

enum Data {
    Float(f32),
    Text(String),
}

/// A tensor of one float or of text; TensorFlow 2 writes scalars so.
fn decode_tensor(bytes: &[u8]) -> Option<Option<Data>> {
    let (mut dtype, mut data) = (0, None);
    for (field, value) in fields(bytes)? {
        match (field, value) {
            (1, Value::Int(value)) => dtype = value,
            (5, Value::Fixed32(bytes)) => data = Some(Data::Float(f32::from_le_bytes(bytes))),
            (4 | 5, Value::Bytes(bytes)) if dtype == DT_FLOAT && bytes.len() == 4 => {
                data = bytes.first_chunk().map(|bytes| Data::Float(f32::from_le_bytes(*bytes)));
            }
            (8, value) if dtype == DT_STRING && data.is_none() => {
                data = Some(Data::Text(value.text()?))
            }
            _ => {}
        }
    }
    Some(data)
}
