//! Damaged files of a checkpoint, and of adapters.

use super::*;
use crate::lora::LoraConfig;
use crate::testing::mutation::survives;

fn golden() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/arch")
}

/// Every file of the golden checkpoints whose name begins so.
fn files(begin: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for folder in fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap().path()) {
        for file in fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()) {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with(begin) && name.ends_with(".json") {
                found.push(fs::read(&file).unwrap());
            }
        }
    }
    found
}

#[test]
fn configurations() {
    let mut all = files("config");
    assert!(all.len() > 10);
    let folder = tempfile::tempdir().unwrap();
    let _ = crate::testing::phi3_small_checkpoint(folder.path(), 16, 24);
    all.push(fs::read(folder.path().join(CONFIG)).unwrap());
    let mut own = serde_json::to_value(like_a_llama()).unwrap();
    all.push(own.to_string().into_bytes());
    own["quantization_config"] = json!({ "quant_method": "forerun" });
    all.push(own.to_string().into_bytes());
    let sound = survives(&all, 100, |text| parse(Path::new("config.json"), text).is_ok());
    assert!(sound > 0.02 && sound < 0.8, "{sound}");
}

#[test]
fn indices() {
    let model = lm(&lm_config(), 1);
    let map: BTreeMap<String, &str> = model
        .named_tensors()
        .unwrap()
        .into_iter()
        .map(|(name, _)| (name, "model-00001-of-00002.safetensors"))
        .collect();
    let index = json!({ "metadata": { "total_size": 1 }, "weight_map": map });
    let path = Path::new(INDEX);
    let read = |text: &[u8]| files::weight_map(path, text).is_ok();
    let sound = survives(&[index.to_string().into_bytes()], 100, read);
    assert!(sound > 0.02 && sound < 0.9, "{sound}");
}

#[test]
fn options_of_generation() {
    let mut all = files("generation_config");
    all.push(
        br#"{"do_sample": true, "temperature": 0.6, "top_p": 0.9, "top_k": 50, "eos_token_id": [7, 8]}"#
            .to_vec(),
    );
    let path = Path::new(GENERATION);
    let sound =
        survives(&all, 100, |text| GenerationDefaults::parse(path, text, || Ok(vec![])).is_ok());
    assert!(sound > 0.02 && sound < 0.8, "{sound}");
}

#[test]
fn adapters() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = lm(&lm_config(), 1);
    let config = LoraConfig::default();
    model.add_adapters(&config, &mut rng(1)).unwrap();
    crate::save_adapters(folder.path(), &config, Some("a/model"), &model.adapters()).unwrap();
    let path = folder.path().join("adapter_config.json");
    let all = [fs::read(&path).unwrap()];
    let sound = survives(&all, 100, |text| LoraConfig::read_peft(&path, text).is_ok());
    assert!(sound > 0.02 && sound < 0.8, "{sound}");
}
