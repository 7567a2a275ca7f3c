use serde_json::Value as Json;

use super::*;

/// A file with one value of every type that the writer knows, and two tensors.
fn example() -> Writer {
    let mut writer = Writer::new();
    writer.string("general.architecture", "llama").unsigned("llama.block_count", 30);
    writer.float("llama.rope.freq_base", 1e5).boolean("tokenizer.ggml.add_bos_token", true);
    writer.strings("tokenizer.ggml.tokens", &["a", "Ġé", ""]);
    writer.integers("tokenizer.ggml.token_type", &[1, -3, 6]).floats("scores", &[0.5, -1e10]);
    writer.tensor("a.weight", &[2, 3], GgmlType::F32, f32_bytes(&[1., 2., 3., 4., 5., 6.]));
    writer.tensor("b.weight", &[32], GgmlType::Q8_0, [0; 34]);
    writer
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn open(bytes: Vec<u8>) -> Result<Gguf> {
    Gguf::from_bytes(bytes, "x.gguf")
}

fn check_refused(bytes: Vec<u8>, expected: &str) {
    assert_eq!(open(bytes).unwrap_err().to_string(), format!("GGUF file `x.gguf`: {expected}"));
}

#[test]
fn what_was_written_is_read() {
    let file = open(example().to_bytes().unwrap()).unwrap();
    assert_eq!(file.string("general.architecture").unwrap(), Some("llama"));
    assert_eq!(file.unsigned("llama.block_count").unwrap(), Some(30));
    assert_eq!(file.float("llama.rope.freq_base").unwrap(), Some(1e5));
    assert_eq!(file.boolean("tokenizer.ggml.add_bos_token").unwrap(), Some(true));
    assert_eq!(file.strings("tokenizer.ggml.tokens").unwrap().unwrap(), ["a", "Ġé", ""]);
    assert_eq!(file.integers("tokenizer.ggml.token_type").unwrap().unwrap(), [1, -3, 6]);
    assert_eq!(file.floats("scores").unwrap().unwrap(), [0.5, -1e10_f32 as f64]);
    assert_eq!(file.keys().count(), 7);
    assert_eq!(file.string("no.such").unwrap(), None);

    let [a, b] = file.tensors() else { panic!("two tensors") };
    assert_eq!((a.name.as_str(), &a.shape[..], a.kind), ("a.weight", &[2, 3][..], GgmlType::F32));
    assert_eq!((b.range.len(), b.range.start % 32), (34, 0));
    assert_eq!(file.bytes("a.weight").unwrap(), f32_bytes(&[1., 2., 3., 4., 5., 6.]));
    assert_eq!(file.dequantize("a.weight").unwrap(), [1., 2., 3., 4., 5., 6.]);
    assert_eq!(file.dequantize("b.weight").unwrap(), [0.0; 32]);
}

#[test]
fn a_mapped_file_is_the_same() {
    let folder = crate::testing::folder();
    let path = folder.path().join("new/model.gguf");
    example().save(&path).unwrap();
    let file = Gguf::open(&path).unwrap();
    assert_eq!(file.tensors(), open(example().to_bytes().unwrap()).unwrap().tensors());
    assert_eq!(file.dequantize("a.weight").unwrap(), [1., 2., 3., 4., 5., 6.]);
    let missing = Gguf::open(folder.path().join("no.gguf")).unwrap_err().to_string();
    assert!(missing.starts_with("cannot open `"), "{missing}");
    std::fs::write(&path, "").unwrap();
    let empty = Gguf::open(&path).unwrap_err().to_string();
    assert!(empty.ends_with("is no GGUF file: it does not begin with `GGUF`"), "{empty}");
}

#[test]
fn a_value_of_another_type_is_named() {
    let file = open(example().to_bytes().unwrap()).unwrap();
    let check = |error: Error, expected: &str| {
        assert_eq!(error.to_string(), format!("GGUF file `x.gguf`: {expected}"));
    };
    check(
        file.unsigned("general.architecture").unwrap_err(),
        "metadata `general.architecture` is a string, not an unsigned integer",
    );
    check(
        file.string("llama.block_count").unwrap_err(),
        "metadata `llama.block_count` is the unsigned integer 30, not a string",
    );
    check(
        file.strings("tokenizer.ggml.token_type").unwrap_err(),
        "metadata `tokenizer.ggml.token_type`: element 0 is the signed integer 1, not an array of strings",
    );
    check(
        file.boolean("scores").unwrap_err(),
        "metadata `scores` is an array of 2 floats, not a boolean",
    );
    check(file.missing("a.b"), "has no metadata `a.b`");
    check(file.bytes("c.weight").unwrap_err(), "has no tensor `c.weight`");
    let mut short = [0.0; 5];
    let error = file.dequantize_into("a.weight", &mut short).unwrap_err().to_string();
    assert_eq!(error, "out must be 6 long, got 5");
}

/// A header of its own: magic, version, counts, then `rest`.
fn header(version: u32, n_tensors: u64, n_metadata: u64, rest: &[&[u8]]) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(n_tensors.to_le_bytes());
    bytes.extend(n_metadata.to_le_bytes());
    bytes.extend(rest.concat());
    bytes
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn entry(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&text(key), &kind.to_le_bytes()[..], value].concat()
}

#[test]
fn every_integer_and_float_width_is_read() {
    let metadata = [
        entry("a", 0, &[200]),
        entry("b", 1, &[200]),
        entry("c", 2, &[0, 200]),
        entry("d", 3, &[0, 200]),
        entry("e", 5, &(-7_i32).to_le_bytes()),
        entry("f", 10, &u64::MAX.to_le_bytes()),
        entry("g", 11, &(-7_i64).to_le_bytes()),
        entry("h", 12, &0.1_f64.to_le_bytes()),
    ]
    .concat();
    let file = open(header(2, 0, 8, &[&metadata])).unwrap();
    let values: Vec<Value> = file.keys().map(|key| file.get(key).unwrap()).collect();
    let expected = [
        Value::Unsigned(200),
        Value::Signed(-56),
        Value::Unsigned(51_200),
        Value::Signed(-14_336),
        Value::Signed(-7),
        Value::Unsigned(u64::MAX),
        Value::Signed(-7),
        Value::Float(0.1),
    ];
    assert_eq!(values, expected);
}

#[test]
fn what_is_no_gguf_file_is_refused() {
    check_refused(b"PK\x03\x04abcdefgh".to_vec(), "is no GGUF file: it does not begin with `GGUF`");
    check_refused(b"GG".to_vec(), "is no GGUF file: it does not begin with `GGUF`");
    check_refused(header(1, 0, 0, &[]), "has GGUF version 1; 2 and 3 can be read");
    check_refused(header(4, 0, 0, &[]), "has GGUF version 4; 2 and 3 can be read");
    check_refused(
        header(3_u32.swap_bytes(), 0, 0, &[]),
        "is written for big-endian machines, which is not supported",
    );
    check_refused(
        header(3, 0, 0, &[])[..20].to_vec(),
        "is cut off in its header: needs 8 bytes at byte 16, where 4 are left",
    );
}

#[test]
fn damaged_metadata_are_named() {
    let one = |rest: &[u8]| header(3, 0, 1, &[rest]);
    check_refused(one(&[]), "metadata 0: needs 8 bytes at byte 24, where 0 are left");
    check_refused(
        one(&u64::MAX.to_le_bytes()),
        "metadata 0: needs 18446744073709551615 bytes at byte 32, where 0 are left",
    );
    check_refused(one(&entry("", 4, &[0; 4])), "metadata 0: its name is empty");
    check_refused(
        one(&entry("a\n", 4, &[0; 4])),
        "metadata 0: its name `a\\n` holds control characters",
    );
    check_refused(one(&entry("a", 13, &[0; 4])), "metadata `a`: its type 13 is unknown");
    check_refused(one(&entry("a", 7, &[2])), "metadata `a`: a boolean is 2, neither 0 nor 1");
    check_refused(
        one(&entry("a", 8, &[1, 0, 0, 0, 0, 0, 0, 0, 0xff])),
        "metadata `a`: the string at byte 37 is no UTF-8",
    );
    let array = |element: u32, len: u64| {
        entry("a", 9, &[&element.to_le_bytes()[..], &len.to_le_bytes()].concat())
    };
    check_refused(
        one(&array(4, u64::MAX / 2)),
        "metadata `a`: its length 9223372036854775807 is too large",
    );
    check_refused(
        one(&array(4, 1 << 40)),
        "metadata `a`: needs 4398046511104 bytes at byte 49, where 0 are left",
    );
    check_refused(
        one(&array(8, u64::MAX)),
        "metadata `a`: element 0 needs 8 bytes at byte 49, where 0 are left",
    );
    check_refused(one(&array(9, 1)), "metadata `a`: is an array of arrays, which no model needs");
    let twice = [entry("a", 4, &[0; 4]), entry("a", 4, &[0; 4])].concat();
    check_refused(header(3, 0, 2, &[&twice]), "metadata `a` is there twice");
    for alignment in [0_u32, 48] {
        let metadata = entry("general.alignment", 4, &alignment.to_le_bytes());
        check_refused(
            one(&metadata),
            &format!(
                "metadata `general.alignment` must be a power of two, got the unsigned integer {alignment}"
            ),
        );
    }
    check_refused(
        header(3, 0, u64::MAX, &[&entry("a", 4, &[0; 4])]),
        "metadata 1: needs 8 bytes at byte 41, where 0 are left",
    );
}

fn tensor(name: &str, shape: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let shape: Vec<u8> = shape.iter().flat_map(|size| size.to_le_bytes()).collect();
    let n_dimensions = (shape.len() as u32 / 8).to_le_bytes();
    [&text(name), &n_dimensions[..], &shape, &kind.to_le_bytes(), &offset.to_le_bytes()].concat()
}

/// A file of `tensors` with 64 bytes of data.
fn with_data(tensors: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = header(3, tensors.len() as u64, 0, &[&tensors.concat()]);
    bytes.resize(bytes.len().next_multiple_of(32) + 64, 0);
    bytes
}

#[test]
fn damaged_tensors_are_named() {
    let check = |tensors: &[Vec<u8>], expected: &str| check_refused(with_data(tensors), expected);
    let f32s = |name: &str, n: u64, offset: u64| tensor(name, &[n], 0, offset);
    open(with_data(&[f32s("a", 8, 32), f32s("b", 8, 0)])).unwrap();
    check(&[f32s("a", 16, 0), f32s("b", 1, 32)], "tensors `a` and `b` overlap");
    check(&[f32s("a", 1, 0), f32s("a", 1, 32)], "tensor `a` is there twice");
    check(
        &[f32s("a", 17, 0)],
        "tensor `a`: its 68 bytes at byte 0 of the data, which begin at byte 64, go beyond the file's 128",
    );
    check(
        &[f32s("a", 1, u64::MAX - 31)],
        "tensor `a`: its 4 bytes at byte 18446744073709551584 of the data, which begin at byte 64, go beyond the file's 128",
    );
    check(&[f32s("a", 1, 4)], "tensor `a`: it begins at byte 4, not at a multiple of 32");
    check(&[f32s("a", 0, 0)], "tensor `a`: a dimension is 0");
    check(
        &[tensor("a", &[1 << 40, 1 << 40], 0, 0)],
        "tensor `a`: its shape [1099511627776, 1099511627776] is too large",
    );
    check(&[tensor("a", &[1, 1, 1, 1, 1], 0, 0)], "tensor `a`: it has 5 dimensions, more than 4");
    check(
        &[tensor("a", &[33], 8, 0)],
        "tensor `a`: its rows of 33 values are no whole Q8_0 blocks of 32",
    );
    check(&[tensor("a", &[32], 99, 0)], "tensor `a`: its type 99 is unknown");
    check(
        &[tensor("a", &[256], 23, 0)],
        "tensor `a`: its type IQ4_XS cannot be read; F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, BF16 can",
    );
    check_refused(
        header(3, u64::MAX, 0, &[&f32s("a", 1, 0)]),
        "tensor 1: needs 8 bytes at byte 57, where 0 are left",
    );
}

#[test]
fn a_scalar_is_one_value() {
    let file = open(with_data(&[tensor("a", &[], 0, 32)])).unwrap();
    assert_eq!(file.tensor("a").unwrap().shape, [0; 0]);
    assert_eq!(file.dequantize("a").unwrap(), [0.0]);
}

#[test]
fn the_writer_refuses_what_it_could_not_read() {
    let check = |writer: &Writer, expected: &str| {
        let error = writer.to_bytes().unwrap_err().to_string();
        assert_eq!(error, format!("GGUF file `to be written`: {expected}"));
    };
    check(example().unsigned("scores", 1), "metadata `scores` is there twice");
    let mut writer = Writer::new();
    writer.tensor("a", &[2], GgmlType::F32, [0; 40]);
    check(&writer, "tensor `a`: 40 bytes, not 8");
}

fn unhex(hex: &Json) -> Vec<u8> {
    let digits = hex.as_str().unwrap();
    (0..digits.len() / 2)
        .map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap())
        .collect()
}

#[test]
fn blocks_are_what_the_gguf_package_makes_of_them() {
    let golden: Json =
        serde_json::from_slice(include_bytes!("../../tests/data/gguf_blocks.json")).unwrap();
    let types = golden["types"].as_object().unwrap();
    assert_eq!(types.len(), GgmlType::all().count());
    for kind in GgmlType::all() {
        let case = &types[&kind.to_string()];
        let expected = unhex(&case["values"]);
        let mut values = vec![f32::NAN; expected.len() / 4];
        dequantize(kind, &unhex(&case["blocks"]), &mut values).unwrap();
        let (expected, _) = expected.as_chunks::<4>();
        for (i, (&got, &want)) in values.iter().zip(expected).enumerate() {
            let want = f32::from_le_bytes(want);
            assert_eq!(got.to_bits(), want.to_bits(), "{kind} {i}: {got} is not {want}");
        }
    }
}

#[test]
fn codes_make_the_same_floats() {
    for kind in GgmlType::all() {
        let n_values = 3 * 4096;
        let n_bytes = n_values / kind.block_values() * kind.block_bytes();
        // No byte above 0x3f, so that no float is infinite.
        let bytes: Vec<u8> = (0..n_bytes).map(|i| (i * i * 37 % 61) as u8).collect();
        let mut writer = Writer::new();
        writer.tensor("a", &[48, 256], kind, bytes);
        let file = open(writer.to_bytes().unwrap()).unwrap();
        let made: Vec<f32> = match file.codes("a").unwrap() {
            Some(Codes::Four { codes, scale, offset }) => {
                let groups = codes.chunks(Codes::GROUP).zip(scale.iter().zip(&offset));
                let weights = |(codes, (scale, offset)): (&[u8], (&f32, &f32))| {
                    let of = |&code: &u8| scale * f32::from(code) + offset;
                    codes.iter().map(of).collect::<Vec<_>>()
                };
                groups.flat_map(weights).collect()
            }
            Some(Codes::Eight { codes, scale }) => {
                let groups = codes.chunks(Codes::GROUP).zip(&scale);
                groups
                    .flat_map(|(codes, scale)| {
                        codes.iter().map(move |&code| scale * f32::from(code))
                    })
                    .collect()
            }
            None => {
                let known = [GgmlType::Q4_0, GgmlType::Q4_1, GgmlType::Q4K, GgmlType::Q8_0];
                assert!(!known.contains(&kind), "{kind}");
                continue;
            }
        };
        assert_eq!(made, file.dequantize("a").unwrap(), "{kind}");
    }
    let mut writer = Writer::new();
    writer.tensor("a", &[32], GgmlType::Q8_0, [0x80; 34]);
    assert_eq!(open(writer.to_bytes().unwrap()).unwrap().codes("a").unwrap(), None);
}

#[test]
fn every_half_is_exact() {
    for bits in 0..=u16::MAX {
        let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 0x3ff));
        let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
        let expected = match exponent {
            31 if fraction == 0.0 => sign * f64::INFINITY,
            31 => f64::NAN,
            0 => sign * fraction * 2_f64.powi(-24),
            _ => sign * (1024.0 + fraction) * 2_f64.powi(exponent - 25),
        };
        let got = f64::from(blocks::half(bits));
        let same = got == expected && got.is_sign_negative() == (sign < 0.0);
        assert!(same || got.is_nan() && expected.is_nan(), "{bits:#x}: {got} is not {expected}");
    }
}

#[test]
fn a_long_tensor_is_its_rows() {
    for kind in GgmlType::all() {
        let n_values = 5 * 65_536 / 2; // several tasks, the last one short
        let n_bytes = n_values / kind.block_values() * kind.block_bytes();
        // No byte above 0x3f, so that no float is infinite.
        let bytes: Vec<u8> = (0..n_bytes).map(|i| (i * 37 % 61) as u8).collect();
        let mut whole = vec![0.0; n_values];
        dequantize(kind, &bytes, &mut whole).unwrap();
        let row_bytes = n_bytes / 128;
        for (row, expected) in whole.chunks(n_values / 128).enumerate().step_by(31) {
            let mut values = vec![0.0; expected.len()];
            dequantize(kind, &bytes[row * row_bytes..(row + 1) * row_bytes], &mut values).unwrap();
            assert_eq!(values, expected, "{kind}");
        }
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let check = |out: usize, bytes: usize, expected: &str| {
        let result = dequantize(GgmlType::Q4_1, &vec![0; bytes], &mut vec![0.0; out]);
        assert_eq!(result.unwrap_err().to_string(), expected);
    };
    check(33, 20, "out must be whole Q4_1 blocks of 32 values, got 33");
    check(64, 20, "bytes must be 40 of Q4_1, got 20");
}
