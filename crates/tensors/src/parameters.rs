//! The named, trainable tensors of a model.

use std::collections::HashMap;

use tch::{Kind, Tensor};

use crate::error::{Result, ensure};
use crate::shim;

/// What a parameter is for, which decides whether weight decay applies to it by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The weight of a linear map; the only role that decays by default.
    Matrix,
    /// A table of token or position vectors.
    Embedding,
    /// Scale or shift of a normalisation.
    Norm,
    /// The bias of a linear map.
    Bias,
}

/// One trainable tensor.
#[derive(Debug)]
pub struct Parameter {
    /// Unique in its model, dotted: `layers.0.attention.q.weight`.
    pub name: String,
    /// A leaf of the autograd graph that requires a gradient.
    pub tensor: Tensor,
    /// What it is for.
    pub role: Role,
    /// Factor on the learning rate, as muP sets it; 1 otherwise.
    pub lr_multiplier: f64,
}

/// All parameters of a model, in the order in which they were pushed.
#[derive(Debug, Default)]
pub struct Parameters {
    list: Vec<Parameter>,
    index: HashMap<String, usize>,
}

impl Parameters {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends `parameter`.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if the name is taken, the tensor is not a floating-point leaf
    /// that requires a gradient, or the multiplier is negative or not finite.
    pub fn push(&mut self, parameter: Parameter) -> Result<()> {
        let Parameter { name, tensor, lr_multiplier, .. } = &parameter;
        ensure(
            !self.index.contains_key(name),
            "parameter name",
            "unique",
            format!("`{name}` twice"),
        )?;
        ensure(
            tensor.requires_grad() && tensor.is_leaf(),
            &format!("parameter `{name}`"),
            "a leaf tensor that requires a gradient",
            describe(tensor),
        )?;
        ensure(
            lr_multiplier.is_finite() && *lr_multiplier >= 0.0,
            &format!("lr_multiplier of `{name}`"),
            "finite and not negative",
            lr_multiplier,
        )?;
        self.index.insert(name.clone(), self.list.len());
        self.list.push(parameter);
        Ok(())
    }

    /// The parameters in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Parameter> {
        self.list.iter()
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The parameter of that name.
    pub fn get(&self, name: &str) -> Option<&Parameter> {
        self.index.get(name).map(|&i| &self.list[i])
    }

    /// How many numbers there are in all.
    pub fn n_elements(&self) -> i64 {
        self.list.iter().map(|parameter| parameter.tensor.numel() as i64).sum()
    }

    /// Drops every gradient, so that `grad()` is undefined until the next backward pass, which then
    /// stores its gradient without an addition (PyTorch's `set_to_none`).
    pub fn zero_grad(&self) {
        for parameter in &self.list {
            shim::clear_grad(&parameter.tensor);
        }
    }

    /// Names with handles to the same storage, ready for [`save`](crate::save).
    pub fn named_tensors(&self) -> Vec<(String, Tensor)> {
        self.list.iter().map(|p| (p.name.clone(), p.tensor.shallow_clone())).collect()
    }
}

impl<'a> IntoIterator for &'a Parameters {
    type Item = &'a Parameter;
    type IntoIter = std::slice::Iter<'a, Parameter>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

fn describe(tensor: &Tensor) -> String {
    let kind: Option<Kind> = tensor.f_kind().ok();
    format!(
        "kind {kind:?}, requires_grad {}, {}",
        tensor.requires_grad(),
        if tensor.is_leaf() { "a leaf" } else { "not a leaf" }
    )
}

#[cfg(test)]
mod tests;
