//! Text to training batches, and models' files to text: tokenizers, chat templates, GGUF, token
//! shards on disk, packing and sampling.
//!
//! Texts come as Parquet, JSONL or plain-text files ([`TextSource`], [`documents()`]). A
//! [`Tokenizer`] turns them into ids: bytes, a Hugging Face `tokenizer.json`, or a byte-level BPE
//! of one's own ([`train_bpe`]). The ids lie in one memory-mapped file that is built once and found
//! again by its content ([`build_or_reuse`], [`Shards`]). [`Packed`] cuts them into rows for
//! training, [`Sampler`] says which row comes when, on which rank, from any position on.
//!
//! A model that others trained comes with a vocabulary and a chat template, in a Hugging Face folder
//! or in a [`gguf`] file: [`ModelTokenizer`] reads both, [`ChatTemplate`] turns conversations into
//! prompts, [`StreamDecoder`] and [`StopStrings`] turn what the model generates into text.
//!
//! The crate chooses no path, prints nothing and does not panic; nothing here needs libtorch.
//!
//! ```
//! use std::sync::Arc;
//! use forerun_tokens::{Packed, Sampler, TextSource, Tokenizer, build_or_reuse};
//!
//! let folder = std::env::temp_dir().join("forerun-tokens-example");
//! std::fs::create_dir_all(&folder)?;
//! let book = folder.join("book.txt");
//! std::fs::write(&book, "It was the best of times, it was the worst of times.")?;
//!
//! let tokenizer = Tokenizer::bytes();
//! let source = TextSource::new(book.to_string_lossy());
//! let shards = build_or_reuse(&folder.join("cache"), &source, &tokenizer)?;
//! assert_eq!((shards.n_documents(), shards.n_tokens()), (1, 53)); // 52 bytes and the end
//!
//! let packed = Packed::new(Arc::new(shards), 16)?;
//! let sampler = Sampler::new(packed.len(), 42, 0, 1)?; // seed 42, rank 0 of 1
//! for position in sampler.positions(0).take(4) {
//!     let (epoch, row) = sampler.index(position);
//!     println!("epoch {epoch}, row {row}: {:?}", packed.row(row)?); // 17 ids: 16 to predict
//! }
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod alphabet;
mod bpe;
mod byte_level;
mod cache;
mod chat;
mod documents;
mod error;
mod file;
mod format;
pub mod gguf;
mod hash;
mod jsonl;
mod map;
mod model_tokenizer;
mod packed;
mod parquet_text;
mod permutation;
mod plain_text;
mod sampler;
mod shard;
mod source;
mod stop;
mod stream;
#[cfg(test)]
mod testing;
mod tokenizer;

pub use bpe::{BpeConfig, train_bpe};
pub use cache::build_or_reuse;
pub use chat::{ChatMessage, ChatOptions, ChatTemplate};
pub use documents::{Document, Documents, documents};
pub use error::{Error, Result};
pub use model_tokenizer::ModelTokenizer;
pub use packed::Packed;
pub use sampler::Sampler;
pub use shard::{ShardWriter, Shards, Tokens};
pub use source::TextSource;
pub use stop::StopStrings;
pub use stream::StreamDecoder;
pub use tokenizer::Tokenizer;
