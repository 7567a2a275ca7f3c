//! `generate`: continues prompts, or answers them, and shows the text as it is written.

mod prompts;
mod session;

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;
use forerun_arch::{Chosen, Generation, GenerationDefaults};
use forerun_runs::seed::Seed;

use super::{ModelArgs, length_note};
use crate::cli::tell;
use crate::interrupt::{self, INTERRUPTED};
use crate::pretrained::Pretrained;
use prompts::Prompt;
use session::{End, Session, Settings};

/// The command line of `generate`.
#[derive(Args, Debug)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    prompts: PromptArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Text at which to stop; it is not shown. Repeat for more.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Tokens at most for each prompt [default: the model's, else 256]
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,
    /// Prompts that are continued side by side.
    #[arg(long, value_name = "N", default_value_t = 8)]
    batch: usize,
    /// One JSON object a token, with the logarithm of its probability, in place of text.
    #[arg(long)]
    log_probs: bool,
    /// Say at the end how many tokens a second it were.
    #[arg(long)]
    stats: bool,
}

/// What is continued; standard input if nothing is named.
#[derive(Args, Debug)]
struct PromptArgs {
    /// What to continue; repeat for more. Without any prompt, standard input is one.
    #[arg(long, value_name = "TEXT")]
    prompt: Vec<String>,
    /// A file that is one prompt; repeat for more.
    #[arg(long, value_name = "FILE")]
    prompt_file: Vec<PathBuf>,
    /// A file with a prompt on every line that is not blank; repeat for more.
    #[arg(long, value_name = "FILE")]
    prompt_lines: Vec<PathBuf>,
    /// Put each prompt to the model as what a user says, in its chat template.
    #[arg(long)]
    chat: bool,
    /// What the model is told before the conversation.
    #[arg(long, value_name = "TEXT", requires = "chat")]
    system: Option<String>,
}

/// How tokens are chosen; what is not given is as the model's generation_config.json has it.
#[derive(Args, Debug)]
struct SamplingArgs {
    /// Divides the logits; 0 takes the likeliest token [default: the model's, else 0]
    #[arg(long, value_name = "T")]
    temperature: Option<f64>,
    /// Draw from this many likeliest tokens only.
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Draw from the fewest likeliest tokens with this share of the probability.
    #[arg(long, value_name = "P")]
    top_p: Option<f64>,
    /// Draw from tokens with at least this share of the likeliest one's probability.
    #[arg(long, value_name = "P")]
    min_p: Option<f64>,
    /// Divides the logits of what occurred before; 1 does nothing.
    #[arg(long, value_name = "X")]
    repetition_penalty: Option<f64>,
    /// Fixes what is drawn: the same seed gives the same text.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

impl SamplingArgs {
    fn options(&self, defaults: &GenerationDefaults, max_new_tokens: usize) -> Result<Generation> {
        // Options of drawing mean that there is to be drawing.
        let drawn = self.top_k.is_some() || self.top_p.is_some() || self.min_p.is_some();
        let own = defaults.options(max_new_tokens);
        let unless_greedy = if drawn && own.temperature == 0.0 { 1.0 } else { own.temperature };
        let options = Generation {
            temperature: self.temperature.unwrap_or(unless_greedy),
            top_k: self.top_k.or(own.top_k),
            top_p: self.top_p.or(own.top_p),
            min_p: self.min_p.or(own.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(own.repetition_penalty),
            ..own
        };
        options.validate()?;
        Ok(options)
    }
}

/// Runs the command; the exit status is 130 after Ctrl-C.
pub(crate) fn generate(args: &GenerateArgs) -> Result<i32> {
    ensure!(args.max_new_tokens != Some(0), "--max-new-tokens must be at least 1, got 0");
    ensure!(args.batch > 0, "--batch must be at least 1, got 0");
    let texts = args.prompts.texts()?;
    let pretrained = args.model.load()?;
    let limit = |n_prompt: usize| limit(args.max_new_tokens, &pretrained.defaults, n_prompt);
    let prompts = args.prompts.encoded(texts, &pretrained.tokenizer, limit)?;
    let options = args.sampling.options(&pretrained.defaults, 1)?; // each batch has its own length
    let longest = prompts.iter().max_by_key(|prompt| prompt.ids.len().saturating_add(prompt.limit));
    if let Some(Prompt { ids, limit, .. }) = longest {
        length_note(&pretrained, ids.len(), *limit).iter().for_each(|note| tell(note));
    }
    let settings = Settings {
        stops: &args.stop,
        log_probs: args.log_probs,
        headings: prompts.len() > 1 && !args.log_probs,
    };
    interrupt::install();
    let mut out = io::stdout().lock();
    let started = Instant::now();
    let mut n_new = 0;
    for (index, batch) in prompts.chunks(args.batch).enumerate() {
        let first = index * args.batch;
        let session =
            Session::new(batch, first, pretrained.tokenizer.tokenizer(), &settings, &mut out)?;
        let done = one_batch(&pretrained, batch, first, &options, args.sampling.seed, session)?;
        n_new += done.n_new;
        if done.end != Outcome::Whole {
            break;
        }
    }
    let _ = out.flush();
    if args.stats {
        let secs = started.elapsed().as_secs_f64();
        let speed = n_new as f64 / secs;
        tell(&format!(
            "{n_new} new tokens in {secs:.2} s ({speed:.1} tokens/s, reading the prompts included)"
        ));
    }
    Ok(if interrupt::asked() { INTERRUPTED } else { 0 })
}

/// New tokens after a prompt if nobody says.
const NEW_TOKENS: usize = 256;

/// How many tokens may follow a prompt of `n_prompt`: as many as were asked for, or else as the model's makers allow.
fn limit(asked: Option<usize>, defaults: &GenerationDefaults, n_prompt: usize) -> Result<usize> {
    let limit = asked.or_else(|| defaults.new_tokens_after(n_prompt)).unwrap_or(NEW_TOKENS);
    ensure!(
        limit > 0,
        "a prompt has {n_prompt} tokens, and the `max_length` of generation_config.json leaves none to follow it; say how \
         many with --max-new-tokens"
    );
    Ok(limit)
}

/// How a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Whole,
    /// Ctrl-C.
    Interrupted,
    /// Nobody reads any more (`| head`).
    Unread,
}

struct Done {
    n_new: usize,
    end: Outcome,
}

fn one_batch(
    pretrained: &Pretrained,
    prompts: &[Prompt],
    first: usize,
    options: &Generation,
    seed: u64,
    mut session: Session<'_, impl Write>,
) -> Result<Done> {
    let seed = Seed::new(seed);
    let mut rngs: Vec<_> = (0..prompts.len())
        .map(|index| seed.stream(&format!("generate/{}", first + index)))
        .collect();
    let ids: Vec<&[i64]> = prompts.iter().map(|prompt| prompt.ids.as_slice()).collect();
    let max_new_tokens = prompts.iter().map(|prompt| prompt.limit).max().unwrap_or(1);
    let options = Generation { max_new_tokens, ..options.clone() };
    let mut failed = None;
    let new = pretrained.model.generate_batch(
        &ids,
        &options,
        &mut rngs,
        &mut |index, chosen| match next(&mut session, index, chosen) {
            Ok(goes_on) => goes_on,
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        },
    )?;
    let n_new = new.iter().map(Vec::len).sum();
    if let Some(error) = failed {
        return unread(error).map(|()| Done { n_new, end: Outcome::Unread });
    }
    let ends = new.iter().zip(prompts).map(|(new, prompt)| match new.len() {
        _ if interrupt::asked() => End::Interrupted,
        n if n == prompt.limit => End::Length,
        _ => End::Token,
    });
    match session.finish(ends.collect()) {
        Err(error) => unread(error).map(|()| Done { n_new, end: Outcome::Unread }),
        Ok(()) if interrupt::asked() => Ok(Done { n_new, end: Outcome::Interrupted }),
        Ok(()) => Ok(Done { n_new, end: Outcome::Whole }),
    }
}

fn next(
    session: &mut Session<'_, impl Write>,
    index: usize,
    chosen: Chosen,
) -> Result<ControlFlow<()>> {
    if interrupt::asked() {
        return Ok(ControlFlow::Break(()));
    }
    session.push(index, chosen)
}

/// Nothing, if the error is that nobody reads any more.
fn unread(error: anyhow::Error) -> Result<()> {
    let closed = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    if error.downcast_ref().is_some_and(closed) { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests;
