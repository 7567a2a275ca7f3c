//! What the tests train: a two-layer perceptron with dropout on rows that are a function of their index alone.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use forerun_tensors::init::normal;
use forerun_tensors::{Parameter, Parameters, Role, checkpoint, seed_generator};
use forerun_train::{
    BoxError, Error, EvalMetrics, IGNORED, Model, Observer, Pass, Sequences, StepMetrics,
    TrainConfig,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use tch::{Device, Kind, Tensor};

pub(crate) const VOCAB: i64 = 11;
pub(crate) const D_MODEL: i64 = 8;
pub(crate) const SEQ_LEN: i64 = 8;

/// libtorch's generator belongs to the process, so tests that draw from it take turns.
pub(crate) fn exclusive() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    tch::set_num_threads(1);
    turn
}

/// Embedding, two linear layers with GELU and dropout on a residual path, a norm with a scale, an output matrix.
pub(crate) struct Tiny {
    parameters: Parameters,
    dropout: f64,
    /// Every forward pass, in order.
    pub(crate) passes: RefCell<Vec<Pass>>,
}

impl Tiny {
    /// Seeds libtorch's generator too, as an experiment would.
    pub(crate) fn new(seed: u64, dropout: f64) -> Self {
        seed_generator(seed as i64 + 1000);
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut parameters = Parameters::new();
        for (name, shape, std, role) in [
            ("embedding", vec![VOCAB, D_MODEL], 0.5, Role::Embedding),
            ("up.weight", vec![2 * D_MODEL, D_MODEL], 0.3, Role::Matrix),
            ("up.bias", vec![2 * D_MODEL], 0.1, Role::Bias),
            ("down.weight", vec![D_MODEL, 2 * D_MODEL], 0.3, Role::Matrix),
            ("norm.scale", vec![D_MODEL], 1.0, Role::Norm),
            ("head", vec![VOCAB, D_MODEL], 0.3, Role::Matrix),
        ] {
            let tensor =
                normal(&shape, std, &mut rng, Device::Cpu).unwrap().set_requires_grad(true);
            let lr_multiplier = if name == "down.weight" { 0.5 } else { 1.0 };
            parameters.push(Parameter { name: name.into(), tensor, role, lr_multiplier }).unwrap();
        }
        Self { parameters, dropout, passes: RefCell::default() }
    }

    fn get(&self, name: &str) -> &Tensor {
        &self.parameters.get(name).unwrap().tensor
    }

    /// Every parameter's numbers, to be compared bit for bit.
    pub(crate) fn bits(&self) -> Vec<u32> {
        let numbers = |t: &Tensor| Vec::<f32>::try_from(t.detach().flatten(0, -1)).unwrap();
        self.parameters.iter().flat_map(|p| numbers(&p.tensor)).map(f32::to_bits).collect()
    }
}

impl Model for Tiny {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn hidden(&self, tokens: &Tensor, pass: Pass) -> Result<Tensor, BoxError> {
        self.passes.borrow_mut().push(pass);
        let x = Tensor::f_embedding(self.get("embedding"), tokens, -1, false, false)?;
        let names = ["up.weight", "up.bias", "down.weight"];
        let [up, bias, down] = names.map(|name| self.get(name).shallow_clone());
        let dropout = self.dropout;
        let block = move |inputs: &[Tensor]| {
            let wide = inputs[0].f_linear(&up, Some(&bias))?.f_gelu("none")?;
            let wide = wide.f_dropout(dropout, pass.train)?;
            Ok(inputs[0].f_add(&wide.f_linear(&down, None::<&Tensor>)?)?)
        };
        let x =
            if pass.activation_checkpointing { checkpoint(&[&x], block)? } else { block(&[x])? };
        let scale = Some(self.get("norm.scale"));
        Ok(x.f_layer_norm([D_MODEL], scale, None::<&Tensor>, 1e-5, false)?)
    }

    fn head(&self) -> &Tensor {
        self.get("head")
    }

    fn logit_scale(&self) -> f64 {
        1.5
    }

    fn flops_per_token(&self, seq_len: i64) -> f64 {
        6.0 * self.parameters.n_elements() as f64 + seq_len as f64
    }
}

/// Several [`Tiny`] in one; dropout is left out.
pub(crate) struct TinyStack {
    parameters: Parameters,
    n: i64,
}

impl TinyStack {
    pub(crate) fn new(members: Vec<Tiny>) -> Self {
        let mut parameters = Parameters::new();
        for parameter in members[0].parameters() {
            let Parameter { name, role, lr_multiplier, .. } = parameter;
            let parts: Vec<Tensor> = members.iter().map(|tiny| tiny.get(name).detach()).collect();
            let tensor = Tensor::stack(&parts, 0).set_requires_grad(true);
            let (name, role, lr_multiplier) = (name.clone(), *role, *lr_multiplier);
            parameters.push(Parameter { name, tensor, role, lr_multiplier }).unwrap();
        }
        Self { parameters, n: members.len() as i64 }
    }

    fn get(&self, name: &str) -> &Tensor {
        &self.parameters.get(name).unwrap().tensor
    }

    /// As [`Tiny::bits`], for each member.
    pub(crate) fn bits(&self) -> Vec<Vec<u32>> {
        let numbers =
            |t: Tensor| Vec::<f32>::try_from(t.detach().flatten(0, -1).contiguous()).unwrap();
        let of_member = |i: i64| {
            let all = self.parameters.iter().flat_map(|p| numbers(p.tensor.get(i)));
            all.map(f32::to_bits).collect()
        };
        (0..self.n).map(of_member).collect()
    }
}

impl Model for TinyStack {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn hidden(&self, tokens: &Tensor, _pass: Pass) -> Result<Tensor, BoxError> {
        let (rows, seq) = tokens.size2()?;
        let offset = Tensor::f_arange(self.n, (Kind::Int64, Device::Cpu))? * VOCAB;
        let ids = tokens.f_view([self.n, -1])? + offset.f_unsqueeze(1)?;
        let table = self.get("embedding").f_view([-1, D_MODEL])?;
        let x = Tensor::f_embedding(&table, &ids, -1, false, false)?; // [members, tokens, d_model]
        let transposed = |name| self.get(name).f_transpose(1, 2);
        let bias = self.get("up.bias").f_unsqueeze(1)?;
        let wide = bias.f_baddbmm(&x, &transposed("up.weight")?, 1, 1)?.f_gelu("none")?;
        let x = x.f_add(&wide.f_bmm(&transposed("down.weight")?)?)?;
        let normed = x.f_layer_norm([D_MODEL], None::<&Tensor>, None::<&Tensor>, 1e-5, false)?;
        let scaled = normed.f_mul(&self.get("norm.scale").f_unsqueeze(1)?)?;
        Ok(scaled.f_view([rows, seq, D_MODEL])?)
    }

    fn head(&self) -> &Tensor {
        self.get("head")
    }

    fn logit_scale(&self) -> f64 {
        1.5
    }

    fn flops_per_token(&self, seq_len: i64) -> f64 {
        6.0 * self.parameters.n_elements() as f64 / self.n as f64 + seq_len as f64
    }
}

/// Row `i` follows `t → 3t + 1 (mod VOCAB)` from a random start, with one token in four replaced by noise.
#[derive(Default)]
pub(crate) struct Noisy {
    /// Rows end in up to `SEQ_LEN - 1` tokens of padding, each row another number.
    pub(crate) padded: bool,
    /// Every request, in order.
    pub(crate) asked: Vec<(u64, usize)>,
}

impl Noisy {
    fn row(&self, index: u64) -> Vec<i64> {
        let mut rng = ChaCha20Rng::seed_from_u64(index ^ 0xda7a);
        let mut draw = || (rng.next_u32() as i64) % VOCAB;
        let mut row = vec![draw()];
        while row.len() <= SEQ_LEN as usize {
            let next = (3 * row[row.len() - 1] + 1) % VOCAB;
            row.push(if draw() % 4 == 0 { draw() } else { next });
        }
        if self.padded {
            let kept = row.len() - (index * 5 % SEQ_LEN as u64) as usize;
            row[kept..].fill(IGNORED);
        }
        row
    }
}

impl Sequences for Noisy {
    fn rows(&mut self, first_index: u64, n: usize) -> Result<Tensor, BoxError> {
        self.asked.push((first_index, n));
        let tokens: Vec<i64> =
            (first_index..first_index + n as u64).flat_map(|i| self.row(i)).collect();
        Ok(Tensor::f_from_slice(&tokens)?.f_view([n as i64, SEQ_LEN + 1])?)
    }
}

/// Twelve updates of four sequences with warm-up, cosine, clipping, and everything else at its default.
pub(crate) fn config() -> TrainConfig {
    serde_json::from_str(
        r#"{"seq_len": 8, "batch_size": 4, "micro_batch_size": 2, "steps": 12, "warmup_steps": 3,
            "optimiser": {"lr": 0.02}, "schedule": {"cosine": {}}, "clip_norm": 1.0,
            "loss_chunk_tokens": 5, "checkpoint_every": 1}"#,
    )
    .unwrap()
}

/// What does not depend on time, in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Step { step: u64, tokens: u64, loss: u64, lr: u64, grad_norm: u64 },
    Evaluation { step: u64, tokens: u64, loss: u64, n_tokens: u64 },
}

/// Remembers everything, and stops when told to.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) stop_after: Option<u64>,
    pub(crate) seen: Vec<Seen>,
    pub(crate) losses: Vec<f64>,
    pub(crate) last: Option<StepMetrics>,
    pub(crate) resumed: Vec<(u64, BTreeMap<String, u64>)>,
    pub(crate) written: Vec<u64>,
    pub(crate) refused: Vec<(PathBuf, String)>,
    /// Bytes that the log still has; absent: all of them.
    pub(crate) log_bytes: Option<u64>,
}

impl Recorder {
    pub(crate) fn stopping_after(step: u64) -> Self {
        Self { stop_after: Some(step), ..Self::default() }
    }
}

impl Observer for Recorder {
    fn can_resume(&mut self, _step: u64, offsets: &BTreeMap<String, u64>) -> Result<(), BoxError> {
        let (want, there) = (offsets["metrics.jsonl"], self.log_bytes.unwrap_or(u64::MAX));
        if want <= there {
            return Ok(());
        }
        Err(format!("`metrics.jsonl` has {there} bytes, not {want}").into())
    }

    fn resumed(&mut self, step: u64, offsets: &BTreeMap<String, u64>) -> Result<(), BoxError> {
        self.resumed.push((step, offsets.clone()));
        Ok(())
    }

    fn step(&mut self, m: &StepMetrics) -> Result<ControlFlow<()>, BoxError> {
        let [loss, lr, grad_norm] = [m.loss, m.lr, m.grad_norm].map(f64::to_bits);
        self.seen.push(Seen::Step { step: m.step, tokens: m.tokens, loss, lr, grad_norm });
        self.losses.push(m.loss);
        self.last = Some(m.clone());
        let stop = self.stop_after == Some(m.step);
        Ok(if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    fn evaluation(&mut self, m: &EvalMetrics) -> Result<ControlFlow<()>, BoxError> {
        let (step, tokens, n_tokens) = (m.step, m.tokens, m.n_tokens);
        self.seen.push(Seen::Evaluation { step, tokens, loss: m.loss.to_bits(), n_tokens });
        Ok(ControlFlow::Continue(()))
    }

    fn log_offsets(&mut self) -> Result<BTreeMap<String, u64>, BoxError> {
        Ok(BTreeMap::from([("metrics.jsonl".to_owned(), 100 * self.seen.len() as u64)]))
    }

    fn checkpoint_written(&mut self, step: u64, path: &Path) -> Result<(), BoxError> {
        assert!(path.join("state.json").exists());
        self.written.push(step);
        Ok(())
    }

    fn checkpoint_refused(&mut self, path: &Path, reason: &Error) -> Result<(), BoxError> {
        self.refused.push((path.to_path_buf(), reason.to_string()));
        Ok(())
    }
}
