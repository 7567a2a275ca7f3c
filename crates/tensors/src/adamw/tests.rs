use tch::{Device, Kind, Tensor};

use super::{AdamW, adamw_step, global_norm};
use crate::fixtures::{distance, floats, randn};

const HYPER: AdamW = AdamW { lr: 1e-2, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 };

fn zeros(shape: &[i64]) -> Tensor {
    Tensor::zeros(shape, (Kind::Float, Device::Cpu))
}

/// One number of algorithm 2 in f64.
fn oracle(hyper: &AdamW, w: &mut f64, g: f64, m: &mut f64, v: &mut f64, step: i32) {
    *w -= hyper.lr * hyper.weight_decay * *w;
    *m = hyper.beta1 * *m + (1.0 - hyper.beta1) * g;
    *v = hyper.beta2 * *v + (1.0 - hyper.beta2) * g * g;
    let (m, v) = (*m / (1.0 - hyper.beta1.powi(step)), *v / (1.0 - hyper.beta2.powi(step)));
    *w -= hyper.lr * m / (v.sqrt() + hyper.eps);
}

#[test]
fn steps_follow_the_algorithm() {
    let shapes: [&[i64]; 3] = [&[3, 5], &[7], &[]];
    let params: Vec<Tensor> =
        shapes.iter().zip(1..).map(|(shape, seed)| randn(shape, seed)).collect();
    let [m, v] = [(); 2].map(|()| shapes.map(zeros));
    let steps = [(); 3].map(|()| zeros(&[]));
    let list = |tensors: &[Tensor]| tensors.iter().map(Tensor::shallow_clone).collect::<Vec<_>>();
    let mut w: Vec<f64> = params.iter().flat_map(floats).collect();
    let (mut om, mut ov) = (vec![0.0; w.len()], vec![0.0; w.len()]);
    for step in 1..=10 {
        let grads: Vec<Tensor> =
            shapes.iter().zip(1..).map(|(s, seed)| randn(s, seed + 10 * step)).collect();
        let lists = [list(&params), grads, list(&m), list(&v), list(&steps)];
        let [p, g, m, v, s] = lists.each_ref().map(|tensors| tensors.iter().collect::<Vec<_>>());
        adamw_step(&HYPER, &p, &g, &m, &v, &s).unwrap();
        for (i, g) in g.iter().copied().flat_map(floats).enumerate() {
            oracle(&HYPER, &mut w[i], g, &mut om[i], &mut ov[i], step as i32);
        }
        // f32 rounds at 6e-8 of a weight of about 1, ten times over.
        for (got, want) in p.iter().copied().flat_map(floats).zip(&w) {
            assert!((got - want).abs() < 3e-6, "step {step}: {got}, {want}");
        }
    }
    assert!(steps.iter().all(|step| floats(step) == [10.0]));
}

#[test]
fn a_gradient_of_another_layout_or_kind_counts_the_same() {
    let g = randn(&[4, 6], 1);
    let transposed = g.transpose(0, 1).contiguous().transpose(0, 1);
    assert!(!transposed.is_contiguous());
    let after = |g: &Tensor| {
        let (p, m, v, s) = (randn(&[4, 6], 2), zeros(&[4, 6]), zeros(&[4, 6]), zeros(&[]));
        adamw_step(&HYPER, &[&p], &[g], &[&m], &[&v], &[&s]).unwrap();
        p
    };
    assert_eq!(distance(&after(&g), &after(&transposed)), 0.0);
    assert_eq!(distance(&after(&g), &after(&g.to_kind(Kind::Double))), 0.0);
}

#[test]
fn what_does_not_fit_is_refused_by_name_and_changes_nothing() {
    let (p, m, v, s) = (randn(&[2, 3], 1), zeros(&[2, 3]), zeros(&[2, 3]), zeros(&[]));
    let (before, g) = (p.copy(), randn(&[2, 3], 2));
    let check = |g: &[&Tensor], m: &Tensor, s: &Tensor, want: &str| {
        let message = adamw_step(&HYPER, &[&p], g, &[m], &[&v], &[s]).unwrap_err().to_string();
        assert!(message.contains(want), "{message}");
    };
    check(&[&randn(&[3, 2], 1)], &m, &s, "gradient 0 has shape [3, 2], the parameter [2, 3]");
    check(&[&Tensor::new()], &m, &s, "parameter 0 has no gradient");
    check(&[&g], &zeros(&[6]), &s, "exp_avg 0 has shape [6]");
    check(&[&g], &zeros(&[3, 2]).transpose(0, 1), &s, "other strides");
    check(&[&g], &m.to_kind(Kind::Double), &s, "exp_avg 0 has kind Double, the parameter Float");
    check(&[&g], &m, &zeros(&[2]), "step 0 must be one f32");
    check(&[&g, &g], &m, &s, "grads must be 1 tensors, one a parameter, got 2");
    let odd = AdamW { beta2: 1.0, ..HYPER };
    let message = adamw_step(&odd, &[&p], &[&g], &[&m], &[&v], &[&s]).unwrap_err().to_string();
    assert_eq!(message, "beta2 must be in [0, 1), got 1");
    assert_eq!(distance(&p, &before), 0.0);
    assert_eq!(floats(&s), [0.0]);
    adamw_step(&HYPER, &[], &[], &[], &[], &[]).unwrap();
}

#[test]
fn the_global_norm_is_that_of_all_numbers() {
    let grads = [randn(&[3, 5], 1), randn(&[7], 2).to_kind(Kind::Float), randn(&[], 3)];
    let want = grads.iter().flat_map(floats).map(|x| x * x).sum::<f64>().sqrt();
    let norm = global_norm(&grads.iter().collect::<Vec<_>>()).unwrap();
    assert_eq!((norm.size(), norm.kind()), (vec![], Kind::Float));
    assert!((floats(&norm)[0] - want).abs() < 1e-5);
    let narrow = global_norm(&[&grads[0].to_kind(Kind::BFloat16)]).unwrap();
    assert_eq!(narrow.kind(), Kind::Float);
    assert!(global_norm(&[]).unwrap_err().to_string().contains("at least one"));
    let message = global_norm(&[&grads[0], &Tensor::new()]).unwrap_err().to_string();
    assert_eq!(message, "gradient 1 is not defined");
}
