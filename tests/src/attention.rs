//! `xpos` and `bca_resolution`: rotation, blockwise causal attention, attention resolution.

use anyhow::{Context, Result, bail};
use forerun_arch::{Rotary, Side, attend, design_curve, expected_scores, resolution_of, xpos_zeta};
use forerun_tensors::Mask;
use forerun_tensors::testing::{Golden, GoldenRole};
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use crate::report::Tally;

/// TorchScale has no option for these two.
const BASE: f64 = 10_000.0;
const GAMMA: f64 = 0.4;

/// Rows of the JSON's `config`, in the order of its notes.
#[derive(Deserialize)]
struct Xpos {
    /// Batch times heads, length, head_dim, offset, scale_base, downscale.
    cases: Vec<(i64, i64, i64, i64, f64, bool)>,
}

#[derive(Deserialize)]
struct BcaResolution {
    /// Batch, heads, length, head_dim, training length, scale_base.
    bca: Vec<(i64, i64, i64, i64, i64, f64)>,
    /// Heads, length, head_dim.
    res: Vec<(i64, i64, i64)>,
}

pub(crate) fn check_xpos(golden: &Golden) -> Result<Tally> {
    let Xpos { cases } = Xpos::deserialize(golden.config())?;
    let mut tally = Tally::default();
    for (i, (_, _, head_dim, offset, scale_base, downscale)) in cases.into_iter().enumerate() {
        let xpos = Rotary::xpos(head_dim, BASE, GAMMA, scale_base, Device::Cpu)?;
        let side = if downscale { Side::Key } else { Side::Query };
        let y = xpos.apply(&golden.input(&format!("{i}.x"))?, offset, side)?;
        tally.check(golden, &format!("{i}.y"), &y)?;
        let zeta = Tensor::from_slice(&xpos_zeta(head_dim, GAMMA));
        tally.check(golden, &format!("{i}.zeta"), &zeta)?;
    }
    all_checked(golden, tally)
}

pub(crate) fn check_bca_resolution(golden: &Golden) -> Result<Tally> {
    let BcaResolution { bca, res } = BcaResolution::deserialize(golden.config())?;
    let mut tally = Tally::default();
    for (i, case) in bca.into_iter().enumerate() {
        check_bca(golden, &format!("bca{i}"), case, &mut tally)?;
    }
    for (i, (_, seq, head_dim)) in res.into_iter().enumerate() {
        check_resolution(golden, &format!("res{i}"), seq as usize, head_dim, &mut tally)?;
    }
    all_checked(golden, tally)
}

fn check_bca(
    golden: &Golden,
    name: &str,
    (batch, heads, seq, head_dim, train_len, scale_base): (i64, i64, i64, i64, i64, f64),
    tally: &mut Tally,
) -> Result<()> {
    let input = |which: &str| -> Result<Tensor> {
        Ok(golden.input(&format!("{name}.{which}"))?.f_view([batch, heads, seq, head_dim])?)
    };
    let (q, k, v) = (input("q")?, input("k")?, input("v")?);
    let blocks = Mask::BlockwiseCausal { block_size: train_len / 2 };
    let scale = (head_dim as f64).sqrt().recip();
    for (output, mask) in [("out", blocks), ("out_full", Mask::Causal)] {
        let xpos = Rotary::xpos(head_dim, BASE, GAMMA, scale_base, Device::Cpu)?;
        let out = attend(&q, &k, &v, Some(xpos), mask, scale)?;
        tally.check(golden, &format!("{name}.{output}"), &out.f_flatten(0, 1)?)?;
    }
    let allowed = blocks.allowed(0..seq, 0..seq, Device::Cpu)?;
    tally.check(golden, &format!("{name}.mask"), &allowed)?;
    let first = Tensor::from_slice(&[blocks.first_key(seq - 1)]);
    tally.check(golden, &format!("{name}.last_window_start"), &first)
}

fn check_resolution(
    golden: &Golden,
    name: &str,
    seq: usize,
    head_dim: i64,
    tally: &mut Tally,
) -> Result<()> {
    let expected = expected_scores(&golden.input(&format!("{name}.e"))?)?;
    tally.check(golden, &format!("{name}.s_hat"), &expected)?;
    let rows: Vec<Vec<f64>> = Vec::try_from(&expected)?;
    let resolutions: Vec<f64> = rows.iter().map(|row| resolution_of(row)).collect();
    tally.check(golden, &format!("{name}.R"), &Tensor::from_slice(&resolutions))?;

    let curve = format!("{name}.g_xpos");
    let meaning = golden.json()["tensors"][&curve]["meaning"].as_str().unwrap_or_default();
    let scale_base = after(meaning, "n/").context("the decay of g_xpos is not stated")?;
    let rope = design_curve(head_dim, BASE, None, seq);
    let xpos = design_curve(head_dim, BASE, Some((GAMMA, scale_base)), seq);
    tally.check(golden, &format!("{name}.g_rope"), &Tensor::from_slice(&rope))?;
    tally.check(golden, &curve, &Tensor::from_slice(&xpos))?;
    let half = head_dim as f64 / 2.0;
    let of_curve =
        |curve: &[f64]| resolution_of(&curve.iter().map(|g| g / half).collect::<Vec<_>>());
    let both = Tensor::from_slice(&[of_curve(&rope), of_curve(&xpos)]);
    tally.check(golden, &format!("{name}.R_g"), &both.f_to_kind(Kind::Double)?)
}

/// The number that follows `marker`, a whole word or a symbol, in a text.
pub(crate) fn after(text: &str, marker: &str) -> Option<f64> {
    let word = marker.starts_with(char::is_alphabetic);
    let inside = |at: usize| word && text[..at].ends_with(char::is_alphanumeric);
    let at = text.match_indices(marker).map(|(at, _)| at).find(|at| !inside(*at))?;
    let rest = text[at + marker.len()..].trim_start();
    let number = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | '-' | '+');
    let end = rest.find(|c| !number(c)).unwrap_or(rest.len());
    rest[..end].trim_end_matches(['.', '-', '+', 'e']).parse().ok()
}

/// Refuses a file with outputs that no case accounts for.
fn all_checked(golden: &Golden, tally: Tally) -> Result<Tally> {
    let outputs = golden.names(GoldenRole::Output).count();
    if outputs != tally.cases() {
        bail!("{outputs} outputs, but the config accounts for {}", tally.cases());
    }
    Ok(tally)
}
