use forerun_tensors::{AdamW, adamw_step, backward, chunked_cross_entropy};
use tch::{Kind, Tensor};

use super::*;
use crate::config::{Init, NormPlacement, Positions};
use crate::decoder::{Decoder, Forward};
use crate::testing::{CPU, rng, tokens};

fn config(d_model: i64, parametrisation: Parametrisation) -> DecoderConfig {
    DecoderConfig {
        vocab_size: 32,
        d_model,
        n_layers: 2,
        n_heads: 4,
        d_ff: 2 * d_model,
        norm: NormPlacement::Pre,
        positions: Positions::Rope { base: 1e4 },
        init: Init::Torchscale,
        parametrisation,
        ..DecoderConfig::default()
    }
}

/// Root mean square of the logits' change over a few Adam steps at one learning rate.
fn logit_change(d_model: i64, parametrisation: Parametrisation, seed: u64) -> f64 {
    let mut rng = rng(seed);
    let model = Decoder::new(&config(d_model, parametrisation), &mut rng, CPU).unwrap();
    let data = tokens(4, 17, 32, &mut rng);
    let (input, target) = (data.narrow(1, 0, 16), data.narrow(1, 1, 16).reshape([-1]));
    let logits = || tch::no_grad(|| model.logits(&input, &Forward::default()).unwrap());
    let before = logits();
    let zeros = || -> Vec<Tensor> {
        model.parameters().iter().map(|p| p.tensor.detach().zeros_like()).collect()
    };
    let (first, second) = (zeros(), zeros());
    let counts: Vec<Tensor> =
        first.iter().map(|_| Tensor::zeros([0; 0], (Kind::Float, CPU))).collect();
    for _ in 0..3 {
        model.parameters().zero_grad();
        let hidden = model.hidden(&input, &Forward::default()).unwrap().flatten(0, 1);
        let scale = model.logit_scale();
        let loss = chunked_cross_entropy(&hidden, model.head(), &target, scale, 64).unwrap();
        backward(&(loss / 64.0)).unwrap();
        for (i, parameter) in model.parameters().iter().enumerate() {
            let lr = 1e-2 * parameter.lr_multiplier;
            let hyper = AdamW { lr, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.0 };
            let gradient = parameter.tensor.grad();
            let one = |tensors: &[Tensor]| tensors[i].shallow_clone();
            adamw_step(
                &hyper,
                &[&parameter.tensor],
                &[&gradient],
                &[&one(&first)],
                &[&one(&second)],
                &[&one(&counts)],
            )
            .unwrap();
        }
    }
    f64::try_from((logits() - before).square().mean(None).sqrt()).unwrap()
}

/// Slope of log change over log width, averaged over seeds.
fn growth(parametrisation: Parametrisation) -> f64 {
    let (narrow, wide) = (32, 256);
    let change = |width| {
        (0..3).map(|seed| logit_change(width, parametrisation, seed).ln()).sum::<f64>() / 3.0
    };
    (change(wide) - change(narrow)) / (wide as f64 / narrow as f64).ln()
}

/// The coordinate check of Tensor Programs V, Fig. 5: how far one learning rate moves the logits.
#[test]
fn updates_keep_their_size_with_width_under_mup_and_grow_without() {
    let mup = growth(Parametrisation::Mup { base_d_model: 32 });
    let standard = growth(Parametrisation::Standard);
    // In the limit the slopes are 0 and 1/2 to 1; three seeds at these widths scatter by about 0.1.
    assert!(mup.abs() < 0.2, "muP grows as width^{mup:.2}");
    assert!(standard > 0.35, "standard grows as width^{standard:.2}");
}

#[test]
fn at_the_base_width_only_the_attention_scale_differs() {
    let mup = config(64, Parametrisation::Mup { base_d_model: 64 });
    let standard = config(64, Parametrisation::Standard);
    assert_eq!((logit_scale(&mup), width_ratio(&mup)), (1.0, 1.0));
    assert_eq!((attention_scale(&mup), attention_scale(&standard)), (1.0 / 16.0, 0.25));
    let [a, b] = [mup, standard].map(|config| Decoder::new(&config, &mut rng(1), CPU).unwrap());
    for (a, b) in a.parameters().iter().zip(b.parameters()) {
        assert!(a.tensor.equal(&b.tensor) && a.lr_multiplier == 1.0, "{}", a.name);
    }
}

#[test]
fn only_the_matrices_of_blocks_learn_more_slowly() {
    let config = config(128, Parametrisation::Mup { base_d_model: 32 });
    let model = Decoder::new(&config, &mut rng(1), CPU).unwrap();
    assert_eq!(model.logit_scale(), 0.25);
    for parameter in model.parameters() {
        let hidden = parameter.name.contains("_proj.weight") || parameter.name.contains(".fc");
        let hidden =
            hidden && parameter.name.starts_with("layers.") && parameter.name.ends_with("weight");
        let want = if hidden { 0.25 } else { 1.0 };
        assert_eq!(parameter.lr_multiplier, want, "{}", parameter.name);
    }
}
