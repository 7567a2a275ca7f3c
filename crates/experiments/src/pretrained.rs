//! Models that others trained, or that a run left: found by folder, file or name, and loaded with their tokenizer.

pub(crate) mod drawn;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use forerun_arch::{CausalLm, GenerationDefaults, LmConfig, LoadOptions};
use forerun_runs::atomic::{sha256_file, sha256_hex};
use forerun_tokens::gguf::Gguf;
use forerun_tokens::{ModelTokenizer, Tokenizer};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

pub use drawn::write_drawn;

/// The models that `cargo xtask model` fetches; a test compares the two lists.
pub const KNOWN: [&str; 1] = ["smollm2-135m"];

/// Where `cargo xtask model` leaves them.
const MODELS: &str = "FORERUN_MODELS";

/// A model on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// `config.json` and safetensors, as Hugging Face lays them out.
    Folder(PathBuf),
    /// Everything in one file, as llama.cpp has it.
    Gguf(PathBuf),
}

/// The format that weights are computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Precision {
    /// 4 bytes a weight.
    F32,
    /// 2 bytes, the range of f32.
    Bf16,
    /// 2 bytes, finer and of a smaller range.
    F16,
    /// Matrices of 4 or 8 bits in a GGUF file stay so, the others are bf16.
    Packed,
}

impl Precision {
    /// Of weights that are plain numbers.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::Bf16 | Self::Packed => Kind::BFloat16,
            Self::F16 => Kind::Half,
        }
    }
}

/// A model with what turns text into its tokens and back.
#[derive(Debug)]
pub(crate) struct Pretrained {
    pub(crate) model: CausalLm,
    pub(crate) tokenizer: ModelTokenizer,
    /// How its makers sample from it.
    pub(crate) defaults: GenerationDefaults,
}

impl Place {
    /// The model that a person means: a name of [`KNOWN`], a folder, or a `.gguf` file.
    pub(crate) fn find(name: &str) -> Result<Self> {
        Self::find_below(name, &models_dir())
    }

    fn find_below(name: &str, models: &Path) -> Result<Self> {
        if KNOWN.contains(&name) {
            let folder = models.join(name);
            if !folder.is_dir() {
                bail!("the model `{name}` is not there; fetch it: cargo xtask model {name}");
            }
            return Self::of_folder(&folder);
        }
        let path = Path::new(name);
        if path.is_dir() {
            return Self::of_folder(path);
        }
        if path.is_file() {
            ensure!(
                is_gguf(path),
                "`{name}` is no model: a folder is wanted, or a file whose name ends in .gguf"
            );
            return Ok(Self::Gguf(path.to_owned()));
        }
        bail!(
            "there is no model `{name}`: neither a folder, nor a .gguf file, nor a name that `cargo xtask model` knows ({})",
            KNOWN.join(", ")
        )
    }

    fn of_folder(folder: &Path) -> Result<Self> {
        if folder.join("config.json").is_file() {
            return Ok(Self::Folder(folder.to_owned()));
        }
        let entries =
            fs::read_dir(folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| is_gguf(path))
            .collect();
        files.sort();
        match files.as_slice() {
            [only] => Ok(Self::Gguf(only.clone())),
            [] => bail!(
                "`{}` is no model: it holds neither config.json nor a .gguf file",
                folder.display()
            ),
            [first, ..] => bail!(
                "`{}` holds {} .gguf files; name the one that is meant, `{}` for example",
                folder.display(),
                files.len(),
                first.display()
            ),
        }
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Folder(path) | Self::Gguf(path) => path,
        }
    }

    /// The files that decide what it computes, in the order of their names.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>> {
        let folder = match self {
            Self::Gguf(file) => return Ok(vec![file.clone()]),
            Self::Folder(folder) => folder,
        };
        let entries =
            fs::read_dir(folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
        let decides = |path: &PathBuf| {
            let extension = path.extension().and_then(|extension| extension.to_str());
            path.is_file() && matches!(extension, Some("json" | "safetensors" | "model"))
        };
        let mut files: Vec<PathBuf> =
            entries.filter_map(|entry| Some(entry.ok()?.path())).filter(decides).collect();
        files.sort();
        Ok(files)
    }

    /// A hash of the names and contents of its files, so that a copy has the same; all of them are read.
    pub(crate) fn fingerprint(&self) -> Result<String> {
        let mut held = String::new();
        for file in self.files()? {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            held.push_str(&format!("{name} {}\n", sha256_file(&file)?));
        }
        Ok(sha256_hex(held.as_bytes()))
    }

    /// What the model is made of, without its weights.
    pub(crate) fn config(&self) -> Result<LmConfig> {
        match self {
            Self::Folder(folder) => Ok(LmConfig::read(&folder.join("config.json"))?),
            Self::Gguf(file) => Ok(LmConfig::from_gguf(&Gguf::open(file)?)?),
        }
    }

    /// The tokenizer: the model's own, unless `other` names a `tokenizer.json` or `bytes`.
    pub(crate) fn tokenizer(&self, other: Option<&str>) -> Result<ModelTokenizer> {
        match (other, self) {
            (Some("bytes"), _) => Ok(ModelTokenizer::plain(Tokenizer::bytes())),
            (Some(file), _) => Ok(ModelTokenizer::plain(Tokenizer::from_file(file)?)),
            (None, Self::Folder(folder)) => {
                ensure!(
                    folder.join("tokenizer.json").is_file(),
                    "`{}` has no tokenizer.json; name one with --tokenizer (a tokenizer.json, or bytes)",
                    folder.display()
                );
                Ok(ModelTokenizer::from_folder(folder)?)
            }
            (None, Self::Gguf(file)) => Ok(ModelTokenizer::from_gguf(&Gguf::open(file)?)?),
        }
    }

    /// How the model's makers sample from it; the tokens that end a text are all that either the model or its tokenizer
    /// names.
    fn defaults(&self, tokenizer: &ModelTokenizer) -> Result<GenerationDefaults> {
        let mut defaults = match self {
            Self::Folder(folder) => GenerationDefaults::read(folder)?,
            Self::Gguf(_) => {
                let eos_tokens = self.config()?.eos_tokens;
                GenerationDefaults { eos_tokens, ..GenerationDefaults::default() }
            }
        };
        defaults.eos_tokens.extend(tokenizer.end_ids().iter().map(|&id| i64::from(id)));
        defaults.eos_tokens.sort_unstable();
        defaults.eos_tokens.dedup();
        Ok(defaults)
    }

    /// The model alone. Without a precision it is that of a folder's files, and f32 for GGUF.
    pub(crate) fn load_model(
        &self,
        precision: Option<Precision>,
        device: Device,
    ) -> Result<CausalLm> {
        match self {
            Self::Folder(folder) => {
                ensure!(
                    precision != Some(Precision::Packed),
                    "--precision packed is for GGUF files: a folder that was quantised stays packed without it"
                );
                let kind = precision.map(Precision::kind);
                Ok(CausalLm::load(folder, &LoadOptions { kind, device })?)
            }
            Self::Gguf(path) => {
                let (file, precision) = (Gguf::open(path)?, precision.unwrap_or(Precision::F32));
                if precision == Precision::Packed {
                    ensure!(device == Device::Cpu, "--precision packed computes on the CPU only");
                    return Ok(CausalLm::from_gguf_packed(&file, precision.kind())?);
                }
                Ok(CausalLm::from_gguf(&file, precision.kind(), device)?)
            }
        }
    }

    /// The model and its tokenizer.
    pub(crate) fn load(
        &self,
        precision: Option<Precision>,
        device: Device,
        tokenizer: Option<&str>,
    ) -> Result<Pretrained> {
        let tokenizer = self.tokenizer(tokenizer)?;
        let (vocab, rows) = (tokenizer.tokenizer().vocab_size(), self.config()?.vocab_size);
        ensure!(
            i64::from(vocab) <= rows,
            "the tokenizer has {vocab} ids, `{}` only {rows}: they do not belong together",
            self.path().display()
        );
        let defaults = self.defaults(&tokenizer)?;
        let model = self.load_model(precision, device)?;
        Ok(Pretrained { model, tokenizer, defaults })
    }
}

impl Pretrained {
    /// Token ids as models count them.
    pub(crate) fn ids(ids: Vec<u32>) -> Vec<i64> {
        ids.into_iter().map(i64::from).collect()
    }
}

fn models_dir() -> PathBuf {
    std::env::var_os(MODELS).map_or_else(|| PathBuf::from(".models"), PathBuf::from)
}

fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

#[cfg(test)]
mod tests;
