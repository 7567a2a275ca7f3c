//! Transformer blocks and whole decoder models on libtorch: Magneto, the length-extrapolatable
//! transformer and their rivals as options of one [`DecoderConfig`], with a KV cache, generation of
//! token ids, attention resolution, counted parameters and checkpoints. Several models of one shape
//! can be joined into a stack ([`Decoder::stack`]) that runs and trains them at once.
//!
//! A [`CausalLm`] is a pretrained model of the Llama or Phi-3 family: loaded from a Hugging Face folder, or with the feature `gguf` from a
//! GGUF file, it continues prompts, is tuned with low-rank adapters ([`LoraConfig`]) and packed to 8 or 4 bits ([`quantize_folder`]). Token ids
//! go in and come out; `forerun-tokens` has the tokenizers.
//!
//! ```
//! use std::{ops::ControlFlow, path::Path};
//!
//! use forerun_arch::{CausalLm, GenerationDefaults, LoadOptions};
//! use rand::SeedableRng;
//!
//! # fn main() -> Result<(), forerun_arch::Error> {
//! let folder = Path::new("../../tests/data/arch/llama_tiny"); // config.json, model.safetensors
//! let model = CausalLm::load(folder, &LoadOptions::default())?;
//! let options = GenerationDefaults::read(folder)?.options(8); // at most so many new tokens
//! let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
//! let new = model.generate(&[1, 17, 4], &options, &mut rng, &mut |chosen| {
//!     println!("{} {:.3}", chosen.token, chosen.log_prob);
//!     ControlFlow::Continue(())
//! })?;
//! # assert!(!new.is_empty() && new.len() <= 8);
//! # Ok(())
//! # }
//! ```
//!
//! A decoder of one's own; its tensors are named as TorchScale names them (`layers.0.self_attn.q_proj.weight`), so that such weights
//! load by name:
//!
//! ```
//! use std::ops::ControlFlow;
//!
//! use forerun_arch::{Decoder, DecoderConfig, Forward, Generation, generate};
//! use rand::SeedableRng;
//! use tch::{Device, Kind, Tensor};
//!
//! # fn main() -> Result<(), forerun_arch::Error> {
//! // Magneto blocks with xPos positions are the default; only the sizes are chosen here.
//! let config = DecoderConfig {
//!     vocab_size: 64, d_model: 32, n_layers: 2, n_heads: 4, d_ff: 64, ..DecoderConfig::default()
//! };
//! let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
//! let model = Decoder::new(&config, &mut rng, Device::Cpu)?;
//!
//! let tokens = Tensor::ones([2, 10], (Kind::Int64, Device::Cpu)); // [batch, seq]
//! let logits = model.logits(&tokens, &Forward::default())?; // [batch, seq, vocab]
//! assert_eq!(logits.size(), [2, 10, 64]);
//!
//! let options = Generation { max_new_tokens: 5, temperature: 0.0, ..Generation::default() };
//! let new = generate(&model, &[1, 2, 3], &options, &mut rng, &mut |_| ControlFlow::Continue(()))?;
//! assert_eq!(new.len(), 5);
//! # Ok(())
//! # }
//! ```

mod absolute;
mod alibi;
mod attention;
mod block;
mod block_sparse;
mod cache;
mod causal;
mod checkpoint;
mod config;
mod count;
mod decoder;
mod embedding;
mod error;
mod fused;
mod gains;
mod generate;
#[cfg(feature = "gguf")]
mod gguf;
mod hf;
mod init;
mod layout;
mod linear;
mod lm;
mod lora;
mod mlp;
mod mup;
mod norm;
mod phi3_small;
mod plan;
mod quantize;
mod resolution;
mod rotary;
mod sample;
mod stack;
#[cfg(test)]
mod testing;

pub use alibi::alibi_slopes;
pub use block_sparse::BlockSparse;
pub use cache::KvCache;
pub use checkpoint::save_checkpoint;
pub use config::{
    Activation, DecoderConfig, Init, NormKind, NormPlacement, Parametrisation, Positions,
};
pub use count::{flops_per_token, n_non_embedding_params, n_params};
pub use decoder::{Decoder, Forward};
pub use error::{Error, Result};
pub use gains::Gains;
pub use generate::{Chosen, generate};
pub use hf::{GenerationDefaults, LoadOptions};
pub use linear::Linear;
pub use lm::{
    Calibration, CausalLm, LmCache, LmConfig, LmFamily, LmRope, Map, Phi3Small, Projection,
    RopeScaling, Table,
};
pub use lora::{
    Adapter, LoraConfig, SavedAdapters, Targets, load_adapters, parameter_name, save_adapters,
};
pub use phi3_small::{Phi3SmallAttention, gegelu};
pub use plan::attend;
pub use quantize::{
    Gptq, Hessian, Method, PackedLinear, PackedTensor, QuantizeConfig, Quantized, gptq,
    packed_metadata, packed_tensors, quantize_folder, quantize_folder_watched, round_to_nearest,
};
pub use resolution::{
    Resolution, attention_resolution, design_curve, expected_scores, resolution_of,
};
pub use rotary::{Pairing, Rotary, Side, xpos_zeta};
pub use sample::Generation;
