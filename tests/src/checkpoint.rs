//! `*_io` with the folder that it names: a Hugging Face checkpoint, loaded with every configuration in the folder, and what the reference
//! computed with it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use forerun_arch::{CausalLm, Generation, LmCache, LoadOptions};
use forerun_tensors::testing::{Golden, GoldenRole, Tolerance};
use forerun_tensors::{backward, chunked_cross_entropy};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use tch::{Kind, Tensor};

use crate::report::Tally;

/// The folder of the checkpoint, if the file is of this kind.
pub(crate) fn folder(golden: &Golden) -> Option<PathBuf> {
    let name = golden.config()["config_dir"].as_str()?;
    let is_plain = Path::new(name).file_name().is_some_and(|base| base == name);
    Some(golden.path().parent()?.join(name)).filter(|_| is_plain)
}

pub(crate) fn check(golden: &Golden, folder: &Path) -> Result<Tally> {
    let mut tally = Tally::default();
    for config in configs(folder)? {
        let name = config.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let model = CausalLm::load_described(folder, &config, &LoadOptions::default());
        let model = model.with_context(|| name.clone())?;
        let mut case = Case { golden, model, tally: &mut tally, trained: false };
        for output in golden.names(GoldenRole::Output) {
            case.check_output(output).with_context(|| format!("{name}: {output}"))?;
        }
    }
    Ok(tally)
}

/// `config.json` and its other spellings.
fn configs(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = || format!("cannot read `{}`", folder.display());
    let mut found = Vec::new();
    for entry in folder.read_dir().with_context(unreadable)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("config") && name.ends_with(".json") {
            found.push(folder.join(name));
        }
    }
    found.sort();
    ensure!(!found.is_empty(), "no `config.json` in `{}`", folder.display());
    Ok(found)
}

struct Case<'a> {
    golden: &'a Golden,
    model: CausalLm,
    tally: &'a mut Tally,
    /// Whether the gradients are there.
    trained: bool,
}

impl Case<'_> {
    fn check_output(&mut self, name: &str) -> Result<()> {
        if let Some(weight) = name.strip_prefix("g.") {
            let gradient = self.gradient(weight)?;
            return self.tally.check(self.golden, name, &gradient);
        }
        let (group, output) = name.split_once('.').context("an output without a group")?;
        let actual = match output {
            "logits" if self.golden.contains(&format!("{group}.attention_mask")) => {
                self.padded(group)?
            }
            "logits" => {
                self.check_cached(group, name)?;
                tch::no_grad(|| self.model.logits(&self.ids(group)?).map_err(anyhow::Error::from))?
            }
            "cos" | "sin" => self.rotation(group, output == "cos")?,
            "cached" => self.generated(group, name)?,
            "uncached" => self.generated_without_cache(group, name)?,
            "loss" => self.loss(group)?.f_detach()?.f_view([1])?,
            _ => match output.strip_prefix("hidden") {
                Some(layer) => self.hidden(group, layer.parse()?)?,
                None => bail!("an output that nothing here computes"),
            },
        };
        self.tally.check(self.golden, name, &actual)
    }

    fn ids(&self, group: &str) -> Result<Tensor> {
        Ok(self.golden.input(&format!("{group}.ids"))?)
    }

    /// The same logits from a cache: half of the text at once, then token by token. Our own sums in two orders, so both may
    /// be off: it has four times the file's tolerance.
    fn check_cached(&mut self, group: &str, name: &str) -> Result<()> {
        let want = self.golden.output(name)?;
        let Tolerance { atol, rtol } = self.golden.tolerance(name)?;
        let tolerance = Tolerance { atol: 4.0 * atol, rtol: 4.0 * rtol };
        for (row, ids) in rows(&self.ids(group)?)?.into_iter().enumerate() {
            let mut cache = LmCache::new(&self.model, ids.len());
            let (prompt, rest) = ids.split_at(ids.len().div_ceil(2));
            let mut logits = self.model.extend(prompt, &mut cache)?;
            for (i, &token) in rest.iter().enumerate() {
                let place = (prompt.len() + i) as i64 - 1;
                // LongRoPE reads a text that is still short in another way.
                let (same, ..) = self.same_rotation(cache.position(), ids.len() as i64)?;
                if same {
                    let expected = want.get(row as i64).get(place);
                    self.tally.compare(name, &logits, &expected, tolerance);
                }
                logits = self.model.extend(&[token], &mut cache)?;
            }
            let expected = want.get(row as i64).get(ids.len() as i64 - 1);
            self.tally.compare(name, &logits, &expected, tolerance);
        }
        Ok(())
    }

    /// Whether texts of two lengths are rotated alike.
    fn same_rotation(&self, a: i64, b: i64) -> Result<(bool, i64)> {
        let n = a.min(b);
        let first = |len| -> Result<Tensor> { Ok(self.model.rotation(len)?.1.f_narrow(0, 0, n)?) };
        Ok((first(a)?.equal(&first(b)?), n))
    }

    /// A left-padded batch; zero at the padding.
    fn padded(&self, group: &str) -> Result<Tensor> {
        let mask = self.golden.input(&format!("{group}.attention_mask"))?;
        let mut padding = Vec::new();
        for mask in rows(&mask)? {
            let n = mask.iter().take_while(|&&seen| seen == 0).count();
            ensure!(mask[n..].iter().all(|&seen| seen == 1), "padding that is not on the left");
            padding.push(n as i64);
        }
        let ids = self.ids(group)?;
        let logits = tch::no_grad(|| self.model.logits_padded(&ids, &padding))?;
        Ok(logits.f_masked_fill(&mask.f_eq(0)?.f_unsqueeze(-1)?, 0.0)?)
    }

    fn rotation(&self, group: &str, cosines: bool) -> Result<Tensor> {
        let seq = self.ids(group)?.size2()?.1;
        let (cos, sin) = self.model.rotation(seq)?;
        let half = if cosines { cos } else { sin };
        Ok(Tensor::f_cat(&[&half, &half], -1)?.f_unsqueeze(0)?)
    }

    /// The residual stream after so many layers.
    fn hidden(&self, group: &str, layer: usize) -> Result<Tensor> {
        let stream = tch::no_grad(|| {
            self.model.residual_stream(&self.ids(group)?).map_err(anyhow::Error::from)
        })?;
        let n_layers = self.model.config().n_layers;
        stream.into_iter().nth(layer).with_context(|| format!("there are only {n_layers} layers"))
    }

    fn prompt(&self, group: &str, name: &str) -> Result<(Vec<Vec<i64>>, usize)> {
        let prompt = self.golden.input(&format!("{group}.prompt"))?;
        let new = self.golden.output(name)?.size2()?.1 - prompt.size2()?.1;
        Ok((rows(&prompt)?, usize::try_from(new)?))
    }

    fn generated(&self, group: &str, name: &str) -> Result<Tensor> {
        let (prompts, new) = self.prompt(group, name)?;
        let options = Generation { max_new_tokens: new, temperature: 0.0, ..Generation::default() };
        let texts: Vec<&[i64]> = prompts.iter().map(Vec::as_slice).collect();
        let mut rngs: Vec<_> = texts.iter().map(|_| ChaCha20Rng::seed_from_u64(0)).collect();
        let go_on = &mut |_, _| ControlFlow::Continue(());
        let new = self.model.generate_batch(&texts, &options, &mut rngs, go_on)?;
        let joined = prompts
            .iter()
            .zip(new)
            .map(|(prompt, new)| Tensor::from_slice(&[prompt.as_slice(), &new].concat()));
        Ok(Tensor::f_stack(&joined.collect::<Vec<_>>(), 0)?)
    }

    fn generated_without_cache(&self, group: &str, name: &str) -> Result<Tensor> {
        let (prompts, new) = self.prompt(group, name)?;
        let mut texts = Vec::new();
        for mut text in prompts {
            for _ in 0..new {
                let ids = Tensor::from_slice(&text).f_unsqueeze(0)?;
                let logits = tch::no_grad(|| self.model.logits(&ids))?;
                let last = logits.f_select(1, text.len() as i64 - 1)?;
                text.push(i64::try_from(last.f_argmax(-1, false)?)?);
            }
            texts.push(Tensor::from_slice(&text));
        }
        Ok(Tensor::f_stack(&texts, 0)?)
    }

    /// Mean next-token cross-entropy, with a graph.
    fn loss(&self, group: &str) -> Result<Tensor> {
        let ids = self.ids(group)?;
        let seq = ids.size2()?.1;
        let hidden = self.model.hidden(&ids.f_narrow(1, 0, seq - 1)?)?.f_flatten(0, 1)?;
        let targets = ids.f_narrow(1, 1, seq - 1)?.f_reshape([-1])?;
        let head = self.model.head().linear().context("the head is no matrix")?;
        let scale = self.model.logit_scale();
        let sum = chunked_cross_entropy(&hidden, &head.weight, &targets, scale, 16)?;
        Ok(sum.f_div_scalar(targets.numel() as f64)?)
    }

    fn gradient(&mut self, weight: &str) -> Result<Tensor> {
        let tensors = self.model.named_tensors()?;
        if !self.trained {
            self.trained = true;
            for (_, tensor) in &tensors {
                let _ = tensor.shallow_clone().f_set_requires_grad(true)?;
            }
            let group = self.training_group()?;
            backward(&self.loss(&group)?)?;
        }
        let found = tensors.iter().find(|(name, _)| name == weight);
        let (_, tensor) = found.with_context(|| format!("no tensor is called `{weight}`"))?;
        Ok(tensor.f_grad()?)
    }

    /// The text whose loss has gradients: the one with a loss.
    fn training_group(&self) -> Result<String> {
        let mut names = self.golden.names(GoldenRole::Output);
        let group = names.find_map(|name| name.strip_suffix(".loss"));
        group.map(str::to_owned).context("gradients, but no loss")
    }
}

fn rows(ids: &Tensor) -> Result<Vec<Vec<i64>>> {
    Ok(Vec::try_from(ids.f_to_kind(Kind::Int64)?)?)
}
