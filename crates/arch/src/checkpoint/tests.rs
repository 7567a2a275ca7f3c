use proptest::prelude::*;

use super::*;
use crate::decoder::Forward;
use crate::testing::{CPU, all_positions, model, rng, tiny, tokens};

fn message(folder: &Path) -> String {
    let text = Decoder::load(folder, CPU).unwrap_err().to_string();
    text.replace(&folder.display().to_string(), "FOLDER")
}

fn rewrite(folder: &Path, change: impl FnOnce(&mut Vec<(String, tch::Tensor)>)) {
    let model = Decoder::load(folder, CPU).unwrap();
    let mut tensors = model.parameters().named_tensors();
    change(&mut tensors);
    save(&folder.join(WEIGHTS), &tensors, &BTreeMap::new()).unwrap();
}

fn saved() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    save_checkpoint(&model(&tiny(), 1), folder.path()).unwrap();
    folder
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Invariant 10, bit for bit: the same numbers go through the same operations.
    #[test]
    fn a_loaded_model_gives_the_same_logits(
        seed in 0_u64..1000, positions in prop::sample::select(all_positions()), tied: bool,
    ) {
        let config = DecoderConfig { positions, tie_embeddings: tied, ..tiny() };
        let model = model(&config, seed);
        let folder = tempfile::tempdir().unwrap();
        let hash = save_checkpoint(&model, folder.path()).unwrap();
        prop_assert_eq!(hash.len(), 64);
        let loaded = Decoder::load(folder.path(), CPU).unwrap();
        let tokens = tokens(2, 8, 29, &mut rng(seed));
        let logits = |model: &Decoder| model.logits(&tokens, &Forward::default()).unwrap();
        prop_assert!(logits(&model).equal(&logits(&loaded)));
        prop_assert_eq!(loaded.config(), model.config());
        prop_assert!(loaded.parameters().iter().all(|p| p.tensor.requires_grad()));
    }
}

#[test]
fn a_missing_or_misshapen_or_extra_tensor_is_named() {
    let folder = saved();
    rewrite(folder.path(), |tensors| tensors.retain(|(name, _)| name != "layers.1.ffn.fc2.bias"));
    assert!(message(folder.path()).contains("`layers.1.ffn.fc2.bias`"));

    let folder = saved();
    rewrite(folder.path(), |tensors| {
        tensors[3].1 = tch::Tensor::zeros([2, 2], (tch::Kind::Float, CPU))
    });
    assert!(message(folder.path()).contains("`layers.0.self_attn.v_proj.weight`"));

    let folder = saved();
    rewrite(folder.path(), |tensors| {
        tensors.push(("stranger".into(), tch::Tensor::zeros([2], (tch::Kind::Float, CPU))));
    });
    assert!(message(folder.path()).contains("`stranger`"));
}

#[test]
fn a_bad_config_is_refused_by_name() {
    let folder = saved();
    fs::write(folder.path().join(CONFIG), "{}").unwrap();
    let want = "`FOLDER/config.json` is not a decoder config: missing field `vocab_size`";
    assert!(message(folder.path()).starts_with(want), "{}", message(folder.path()));
    fs::remove_file(folder.path().join(CONFIG)).unwrap();
    assert!(message(folder.path()).starts_with("cannot access `FOLDER/config.json`: "));
}
