//! AdamW over groups of parameters that share a weight decay and a learning-rate multiplier.

use std::collections::BTreeSet;

use forerun_tensors::{AdamW, Parameter, Parameters, Role, SafetensorsFile, adamw_step};
use tch::{Kind, Tensor};

use crate::config::OptimiserConfig;
use crate::error::{Error, Result};
use crate::members::Members;

/// AdamW with its moments.
///
/// Loshchilov and Hutter 2019, *Decoupled Weight Decay Regularization*, arXiv:1711.05101, algorithm 2, in PyTorch's
/// form: `θ ← θ − lr · (weight_decay · θ + m̂ / (√v̂ + eps))`. A parameter without a gradient is left alone, decay
/// included. Each member of a stack is updated by itself, at a learning rate of its own, with the arithmetic of a
/// single model.
#[derive(Debug)]
pub struct Optimiser {
    hyper: OptimiserConfig,
    members: Members,
    groups: Vec<Group>,
}

/// Parameters that are updated in one fused call.
#[derive(Debug)]
struct Group {
    lr_multiplier: f64,
    weight_decay: f64,
    slots: Vec<Slot>,
}

/// One parameter with its state.
#[derive(Debug)]
struct Slot {
    name: String,
    /// Of all members.
    whole: Numbers,
    /// Views of `whole`: what each member has of it.
    by_member: Vec<Numbers>,
}

/// Handles to a parameter and its state; all but `step` have the parameter's shape.
#[derive(Debug)]
struct Numbers {
    parameter: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    /// One number for each member.
    step: Tensor,
}

impl Optimiser {
    /// Zero moments for every one of `parameters` of a single model, grouped by decay and multiplier.
    ///
    /// # Errors
    /// [`Error::Tensors`] if libtorch refuses, for one thing because memory is exhausted.
    pub fn new(parameters: &Parameters, config: &OptimiserConfig) -> Result<Self> {
        Self::of_members(parameters, config, Members::Single)
    }

    /// As [`Self::new`] for a stack too.
    pub(crate) fn of_members(
        parameters: &Parameters,
        config: &OptimiserConfig,
        members: Members,
    ) -> Result<Self> {
        let mut groups: Vec<Group> = Vec::new();
        for parameter in parameters.iter() {
            let weight_decay = decay_of(parameter.role, config);
            let lr_multiplier = parameter.lr_multiplier;
            let slot = Slot::new(parameter, members)?;
            let same = |group: &&mut Group| {
                group.weight_decay == weight_decay && group.lr_multiplier == lr_multiplier
            };
            match groups.iter_mut().find(same) {
                Some(group) => group.slots.push(slot),
                None => groups.push(Group { lr_multiplier, weight_decay, slots: vec![slot] }),
            }
        }
        Ok(Self { hyper: config.clone(), members, groups })
    }

    /// The gradients that exist, to be clipped in place.
    pub fn gradients(&self) -> Vec<Tensor> {
        self.slots().map(|slot| slot.whole.parameter.grad()).filter(Tensor::defined).collect()
    }

    /// One update of every parameter that has a gradient. `lr` is the schedule's learning rate; each group's
    /// multiplier comes on top.
    ///
    /// # Errors
    /// [`Error::Tensors`] if libtorch refuses.
    pub fn step(&mut self, lr: f64) -> Result<()> {
        self.step_members(&vec![Some(lr); self.members.count() as usize])
    }

    /// As [`Self::step`] with a learning rate for each member; one without is left alone.
    pub(crate) fn step_members(&mut self, lrs: &[Option<f64>]) -> Result<()> {
        let &OptimiserConfig { beta1, beta2, eps, .. } = &self.hyper;
        for group in &self.groups {
            let weight_decay = group.weight_decay;
            let gradients = group.gradients(self.members)?;
            for (index, lr) in lrs.iter().enumerate() {
                let Some(lr) = lr else { continue };
                let hyper = AdamW { lr: lr * group.lr_multiplier, beta1, beta2, eps, weight_decay };
                group.step(index, &gradients, &hyper)?;
            }
        }
        Ok(())
    }

    /// The state under the names `exp_avg.P`, `exp_avg_sq.P` and `step.P` for a parameter `P`; of a stack with the
    /// members before each shape.
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
    /// The gradients of each slot that has one, by member.
    fn gradients(&self, members: Members) -> Result<Vec<(&Slot, Vec<Tensor>)>> {
        let there = self.slots.iter().map(|slot| (slot, slot.whole.parameter.grad()));
        let there = there.filter(|(_, gradient)| gradient.defined());
        there.map(|(slot, gradient)| Ok((slot, members.views(&gradient)?))).collect()
    }

    /// Updates the member of that index.
    fn step(&self, index: usize, slots: &[(&Slot, Vec<Tensor>)], hyper: &AdamW) -> Result<()> {
        let own: Vec<(&Numbers, &Tensor)> = slots
            .iter()
            .filter_map(|(slot, gradients)| {
                Some((slot.by_member.get(index)?, gradients.get(index)?))
            })
            .collect();
        if own.is_empty() {
            return Ok(());
        }
        let column = |of: fn(&Numbers) -> &Tensor| {
            own.iter().map(|(numbers, _)| of(numbers)).collect::<Vec<_>>()
        };
        adamw_step(
            hyper,
            &column(|numbers| &numbers.parameter),
            &own.iter().map(|(_, gradient)| *gradient).collect::<Vec<_>>(),
            &column(|numbers| &numbers.exp_avg),
            &column(|numbers| &numbers.exp_avg_sq),
            &column(|numbers| &numbers.step),
        )?;
        Ok(())
    }
}

impl Slot {
    fn new(parameter: &Parameter, members: Members) -> Result<Self> {
        let tensor = &parameter.tensor;
        let zeros = || tensor.f_detach()?.f_zeros_like();
        let whole = Numbers {
            parameter: tensor.shallow_clone(),
            exp_avg: zeros()?,
            exp_avg_sq: zeros()?,
            step: Tensor::f_zeros(members.scalars(), (Kind::Float, tensor.device()))?,
        };
        let by_member = whole.by_member(members)?;
        Ok(Self { name: parameter.name.clone(), whole, by_member })
    }

    fn state(&self) -> [(String, &Tensor); 3] {
        let name = &self.name;
        [
            (format!("exp_avg.{name}"), &self.whole.exp_avg),
            (format!("exp_avg_sq.{name}"), &self.whole.exp_avg_sq),
            (format!("step.{name}"), &self.whole.step),
        ]
    }
}

impl Numbers {
    fn by_member(&self, members: Members) -> Result<Vec<Self>> {
        let views = |tensor: &Tensor| members.views(tensor).map(Vec::into_iter);
        let (parameters, steps) = (views(&self.parameter)?, views(&self.step)?);
        let moments = views(&self.exp_avg)?.zip(views(&self.exp_avg_sq)?);
        let parts = parameters.zip(moments).zip(steps);
        let one = |((parameter, (exp_avg, exp_avg_sq)), step)| Self {
            parameter,
            exp_avg,
            exp_avg_sq,
            step,
        };
        Ok(parts.map(one).collect())
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
