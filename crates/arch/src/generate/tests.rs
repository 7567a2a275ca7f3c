use tch::Kind;

use super::*;
use crate::config::DecoderConfig;
use crate::decoder::Forward;
use crate::testing::{all_masks, all_positions, model, rng, tiny};

fn go_on(_: i64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn greedy(max_new_tokens: usize) -> Generation {
    Generation { max_new_tokens, temperature: 0.0, ..Generation::default() }
}

#[test]
fn greedy_takes_the_best_token_of_a_forward_pass() {
    for positions in all_positions() {
        for mask in all_masks() {
            let model = model(&DecoderConfig { positions: positions.clone(), ..tiny() }, 1);
            let mut text = vec![3, 1, 4];
            let options = Generation { mask, ..greedy(9) };
            let new = generate(&model, &text, &options, &mut rng(1), &mut go_on).unwrap();
            for token in new {
                let tokens = Tensor::from_slice(&text).unsqueeze(0);
                let options = Forward { mask, ..Forward::default() };
                let logits = model.logits(&tokens, &options).unwrap();
                let last = logits.select(1, text.len() as i64 - 1).to_kind(Kind::Double);
                let best = i64::try_from(last.argmax(-1, false)).unwrap();
                assert_eq!(token, best, "{positions:?} {mask:?}");
                text.push(token);
            }
            assert_eq!(text.len(), 12);
        }
    }
}

#[test]
fn a_seed_fixes_the_text_and_one_candidate_is_greedy() {
    let model = model(&tiny(), 2);
    let run = |options: &Generation, seed| {
        generate(&model, &[5], options, &mut rng(seed), &mut go_on).unwrap()
    };
    let hot = Generation { max_new_tokens: 12, temperature: 2.0, ..Generation::default() };
    assert_eq!(run(&hot, 1), run(&hot, 1));
    assert_ne!(run(&hot, 1), run(&hot, 2));
    let narrow = Generation { top_k: Some(1), ..hot.clone() };
    assert_eq!(run(&narrow, 1), run(&greedy(12), 7));
    let nucleus = Generation { top_p: Some(1e-9), ..hot };
    assert_eq!(run(&nucleus, 1), run(&greedy(12), 7));
}

#[test]
fn stop_tokens_and_the_callback_end_the_text() {
    let model = model(&tiny(), 3);
    let hot = Generation { max_new_tokens: 20, temperature: 3.0, ..Generation::default() };
    let all = generate(&model, &[5], &hot, &mut rng(1), &mut go_on).unwrap();
    let stop = Generation { stop_tokens: vec![all[4]], ..hot.clone() };
    let first = all.iter().position(|token| *token == all[4]).unwrap();
    let stopped = generate(&model, &[5], &stop, &mut rng(1), &mut go_on).unwrap();
    assert_eq!(stopped, all[..first]);

    let mut seen = Vec::new();
    let mut until_three = |token| {
        seen.push(token);
        if seen.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let broken = generate(&model, &[5], &hot, &mut rng(1), &mut until_three).unwrap();
    assert_eq!((broken.as_slice(), seen.as_slice()), (&all[..3], &all[..3]));
}

#[test]
fn what_cannot_work_is_refused_before_it_starts() {
    let learned =
        DecoderConfig { positions: Positions::Learned { max_seq_len: 8, offset: 0 }, ..tiny() };
    let model = model(&learned, 4);
    let message = |prompt: &[i64], options| {
        generate(&model, prompt, &options, &mut rng(1), &mut go_on).unwrap_err().to_string()
    };
    assert_eq!(message(&[], greedy(3)), "prompt must be at least one token, got none");
    let want =
        "positions.max_seq_len must be at least prompt and max_new_tokens together, 9, got 8";
    assert_eq!(message(&[1, 2], greedy(7)), want);
    let want = "positions.max_seq_len must be at least prompt and max_new_tokens together, 18446744073709551615, got 8";
    assert_eq!(message(&[1, 2], greedy(usize::MAX)), want);
}

#[test]
fn without_a_bound_only_the_callback_ends_the_text() {
    let model = model(&tiny(), 3);
    let all = generate(&model, &[5], &greedy(4), &mut rng(1), &mut go_on).unwrap();
    let mut left = 4;
    let mut until_four = |_| {
        left -= 1;
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let new = generate(&model, &[5], &greedy(usize::MAX), &mut rng(1), &mut until_four).unwrap();
    assert_eq!(new, all);
}
