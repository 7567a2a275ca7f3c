use forerun_tensors::save;
use tch::{Device, Kind, Tensor};

use super::*;
use crate::testing::mutation::survives;

#[test]
fn metadata_that_lies_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let data = [("w".to_owned(), Tensor::zeros([1, 960], (Kind::Uint8, Device::Cpu)))];
    let refused = |packed: &str, want: &str| {
        let metadata = BTreeMap::from([("forerun.packed".to_owned(), packed.to_owned())]);
        save(&path, &data, &metadata).unwrap();
        let file = SafetensorsFile::open(&path).unwrap();
        let outcome = packed_tensors(&file).and_then(|packed| packed["w"].read(&file, "w"));
        let message = outcome.map(|_| ()).unwrap_err().to_string();
        assert!(message.contains(want), "{message}");
    };
    refused("[]", "its metadata `forerun.packed` cannot be read");
    refused(r#"{"w": {"format": "int3", "size": [4, 96]}}"#, "got `int3`");
    refused(r#"{"v": {"format": "int8", "size": [4, 96]}}"#, "tensor `v` is missing");
    refused(
        r#"{"w": {"format": "int8", "size": [4, 96]}}"#,
        "tensor `w` is no int8 matrix of [4, 96]",
    );
    refused(r#"{"w": {"format": "int4-g32", "size": [40, 96]}}"#, "[3, 960]");
    refused(r#"{"w": {"format": "int4-g32", "size": [-1, 96]}}"#, "must be positive");
}

#[test]
fn damaged_metadata_is_refused_or_of_sizes_that_can_be_computed_with() {
    let format = WeightFormat::Int4 { group: 64 };
    let name = |i| format!("model.layers.{i}.mlp.down_proj.weight");
    let packed = (0..9).map(|i| (name(i), PackedTensor { format, size: [576, 1536] })).collect();
    let text = packed_metadata(&packed, "gptq").unwrap().remove(KEY).unwrap();
    let sound = survives(&[text.into_bytes()], 100, |text| {
        let Ok(text) = std::str::from_utf8(text) else { return false };
        let Ok(packed) = parse(Path::new("x"), text) else { return false };
        let shape = |packed: &PackedTensor| {
            PackedMatrix::data_shape(packed.format, packed.size[0], packed.size[1])
        };
        packed.values().all(|packed| shape(packed).is_ok())
    });
    assert!(sound > 0.02 && sound < 0.8, "{sound}");
}
