//! How the pre-tokenizers that GGUF files name split a text before merges are made in its parts.
//!
//! The patterns are those that the models' authors published in their `tokenizer.json`, under the
//! names that llama.cpp gave them (`llama-vocab.cpp`).

use serde_json::Value as Json;

/// The decoder, and the last step of every pre-tokenizer: bytes in a printable alphabet.
pub(super) const BYTE_LEVEL: &str =
    r#"{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}"#;

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Names and the patterns that split one after the other, each what the one before left.
const SPLITS: [(&[&str], &[&str]); 5] = [
    (&["gpt-2", "phi-2", "mpt", "olmo", "jais"], &[GPT2]),
    (&["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"], &[r"\p{N}", GPT2]),
    (&["llama-bpe", "llama3", "llama-v3", "dbrx", "smaug-bpe"], &[LLAMA3]),
    (&["qwen2", "stablelm2", "deepseek-r1-qwen", "megrez"], &[QWEN2]),
    (&["default"], &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"]),
];

/// The pre-tokenizer called `name`, as a `tokenizer.json` describes it; else the names there are.
pub(super) fn pre_tokenizer(name: &str) -> Result<String, String> {
    let Some((_, patterns)) = SPLITS.iter().find(|(names, _)| names.contains(&name)) else {
        let names: Vec<&str> = SPLITS.iter().flat_map(|(names, _)| *names).copied().collect();
        return Err(names.join(", "));
    };
    let steps = patterns.iter().map(|&pattern| {
        let pattern = Json::from(pattern);
        format!(r#"{{"type":"Split","pattern":{{"Regex":{pattern}}},"behavior":"Isolated","invert":false}}"#)
    });
    let steps: Vec<String> = steps.chain([BYTE_LEVEL.to_owned()]).collect();
    Ok(format!(r#"{{"type":"Sequence","pretokenizers":[{}]}}"#, steps.join(",")))
}

/// Whether encoding begins with BOS where the file does not say.
pub(super) fn adds_bos(name: &str) -> bool {
    ["llama-bpe", "llama3", "llama-v3"].contains(&name)
}

/// Whether a part that is a token as a whole becomes it, whatever the merges say.
pub(super) fn ignores_merges(name: &str) -> bool {
    ["llama-bpe", "llama3", "llama-v3"].contains(&name)
}
