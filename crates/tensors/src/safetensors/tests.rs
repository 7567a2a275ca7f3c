use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use super::{SafetensorsFile, TensorPlan, load_into, save, save_streamed};
use crate::error::Error;
use crate::fixtures::{floats, leaf, randn};
use crate::parameters::{Parameter, Parameters, Role};

mod hostile;

const KINDS: [Kind; 10] = [
    Kind::Double,
    Kind::Float,
    Kind::Half,
    Kind::BFloat16,
    Kind::Int64,
    Kind::Int,
    Kind::Int16,
    Kind::Int8,
    Kind::Uint8,
    Kind::Bool,
];

/// A folder that is gone after the test, and a file name in it.
fn scratch() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    (folder, path)
}

fn files_in(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// The memory of a tensor, whatever its kind.
fn bytes(tensor: &Tensor) -> Vec<u8> {
    let dense = tensor.detach().contiguous();
    let mut bytes = vec![0; dense.numel() * dense.kind().elt_size_in_bytes()];
    let bits = if dense.numel() == 0 { dense } else { dense.view(-1).view_dtype(Kind::Uint8) };
    bits.copy_data_u8(&mut bytes, bits.numel());
    bytes
}

fn some_tensor(kind: Kind, shape: &[i64], seed: u64) -> Tensor {
    let numbers = randn(shape, seed) * 50.0;
    if kind == Kind::Bool { numbers.ge(0.0) } else { numbers.clamp(-128.0, 127.0).to_kind(kind) }
}

fn named(list: &[(&str, Tensor)]) -> Vec<(String, Tensor)> {
    list.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.shallow_clone())).collect()
}

fn any_tensors() -> impl Strategy<Value = Vec<(String, Tensor)>> {
    let shape = prop::collection::vec(0i64..4, 0..4);
    let one = ((0usize..10), shape, any::<u64>());
    prop::collection::btree_map("[a-z.\"\\\\ü0-9]{0,8}", one, 0..8).prop_map(|map| {
        let tensor =
            |(kind, shape, seed): (usize, Vec<i64>, u64)| some_tensor(KINDS[kind], &shape, seed);
        map.into_iter().map(|(name, parts)| (name, tensor(parts))).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_saved_is_loaded(
        tensors in any_tensors(),
        metadata in prop::collection::btree_map(".{0,6}", ".{0,6}", 0..3),
    ) {
        let (_folder, path) = scratch();
        let sha256 = save(&path, &tensors, &metadata).unwrap();
        let file = SafetensorsFile::open(&path).unwrap();
        prop_assert_eq!(file.metadata(), &metadata);
        prop_assert_eq!(file.names().len(), tensors.len());
        for (name, tensor) in &tensors {
            let loaded = file.tensor(name).unwrap();
            prop_assert_eq!(file.shape(name).unwrap(), tensor.size());
            prop_assert_eq!((loaded.kind(), loaded.size()), (tensor.kind(), tensor.size()));
            prop_assert_eq!(bytes(&loaded), bytes(tensor));
        }
        prop_assert_eq!(&file.sha256().unwrap(), &sha256);
        let whole = fs::read(&path).unwrap();
        prop_assert_eq!(format!("{:x}", Sha256::digest(&whole)), sha256);
        let header_len = u64::from_le_bytes(whole[..8].try_into().unwrap());
        prop_assert_eq!(header_len % 8, 0, "so that every tensor is aligned");
    }

    #[test]
    fn files_equal_those_of_the_reference_implementation(tensors in any_tensors()) {
        let (_folder, path) = scratch();
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        save(&path, &tensors, &metadata).unwrap();
        let ours = fs::read(&path).unwrap();
        let theirs = reference(&tensors, Some(HashMap::from_iter(metadata)));
        prop_assert_eq!(&ours, &theirs);
        let read = safetensors::SafeTensors::deserialize(&ours).unwrap();
        for (name, tensor) in &tensors {
            prop_assert_eq!(read.tensor(name).unwrap().data(), bytes(tensor));
        }
    }
}

/// What the `safetensors` crate writes, which is what Python writes with it.
fn reference(tensors: &[(String, Tensor)], metadata: Option<HashMap<String, String>>) -> Vec<u8> {
    use safetensors::{Dtype, serialize, tensor::TensorView};
    let data: Vec<Vec<u8>> = tensors.iter().map(|(_, tensor)| bytes(tensor)).collect();
    let views = tensors.iter().zip(&data).map(|((name, tensor), data)| {
        let dtype = match tensor.kind() {
            Kind::Double => Dtype::F64,
            Kind::Float => Dtype::F32,
            Kind::Half => Dtype::F16,
            Kind::BFloat16 => Dtype::BF16,
            Kind::Int64 => Dtype::I64,
            Kind::Int => Dtype::I32,
            Kind::Int16 => Dtype::I16,
            Kind::Int8 => Dtype::I8,
            Kind::Uint8 => Dtype::U8,
            _ => Dtype::BOOL,
        };
        let shape = tensor.size().iter().map(|&size| size as usize).collect();
        (name.clone(), TensorView::new(dtype, shape, data).unwrap())
    });
    serialize(views, metadata).unwrap()
}

#[test]
fn views_and_leaves_are_saved_as_what_they_show() {
    let (_folder, path) = scratch();
    let (whole, weight) = (randn(&[4, 6], 1), leaf(&[3], 2));
    let view = whole.transpose(0, 1).slice(0, 1, 6, 2);
    save(
        &path,
        &named(&[("view", view.shallow_clone()), ("leaf", weight.shallow_clone())]),
        &BTreeMap::new(),
    )
    .unwrap();
    let file = SafetensorsFile::open(&path).unwrap();
    assert_eq!(file.tensor("view").unwrap(), view);
    let loaded = file.tensor("leaf").unwrap();
    assert!(!loaded.requires_grad());
    assert_eq!(floats(&loaded), floats(&weight));
}

#[test]
fn a_tensor_outlives_the_file_handle_and_even_the_file() {
    let (_folder, path) = scratch();
    let want = randn(&[1000], 1);
    save(&path, &named(&[("w", want.shallow_clone())]), &BTreeMap::new()).unwrap();
    let tensor = SafetensorsFile::open(&path).unwrap().tensor("w").unwrap();
    let part = tensor.narrow(0, 10, 5);
    fs::remove_file(&path).unwrap();
    assert_eq!(tensor, want);
    drop(tensor);
    assert_eq!(part, want.narrow(0, 10, 5));
}

#[test]
fn tensors_are_views_of_the_map_and_writing_to_one_spares_the_file() {
    let (_folder, path) = scratch();
    let sha256 = save(&path, &named(&[("w", randn(&[64], 1))]), &BTreeMap::new()).unwrap();
    let file = SafetensorsFile::open(&path).unwrap();
    let mut tensor = file.tensor("w").unwrap();
    assert_eq!(tensor.data_ptr(), file.tensor("w").unwrap().data_ptr(), "no copy");
    let _ = tensor.fill_(7.0);
    assert_eq!(file.sha256().unwrap(), sha256);
    assert_eq!(SafetensorsFile::open(&path).unwrap().tensor("w").unwrap(), randn(&[64], 1));
}

#[test]
fn a_tensor_at_an_odd_address_is_copied() {
    let (_folder, path) = scratch();
    let numbers = [1.5f32, -2.0];
    let header = br#"{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"F32","shape":[2],"data_offsets":[3,11]}}"#;
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header);
    file.extend_from_slice(&[1, 2, 3]);
    file.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
    fs::write(&path, file).unwrap();
    let file = SafetensorsFile::open(&path).unwrap();
    assert_eq!(file.tensor("b").unwrap(), Tensor::from_slice(&numbers));
    assert_eq!(file.tensor("a").unwrap(), Tensor::from_slice(&[1u8, 2, 3]));
}

#[test]
fn a_failed_save_leaves_the_old_file_and_nothing_else() {
    let (folder, path) = scratch();
    let none = BTreeMap::new();
    let first = save(&path, &named(&[("w", randn(&[3], 1))]), &none).unwrap();
    let refused = |tensors: &[(&str, Tensor)], want: &str| {
        let message = save(&path, &named(tensors), &none).unwrap_err().to_string();
        assert_eq!(message, format!("`{}`: tensor {want}", path.display()));
    };
    refused(&[("w", randn(&[3], 1)), ("w", randn(&[3], 2))], "`w` is given twice");
    refused(
        &[("w", randn(&[3], 1)), ("w", randn(&[3], 2).to_kind(Kind::Double))],
        "`w` is given twice",
    );
    refused(
        &[("__metadata__", randn(&[3], 1))],
        "`__metadata__` has a name that the format reserves",
    );
    refused(&[("u", Tensor::new())], "`u` is not defined");
    let complex = Tensor::zeros([2], (Kind::ComplexFloat, Device::Cpu));
    refused(&[("c", complex)], "`c` has kind ComplexFloat, which cannot be stored");
    let sparse = randn(&[3], 1).to_sparse(None, None::<&[i64]>, None);
    assert!(save(&path, &named(&[("s", sparse)]), &none).is_err());
    assert_eq!(files_in(folder.path()), ["model.safetensors"]);
    assert_eq!(SafetensorsFile::open(&path).unwrap().sha256().unwrap(), first);
    let nowhere = folder.path().join("none/model.safetensors");
    let error = save(&nowhere, &[], &none).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if *path == nowhere), "{error}");
    assert!(matches!(SafetensorsFile::open(&nowhere), Err(Error::Io { .. })));
}

fn parameters(list: &[(&str, &[i64])]) -> Parameters {
    let mut parameters = Parameters::new();
    for (name, shape) in list {
        let (name, tensor) = ((*name).to_owned(), leaf(shape, 99));
        parameters
            .push(Parameter { name, tensor, role: Role::Matrix, lr_multiplier: 1.0 })
            .unwrap();
    }
    parameters
}

#[test]
fn load_into_copies_all_or_nothing() {
    let (_folder, path) = scratch();
    let (a, b) = (randn(&[2, 3], 1), randn(&[4], 2).to_kind(Kind::BFloat16));
    save(&path, &named(&[("a", a.shallow_clone()), ("b", b.shallow_clone())]), &BTreeMap::new())
        .unwrap();
    let file = SafetensorsFile::open(&path).unwrap();
    let fits = parameters(&[("b", &[4]), ("a", &[2, 3])]);
    let before = fits.get("a").unwrap().tensor.data_ptr();
    load_into(&file, &fits).unwrap();
    let tensor = |name| &fits.get(name).unwrap().tensor;
    assert_eq!((floats(tensor("a")), floats(tensor("b"))), (floats(&a), floats(&b)));
    assert!(
        tensor("a").requires_grad() && tensor("a").is_leaf() && tensor("b").kind() == Kind::Float
    );
    assert_eq!(tensor("a").data_ptr(), before, "copied into the parameter, not put in its place");

    let refused = |list: &[(&str, &[i64])], want: &str| {
        let params = parameters(list);
        let before: Vec<_> = params.iter().map(|p| floats(&p.tensor)).collect();
        let message = load_into(&file, &params).unwrap_err().to_string();
        assert_eq!(message, format!("`{}`: tensor {want}", path.display()));
        assert_eq!(params.iter().map(|p| floats(&p.tensor)).collect::<Vec<_>>(), before);
    };
    refused(&[("a", &[2, 3]), ("b", &[4]), ("c", &[1])], "`c` is missing");
    refused(&[("a", &[2, 3])], "`b` is unexpected: the model has no parameter of that name");
    refused(&[("a", &[2, 3]), ("b", &[5])], "`b` has shape [4], the model's is [5]");
    save(&path, &named(&[("a", a.to_kind(Kind::Int64))]), &BTreeMap::new()).unwrap();
    let message = load_into(&SafetensorsFile::open(&path).unwrap(), &parameters(&[("a", &[2, 3])]));
    assert!(
        message
            .unwrap_err()
            .to_string()
            .ends_with("`a` has kind Int64, which no parameter can have")
    );
}

#[test]
fn a_streamed_file_is_the_same_and_each_tensor_is_asked_for_once() {
    let (_folder, path) = scratch();
    let tensors = named(&[
        ("b", randn(&[3, 2], 1)),
        ("a", randn(&[4], 2).to_kind(Kind::BFloat16)),
        ("c", Tensor::zeros([2, 0], (Kind::Uint8, Device::Cpu))),
    ]);
    let metadata = BTreeMap::from([("made".to_owned(), "here".to_owned())]);
    let hash = save(&path, &tensors, &metadata).unwrap();
    let whole = fs::read(&path).unwrap();
    let plan = |(name, tensor): &(String, Tensor)| TensorPlan {
        name: name.clone(),
        kind: tensor.kind(),
        shape: tensor.size(),
    };
    let plans: Vec<TensorPlan> = tensors.iter().map(plan).collect();
    let mut asked = Vec::new();
    let again = save_streamed::<Error>(&path, &plans, &metadata, |index| {
        asked.push(index);
        Ok(tensors[index].1.shallow_clone())
    });
    assert_eq!(again.unwrap(), hash);
    assert_eq!(fs::read(&path).unwrap(), whole);
    asked.sort();
    assert_eq!(asked, [0, 1, 2]);
}

#[test]
fn a_tensor_that_is_not_as_planned_leaves_the_old_file() {
    let (folder, path) = scratch();
    fs::write(&path, "old").unwrap();
    let plans = [TensorPlan { name: "a".to_owned(), kind: Kind::Float, shape: vec![2] }];
    let refused = |tensor: Tensor, want: &str| {
        let outcome =
            save_streamed::<Error>(&path, &plans, &BTreeMap::new(), |_| Ok(tensor.shallow_clone()));
        let message = outcome.unwrap_err().to_string();
        assert!(message.ends_with(want), "{message}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(files_in(folder.path()), ["model.safetensors"]);
    };
    refused(randn(&[3], 1), "tensor `a` is Float [3], planned was Float [2]");
    refused(randn(&[2], 1).to_kind(Kind::Half), "is Half [2], planned was Float [2]");
    let none = save_streamed(&path, &plans, &BTreeMap::new(), |_| {
        Err(Error::Foreign("no tensor".to_owned()))
    });
    assert_eq!(none.unwrap_err().to_string(), "no tensor");
}
