use forerun_tensors::{Autocast, Mask, backward};
use proptest::prelude::*;
use tch::Kind;

use super::*;
use crate::config::{Activation, Init, NormKind, NormPlacement, Parametrisation, Positions};
use crate::decoder::Forward;
use crate::testing::{CPU, all_masks, all_positions, max_diff, model, rng, tiny, tokens};
use crate::{Generation, KvCache, attention_resolution, generate, save_checkpoint};

const PLACEMENTS: [NormPlacement; 4] =
    [NormPlacement::Post, NormPlacement::Pre, NormPlacement::Sub, NormPlacement::Deep];

/// Every placement, kind of norm, kind of positions, activation, and what else has parameters of its own.
fn configs() -> impl Strategy<Value = DecoderConfig> {
    let blocks = (
        prop::sample::select(PLACEMENTS.to_vec()),
        prop::sample::select(vec![NormKind::LayerNorm, NormKind::RmsNorm]),
        prop::sample::select(vec![
            Activation::Gelu,
            Activation::Relu,
            Activation::Swish,
            Activation::SwiGlu,
        ]),
        prop::sample::select(vec![1_i64, 2, 4]),
    );
    let ends = (prop::sample::select(all_positions()), any::<[bool; 5]>());
    (blocks, ends).prop_map(|((norm, norm_kind, activation, n_kv_heads), (positions, flags))| {
        let [tie_embeddings, bias, scale_embedding, norm_embedding, mup] = flags;
        let parametrisation = match mup {
            true => Parametrisation::Mup { base_d_model: 8 },
            false => Parametrisation::Standard,
        };
        DecoderConfig {
            positions,
            norm,
            norm_kind,
            activation,
            n_kv_heads,
            parametrisation,
            tie_embeddings,
            bias,
            scale_embedding,
            norm_embedding,
            ..tiny()
        }
    })
}

fn members(config: &DecoderConfig, n: u64) -> Vec<Decoder> {
    (0..n).map(|seed| model(config, seed)).collect()
}

/// Logits, and the gradient of their mean square by parameter.
fn logits_and_gradients(
    model: &Decoder,
    text: &Tensor,
    options: &Forward,
) -> (Tensor, Vec<Tensor>) {
    model.parameters().zero_grad();
    let logits = model.logits(text, options).unwrap();
    let n = model.n_members() as i64;
    let losses = logits.view([n, -1]).square().mean_dim([1_i64].as_slice(), false, Kind::Float);
    backward(&losses.sum(Kind::Float)).unwrap();
    let gradients = model.parameters().iter().map(|p| p.tensor.grad().copy()).collect();
    (logits.detach(), gradients)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn logits_and_gradients_are_those_of_the_members(
        config in configs(), seed in 0_u64..1000, mask in prop::sample::select(all_masks()), op_by_op: bool,
    ) {
        let options = Forward { mask, op_by_op, ..Forward::default() };
        let models = members(&config, 3);
        let stack = Decoder::stack(&models).unwrap();
        let texts: Vec<Tensor> = (0..3).map(|i| tokens(2, 9, 29, &mut rng(seed + i))).collect();
        let (logits, gradients) = logits_and_gradients(&stack, &Tensor::cat(&texts, 0), &options);
        for (i, (model, text)) in models.iter().zip(&texts).enumerate() {
            let i = i as i64;
            let (own, own_gradients) = logits_and_gradients(model, text, &options);
            // The same sums in another order, through two layers of f32 activations of size 3.
            prop_assert!(max_diff(&logits.narrow(0, 2 * i, 2), &own) < 5e-5);
            for (parameter, (all, one)) in
                model.parameters().iter().zip(gradients.iter().zip(own_gradients))
            {
                let size = one.abs().max().double_value(&[]).max(1.0);
                let diff = max_diff(&all.get(i), &one);
                prop_assert!(diff < 5e-5 * size, "{}: {diff}", parameter.name);
            }
        }
    }

    #[test]
    fn what_is_not_a_number_in_one_member_leaves_the_others_as_they_are(
        config in configs(), seed in 0_u64..1000, op_by_op: bool,
    ) {
        let options = Forward { op_by_op, ..Forward::default() };
        let text = tokens(6, 9, 29, &mut rng(seed));
        let run = |models: &[Decoder]| {
            logits_and_gradients(&Decoder::stack(models).unwrap(), &text, &options)
        };
        let mut models = members(&config, 3);
        let (logits, gradients) = run(&models);
        let broken = model(&config, 1);
        tch::no_grad(|| {
            for parameter in broken.parameters() {
                let _ = parameter.tensor.shallow_clone().fill_(f64::NAN);
            }
        });
        models[1] = broken;
        let (broken_logits, broken_gradients) = run(&models);
        for i in [0, 2] {
            let own = |logits: &Tensor| logits.narrow(0, 2 * i, 2);
            prop_assert!(own(&broken_logits).equal(&own(&logits)), "bit for bit");
            for (a, b) in broken_gradients.iter().zip(&gradients) {
                prop_assert!(a.get(i).equal(&b.get(i)), "bit for bit");
            }
        }
    }

    /// A copy, bit for bit, and as good as the model that went in.
    #[test]
    fn a_member_is_the_model_that_was_stacked(config in configs(), seed in 0_u64..1000) {
        let models = [model(&config, seed), model(&config, seed + 1)];
        let stack = Decoder::stack(&models).unwrap();
        let text = tokens(2, 7, 29, &mut rng(seed));
        for (i, model) in models.iter().enumerate() {
            let member = stack.member(i).unwrap();
            prop_assert_eq!(member.config(), model.config());
            prop_assert!(!member.is_stack() && member.n_members() == 1);
            for (a, b) in member.parameters().iter().zip(model.parameters()) {
                prop_assert!(a.name == b.name && a.tensor.equal(&b.tensor));
                prop_assert!(a.tensor.is_leaf() && a.lr_multiplier == b.lr_multiplier);
            }
            let logits = |model: &Decoder| model.logits(&text, &Forward::default()).unwrap();
            prop_assert!(logits(&member).equal(&logits(model)));
        }
    }
}

#[test]
fn under_bf16_autocast_a_stack_stays_close_to_its_members() {
    for (positions, op_by_op) in all_positions()
        .into_iter()
        .flat_map(|positions| [(positions.clone(), false), (positions, true)])
    {
        let options = Forward { op_by_op, ..Forward::default() };
        for norm_kind in [NormKind::LayerNorm, NormKind::RmsNorm] {
            let config = DecoderConfig { positions: positions.clone(), norm_kind, ..tiny() };
            let models = members(&config, 2);
            let stack = Decoder::stack(&models).unwrap();
            let text = tokens(4, 12, 29, &mut rng(2));
            let (exact, _) = logits_and_gradients(&stack, &text, &options);
            let _autocast = Autocast::enable(CPU, Kind::BFloat16).unwrap();
            let (narrow, gradients) = logits_and_gradients(&stack, &text, &options);
            let diff = max_diff(&exact, &narrow);
            // Two layers of bf16 products (8 bits) under logits of size 4.
            assert!(diff > 0.0 && diff < 0.15, "{positions:?} {norm_kind:?}: {diff}");
            assert!(gradients.iter().all(|gradient| gradient.kind() == Kind::Float));
        }
    }
}

#[test]
fn members_may_differ_in_how_they_were_initialised() {
    let inits = [Init::Paper, Init::Torchscale, Init::Normal { std: 0.02 }];
    let drawn = inits
        .map(|init| Decoder::new(&DecoderConfig { init, ..tiny() }, &mut rng(1), CPU).unwrap());
    let stack = Decoder::stack(&drawn).unwrap();
    let found: Vec<Init> = (0..3).map(|i| stack.member(i).unwrap().config().init).collect();
    assert_eq!(found, inits);
    assert_eq!((stack.n_members(), stack.is_stack()), (3, true));
    assert_eq!(stack.config().init, Init::Paper);
}

#[test]
fn a_stack_of_one_is_a_stack_and_a_single_model_is_its_own_member() {
    let single = model(&tiny(), 1);
    let stack = Decoder::stack(std::slice::from_ref(&single)).unwrap();
    assert_eq!((stack.n_members(), stack.is_stack()), (1, true));
    assert_eq!(stack.head().size(), [1, 29, 16]);
    let copy = single.member(0).unwrap();
    let _ = tch::no_grad(|| copy.head().shallow_clone().zero_());
    assert!(single.head().abs().max().double_value(&[]) > 0.0, "a copy has memory of its own");
    let message = stack.member(1).unwrap_err().to_string();
    assert_eq!(message, "member must be below the 1 of this model, got 1");
}

#[test]
fn models_that_do_not_fit_are_refused_by_name() {
    let refuse = |models: &[Decoder]| Decoder::stack(models).unwrap_err().to_string();
    assert_eq!(refuse(&[]), "models must be at least one, got none");
    let wide = model(&DecoderConfig { d_ff: 32, ..tiny() }, 1);
    let message = refuse(&[model(&tiny(), 1), model(&tiny(), 2), wide]);
    assert_eq!(message, "models[2].d_ff must be 24, as in the first, got 32");
    let rope = Positions::Rope { base: 100.0 };
    let message = refuse(&[
        model(&DecoderConfig { positions: rope, ..tiny() }, 1),
        model(&DecoderConfig { positions: Positions::None, ..tiny() }, 1),
    ]);
    let want = r#"models[1].positions must be {"base":100.0,"kind":"rope"}, as in the first, got {"kind":"none"}"#;
    assert_eq!(message, want);
    let stack = Decoder::stack(&members(&tiny(), 2)).unwrap();
    let message = refuse(&[model(&tiny(), 1), stack]);
    assert_eq!(message, "models[1] must be a single model, got a stack of 2");
}

#[test]
fn tokens_that_do_not_fit_are_refused() {
    let stack = Decoder::stack(&members(&tiny(), 3)).unwrap();
    let message =
        |tokens: &Tensor| stack.hidden(tokens, &Forward::default()).unwrap_err().to_string();
    let odd = message(&tokens(4, 5, 29, &mut rng(1)));
    assert_eq!(odd, "tokens must have shape [3 * batch, seq], i64, not empty, got [4, 5]");
    // An id beyond the vocabulary is not the first one of the next member, nor a negative one the last of the previous.
    for id in [29_i64, -1] {
        for row in 0..3 {
            let text = Tensor::zeros([3, 1], (Kind::Int64, CPU));
            let _ = text.get(row).fill_(id);
            assert!(message(&text).contains("index out of range"), "{}", message(&text));
        }
    }
}

#[test]
fn what_makes_sense_for_one_model_only_asks_for_a_member() {
    let stack = Decoder::stack(&members(&tiny(), 2)).unwrap();
    let want = "model must be a single one, for example a `member` of a stack, got a stack of 2";
    let text = tokens(2, 5, 29, &mut rng(1));
    let step = stack.step(&text, &mut KvCache::new(&stack, 2), Mask::Causal);
    assert_eq!(step.unwrap_err().to_string(), want);
    let resolution = attention_resolution(&stack, &text, Mask::Causal);
    assert_eq!(resolution.unwrap_err().to_string(), want);
    let go_on = &mut |_| std::ops::ControlFlow::Continue(());
    let text = generate(&stack, &[1, 2], &Generation::default(), &mut rng(1), go_on);
    assert_eq!(text.unwrap_err().to_string(), want);
}

#[test]
fn a_saved_stack_is_read_back_bit_for_bit_and_a_member_is_an_ordinary_model() {
    let folder = tempfile::tempdir().unwrap();
    let inits = [Init::Paper, Init::Normal { std: 0.02 }];
    let models = inits
        .map(|init| Decoder::new(&DecoderConfig { init, ..tiny() }, &mut rng(1), CPU).unwrap());
    let stack = Decoder::stack(&models).unwrap();
    save_checkpoint(&stack, &folder.path().join("stack")).unwrap();
    let loaded = Decoder::load(&folder.path().join("stack"), CPU).unwrap();
    assert_eq!(loaded.member_configs(), stack.member_configs());
    for (a, b) in loaded.parameters().iter().zip(stack.parameters()) {
        assert!(a.tensor.equal(&b.tensor) && a.tensor.requires_grad(), "{}", a.name);
    }
    save_checkpoint(&loaded.member(1).unwrap(), &folder.path().join("member")).unwrap();
    let member = Decoder::load(&folder.path().join("member"), CPU).unwrap();
    assert!(!member.is_stack());
    assert_eq!(member.config(), models[1].config());
    assert!(member.head().equal(models[1].head()));
}

#[test]
fn a_bad_config_of_a_stack_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let message = |text: &str| {
        std::fs::write(folder.path().join("config.json"), text).unwrap();
        let message = Decoder::load(folder.path(), CPU).unwrap_err().to_string();
        message.replace(&folder.path().display().to_string(), "FOLDER")
    };
    let empty = "`FOLDER/config.json` is not a decoder config: a stack without members";
    assert_eq!(message(r#"{"stack": []}"#), empty);
    let (a, b) = (tiny(), DecoderConfig { n_layers: 3, ..tiny() });
    let text = serde_json::json!({ "stack": [a, b] }).to_string();
    assert_eq!(message(&text), "stack[1].n_layers must be 2, as in the first, got 3");
    let text = serde_json::json!({ "stack": [tiny()], "extra": 1 }).to_string();
    let unknown = "`FOLDER/config.json` is not a decoder config: unknown field `extra`";
    assert!(message(&text).starts_with(unknown), "{}", message(&text));
}

#[test]
fn activation_checkpointing_changes_no_gradient_of_a_stack() {
    let text = tokens(4, 9, 29, &mut rng(2));
    // With dropout a block goes op by op; without, it is one node.
    for (dropout, op_by_op, narrow) in [(0.2, true, false), (0.0, false, false), (0.0, false, true)]
    {
        let config = DecoderConfig { dropout, ..tiny() };
        let stack = Decoder::stack(&members(&config, 2)).unwrap();
        let run = |activation_checkpointing| {
            forerun_tensors::seed_generator(3);
            stack.parameters().zero_grad();
            let _autocast = narrow.then(|| Autocast::enable(CPU, Kind::BFloat16).unwrap());
            let options =
                Forward { train: true, activation_checkpointing, op_by_op, ..Forward::default() };
            backward(&stack.logits(&text, &options).unwrap().square().mean(Kind::Float)).unwrap();
            stack.parameters().iter().map(|p| p.tensor.grad().copy()).collect::<Vec<_>>()
        };
        for (plain, again) in run(false).iter().zip(run(true)) {
            // The same operations in the same order, with the same dropout.
            assert!(max_diff(plain, &again) < 1e-7, "{dropout} {narrow}");
        }
    }
}
