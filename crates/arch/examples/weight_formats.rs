//! What packed weights cost in perplexity and bring in speed, on one text.
//!
//! ```text
//! cargo run -p forerun-arch --example weight_formats -- MODEL TOKENS [PIECES [THREADS]]
//! ```
//!
//! MODEL is a folder with a checkpoint, TOKENS a file of token ids as text, one after the other. The first PIECES (8) pieces of 512 tokens
//! calibrate, as many that follow are evaluated, each from its beginning.

#![allow(clippy::print_stdout, reason = "a program that answers on standard output")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

use forerun_arch::{CausalLm, Gptq, Hessian, LmCache, LoadOptions, Method, QuantizeConfig};
use forerun_tensors::kernels::WeightFormat;
use tch::Kind;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const PIECE: usize = 512;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, tokens, rest @ ..] = &arguments[..] else {
        return Err("usage: weight_formats MODEL TOKENS [PIECES [THREADS]]".into());
    };
    let n: usize = rest.first().map_or(Ok(8), |n| n.parse())?;
    tch::set_num_threads(rest.get(1).map_or(Ok(2), |threads| threads.parse())?);
    let text = std::fs::read_to_string(tokens)?;
    let ids: Vec<i64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let pieces: Vec<&[i64]> = ids.chunks_exact(PIECE).take(2 * n).collect();
    if n == 0 || pieces.len() < 2 * n {
        return Err(format!("{} tokens are needed, got {}", 2 * n.max(1) * PIECE, ids.len()).into());
    }
    let (calibration, evaluation) = pieces.split_at(n);
    let folder = Path::new(model);
    println!(
        "{:<22} {:>12} {:>14} {:>14}",
        "weights", "perplexity", "prompt tok/s", "decode tok/s"
    );
    for kind in [Kind::Float, Kind::BFloat16] {
        report(&format!("{kind:?}"), &load(folder, kind)?, evaluation)?;
    }
    let start = Instant::now();
    let mut model = load(folder, Kind::Float)?;
    let hessians = model.calibrate(calibration, &|_| true)?;
    println!("calibrated in {:.0} s", start.elapsed().as_secs_f64());
    for (name, config) in formats() {
        let start = Instant::now();
        match packed(folder, &config, &hessians) {
            Ok(model) => {
                let name = format!("{name} ({:.0} s)", start.elapsed().as_secs_f64());
                report(&name, &model, evaluation)?;
            }
            Err(error) => println!("{name}: {error}"),
        }
    }
    Ok(())
}

fn load(folder: &Path, kind: Kind) -> Outcome<CausalLm> {
    Ok(CausalLm::load(folder, &LoadOptions { kind: Some(kind), ..LoadOptions::default() })?)
}

fn formats() -> Vec<(String, QuantizeConfig)> {
    let mut all = vec![("int8".to_owned(), QuantizeConfig::nearest(WeightFormat::Int8))];
    for group in [32, 64, 128] {
        let nearest = QuantizeConfig::nearest(WeightFormat::Int4 { group });
        all.push((format!("int4-g{group} nearest"), nearest));
        for by_activation in [false, true] {
            let method = Method::Gptq(Gptq { by_activation, ..Gptq::default() });
            let name = format!("int4-g{group} gptq {by_activation}");
            all.push((name, QuantizeConfig { method, ..nearest }));
        }
    }
    all
}

fn packed(
    folder: &Path,
    config: &QuantizeConfig,
    hessians: &BTreeMap<String, Hessian>,
) -> Outcome<CausalLm> {
    let mut model = load(folder, Kind::Float)?;
    model.pack(config, &mut |name| Ok(hessians.get(name).map(Hessian::copy).transpose()?))?;
    Ok(model)
}

fn report(name: &str, model: &CausalLm, evaluation: &[&[i64]]) -> Outcome {
    let (mut sum, mut n) = (0.0, 0);
    for piece in evaluation {
        let log_probs = model.log_probs(piece)?;
        sum -= log_probs.iter().sum::<f64>();
        n += log_probs.len();
    }
    let (prompt, decode) = speed(model, evaluation[0])?;
    let perplexity = (sum / n as f64).exp();
    println!("{name:<22} {perplexity:>12.4} {prompt:>14.0} {decode:>14.1}");
    Ok(())
}

/// Tokens a second of a prompt, and of the 64 tokens that follow; the fastest of three.
fn speed(model: &CausalLm, ids: &[i64]) -> Outcome<(f64, f64)> {
    let (mut prompt, mut decode) = (0f64, 0f64);
    for _ in 0..3 {
        let mut cache = LmCache::new(model, ids.len());
        let (first, rest) = ids.split_at(PIECE - 64);
        let start = Instant::now();
        let _ = model.extend(first, &mut cache)?;
        prompt = prompt.max(first.len() as f64 / start.elapsed().as_secs_f64());
        let start = Instant::now();
        for id in rest {
            let _ = model.extend(&[*id], &mut cache)?;
        }
        decode = decode.max(rest.len() as f64 / start.elapsed().as_secs_f64());
    }
    Ok((prompt, decode))
}
