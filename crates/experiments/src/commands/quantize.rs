//! `quantize`: writes a model anew with weights of 8 or 4 bits, a tensor at a time.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use forerun_arch::{
    Calibration, Gptq, LmConfig, Method, QuantizeConfig, Quantized, quantize_folder_watched,
};
use forerun_tensors::kernels::WeightFormat;
use forerun_tokens::ModelTokenizer;
use tch::Device;

use super::texts::{self, Text};
use crate::cli::{say, tell};
use crate::environment;
use crate::interrupt::{self, INTERRUPTED};
use crate::plan::{counted, quantity};
use crate::pretrained::{Place, Pretrained};

/// Hessians that are in memory together, in bytes: 4 for each pair of input channels of each linear map.
const HESSIAN_BYTES: i64 = 1 << 30;

/// The command line of `quantize`.
#[derive(Args, Debug)]
pub(crate) struct QuantizeArgs {
    /// A folder in the layout of Hugging Face.
    model: String,
    /// The new folder.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Of the linear maps in the blocks.
    #[arg(long, value_enum)]
    format: Format,
    /// Columns with a scale and an offset of their own, at 4 bits: 32, 64 or 128 [default: 64].
    #[arg(long, value_name = "N")]
    group: Option<i64>,
    /// How weights are rounded.
    #[arg(long, value_enum, default_value_t = Rounding::Gptq)]
    method: Rounding,
    /// Of the embedding table and the head, rounded to the nearest.
    #[arg(long, value_enum, default_value_t = Tables::Int8)]
    tables: Tables,
    /// Texts that gptq calibrates on: .txt, .md, .jsonl or .parquet; repeat for more [default: three of the four embedded
    /// novels, which `perplexity --books` reads too].
    #[arg(long, value_name = "FILE")]
    text: Vec<PathBuf>,
    /// Tokens that gptq calibrates on, spread over the texts.
    #[arg(long, value_name = "N", default_value_t = 16_384)]
    text_tokens: usize,
    /// A tokenizer.json, or `bytes`, in place of the model's own.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<String>,
    /// Threads of libtorch [default: one a core].
    #[arg(long, value_name = "N")]
    threads: Option<u16>,
}

/// Bits of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// 8 bits, a scale for each row.
    Int8,
    /// 4 bits, a scale and an offset for each group of columns.
    Int4,
}

/// How weights are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Rounding {
    /// Each to its nearest number.
    Nearest,
    /// So that outputs on the text change least.
    Gptq,
}

/// What becomes of the embedding table and the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tables {
    /// 8 bits.
    Int8,
    /// As they are.
    Keep,
}

impl QuantizeArgs {
    fn config(&self) -> Result<QuantizeConfig> {
        let blocks = match (self.format, self.group) {
            (Format::Int8, None) => WeightFormat::Int8,
            (Format::Int8, Some(group)) => {
                bail!("--group {group} makes no sense at 8 bits, where each row has one scale")
            }
            (Format::Int4, group) => WeightFormat::Int4 { group: group.unwrap_or(64) },
        };
        if let WeightFormat::Int4 { group } = blocks {
            ensure!([32, 64, 128].contains(&group), "--group must be 32, 64 or 128, got {group}");
        }
        let method = match self.method {
            Rounding::Nearest => {
                ensure!(self.text.is_empty(), "--text is for gptq; --method nearest reads none");
                Method::Nearest
            }
            Rounding::Gptq => Method::Gptq(Gptq::default()),
        };
        let tables = (self.tables == Tables::Int8).then_some(WeightFormat::Int8);
        Ok(QuantizeConfig { blocks, tables, method })
    }

    fn folder(&self) -> Result<PathBuf> {
        match Place::find(&self.model)? {
            Place::Folder(folder) => Ok(folder),
            Place::Gguf(file) => bail!(
                "`{}` is a GGUF file: only checkpoints in folders of safetensors can be quantised",
                file.display()
            ),
        }
    }
}

impl QuantizeArgs {
    /// What GPTQ calibrates on.
    fn calibration(&self, from: &Path) -> Result<Vec<Vec<i64>>> {
        let texts = match self.text.as_slice() {
            [] => texts::books(Some("train"))?,
            files => texts::of_files(files)?,
        };
        let place = Place::Folder(from.to_owned());
        let tokenizer = place.tokenizer(self.tokenizer.as_deref())?;
        let longest = usize::try_from(place.config()?.max_seq_len).unwrap_or(usize::MAX);
        let pieces = pieces(&texts, &tokenizer, self.text_tokens, PIECE.min(longest))?;
        tell(&calibrating_on(&pieces, tokenizer.encode_prompt("")?.len(), texts.len()));
        Ok(pieces)
    }
}

/// Of pieces that begin with `n_before` tokens which are none of the texts'.
fn calibrating_on(pieces: &[Vec<i64>], n_before: usize, n_texts: usize) -> String {
    let n_tokens: usize = pieces.iter().map(|piece| piece.len() - n_before).sum();
    let (tokens, texts) = (counted(n_tokens as u64, "token"), counted(n_texts as u64, "text"));
    format!("calibrating on {tokens} of {texts}")
}

/// Runs the command.
pub(crate) fn quantize(args: &QuantizeArgs) -> Result<i32> {
    let config = args.config()?;
    let from = args.folder()?;
    ensure!(args.threads != Some(0), "--threads must be at least 1, got 0");
    ensure!(!args.out.exists(), "--out: `{}` is there already", args.out.display());
    let threads = args.threads.map_or_else(environment::cores, usize::from);
    tch::set_num_threads(i32::try_from(threads).unwrap_or(1));
    let started = Instant::now();
    interrupt::install();
    let mut on_tensor = |n_done: usize, n_tensors: usize| {
        if n_done.is_multiple_of(32) {
            tell(&format!("tensor {} of {n_tensors}", n_done + 1));
        }
        if interrupt::asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let pieces = match config.method {
        Method::Nearest => Vec::new(),
        Method::Gptq(_) => args.calibration(&from)?,
    };
    let done = quantized(&from, &args.out, &config, &pieces, &mut on_tensor, &interrupt::asked);
    if interrupt::asked() && done.is_err() {
        tell("stopped; nothing was written");
        return Ok(INTERRUPTED);
    }
    let done = done?;
    let [before, after] = [done.bytes_before, done.bytes_after].map(|n| quantity(n as f64));
    let share = 100.0 * done.bytes_after as f64 / done.bytes_before as f64;
    say(&format!(
        "{}: {} of {} tensors packed, {after}B of {before}B ({share:.0} %), in {:.0} s",
        args.out.display(),
        done.n_packed,
        done.n_packed + done.n_copied,
        started.elapsed().as_secs_f64()
    ));
    Ok(0)
}

/// Tokens of one piece of a calibration.
const PIECE: usize = 512;

/// Quantises the checkpoint in `from` to the new folder `to`; GPTQ calibrates on `pieces`. Before each tensor `on_tensor` is told how
/// many are done and how many there are, and may end the work, which then fails and leaves nothing; so it does if `stopped` says so between two
/// pieces.
pub(crate) fn quantized(
    from: &Path,
    to: &Path,
    config: &QuantizeConfig,
    pieces: &[Vec<i64>],
    on_tensor: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    stopped: &dyn Fn() -> bool,
) -> Result<Quantized> {
    if let Some(parent) = to.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent)
            .with_context(|| format!("cannot make `{}`", parent.display()))?;
    }
    if config.method == Method::Nearest {
        return Ok(quantize_folder_watched(from, to, config, &mut |_| Ok(None), on_tensor)?);
    }
    let mut model = Place::Folder(from.to_owned()).load_model(None, Device::Cpu)?;
    let at_once = blocks_at_once(model.config());
    let pieces = pieces.iter().map(Vec::as_slice).collect();
    let mut calibration = Calibration::new(&mut model, pieces, at_once)?;
    let mut on_piece =
        |_, _| if stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let mut hessian = |name: &str| calibration.hessian_watched(name, &mut on_piece);
    Ok(quantize_folder_watched(from, to, config, &mut hessian, on_tensor)?)
}

/// Blocks whose Hessians are in memory together: as many as [`HESSIAN_BYTES`] allow. Each such part reads the texts once more.
pub(crate) fn blocks_at_once(config: &LmConfig) -> usize {
    usize::try_from(HESSIAN_BYTES / hessian_bytes(config)).unwrap_or(1).max(1)
}

/// Bytes of the Hessians of one block.
pub(crate) fn hessian_bytes(config: &LmConfig) -> i64 {
    let (d_model, d_ff) = (config.d_model, config.d_ff);
    4 * (6 * d_model * d_model + d_ff * d_ff)
}

/// Pieces of `piece` tokens, `n_tokens` in all, from places that are spread evenly over each text; shorter ones only of
/// texts that are short themselves. Each begins with what the tokenizer puts before a text: a model may treat its first token
/// as no other, with activations that nothing else has.
pub(crate) fn pieces(
    texts: &[Text],
    tokenizer: &ModelTokenizer,
    n_tokens: usize,
    piece: usize,
) -> Result<Vec<Vec<i64>>> {
    let mut of_text = Vec::new();
    for text in texts {
        of_text.push(Pretrained::ids(tokenizer.tokenizer().encode(&text.text)?));
    }
    let before = Pretrained::ids(tokenizer.encode_prompt("")?);
    let found = spread(&of_text, n_tokens, piece.saturating_sub(before.len()).max(1));
    ensure!(!found.is_empty(), "the texts have no tokens to calibrate on, or --text-tokens is 0");
    Ok(found.iter().map(|own| [before.as_slice(), own.as_slice()].concat()).collect())
}

fn spread(texts: &[Vec<i64>], n_tokens: usize, piece: usize) -> Vec<Vec<i64>> {
    let mut whole: Vec<&[i64]> = texts.iter().flat_map(|text| text.chunks(piece)).collect();
    // A remainder counts only where there is nothing better.
    let n_full = whole.iter().filter(|chunk| chunk.len() == piece).count();
    if n_full > 0 {
        whole.retain(|chunk| chunk.len() == piece);
    }
    whole.retain(|chunk| chunk.len() > 1);
    let n = n_tokens.div_ceil(piece).min(whole.len());
    (0..n).map(|index| whole[index * whole.len() / n].to_vec()).collect()
}

#[cfg(test)]
mod tests;
