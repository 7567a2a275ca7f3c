//! Files made to do harm, or broken by accident. `RUN_SLOW=1` raises the number of damaged headers from some hundreds to 100,000.

use std::fs;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::{named, scratch, some_tensor};
use crate::error::Error;
use crate::safetensors::{SafetensorsFile, save};

/// A file of that header and so many zero bytes.
fn file_of(header: &str, data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.resize(file.len() + data, 0);
    file
}

fn entry(dtype: &str, shape: &str, begin: u64, end: u64) -> String {
    format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
}

/// Opens the bytes as a file and reads every tensor; a failure's text without the path.
fn open(bytes: &[u8]) -> Result<usize, String> {
    let (_folder, path) = scratch();
    fs::write(&path, bytes).unwrap();
    let read = || -> Result<usize, Error> {
        let file = SafetensorsFile::open(&path)?;
        file.sha256()?;
        // Touches every byte of every tensor.
        let tensors: Vec<_> =
            file.names().map(|name| file.tensor(name)).collect::<Result<_, _>>()?;
        Ok(tensors.iter().map(|tensor| super::bytes(tensor).len()).sum())
    };
    read().map_err(|error| {
        let (text, place) = (error.to_string(), format!("`{}`: ", path.display()));
        assert!(text.starts_with(&place), "names the file: {text}");
        text[place.len()..].to_owned()
    })
}

fn refused(bytes: &[u8], want: &str) {
    let got = open(bytes).unwrap_err();
    assert!(got.contains(want), "{got}");
}

#[test]
fn a_header_that_is_not_there_is_refused() {
    refused(b"", "truncated: 0 bytes");
    refused(b"1234567", "truncated: 7 bytes");
    refused(&[0; 8], "does not begin with `{`");
    refused(&file_of("{}", 0)[..9], "truncated: a header of 2 bytes in a file of 9 bytes");
    refused(&u64::MAX.to_le_bytes(), "a header of 18446744073709551615 bytes");
    refused(&99_999_999u64.to_le_bytes(), "truncated: a header of 99999999 bytes");
    refused(&file_of(" {}", 0), "does not begin with `{`");
    refused(&file_of("{", 0), "unreadable header");
    refused(&file_of("{}x", 0), "unreadable header");
    refused(&file_of("{\"a\":3}", 0), "unreadable header");
    refused(&file_of(&format!("{{\"a\":{}", "[".repeat(100_000)), 0), "unreadable header");
    refused(
        &file_of("{\"__metadata__\":{},\"__metadata__\":{}}", 0),
        "`__metadata__` occurs twice",
    );
    refused(&file_of("{\"__metadata__\":{\"a\":1}}", 0), "unreadable header");
    let mut latin = file_of("{\"\u{e9}\":{}}", 0);
    latin[10] = 0xff;
    refused(&latin, "unreadable header");
    assert_eq!(open(&file_of("{}   ", 0)), Ok(0));
}

#[test]
fn an_entry_that_lies_is_refused_by_name() {
    let one = |entry: String, want: &str| {
        refused(&file_of(&format!(r#"{{"w":{entry}}}"#), 16), &format!("tensor `w` {want}"));
    };
    one(entry("F32", "[4]", 0, 17), "claims bytes 0..17 of 16");
    one(entry("F32", "[4]", 16, 0), "claims bytes 16..0 of 16");
    one(entry("F32", "[4]", 0, u64::MAX), "claims bytes 0..18446744073709551615 of 16");
    one(entry("F32", "[5]", 0, 16), "takes 20 bytes as F32 [5], but claims 16");
    one(entry("F32", "[4]", 0, 12), "takes 16 bytes as F32 [4], but claims 12");
    one(entry("F99", "[4]", 0, 16), "has dtype `F99`, which is not supported");
    one(
        entry("F32", "[4294967296,4294967296]", 0, 16),
        "has shape [4294967296, 4294967296], which is too large",
    );
    one(entry("U8", "[9223372036854775807,2]", 0, 16), "has shape [9223372036854775807, 2]");
    one(entry("U8", "[0,9223372036854775807,9]", 0, 0), "has shape [0, 9223372036854775807, 9]");
    one(entry("U8", "[18446744073709551615]", 0, 16), "has shape");
    one(entry("U8", &format!("[{}1]", "1,".repeat(64)), 0, 1), "has 65 dimensions");
    one(entry("F32", "[2]", 4, 12), "comes after a gap of 4 bytes");
    refused(
        &file_of(&format!(r#"{{"w":{}}}"#, entry("F32", "[-4]", 0, 16)), 16),
        "unreadable header",
    );
    refused(
        &file_of(&format!(r#"{{"w":{}}}"#, entry("F32", "[2]", 0, 8)), 16),
        "8 bytes at its end belong to no tensor",
    );
    let bools = file_of(&format!(r#"{{"w":{}}}"#, entry("BOOL", "[3]", 0, 3)), 3);
    assert_eq!(open(&bools), Ok(3));
    let mut lie = bools;
    *lie.last_mut().unwrap() = 2;
    refused(&lie, "tensor `w` is bool but holds other bytes than 0 and 1");
}

#[test]
fn tensors_may_not_overlap_or_share_a_name() {
    let two = |a: String, b: String| file_of(&format!(r#"{{"a":{a},"b":{b}}}"#), 16);
    refused(
        &two(entry("F32", "[3]", 0, 12), entry("F32", "[2]", 8, 16)),
        "tensor `b` overlaps another tensor",
    );
    refused(
        &two(entry("F32", "[4]", 0, 16), entry("F32", "[4]", 0, 16)),
        "tensor `b` overlaps another tensor",
    );
    let header =
        format!(r#"{{"a":{},"a":{}}}"#, entry("F32", "[2]", 0, 8), entry("F32", "[2]", 8, 16));
    refused(&file_of(&header, 16), "tensor `a` occurs twice in the header");
    assert_eq!(open(&two(entry("F32", "[2]", 0, 8), entry("F32", "[2]", 8, 16))), Ok(16));
    let empty = two(entry("F32", "[0]", 0, 0), entry("F32", "[4]", 0, 16));
    assert_eq!(open(&empty), Ok(16));
}

/// A sound file with tensors of several kinds.
fn sound() -> Vec<u8> {
    use tch::Kind::{BFloat16, Bool, Float, Int64};
    let (_folder, path) = scratch();
    let kinds = [("a.weight", Float), ("b", BFloat16), ("c", Bool), ("ids", Int64)];
    let tensors = kinds.map(|(name, kind)| (name, some_tensor(kind, &[3, 2], 1)));
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    save(&path, &named(&tensors), &metadata).unwrap();
    fs::read(&path).unwrap()
}

static SOUND: LazyLock<Vec<u8>> = LazyLock::new(sound);

fn cases() -> u32 {
    if std::env::var_os("RUN_SLOW").is_some() { 100_000 } else { 300 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn damaged_headers_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![
            any::<u8>(), Just(b'9'), Just(b'0'), Just(b','), Just(b'"'), Just(b']'),
        ]), 1..5),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = SOUND.clone();
        let header_end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        for (place, byte) in &edits {
            bytes[place.index(header_end)] = *byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        // Either it is refused, or what is read lies within the file.
        if let Ok(read) = open(&bytes) {
            prop_assert!(read <= bytes.len());
        }
    }

    #[test]
    fn invented_entries_never_panic(
        entries in prop::collection::vec((
            "[ab]", prop::sample::select(vec!["F64", "F32", "BF16", "I8", "BOOL", "U16"]),
            prop::collection::vec(prop_oneof![0u64..5, any::<u64>()], 0..3),
            prop_oneof![0u64..40, any::<u64>()], prop_oneof![0u64..40, any::<u64>()],
        ), 0..3),
        data in 0usize..40,
    ) {
        let entries = entries.iter().map(|(name, dtype, shape, begin, end)| {
            format!("\"{name}\":{}", entry(dtype, &format!("{shape:?}"), *begin, *end))
        });
        let bytes = file_of(&format!("{{{}}}", entries.collect::<Vec<_>>().join(",")), data);
        if let Ok(read) = open(&bytes) {
            prop_assert_eq!(read, data, "the tensors cover the data");
        }
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let bytes = sound();
    for len in 0..bytes.len() {
        assert!(open(&bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
    }
    assert!(open(&bytes).is_ok());
}
