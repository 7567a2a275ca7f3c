//! Damaged files: whatever the bytes, there is an answer or an error, never a panic, and never more
//! memory than the file itself and a small factor.
//!
//! `RUN_SLOW=1` raises the number of mutations from some thousands to 100,000 of each kind.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use forerun_tokens::gguf::{GgmlType, Gguf, Writer};
use forerun_tokens::{ChatMessage, ChatOptions, ChatTemplate, ModelTokenizer, Tokenizer};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Counts what is allocated, so that a test can ask for the most that was held at once.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator; it passes everything on to the system's")]
// SAFETY: every method calls the system's allocator with its own arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(held, Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test at a time: they count together.
static TURN: Mutex<()> = Mutex::new(());

/// The most bytes that `work` held beyond what was held before.
fn most_held(work: impl FnOnce()) -> usize {
    let before = HELD.load(Relaxed);
    MOST.store(before, Relaxed);
    work();
    MOST.load(Relaxed).saturating_sub(before)
}

fn n_mutations(ordinary: usize) -> usize {
    if std::env::var_os("RUN_SLOW").is_some() { 100_000 } else { ordinary }
}

/// `bytes` with one to four changes among the first `head`: a bit, a byte, a whole number that is
/// large or lies at a border, a piece cut out, doubled or moved.
fn mutated(bytes: &[u8], head: usize, rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.random_range(1..=4) {
        let head = head.min(bytes.len());
        if head < 16 {
            return bytes;
        }
        let at = rng.random_range(0..head - 8);
        let n = rng.random_range(1..=16.min(head - at));
        match rng.random_range(0..7) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = rng.random(),
            2 => {
                let edges = [0, 1, 0x7f, 0xff, 0xffff, 1 << 31, u64::MAX >> 1, u64::MAX, 1 << 40];
                let number: u64 = edges[rng.random_range(0..edges.len())];
                let width = [4, 8][rng.random_range(0..2)];
                bytes[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
            }
            3 => drop(bytes.drain(at..at + n)),
            4 => {
                let piece = bytes[at..at + n].to_vec();
                bytes.splice(at..at, piece);
            }
            5 => bytes.truncate(at),
            _ => {
                let from = rng.random_range(0..head - n);
                let piece = bytes[from..from + n].to_vec();
                bytes[at..at + n].copy_from_slice(&piece);
            }
        }
    }
    bytes
}

/// A model's file with a vocabulary, a template and tensors of several types.
fn small_gguf() -> Vec<u8> {
    let tokens = ["<|end|>", "<|user|>", "Ġ", "a", "b", "ab", "Ġab", "1"];
    let mut writer = Writer::new();
    writer.string("general.architecture", "llama").unsigned("llama.block_count", 1);
    writer.float("llama.rope.freq_base", 1e5).boolean("tokenizer.ggml.add_bos_token", true);
    writer.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", "smollm");
    writer.strings("tokenizer.ggml.tokens", &tokens);
    writer.integers("tokenizer.ggml.token_type", &[3, 3, 1, 1, 1, 1, 1, 1]);
    writer.strings("tokenizer.ggml.merges", &["a b", "Ġ ab"]);
    writer.unsigned("tokenizer.ggml.bos_token_id", 1).unsigned("tokenizer.ggml.eos_token_id", 0);
    writer.string("tokenizer.chat_template", TEMPLATE);
    writer.tensor("token_embd.weight", &[8, 32], GgmlType::Q8_0, [1; 8 * 34]);
    writer.tensor("output_norm.weight", &[32], GgmlType::F32, [0; 128]);
    writer.tensor("blk.0.ffn_up.weight", &[2, 256], GgmlType::Q6K, [1; 420]);
    writer.to_bytes().unwrap()
}

const TEMPLATE: &str = "{% for m in messages %}{% if m.role == 'user' %}{{ '<|user|>' + m.content.strip() }}\
    {% else %}{{ raise_exception('only users') }}{% endif %}{% endfor %}{{ eos_token }}";

/// Everything that a reader may do with a file.
fn use_gguf(bytes: Vec<u8>) -> bool {
    let Ok(file) = Gguf::from_bytes(bytes, "damaged") else { return false };
    for key in file.keys() {
        let _ = (file.get(key), file.strings(key), file.integers(key), file.floats(key));
    }
    for tensor in file.tensors() {
        assert_eq!(file.dequantize(&tensor.name).unwrap().len(), tensor.n_values());
    }
    if let Ok(model) = ModelTokenizer::from_gguf(&file) {
        use_tokenizer(model.tokenizer());
        let _ = model.encode_chat(&[ChatMessage::user("ab a")], &ChatOptions::default());
    }
    true
}

fn use_tokenizer(tokenizer: &Tokenizer) {
    for text in ["ab ab1", "<|user|>é\u{1f40b}"] {
        let Ok(ids) = tokenizer.encode_prompt(text) else { continue };
        let _ = tokenizer.decode(&ids);
        let mut stream = tokenizer.stream_decoder();
        let streamed = ids.iter().try_for_each(|&id| stream.push(id).map(drop));
        let _ = streamed.and_then(|()| stream.finish().map(drop));
    }
}

#[test]
fn a_damaged_gguf_header_takes_little_memory() {
    let _turn = TURN.lock().unwrap();
    let (mut rng, bytes) = (StdRng::seed_from_u64(1), small_gguf());
    let (mut n_opened, mut most) = (0, 0);
    for _ in 0..n_mutations(20_000) {
        let damaged = mutated(&bytes, bytes.len() - 900, &mut rng);
        let n_bytes = damaged.len();
        let held = most_held(|| n_opened += usize::from(Gguf::from_bytes(damaged, "x").is_ok()));
        most = most.max(held);
        assert!(held < 16 * n_bytes + 4096, "{held} bytes for a file of {n_bytes}");
    }
    println!("{n_opened} were opened; at most {most} bytes for a file of {}", bytes.len());
    assert!(n_opened > 100, "some mutations are harmless");
}

#[test]
fn a_damaged_gguf_file_is_an_answer_or_an_error() {
    let _turn = TURN.lock().unwrap();
    let (mut rng, bytes) = (StdRng::seed_from_u64(2), small_gguf());
    let mut n_opened = 0;
    for _ in 0..n_mutations(2_000) {
        let damaged = mutated(&bytes, bytes.len() - 900, &mut rng);
        let held = most_held(|| n_opened += usize::from(use_gguf(damaged)));
        assert!(held < 64 << 20, "{held} bytes");
    }
    assert!(n_opened > 100, "{n_opened}");
}

#[test]
fn a_damaged_tokenizer_is_an_answer_or_an_error() {
    let _turn = TURN.lock().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let file = Gguf::from_bytes(small_gguf(), "x").unwrap();
    Tokenizer::from_gguf(&file).unwrap().save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let mut rng = StdRng::seed_from_u64(3);
    let mut n_opened = 0;
    for _ in 0..n_mutations(2_000) {
        let damaged = mutated(&bytes, bytes.len(), &mut rng);
        let held = most_held(|| {
            if let Ok(tokenizer) = Tokenizer::from_json(damaged, "x") {
                n_opened += 1;
                use_tokenizer(&tokenizer);
            }
        });
        assert!(held < 64 << 20, "{held} bytes");
    }
    assert!(n_opened > 20, "{n_opened}");
}

#[test]
fn a_damaged_config_or_template_is_an_answer_or_an_error() {
    let _turn = TURN.lock().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = Gguf::from_bytes(small_gguf(), "x").unwrap();
    Tokenizer::from_gguf(&file).unwrap().save(folder.path().join("tokenizer.json")).unwrap();
    let config = format!(
        r#"{{"bos_token": null, "eos_token": {{"content": "<|end|>"}}, "chat_template": [{{"name": "default", "template": "{TEMPLATE}"}}]}}"#
    );
    let mut rng = StdRng::seed_from_u64(4);
    let messages = [ChatMessage::user("a b")];
    let (mut n_opened, mut n_rendered) = (0, 0);
    for _ in 0..n_mutations(2_000) {
        let damaged = mutated(config.as_bytes(), config.len(), &mut rng);
        std::fs::write(folder.path().join("tokenizer_config.json"), damaged).unwrap();
        let held = most_held(|| {
            if let Ok(model) = ModelTokenizer::from_folder(folder.path()) {
                n_opened += 1;
                let _ = model.encode_chat(&messages, &ChatOptions::default());
            }
            let template = mutated(TEMPLATE.as_bytes(), TEMPLATE.len(), &mut rng);
            let template = ChatTemplate::new(&String::from_utf8_lossy(&template), "x", None, None);
            let rendered = template.and_then(|t| t.render(&messages, &ChatOptions::default()));
            n_rendered += usize::from(rendered.is_ok());
        });
        assert!(held < 64 << 20, "{held} bytes");
    }
    assert!(n_opened > 50 && n_rendered > 50, "{n_opened} {n_rendered}");
}
