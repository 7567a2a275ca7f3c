//! AdamW over groups of parameters that share a weight decay and a learning-rate multiplier.

use std::collections::BTreeSet;

use forerun_tensors::{AdamW, Parameter, Parameters, Role, SafetensorsFile, adamw_step};
use tch::{Kind, Tensor};

use crate::config::OptimiserConfig;
use crate::error::{Error, Result};

/// AdamW with its moments.
///
/// Loshchilov and Hutter 2019, *Decoupled Weight Decay Regularization*, arXiv:1711.05101, algorithm 2, in PyTorch's
/// form: `θ ← θ − lr · (weight_decay · θ + m̂ / (√v̂ + eps))`. A parameter without a gradient is left alone, decay
/// included.
#[derive(Debug)]
pub struct Optimiser {
    hyper: OptimiserConfig,
    groups: Vec<Group>,
}

/// Parameters that are updated in one fused call.
#[derive(Debug)]
struct Group {
    lr_multiplier: f64,
    weight_decay: f64,
    slots: Vec<Slot>,
}

/// One parameter with its state; all tensors but `step` have the parameter's shape.
#[derive(Debug)]
struct Slot {
    name: String,
    parameter: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    step: Tensor,
}

impl Optimiser {
    /// Zero moments for every one of `parameters`, grouped by decay and multiplier.
    ///
    /// # Errors
    /// [`Error::Tensors`] if libtorch refuses, for one thing because memory is exhausted.
    pub fn new(parameters: &Parameters, config: &OptimiserConfig) -> Result<Self> {
        let mut groups: Vec<Group> = Vec::new();
        for parameter in parameters.iter() {
            let weight_decay = decay_of(parameter.role, config);
            let lr_multiplier = parameter.lr_multiplier;
            let slot = Slot::new(parameter)?;
            let same = |group: &&mut Group| {
                group.weight_decay == weight_decay && group.lr_multiplier == lr_multiplier
            };
            match groups.iter_mut().find(same) {
                Some(group) => group.slots.push(slot),
                None => groups.push(Group { lr_multiplier, weight_decay, slots: vec![slot] }),
            }
        }
        Ok(Self { hyper: config.clone(), groups })
    }

    /// The gradients that exist, to be clipped in place.
    pub fn gradients(&self) -> Vec<Tensor> {
        self.slots().map(|slot| slot.parameter.grad()).filter(Tensor::defined).collect()
    }

    /// One update of every parameter that has a gradient. `lr` is the schedule's learning rate; each group's
    /// multiplier comes on top.
    ///
    /// # Errors
    /// [`Error::Tensors`] if libtorch refuses.
    pub fn step(&mut self, lr: f64) -> Result<()> {
        let &OptimiserConfig { beta1, beta2, eps, .. } = &self.hyper;
        for group in &self.groups {
            let weight_decay = group.weight_decay;
            let hyper = AdamW { lr: lr * group.lr_multiplier, beta1, beta2, eps, weight_decay };
            group.step(&hyper)?;
        }
        Ok(())
    }

    /// The state under the names `exp_avg.P`, `exp_avg_sq.P` and `step.P` for a parameter `P`.
    pub fn named_tensors(&self) -> Vec<(String, Tensor)> {
        self.slots()
            .flat_map(Slot::state)
            .map(|(name, tensor)| (name, tensor.shallow_clone()))
            .collect()
    }

    /// Takes over the state that [`Optimiser::named_tensors`] gave, from a file.
    ///
    /// # Errors
    /// [`forerun_tensors::Error::Tensor`] names the first tensor that is missing, has another shape, or belongs to
    /// no parameter.
    pub fn load(&mut self, file: &SafetensorsFile) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        let mut known = BTreeSet::new();
        for slot in self.groups.iter_mut().flat_map(|group| &mut group.slots) {
            for (name, tensor) in slot.state() {
                let saved = file.tensor(&name)?;
                if saved.size() != tensor.size() {
                    let (want, got) = (tensor.size(), saved.size());
                    return Err(refused(
                        file,
                        name,
                        format!("must have shape {want:?}, got {got:?}"),
                    ));
                }
                tensor.shallow_clone().f_copy_(&saved)?;
                known.insert(name);
            }
        }
        match file.names().find(|name| !known.contains(*name)) {
            Some(name) => Err(refused(file, name.to_owned(), "belongs to no parameter".to_owned())),
            None => Ok(()),
        }
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.groups.iter().flat_map(|group| &group.slots)
    }
}

impl Group {
    fn step(&self, hyper: &AdamW) -> Result<()> {
        let (with_gradient, gradients): (Vec<&Slot>, Vec<Tensor>) = self
            .slots
            .iter()
            .map(|slot| (slot, slot.parameter.grad()))
            .filter(|(_, gradient)| gradient.defined())
            .unzip();
        if with_gradient.is_empty() {
            return Ok(());
        }
        let column = |of: fn(&Slot) -> &Tensor| {
            with_gradient.iter().map(|slot| of(slot)).collect::<Vec<_>>()
        };
        adamw_step(
            hyper,
            &column(|slot| &slot.parameter),
            &gradients.iter().collect::<Vec<_>>(),
            &column(|slot| &slot.exp_avg),
            &column(|slot| &slot.exp_avg_sq),
            &column(|slot| &slot.step),
        )?;
        Ok(())
    }
}

impl Slot {
    fn new(parameter: &Parameter) -> Result<Self> {
        let tensor = &parameter.tensor;
        let zeros = || tensor.f_detach()?.f_zeros_like();
        Ok(Self {
            name: parameter.name.clone(),
            parameter: tensor.shallow_clone(),
            exp_avg: zeros()?,
            exp_avg_sq: zeros()?,
            step: Tensor::f_zeros([0_i64; 0], (Kind::Float, tensor.device()))?,
        })
    }

    fn state(&self) -> [(String, &Tensor); 3] {
        let name = &self.name;
        [
            (format!("exp_avg.{name}"), &self.exp_avg),
            (format!("exp_avg_sq.{name}"), &self.exp_avg_sq),
            (format!("step.{name}"), &self.step),
        ]
    }
}

fn decay_of(role: Role, config: &OptimiserConfig) -> f64 {
    match role {
        Role::Matrix => config.weight_decay,
        _ if config.decay_norms_biases_embeddings => config.weight_decay,
        _ => 0.0,
    }
}

fn refused(file: &SafetensorsFile, name: String, reason: String) -> Error {
    let path = file.path().to_path_buf();
    Error::Tensors(forerun_tensors::Error::Tensor { path, name, reason })
}

#[cfg(test)]
mod tests;
