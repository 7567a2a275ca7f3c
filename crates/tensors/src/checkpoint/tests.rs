use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tch::{Device, Kind, Tensor};

use super::checkpoint;
use crate::autocast::Autocast;
use crate::error::{Error, Result};
use crate::fixtures::{floats, generator_lock, leaf, randn};
use crate::function::backward;
use crate::generator::{generator_state, seed_generator};

/// Two layers with dropout; `x + dropout(gelu(x w1) w2)`.
struct Block {
    w1: Tensor,
    w2: Tensor,
}

impl Block {
    fn new(seed: u64) -> Self {
        Self { w1: leaf(&[6, 12], seed), w2: leaf(&[12, 6], seed + 1) }
    }

    fn share(&self) -> Self {
        Self { w1: self.w1.shallow_clone(), w2: self.w2.shallow_clone() }
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let inner = x.f_matmul(&self.w1)?.f_gelu("none")?.f_dropout(0.3, true)?;
        Ok(x.f_add(&inner.f_matmul(&self.w2)?.f_dropout(0.3, true)?)?)
    }
}

#[derive(Clone, Copy)]
enum How {
    Plain,
    Checkpointed,
    Nested,
}

/// Loss and gradients of three blocks, and the generator's state at the end.
fn run(how: How, narrow: bool) -> (Vec<Vec<f64>>, Tensor) {
    seed_generator(11);
    let (x, blocks) = (leaf(&[5, 6], 1), [10, 20, 30].map(Block::new));
    let loss = {
        let _narrow = narrow.then(|| Autocast::enable(Device::Cpu, Kind::BFloat16).unwrap());
        let mut h = x.shallow_clone();
        for block in &blocks {
            h = forward(how, block, &h).unwrap();
        }
        // A weight of a checkpoint is used outside of it, too: a cast without a graph must not be found here.
        h = h.matmul(&blocks[2].w1);
        h.to_kind(Kind::Float).square().mean(Kind::Float)
    };
    backward(&loss).unwrap();
    let leaves = blocks.iter().flat_map(|block| [&block.w1, &block.w2]).chain([&x]);
    let mut numbers: Vec<_> = leaves.map(|leaf| floats(&leaf.grad())).collect();
    numbers.push(floats(&loss));
    (numbers, generator_state(Device::Cpu).unwrap())
}

fn forward(how: How, block: &Block, h: &Tensor) -> Result<Tensor> {
    let shared = block.share();
    match how {
        How::Plain => block.forward(h),
        How::Checkpointed => checkpoint(&[h], move |inputs| shared.forward(&inputs[0])),
        How::Nested => checkpoint(&[h], move |inputs| {
            let inner = shared.share();
            checkpoint(&[&inputs[0]], move |inputs| inner.forward(&inputs[0]))
        }),
    }
}

#[test]
fn gradients_equal_those_without_checkpoints_bit_for_bit() {
    let _alone = generator_lock();
    for narrow in [false, true] {
        let (want, generator) = run(How::Plain, narrow);
        for how in [How::Checkpointed, How::Nested] {
            let (got, state) = run(how, narrow);
            assert_eq!(got, want, "narrow: {narrow}");
            assert_eq!(
                state, generator,
                "the generator goes on as if nothing had been drawn twice"
            );
        }
    }
}

#[test]
fn it_runs_once_forward_without_a_graph_and_once_backward_with_one() {
    let (calls, graphs) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, graph, w, x) =
        (Arc::clone(&calls), Arc::clone(&graphs), leaf(&[2], 1), randn(&[2], 2));
    let captured = w.shallow_clone();
    let f = move |inputs: &[Tensor]| {
        let y = inputs[0].f_mul(&captured)?;
        count.fetch_add(1, Ordering::SeqCst);
        graph.fetch_add(usize::from(y.requires_grad()), Ordering::SeqCst);
        Ok(y)
    };
    let counts = || (calls.load(Ordering::SeqCst), graphs.load(Ordering::SeqCst));
    let y = checkpoint(&[&x], f).unwrap();
    assert_eq!(counts(), (1, 0));
    assert!(y.requires_grad(), "although no input does");
    backward(&y.sum(Kind::Float)).unwrap();
    assert_eq!(counts(), (2, 1));
    assert_eq!(floats(&w.grad()), floats(&x));
}

#[test]
fn without_inputs_only_what_is_captured_gets_a_gradient() {
    let w = leaf(&[3], 1);
    let captured = w.shallow_clone();
    let y = checkpoint(&[], move |inputs| {
        assert!(inputs.is_empty());
        Ok(captured.f_mul(&captured)?)
    });
    backward(&y.unwrap().sum(Kind::Float)).unwrap();
    assert_eq!(floats(&w.grad()), floats(&(&w * 2.0)));
}

#[test]
fn integers_and_frozen_inputs_have_no_gradient() {
    let (table, x, frozen) = (leaf(&[4, 2], 1), leaf(&[3, 2], 2), randn(&[3, 2], 3));
    let ids = Tensor::from_slice(&[2i64, 0, 2]);
    let captured = table.shallow_clone();
    let y = checkpoint(&[&ids, &frozen, &x], move |inputs| {
        let rows = captured.f_index_select(0, &inputs[0])?;
        Ok(rows.f_add(&inputs[1].f_mul(&inputs[2])?)?)
    });
    backward(&y.unwrap().sum(Kind::Float)).unwrap();
    assert_eq!(floats(&x.grad()), floats(&frozen));
    assert_eq!(floats(&table.grad()), [1.0, 1.0, 0.0, 0.0, 2.0, 2.0, 0.0, 0.0]);
    assert!(!frozen.grad().defined());
}

#[test]
fn without_gradients_the_function_simply_runs() {
    let x = leaf(&[2], 1);
    let y = tch::no_grad(|| checkpoint(&[&x], |inputs| Ok(inputs[0].f_mul_scalar(2.0)?))).unwrap();
    assert!(!y.requires_grad());
    assert_eq!(floats(&y), floats(&(x * 2.0)));
}

#[test]
fn errors_of_both_runs_come_back() {
    let x = leaf(&[2], 1);
    let message = checkpoint(&[&x], |_| Err(Error::Foreign("at once".to_owned()))).unwrap_err();
    assert_eq!(message.to_string(), "at once");
    let runs = AtomicUsize::new(0);
    let y = checkpoint(&[&x], move |inputs| match runs.fetch_add(1, Ordering::SeqCst) {
        0 => Ok(inputs[0].f_mul_scalar(2.0)?),
        _ => Err(Error::Foreign("the second time".to_owned())),
    });
    let error = backward(&y.unwrap().sum(Kind::Float)).unwrap_err();
    assert_eq!(error.to_string(), "the second time");
    assert!(crate::shim::grad_enabled(), "the gradient mode is what it was");
}

#[test]
fn an_input_changed_in_place_is_noticed() {
    let mut x = randn(&[2], 1);
    let y = checkpoint(&[&x], |inputs| Ok(inputs[0].f_mul_scalar(2.0)?)).unwrap();
    let _ = x.fill_(0.0);
    let message = backward(&y.sum(Kind::Float)).unwrap_err().to_string();
    assert_eq!(message, "an input of a checkpoint was changed in place");
}

#[test]
fn a_panic_in_the_second_run_restores_everything() {
    let _alone = generator_lock();
    let (x, runs) = (leaf(&[2], 1), AtomicUsize::new(0));
    let y = {
        let _narrow = Autocast::enable(Device::Cpu, Kind::BFloat16).unwrap();
        checkpoint(&[&x], move |inputs| {
            let y = inputs[0].f_dropout(0.5, true)?;
            assert_eq!(runs.fetch_add(1, Ordering::SeqCst), 0, "on purpose");
            Ok(y)
        })
        .unwrap()
    };
    let before = generator_state(Device::Cpu).unwrap();
    let message = backward(&y.to_kind(Kind::Float).sum(Kind::Float)).unwrap_err().to_string();
    assert!(message.contains("on purpose"), "{message}");
    assert_eq!(generator_state(Device::Cpu).unwrap(), before);
    assert_eq!(Autocast::active(Device::Cpu).unwrap(), None);
    assert!(crate::shim::grad_enabled());
}
