//! Low-rank adapters on the linear maps of a model.

use std::collections::BTreeMap;

use forerun_tensors::{Error as TensorError, Parameter, Parameters, Role, ensure};
use rand::Rng;

use super::{CausalLm, Projection};
use crate::error::Result;
use crate::lora::{Adapter, LoraConfig, SavedAdapters, parameter_name};

impl CausalLm {
    /// Puts a fresh adapter, which changes nothing yet, on each linear map that `config` chooses; draws from `rng` in the order of
    /// [`Self::projections`].
    ///
    /// # Errors
    /// [`TensorError::Config`] if a hyperparameter is out of range, a target is no linear map of the blocks, or there are adapters
    /// already.
    pub fn add_adapters(&mut self, config: &LoraConfig, rng: &mut impl Rng) -> Result<()> {
        let names: Vec<String> = self.projections().map(|map| map.name().to_owned()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let chosen = config.choose(&names)?;
        self.ensure_bare()?;
        let device = self.device();
        for map in self.projections_mut().filter(|map| chosen.contains(&map.name())) {
            let adapter = Adapter::new(config, [map.d_out(), map.d_in()], rng, device)?;
            map.set_adapter(Some(adapter))?;
        }
        Ok(())
    }

    /// Puts adapters where they belong by name, as [`crate::load_adapters`] read them.
    ///
    /// # Errors
    /// [`TensorError::Config`] if one is for a linear map that the blocks do not have, or of another shape, or there are
    /// adapters already. None has been put on then.
    pub fn set_adapters(&mut self, saved: SavedAdapters) -> Result<()> {
        self.ensure_bare()?;
        let SavedAdapters { mut adapters, .. } = saved;
        for (name, adapter) in &adapters {
            let map = self.projections().find(|map| map.name() == name);
            let size = map.map(|map| [map.d_out(), map.d_in()]);
            let want = match size {
                Some(size) => format!("for {size:?}"),
                None => "for a linear map of the blocks".to_owned(),
            };
            let got = format!("{:?}", adapter.size());
            ensure(size == Some(adapter.size()), &format!("adapter of `{name}`"), &want, got)?;
        }
        for map in self.projections_mut() {
            if let Some(adapter) = adapters.remove(map.name()) {
                map.set_adapter(Some(adapter))?;
            }
        }
        Ok(())
    }

    /// All adapters by the name of their linear map.
    pub fn adapters(&self) -> BTreeMap<String, &Adapter> {
        let mut all = BTreeMap::new();
        for map in self.projections() {
            if let Some(adapter) = map.adapter() {
                all.insert(map.name().to_owned(), adapter);
            }
        }
        all
    }

    /// Takes all adapters off, by the name of their linear map; those that were merged are taken out of the weights.
    ///
    /// # Errors
    /// None today; a [`Result`] like its counterparts'.
    pub fn take_adapters(&mut self) -> Result<BTreeMap<String, Adapter>> {
        let mut taken = BTreeMap::new();
        for map in self.projections_mut() {
            if let Some(adapter) = map.set_adapter(None)? {
                taken.insert(map.name().to_owned(), adapter);
            }
        }
        Ok(taken)
    }

    /// The matrices of all adapters, under PEFT's names: all that is trained.
    ///
    /// # Errors
    /// [`TensorError::Config`] never, as names of linear maps are unique.
    pub fn adapter_parameters(&self) -> Result<Parameters> {
        let mut parameters = Parameters::new();
        for (module, adapter) in self.adapters() {
            for (matrix, tensor) in [('A', adapter.a()), ('B', adapter.b())] {
                parameters.push(Parameter {
                    name: parameter_name(&module, matrix),
                    tensor: tensor.shallow_clone(),
                    role: Role::Matrix,
                    lr_multiplier: 1.0,
                })?;
            }
        }
        Ok(parameters)
    }

    /// Whether the adapters' dropout acts.
    pub fn train_adapters(&mut self, on: bool) {
        self.projections_mut().filter_map(Projection::adapter_mut).for_each(|a| a.set_training(on));
    }

    /// Adds every adapter's share to the weights, which costs nothing from then on. The weights as they were are kept.
    ///
    /// # Errors
    /// [`TensorError::Config`] names a linear map whose weights are packed. No adapter is merged then.
    pub fn merge_adapters(&mut self) -> Result<()> {
        let merged = self.projections_mut().try_for_each(Projection::merge);
        if merged.is_err() {
            self.unmerge_adapters();
        }
        Ok(merged?)
    }

    /// Puts the weights back that were there before [`Self::merge_adapters`], bit for bit.
    pub fn unmerge_adapters(&mut self) {
        self.projections_mut().for_each(Projection::unmerge);
    }

    fn ensure_bare(&self) -> Result<(), TensorError> {
        let adapted = self.projections().find(|map| map.adapter().is_some());
        let got = adapted.map_or("", Projection::name);
        ensure(adapted.is_none(), "adapters", "none yet", format!("one of `{got}`"))
    }
}

#[cfg(test)]
mod tests;
