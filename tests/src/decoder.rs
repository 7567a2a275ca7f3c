//! Decoder-only models: forward, residual stream, cache, generation, loss, gradients and a few optimiser steps.

use std::ops::ControlFlow;

use anyhow::{Context, Result, bail, ensure};
use forerun_arch::{Decoder, Forward, Generation, KvCache, Positions, generate, xpos_zeta};
use forerun_tensors::testing::{Golden, GoldenRole, Tolerance};
use forerun_tensors::{AdamW, Mask, adamw_step, backward, chunked_cross_entropy};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use tch::{Device, Kind, Tensor};

use crate::arch::Outcome;
use crate::attention::after;
use crate::decoder_config;
use crate::report::Tally;

pub(crate) fn check(golden: &Golden) -> Result<Outcome> {
    let config = match decoder_config::read(golden)? {
        Ok(config) => config,
        Err(missing) => return Ok(Outcome::NotImplemented(missing)),
    };
    // The weights drawn here are all overwritten.
    let model = Decoder::new(&config, &mut ChaCha20Rng::seed_from_u64(0), Device::Cpu)?;
    let mut case = Case { golden, model, tokens: golden.input("tokens")?, tally: Tally::default() };
    case.load_weights()?;
    for name in golden.names(GoldenRole::Output).map(str::to_owned).collect::<Vec<_>>() {
        case.check_output(&name).with_context(|| name.clone())?;
    }
    Ok(Outcome::Checked(case.tally))
}

struct Case<'a> {
    golden: &'a Golden,
    model: Decoder,
    /// `[batch, seq]`.
    tokens: Tensor,
    tally: Tally,
}

impl Case<'_> {
    fn load_weights(&mut self) -> Result<()> {
        let mut loaded = 0;
        let _no_grad = tch::no_grad_guard();
        for (name, weight) in self.golden.weights("w.")? {
            if name.ends_with("xpos.scale") {
                self.check_zeta(&name, &weight);
                continue;
            }
            let tied = self.model.config().tie_embeddings && name == "output_projection.weight";
            let name = if tied { "embed_tokens.weight".to_owned() } else { name };
            let parameter = self.model.parameters().get(&name);
            let parameter = parameter.with_context(|| format!("no parameter takes `{name}`"))?;
            let (want, got) = (parameter.tensor.size(), weight.size());
            ensure!(want == got, "`{name}` is {got:?}, but the config says {want:?}");
            if tied {
                ensure!(parameter.tensor.equal(&weight), "`{name}` is tied but differs");
                continue;
            }
            parameter.tensor.shallow_clone().f_copy_(&weight)?;
            loaded += 1;
        }
        let wanted = self.model.parameters().len();
        ensure!(loaded == wanted, "the file holds {loaded} of {wanted} parameters");
        Ok(())
    }

    /// A buffer that we compute: it must be what we compute.
    fn check_zeta(&mut self, name: &str, weight: &Tensor) {
        if let Positions::Xpos { gamma, .. } = self.model.config().positions {
            let zeta = Tensor::from_slice(&xpos_zeta(self.model.config().head_dim(), gamma));
            self.tally.compare(name, &zeta, weight, Tolerance::default());
        }
    }

    fn check_output(&mut self, name: &str) -> Result<()> {
        let actual = match name {
            "logits" => {
                self.no_grad(|case| Ok(case.model.logits(&case.tokens, &Forward::default())?))?
            }
            "incremental_logits" => self.incremental()?.0,
            "greedy" => self.greedy()?,
            "loss" => self.loss()?.f_detach()?.f_view([1])?,
            "adamw_losses" => return self.check_adamw(name),
            _ if name.starts_with("inner.") => self.no_grad(|case| case.residual(name))?,
            _ if name.starts_with("cache.") => self.cached(name)?,
            _ if name.starts_with("g.") => self.gradient(name)?,
            _ => bail!("an output that nothing here computes"),
        };
        self.tally.check(self.golden, name, &actual)
    }

    fn no_grad(&self, f: impl FnOnce(&Self) -> Result<Tensor>) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        f(self)
    }

    /// `inner.N`: the residual stream before block N.
    fn residual(&self, name: &str) -> Result<Tensor> {
        let index: usize = name["inner.".len()..].parse()?;
        let stream = self.model.residual_stream(&self.tokens, Mask::Causal)?;
        let tensor = stream.into_iter().nth(index);
        tensor.with_context(|| format!("there are only {} blocks", self.model.config().n_layers))
    }

    /// Prefill of as many tokens as the file says, then one at a time.
    fn incremental(&self) -> Result<(Tensor, KvCache)> {
        let (batch, seq) = self.tokens.size2()?;
        let prefill = self.stated("incremental_logits", "prefill of").unwrap_or(1.0) as i64;
        let mut cache = KvCache::new(&self.model, batch);
        let mut parts = Vec::new();
        while cache.position() < seq {
            let first = cache.position();
            let n_new = if first == 0 { prefill.clamp(1, seq) } else { 1 };
            let chunk = self.tokens.f_narrow(1, first, n_new)?;
            parts.push(self.model.step(&chunk, &mut cache, Mask::Causal)?);
        }
        Ok((Tensor::f_cat(&parts, 1)?, cache))
    }

    /// `cache.N.k` or `cache.N.v`, before rotation, as the reference stores them.
    fn cached(&self, name: &str) -> Result<Tensor> {
        let mut parts = name.split('.').skip(1);
        let layer: usize = parts.next().unwrap_or_default().parse()?;
        let (keys, values) =
            self.incremental()?.1.layer(layer)?.with_context(|| format!("no layer {layer}"))?;
        let all = match parts.next() {
            Some("k") => keys,
            Some("v") => values,
            _ => bail!("neither keys nor values"),
        };
        // The reference may have stopped earlier.
        let rows = self.golden.output(name)?.size4()?.2;
        Ok(all.f_narrow(2, 0, rows.min(all.size4()?.2))?)
    }

    fn greedy(&self) -> Result<Tensor> {
        let (batch, total) = self.golden.output("greedy")?.size2()?;
        let new =
            self.stated("greedy", " by ").context("the file does not say how many are new")? as i64;
        let prompt = total - new;
        ensure!(prompt > 0 && new > 0, "{new} of {total} tokens are new");
        let options =
            Generation { max_new_tokens: new as usize, temperature: 0.0, ..Generation::default() };
        let mut rows = Vec::new();
        for row in 0..batch {
            let mut text: Vec<i64> =
                Vec::try_from(self.tokens.f_select(0, row)?.f_narrow(0, 0, prompt)?)?;
            let mut rng = ChaCha20Rng::seed_from_u64(0);
            let mut go_on = |_| ControlFlow::Continue(());
            text.extend(generate(&self.model, &text, &options, &mut rng, &mut go_on)?);
            rows.push(Tensor::from_slice(&text));
        }
        Ok(Tensor::f_stack(&rows, 0)?)
    }

    /// Mean next-token cross-entropy, with a graph.
    fn loss(&self) -> Result<Tensor> {
        let seq = self.tokens.size2()?.1;
        let inputs = self.tokens.f_narrow(1, 0, seq - 1)?;
        let targets = self.tokens.f_narrow(1, 1, seq - 1)?.f_reshape([-1])?;
        let hidden = self.model.hidden(&inputs, &Forward::default())?.f_flatten(0, 1)?;
        let (head, scale) = (self.model.head(), self.model.logit_scale());
        let sum = chunked_cross_entropy(&hidden, head, &targets, scale, 16)?;
        Ok(sum.f_div_scalar(targets.numel() as f64)?)
    }

    fn gradient(&self, name: &str) -> Result<Tensor> {
        let parameter =
            self.model.parameters().get(&name["g.".len()..]).context("no such parameter")?;
        if !parameter.tensor.f_grad()?.defined() {
            backward(&self.loss()?)?;
        }
        Ok(parameter.tensor.f_grad()?)
    }

    /// The loss before each of some AdamW steps; leaves the weights changed, so it works on its own model.
    fn check_adamw(&mut self, name: &str) -> Result<()> {
        let meaning = self.meaning(name);
        let number =
            |marker| after(meaning, marker).with_context(|| format!("`{marker}` is not stated"));
        let beta1 = number("betas ")?;
        let rest = meaning.split("betas ").nth(1).unwrap_or_default();
        let beta2 = after(rest, "/").context("beta2 is not stated")?;
        let (lr, eps, weight_decay) = (number("lr ")?, number("eps ")?, number("wd ")?);
        let hyper = AdamW { lr, beta1, beta2, eps, weight_decay };
        let steps = self.golden.output(name)?.numel();
        let mut fresh = Case {
            golden: self.golden,
            model: Decoder::new(
                self.model.config(),
                &mut ChaCha20Rng::seed_from_u64(0),
                Device::Cpu,
            )?,
            tokens: self.tokens.shallow_clone(),
            tally: Tally::default(),
        };
        fresh.load_weights()?;
        let losses = fresh.adamw_losses(&hyper, steps)?;
        self.tally.check(self.golden, name, &losses)
    }

    fn adamw_losses(&self, hyper: &AdamW, steps: usize) -> Result<Tensor> {
        let tensors: Vec<&Tensor> = self.model.parameters().iter().map(|p| &p.tensor).collect();
        let zeros =
            || tensors.iter().map(|t| t.f_detach()?.f_zeros_like()).collect::<Result<Vec<_>, _>>();
        let (first, second) = (zeros()?, zeros()?);
        let scalar = |_| Tensor::f_zeros([0_i64; 0], (Kind::Float, Device::Cpu));
        let counts = (0..tensors.len()).map(scalar).collect::<Result<Vec<_>, _>>()?;
        let mut losses = Vec::new();
        for _ in 0..steps {
            self.model.parameters().zero_grad();
            let loss = self.loss()?;
            backward(&loss)?;
            losses.push(f64::try_from(&loss)?);
            let grads = tensors.iter().map(|t| t.f_grad()).collect::<Result<Vec<_>, _>>()?;
            let [grads, first, second, counts] =
                [&grads, &first, &second, &counts].map(|list| list.iter().collect::<Vec<_>>());
            adamw_step(hyper, &tensors, &grads, &first, &second, &counts)?;
        }
        Ok(Tensor::f_from_slice(&losses)?)
    }

    fn meaning(&self, name: &str) -> &str {
        self.golden.json()["tensors"][name]["meaning"].as_str().unwrap_or_default()
    }

    fn stated(&self, name: &str, marker: &str) -> Option<f64> {
        after(self.meaning(name), marker)
    }
}
