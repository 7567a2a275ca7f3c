use proptest::prelude::*;

use super::*;

const START: f64 = 1_795_375_867.5;

fn scalar(step: i64, tag: &str, value: f32) -> Event {
    let content = Content::Scalar { tag: tag.into(), value };
    Event { wall_time: START + step as f64, step, content }
}

fn write(writer: &mut EventWriter, event: &Event) {
    let Content::Scalar { tag, value } = &event.content else { unreachable!() };
    writer.scalar(tag, event.step, f64::from(*value), event.wall_time).unwrap();
}

#[test]
fn the_bytes_are_those_that_tensorboard_reads() {
    // Written by hand from the format's description, checksums by TensorFlow's table.
    let dir = tempfile::tempdir().unwrap();
    let mut writer = EventWriter::create(dir.path(), "host", 1.0).unwrap();
    writer.scalar("a", 3, 0.5, 2.0).unwrap();
    let bytes = fs::read(writer.path()).unwrap();
    let payload = b"\x09\0\0\0\0\0\0\xf0\x3f\x10\0\x1a\x0dbrain.Event:2";
    let second = b"\x09\0\0\0\0\0\0\0\x40\x10\x03\x2a\x0a\x0a\x08\x0a\x01a\x15\0\0\0\x3f";
    assert_eq!(bytes, [frame(payload), frame(second)].concat());
    assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283); // RFC 3720, check value
    let name = writer.path().file_name().unwrap().to_str().unwrap();
    assert_eq!(name, "events.out.tfevents.0000000001.host.0");
}

#[test]
fn scalars_and_text_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = EventWriter::create(dir.path(), "host", START).unwrap();
    let loss = scalar(-3, "train/loss", f32::INFINITY);
    write(&mut writer, &loss);
    writer.text("sample", 7, "ä **b**\n", START).unwrap();
    writer.sync().unwrap();
    let text = Content::Text { tag: "sample".into(), text: "ä **b**\n".into() };
    let version = Content::Version("brain.Event:2".into());
    let expected = [
        Event { wall_time: START, step: 0, content: version },
        loss,
        Event { wall_time: START, step: 7, content: text },
    ];
    assert_eq!(read_events(writer.path()).unwrap(), expected);
}

#[test]
fn scalars_as_tensorflow_2_writes_them_are_read() {
    // summary { value { tag: "a", tensor { dtype: DT_FLOAT, tensor_shape {}, float_val: 0.5 } } },
    // packed and unpacked, and as tensor_content.
    for data in [&b"\x2a\x04\0\0\0\x3f"[..], b"\x2d\0\0\0\x3f", b"\x22\x04\0\0\0\x3f"] {
        let tensor = [b"\x08\x01\x12\x00", data].concat();
        let value = [b"\x0a\x01a\x42", &[tensor.len() as u8][..], &tensor].concat();
        let summary = [b"\x0a", &[value.len() as u8][..], &value].concat();
        let event = [b"\x10\x05\x2a", &[summary.len() as u8][..], &summary].concat();
        let expected = Content::Scalar { tag: "a".into(), value: 0.5 };
        let expected = Event { wall_time: 0.0, step: 5, content: expected };
        assert_eq!(decode_event(&event), Some(vec![expected]));
    }
}

#[test]
fn a_resumed_run_makes_one_history() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = EventWriter::create(dir.path(), "cell", START).unwrap();
    (0..8).for_each(|step| write(&mut first, &scalar(step, "loss", 1.0)));
    // Two resumes in the same second, so that only the last number of the names orders the files.
    for number in 0..11 {
        let mut again = EventWriter::resume(dir.path(), "cell", START, 5).unwrap();
        (5..9).for_each(|step| write(&mut again, &scalar(step, "loss", number as f32)));
    }
    fs::write(dir.path().join("notes.txt"), "not events").unwrap();
    let history = read_history(dir.path()).unwrap();
    let expected: Vec<_> =
        (0..9).map(|s| scalar(s, "loss", if s < 5 { 1.0 } else { 10.0 })).collect();
    assert_eq!(history, expected);
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = EventWriter::create(dir.path(), "host", START).unwrap();
    write(&mut writer, &scalar(1, "loss", 2.5));
    let whole = fs::read(writer.path()).unwrap();
    for byte in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[byte] ^= 1 << (byte % 8);
        fs::write(writer.path(), flipped).unwrap();
        let error = read_events(writer.path()).unwrap_err().to_string();
        let at = if byte < frame(b"\x09\0\0\0\0\0\0\xf0\x3f\x10\0\x1a\x0dbrain.Event:2").len() {
            "byte 0"
        } else {
            "byte 42"
        };
        assert!(error.ends_with(&format!("wrong checksum at {at}")), "{error}");
    }
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for source in ["", "a/b", "a b"] {
        assert!(EventWriter::create(dir.path(), source, START).is_err());
    }
    for wall_time in [f64::NAN, -1.0, f64::INFINITY] {
        assert!(EventWriter::create(dir.path(), "host", wall_time).is_err());
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_file_cut_anywhere_keeps_its_whole_records(
        steps in prop::collection::vec(any::<i64>(), 1..8),
        tag in ".{0,200}",
        value: f32,
        share in 0.0_f64..1.0,
    ) {
        prop_assume!(!value.is_nan());
        let dir = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(dir.path(), "host", START).unwrap();
        let mut ends = vec![];
        for step in &steps {
            ends.push(fs::metadata(writer.path()).unwrap().len());
            write(&mut writer, &scalar(*step, &tag, value));
        }
        let length = fs::metadata(writer.path()).unwrap().len();
        let cut = (share * length as f64) as u64;
        File::options().write(true).open(writer.path()).unwrap().set_len(cut).unwrap();
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let expected: Vec<_> = steps.iter().map(|step| scalar(*step, &tag, value)).collect();
        let read = read_events(writer.path()).unwrap();
        let read: Vec<_> = read.into_iter().skip(1).collect();
        prop_assert_eq!(&read[..], &expected[..whole.saturating_sub(1)]);
    }

    #[test]
    fn any_bytes_are_an_event_or_an_error_and_never_a_panic(bytes: Vec<u8>) {
        let _ = decode_event(&bytes);
        let _ = unframe(&bytes);
        let framed = frame(&bytes);
        let Frame::Whole { payload, tail } = unframe(&framed) else { panic!("no frame") };
        prop_assert_eq!(payload, &bytes[..]);
        prop_assert!(tail.is_empty());
    }
}
