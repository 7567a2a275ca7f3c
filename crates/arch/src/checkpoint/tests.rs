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

/// Whoever else writes here, or was killed writing, uses another temporary name.
#[test]
fn only_the_two_files_are_left_and_no_temporary_name_is_taken_for_granted() {
    let folder = saved();
    let names = || {
        let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(), [CONFIG, WEIGHTS]);
    let foreign = ["config.json.partial", "config.json.tmp"];
    for name in foreign {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    save_checkpoint(&model(&tiny(), 2), folder.path()).unwrap();
    assert_eq!(names(), [CONFIG, foreign[0], foreign[1], WEIGHTS]);
}
