use super::*;

#[test]
fn generators_survive_as_text() {
    let before = generator_states(Device::Cpu).unwrap();
    assert_eq!(before.keys().collect::<Vec<_>>(), ["cpu"]);
    let draw = || Vec::<f32>::try_from(Tensor::rand([4], (tch::Kind::Float, Device::Cpu))).unwrap();
    let first = draw();
    restore_generators(&before, Device::Cpu).unwrap();
    assert_eq!(draw(), first);
}

#[test]
fn hex_goes_both_ways() {
    let bytes: Vec<u8> = (0..=255).collect();
    assert_eq!(from_hex(&hex(&bytes)).unwrap(), bytes);
    assert!(from_hex("0g").is_none() && from_hex("abc").is_none());
}

#[test]
fn the_first_differing_field_is_named_with_both_values() {
    let config = |pairs: &[(&str, f64)]| -> BTreeMap<String, Value> {
        pairs.iter().map(|&(field, value)| (field.to_owned(), value.into())).collect()
    };
    let state = State::of_config(config(&[("a", 1.0), ("b", 2.0)]), 1);
    assert_eq!(state.difference(&config(&[("a", 1.0), ("b", 2.0)])), None);
    let found = |pairs| state.difference(&config(pairs)).unwrap();
    assert_eq!(found(&[("a", 1.0), ("b", 3.0)]), ("b".into(), "2.0".into(), "3.0".into()));
    assert_eq!(found(&[("a", 1.0)]), ("b".into(), "2.0".into(), "nothing".into()));
    let more = &[("a", 1.0), ("b", 2.0), ("c", 0.0)];
    assert_eq!(found(more), ("c".into(), "nothing".into(), "0.0".into()));
}

#[test]
fn another_format_and_unknown_fields_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let state = State { format: 1, ..State::of_config(BTreeMap::new(), 1) };
    state.write(&path).unwrap();
    let reason = State::read(&path).unwrap_err().to_string();
    assert!(reason.ends_with("is damaged: format 1 is not format 2"), "{reason}");
    let text = std::fs::read_to_string(&path).unwrap().replace("\"tokens\"", "\"token\"");
    std::fs::write(&path, text).unwrap();
    let reason = State::read(&path).unwrap_err().to_string();
    assert!(reason.contains("unknown field `token`"), "{reason}");
}

#[test]
fn a_loss_that_is_no_number_survives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    for loss in [f64::INFINITY, f64::NAN, 30.1] {
        let diverged = Some(Divergence { step: 3, loss });
        let members = vec![Progress { diverged, ..Progress::default() }];
        State { members, ..State::of_config(BTreeMap::new(), 1) }.write(&path).unwrap();
        let read = State::read(&path).unwrap().members[0].diverged.unwrap();
        assert_eq!((read.step, read.loss.to_bits()), (3, loss.to_bits()));
    }
}
