//! `init`: constants and spread of initial weights.
//!
//! The reference's measured spread must agree with the closed form, and so must what this workspace draws.
//! Encoders and encoder-decoders do not exist here yet: for them the constants are compared, and the reference's
//! spread with the closed form.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use forerun_arch::{Decoder, DecoderConfig, Gains, Init, NormPlacement};
use forerun_tensors::testing::{Golden, Tolerance};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use crate::attention::after;
use crate::report::Tally;

/// `std within 3% of analytic`.
const SPREAD: Tolerance = Tolerance { atol: 0.0, rtol: 0.03 };
const CONSTANT: Tolerance = Tolerance { atol: 1e-12, rtol: 1e-12 };
/// Layers drawn before a spread is judged: the 128 numbers of a bias scatter by 4 %, 64 times as many by 0.5 %.
const DRAWN_LAYERS: i64 = 64;

#[derive(Deserialize)]
struct Row {
    kind: String,
    enc_layers: i64,
    dec_layers: i64,
    enc: Option<Constants>,
    dec: Option<Constants>,
    subln_gamma: Option<f64>,
    deepnorm_alpha: Option<f64>,
    deepnorm_div: Option<f64>,
    measured_subln: BTreeMap<String, Measured>,
    measured_deepnorm: BTreeMap<String, Measured>,
}

#[derive(Deserialize)]
struct Constants {
    subln_gamma: f64,
    deepnorm_alpha: f64,
    deepnorm_div: f64,
    paper_beta: Option<f64>,
}

#[derive(Deserialize)]
struct Measured {
    std: f64,
    max_abs: f64,
}

/// Widths that the note states.
struct Sizes {
    d_model: i64,
    d_ff: i64,
}

pub(crate) fn check(golden: &Golden) -> Result<Tally> {
    let rows = Vec::<Row>::deserialize(&golden.json()["rows"])?;
    let note = golden.json()["note"].as_str().unwrap_or_default();
    let width =
        |marker| after(note, marker).with_context(|| format!("the note does not state {marker}"));
    let sizes = Sizes { d_model: width("D=")? as i64, d_ff: width("F=")? as i64 };
    let mut tally = Tally::default();
    for (index, row) in rows.iter().enumerate() {
        check_row(&format!("rows[{index}]"), row, &sizes, &mut tally)?;
    }
    Ok(tally)
}

fn check_row(name: &str, row: &Row, sizes: &Sizes, tally: &mut Tally) -> Result<()> {
    let (own, other) = match row.kind.as_str() {
        "encoder" => (Gains::single(row.enc_layers), None),
        "decoder" => (Gains::single(row.dec_layers), None),
        "encdec" => {
            let encoder = Gains::encoder_of(row.enc_layers, row.dec_layers);
            (Gains::decoder_of(row.dec_layers), Some(encoder))
        }
        other => bail!("{name}: an architecture of kind `{other}`"),
    };
    check_constants(name, row, own, other, tally)?;
    for (deep, measured) in [(false, &row.measured_subln), (true, &row.measured_deepnorm)] {
        for (parameter, measured) in measured {
            let gains = if parameter.starts_with("encoder.") { other.unwrap_or(own) } else { own };
            let (std, bound) = spread(parameter, gains, deep, sizes);
            let name = format!("{name}.{}.{parameter}", if deep { "deepnorm" } else { "subln" });
            tally.number(&name, measured.std, std, SPREAD);
            // The file rounds to six decimals.
            tally.require(measured.max_abs <= bound + 1e-6, || format!("{name}: beyond {bound}"));
        }
    }
    if row.kind == "decoder" {
        check_drawn(name, row, own, sizes, tally)?;
    }
    Ok(())
}

fn check_constants(
    name: &str,
    row: &Row,
    own: Gains,
    encoder: Option<Gains>,
    tally: &mut Tally,
) -> Result<()> {
    let mut compare = |part: &str, gains: Gains, want: &Constants| {
        for (constant, actual, expected) in [
            ("subln_gamma", gains.gamma, Some(want.subln_gamma)),
            ("deepnorm_alpha", gains.alpha, Some(want.deepnorm_alpha)),
            ("deepnorm_div", gains.div, Some(want.deepnorm_div)),
            ("paper_beta", gains.beta, want.paper_beta),
        ] {
            if let Some(expected) = expected {
                tally.number(&format!("{name}{part}.{constant}"), actual, expected, CONSTANT);
            }
        }
    };
    if let (Some(encoder), Some(enc), Some(dec)) = (encoder, &row.enc, &row.dec) {
        compare(".enc", encoder, enc);
        compare(".dec", own, dec);
        return Ok(());
    }
    let stated =
        |value: Option<f64>| value.with_context(|| format!("{name}: a constant is missing"));
    let want = Constants {
        subln_gamma: stated(row.subln_gamma)?,
        deepnorm_alpha: stated(row.deepnorm_alpha)?,
        deepnorm_div: stated(row.deepnorm_div)?,
        paper_beta: None,
    };
    compare("", own, &want);
    Ok(())
}

/// Standard deviation and largest size of a parameter of the reference, in closed form.
fn spread(parameter: &str, gains: Gains, deep: bool, sizes: &Sizes) -> (f64, f64) {
    let is_scaled =
        ["fc1", "fc2", "out_proj", "v_proj"].iter().any(|part| parameter.contains(part));
    // Magneto leaves cross-attention alone; DeepNorm does not.
    let is_scaled = is_scaled && (deep || !parameter.contains("encoder_attn"));
    let factor = match (is_scaled, deep) {
        (false, _) => 1.0,
        (true, false) => gains.gamma,
        (true, true) => gains.div.recip(),
    };
    let fan_in = if parameter.contains("fc2") { sizes.d_ff } else { sizes.d_model };
    let bound = factor / (fan_in as f64).sqrt();
    (bound / 3_f64.sqrt(), bound)
}

/// The same parameters as drawn by [`Decoder::new`].
fn check_drawn(
    name: &str,
    row: &Row,
    gains: Gains,
    sizes: &Sizes,
    tally: &mut Tally,
) -> Result<()> {
    for (norm, measured) in
        [(NormPlacement::Sub, &row.measured_subln), (NormPlacement::Deep, &row.measured_deepnorm)]
    {
        let config = DecoderConfig {
            vocab_size: 1,
            d_model: sizes.d_model,
            n_layers: row.dec_layers,
            n_heads: 1,
            d_ff: sizes.d_ff,
            norm,
            init: Init::Torchscale,
            ..DecoderConfig::default()
        };
        let models = (DRAWN_LAYERS / row.dec_layers.max(1)).max(1) as u64;
        let models = (0..models)
            .map(|seed| Decoder::new(&config, &mut ChaCha20Rng::seed_from_u64(seed), Device::Cpu))
            .collect::<Result<Vec<_>, _>>()?;
        for parameter in measured.keys() {
            let (std, bound) = spread(parameter, gains, norm == NormPlacement::Deep, sizes);
            let (drawn, largest) = measure(&models, parameter)?;
            let name = format!("{name}.{norm:?}.{parameter} as drawn here");
            tally.number(&name, drawn, std, SPREAD);
            // One f32 rounding.
            tally.require(largest <= bound * (1.0 + 1e-6), || format!("{name}: beyond {bound}"));
        }
    }
    Ok(())
}

/// Standard deviation and largest size of a parameter over all layers of all models.
fn measure(models: &[Decoder], parameter: &str) -> Result<(f64, f64)> {
    let all = models.iter().flat_map(|model| model.parameters());
    let named =
        all.filter(|p| p.name.split_once('.').is_some_and(|(_, rest)| rest.ends_with(parameter)));
    let parts: Vec<Tensor> = named.map(|p| p.tensor.detach().flatten(0, -1)).collect();
    if parts.is_empty() {
        bail!("no parameter is called `{parameter}`");
    }
    let all = Tensor::f_cat(&parts, 0)?.f_to_kind(Kind::Double)?;
    let std = f64::try_from(all.f_square()?.f_mean(None)?.f_sqrt()?)?;
    Ok((std, f64::try_from(all.f_abs()?.f_max()?)?))
}
