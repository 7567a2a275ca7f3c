use tch::{Device, Kind, Reduction, Tensor};

use super::{IGNORED, Inputs, chunked_cross_entropy, chunked_cross_entropy_stack, token_nll};
use crate::autocast::Autocast;
use crate::fixtures::{distance, floats, leaf, randn, rng};
use crate::function::backward;

const TOKENS: i64 = 23;
const WIDTH: i64 = 8;
const VOCAB: i64 = 37;
const SCALE: f64 = 0.7;

fn targets(ignore: bool) -> Tensor {
    use rand::Rng;
    let mut rng = rng(9);
    let draw = |i: i64| if ignore && i % 5 == 1 { IGNORED } else { rng.random_range(0..VOCAB) };
    Tensor::from_slice(&(0..TOKENS).map(draw).collect::<Vec<i64>>())
}

fn leaves(kind: Kind) -> (Tensor, Tensor) {
    let leaf = |shape: &[i64], seed| randn(shape, seed).to_kind(kind).set_requires_grad(true);
    (leaf(&[TOKENS, WIDTH], 1), leaf(&[VOCAB, WIDTH], 2))
}

/// The obvious way, with all logits at once.
fn plain(hidden: &Tensor, head: &Tensor, targets: &Tensor) -> Tensor {
    let logits = hidden.matmul(&head.transpose(0, 1)) * SCALE;
    logits.cross_entropy_loss(targets, None::<&Tensor>, Reduction::Sum, IGNORED, 0.0)
}

#[test]
fn loss_and_gradients_equal_plain_cross_entropy() {
    for ignore in [false, true] {
        let targets = targets(ignore);
        let (hidden, head) = leaves(Kind::Float);
        let want = plain(&hidden, &head, &targets);
        (&want / 20.0).backward();
        let (want_hidden, want_head) = (hidden.grad(), head.grad());
        for chunk_tokens in [1, 7, TOKENS, 1000] {
            let (hidden, head) = leaves(Kind::Float);
            let got = chunked_cross_entropy(&hidden, &head, &targets, SCALE, chunk_tokens).unwrap();
            assert_eq!((got.size(), got.kind()), (vec![], Kind::Float));
            // A sum of 23 numbers of about 4, in f32, where numbers of about 80 are 8e-6 apart.
            assert!(distance(&got, &want) < 4e-5);
            backward(&(got / 20.0)).unwrap();
            assert!(distance(&hidden.grad(), &want_hidden) < 1e-6);
            assert!(distance(&head.grad(), &want_head) < 1e-6);
        }
    }
}

#[test]
fn gradients_equal_finite_differences_in_f64() {
    let targets = targets(true);
    let (hidden, head) = leaves(Kind::Double);
    let loss = |hidden: &Tensor, head: &Tensor| {
        let loss = chunked_cross_entropy(hidden, head, &targets, SCALE, 6).unwrap();
        assert_eq!(loss.kind(), Kind::Double);
        loss
    };
    backward(&loss(&hidden, &head)).unwrap();
    let step = 1e-5;
    for (which, leaf) in [&hidden, &head].into_iter().enumerate() {
        let gradient = floats(&leaf.grad());
        for i in (0..gradient.len()).step_by(7) {
            let moved = |by: f64| {
                let moved = leaf.detach().copy();
                let _ = moved.view(-1).narrow(0, i as i64, 1).f_add_scalar_(by).unwrap();
                let both = [hidden.detach(), head.detach()];
                let mut both = both.each_ref().map(Tensor::shallow_clone);
                both[which] = moved;
                floats(&loss(&both[0], &both[1]))[0]
            };
            let slope = (moved(step) - moved(-step)) / (2.0 * step);
            // The loss, about 80, rounds at 1e-14; over 2e-5 that is 1e-9, and the cubic term is as small.
            assert!((slope - gradient[i]).abs() < 1e-7, "{which} {i}: {slope}, {}", gradient[i]);
        }
    }
}

#[test]
fn token_nll_is_the_loss_token_by_token() {
    let targets = targets(true);
    let (hidden, head) = leaves(Kind::Float);
    let nll = token_nll(&hidden, &head, &targets, SCALE, 5).unwrap();
    assert_eq!((nll.size(), nll.kind(), nll.requires_grad()), (vec![TOKENS], Kind::Float, false));
    assert!(
        (floats(&nll).iter().sum::<f64>() - floats(&plain(&hidden, &head, &targets))[0]).abs()
            < 2e-5
    );
    for (i, &target) in Vec::<i64>::try_from(&targets).unwrap().iter().enumerate() {
        assert_eq!(target == IGNORED, floats(&nll)[i] == 0.0);
    }
}

#[test]
fn under_autocast_products_are_narrow_and_sums_are_not() {
    let targets = targets(true);
    let (hidden, head) = leaves(Kind::Float);
    let want = plain(&hidden, &head, &targets);
    want.backward();
    let (want_hidden, want_head) = (hidden.grad(), head.grad());
    let (hidden, head) = leaves(Kind::Float);
    let (loss, after) = {
        let _narrow = Autocast::enable(Device::Cpu, Kind::BFloat16).unwrap();
        let loss = chunked_cross_entropy(&hidden, &head, &targets, SCALE, 7).unwrap();
        // The same weight with a graph in the same region: no cast without one was left behind.
        (loss, hidden.matmul(&head.transpose(0, 1)))
    };
    assert!(after.requires_grad() && after.kind() == Kind::BFloat16);
    assert_eq!(loss.kind(), Kind::Float);
    // bf16 keeps 8 bits, so a logit of about 3 is off by up to 0.01; 18 of them, and gradients sum 18 or 37.
    assert!(distance(&loss, &want) < 0.2 && distance(&loss, &want) > 0.0);
    backward(&loss).unwrap();
    assert_eq!((hidden.grad().kind(), head.grad().kind()), (Kind::Float, Kind::Float));
    assert!(distance(&hidden.grad(), &want_hidden) < 0.05);
    assert!(distance(&head.grad(), &want_head) < 0.05);
    after.to_kind(Kind::Float).sum(Kind::Float).backward();
    assert!(distance(&head.grad(), &want_head) > 0.1, "its gradient was added");
}

#[test]
fn bf16_hidden_states_get_bf16_gradients() {
    let targets = targets(false);
    let hidden = randn(&[TOKENS, WIDTH], 1).to_kind(Kind::BFloat16).set_requires_grad(true);
    let head = randn(&[VOCAB, WIDTH], 2).to_kind(Kind::BFloat16).set_requires_grad(true);
    let loss = chunked_cross_entropy(&hidden, &head, &targets, 1.0, 4).unwrap();
    backward(&loss).unwrap();
    assert_eq!((loss.kind(), hidden.grad().kind()), (Kind::Float, Kind::BFloat16));
    assert_eq!(head.grad().kind(), Kind::BFloat16);
}

#[test]
fn only_the_gradients_that_are_asked_for_are_there() {
    let targets = targets(false);
    let (hidden, head) = leaves(Kind::Float);
    let loss = chunked_cross_entropy(&hidden.detach(), &head, &targets, 1.0, 4).unwrap();
    backward(&loss).unwrap();
    assert!(head.grad().defined() && !hidden.grad().defined());
    let loss = tch::no_grad(|| chunked_cross_entropy(&hidden, &head, &targets, 1.0, 4)).unwrap();
    assert!(!loss.requires_grad());
}

#[test]
fn where_nothing_counts_the_loss_and_its_gradients_are_zero() {
    let none = Tensor::full([TOKENS], IGNORED, (Kind::Int64, Device::Cpu));
    let (_, head) = leaves(Kind::Float);
    let hidden = leaf(&[TOKENS, WIDTH], 1);
    let loss = chunked_cross_entropy(&hidden, &head, &none, 1.0, 4).unwrap();
    backward(&loss).unwrap();
    assert_eq!(floats(&loss), [0.0]);
    assert!(floats(&hidden.grad()).iter().chain(&floats(&head.grad())).all(|&x| x == 0.0));
    let empty = |shape: &[i64], kind| Tensor::zeros(shape, (kind, Device::Cpu));
    let (hidden, targets) = (empty(&[0, WIDTH], Kind::Float), empty(&[0], Kind::Int64));
    assert_eq!(floats(&chunked_cross_entropy(&hidden, &head, &targets, 1.0, 4).unwrap()), [0.0]);
    assert_eq!(token_nll(&hidden, &head, &targets, 1.0, 4).unwrap().size(), [0]);
}

#[test]
fn arguments_that_do_not_fit_are_named() {
    let (hidden, head) = leaves(Kind::Float);
    let targets = targets(false);
    let check = |hidden: &Tensor, head: &Tensor, targets: &Tensor, scale, chunk, want: &str| {
        let message =
            chunked_cross_entropy(hidden, head, targets, scale, chunk).unwrap_err().to_string();
        assert!(message.contains(want), "{message}");
        assert_eq!(
            token_nll(hidden, head, targets, scale, chunk).unwrap_err().to_string(),
            message
        );
    };
    let deep = hidden.unsqueeze(0);
    check(
        &deep,
        &head,
        &targets,
        1.0,
        4,
        "hidden must have shape [tokens, d_model], got [1, 23, 8]",
    );
    let wide = head.transpose(0, 1);
    check(&hidden, &wide, &targets, 1.0, 4, "head must have shape [vocab, 8], got [8, 37]");
    let few = targets.narrow(0, 0, 3);
    check(&hidden, &head, &few, 1.0, 4, "targets must have shape [23], got [3]");
    let odd = targets.to_kind(Kind::Int);
    check(&hidden, &head, &odd, 1.0, 4, "kind of targets must be Int64, got Int");
    check(&hidden, &head, &targets, f64::NAN, 4, "logit_scale must be finite, got NaN");
    check(&hidden, &head, &targets, 1.0, 0, "chunk_tokens must be positive, got 0");
    for outside in [VOCAB, -1] {
        let outside = Tensor::full([TOKENS], outside, (Kind::Int64, Device::Cpu));
        check(&hidden, &head, &outside, 1.0, 4, "out of bounds");
    }
}

#[test]
fn the_kernel_equals_libtorchs_operations() {
    let targets = targets(true);
    for kind in [Kind::Float, Kind::BFloat16] {
        let (hidden, head) = leaves(kind);
        let mut inputs = Inputs::new(&hidden, &head, &targets, SCALE, 9).unwrap();
        assert!(inputs.buffer.is_some());
        let (nll, d_logits) = inputs.chunk_with_gradient(9, 9, true).unwrap();
        let d_logits = d_logits.unwrap().copy();
        inputs.buffer = None;
        let (want_nll, want) = inputs.chunk_with_gradient(9, 9, true).unwrap();
        let want = want.unwrap();
        assert_eq!((d_logits.kind(), d_logits.size()), (kind, want.size()));
        // Gradients of at most 1, where bf16 has steps of 2^-8.
        assert!(distance(&nll, &want_nll) < 2e-6);
        let step = if kind == Kind::Float { 1e-6 } else { 2f64.powi(-8) };
        assert!(distance(&d_logits, &want) < step, "{kind:?}");
    }
}

/// Hidden states, heads and targets of three members.
fn stack() -> (Tensor, Tensor, Tensor) {
    let targets = [targets(true), targets(false), targets(true).roll([3], [0])];
    (leaf(&[3, TOKENS, WIDTH], 3), leaf(&[3, VOCAB, WIDTH], 4), Tensor::stack(&targets, 0))
}

#[test]
fn a_member_of_a_stack_has_what_it_has_alone() {
    let (hidden, head, targets) = stack();
    let sums = chunked_cross_entropy_stack(&hidden, &head, &targets, SCALE, 7).unwrap();
    assert_eq!((sums.size(), sums.kind()), (vec![3], Kind::Float));
    let weights = Tensor::from_slice(&[0.5f32, 2.0, 0.0]);
    backward(&(&sums * &weights).sum(Kind::Float)).unwrap();
    for i in 0..3 {
        let own = |x: &Tensor| x.detach().get(i).set_requires_grad(true);
        let (hidden_i, head_i) = (own(&hidden), own(&head));
        let sum = chunked_cross_entropy(&hidden_i, &head_i, &targets.get(i), SCALE, 7).unwrap();
        assert_eq!(sum, sums.get(i));
        backward(&(sum * weights.get(i))).unwrap();
        assert_eq!(hidden.grad().get(i), hidden_i.grad());
        assert_eq!(head.grad().get(i), head_i.grad());
    }
}

#[test]
fn a_member_of_a_stack_does_not_see_the_nan_of_another() {
    let (hidden, head, targets) = stack();
    let run = |hidden: &Tensor| {
        let hidden = hidden.detach().set_requires_grad(true);
        head.shallow_clone().zero_grad();
        let sums = chunked_cross_entropy_stack(&hidden, &head, &targets, SCALE, 7).unwrap();
        backward(&sums.sum(Kind::Float)).unwrap();
        [sums.detach(), hidden.grad(), head.grad().copy()].map(|x| floats(&x))
    };
    let want = run(&hidden);
    let broken = hidden.detach().copy();
    let _ = broken.get(1).get(4).fill_(f64::NAN);
    for (got, want) in run(&broken).iter().zip(&want) {
        let third = got.len() / 3;
        assert_eq!(got[..third], want[..third]);
        assert_eq!(got[2 * third..], want[2 * third..]);
        assert!(got[third..2 * third].iter().any(|x| x.is_nan()));
    }
}

#[test]
fn stacks_that_do_not_fit_are_named() {
    let (hidden, head, targets) = stack();
    let check = |hidden: &Tensor, head: &Tensor, targets: &Tensor, want: &str| {
        let result = chunked_cross_entropy_stack(hidden, head, targets, 1.0, 4);
        assert_eq!(result.unwrap_err().to_string(), want);
    };
    check(
        &hidden.get(0),
        &head,
        &targets,
        "hidden must have shape [members, tokens, d_model], got [23, 8]",
    );
    let two = head.narrow(0, 0, 2);
    check(&hidden, &two, &targets, "head must have shape [3, vocab, d_model], got [2, 37, 8]");
    let flat = targets.view([-1]);
    check(&hidden, &head, &flat, "targets must have shape [3, tokens], got [69]");
    let wide = head.transpose(1, 2);
    check(&hidden, &wide, &targets, "head must have shape [vocab, 8], got [8, 37]");
}
