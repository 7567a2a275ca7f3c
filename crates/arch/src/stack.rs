//! Stacks: several models of one shape in one [`Decoder`], which run and train at once.
//!
//! Every parameter of a stack has the members before its own shape. Activations stay `[members * batch, seq, d_model]`,
//! the rows of the first member first, so that positions, attention and residuals need not know of a stack: only what
//! multiplies by a parameter does, with one batched product for all members in place of one product each. Members do
//! not see each other: a row that is not a number in one leaves the others as they are, bit for bit.

use forerun_tensors::{Error as TensorError, Result as TensorResult, ensure};
use tch::{Device, Tensor};

use crate::config::DecoderConfig;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::layout::Spec;

impl Decoder {
    /// Copies `models`, at least one, into a stack. They are single models of one shape on one device, whose configs
    /// agree in everything but `init`.
    ///
    /// # Errors
    /// [`forerun_tensors::Error::Config`] names the first model that does not fit, and in what.
    pub fn stack(models: &[Self]) -> Result<Self> {
        ensure(!models.is_empty(), "models", "at least one", "none")?;
        let configs: Vec<&DecoderConfig> = models.iter().map(Self::config).collect();
        for (index, model) in models.iter().enumerate() {
            let n = model.n_members();
            let want = "a single model";
            ensure(
                !model.is_stack(),
                &format!("models[{index}]"),
                want,
                format!("a stack of {n}"),
            )?;
            ensure_device(index, model.device(), models[0].device())?;
        }
        ensure_alike("models", &configs)?;
        let inits = configs.iter().map(|config| config.init).collect();
        Self::build(configs[0], Some(inits), models[0].device(), |spec| {
            let parts = models.iter().map(|model| model.values_of(spec));
            Ok(Tensor::f_stack(&parts.collect::<TensorResult<Vec<_>>>()?, 0)?)
        })
    }

    /// How many models this is: 1 unless it is a stack.
    #[must_use]
    pub fn n_members(&self) -> usize {
        self.inits.as_ref().map_or(1, Vec::len)
    }

    /// Whether this is a stack, if only of one member: whether parameters have the members before their own shape.
    #[must_use]
    pub fn is_stack(&self) -> bool {
        self.inits.is_some()
    }

    /// A copy of one member as a single model; of a single model, which is its own member 0, a copy.
    ///
    /// # Errors
    /// [`forerun_tensors::Error::Config`] if there is no such member.
    pub fn member(&self, index: usize) -> Result<Self> {
        let n = self.n_members();
        ensure(index < n, "member", &format!("below the {n} of this model"), index)?;
        let configs = self.member_configs();
        Self::build(&configs[index], None, self.device(), |spec| {
            let values = self.values_of(spec)?;
            let own = if self.is_stack() { values.f_get(index as i64)? } else { values };
            let mut copy = own.f_empty_like()?;
            copy.f_copy_(&own)?;
            Ok(copy)
        })
    }

    /// The config of each member.
    pub(crate) fn member_configs(&self) -> Vec<DecoderConfig> {
        let config = self.config();
        match &self.inits {
            None => vec![config.clone()],
            Some(inits) => {
                inits.iter().map(|&init| DecoderConfig { init, ..config.clone() }).collect()
            }
        }
    }

    /// For what makes sense for one model only.
    pub(crate) fn ensure_single(&self) -> TensorResult<()> {
        let got = format!("a stack of {}", self.n_members());
        ensure(!self.is_stack(), "model", "a single one, for example a `member` of a stack", got)
    }

    fn values_of(&self, spec: &Spec) -> TensorResult<Tensor> {
        let missing = || TensorError::Config {
            field: spec.name.clone(),
            want: "a parameter of the layout".to_owned(),
            got: "nothing".to_owned(),
        };
        Ok(self.parameters().get(&spec.name).ok_or_else(missing)?.tensor.f_detach()?)
    }
}

/// Checks that configs agree in everything but `init`, and that each is valid; `what` names the list in messages.
pub(crate) fn ensure_alike(what: &str, configs: &[&DecoderConfig]) -> Result<()> {
    for (index, config) in configs.iter().enumerate() {
        config.validate()?;
        let like_first = DecoderConfig { init: config.init, ..configs[0].clone() };
        if **config == like_first {
            continue;
        }
        let (field, want, got) = difference(&like_first, config);
        let field = format!("{what}[{index}].{field}");
        return Err(
            TensorError::Config { field, want: format!("{want}, as in the first"), got }.into()
        );
    }
    Ok(())
}

/// The first field in which two configs differ, with both values as JSON.
fn difference(a: &DecoderConfig, b: &DecoderConfig) -> (String, String, String) {
    let fields = |config| serde_json::to_value(config).unwrap_or_default();
    let (a, b) = (fields(a), fields(b));
    let names = a.as_object().into_iter().flat_map(|object| object.keys());
    let differs = names.into_iter().find(|name| a[name.as_str()] != b[name.as_str()]);
    let field = differs.map_or("config", String::as_str);
    (field.to_owned(), a[field].to_string(), b[field].to_string())
}

fn ensure_device(index: usize, device: Device, first: Device) -> TensorResult<()> {
    let (field, want) = (format!("models[{index}].device"), format!("{first:?}, as in the first"));
    ensure(device == first, &field, &want, format!("{device:?}"))
}

/// Rows by member: `[members * n, .., channels]` to `[members, rows, channels]`.
pub(crate) fn by_member(x: &Tensor, members: i64) -> TensorResult<Tensor> {
    let channels = x.size().last().copied().unwrap_or_default();
    Ok(x.f_reshape([members, -1, channels])?)
}

/// Rows of `table`, `[vocab, d_model]`, for i64 `[batch, seq]`: `[batch, seq, d_model]`. From the tables of a stack,
/// `[members, vocab, d_model]`, for `[members * batch, seq]`, each member reads its own.
pub(crate) fn look_up(table: &Tensor, tokens: &Tensor) -> TensorResult<Tensor> {
    let &[members, vocab, _] = table.size().as_slice() else {
        return Ok(Tensor::f_embedding(table, tokens, -1, false, false)?);
    };
    let offset =
        Tensor::f_arange(members, (tokens.kind(), tokens.device()))?.f_mul_scalar(vocab)?;
    let ids = tokens.f_reshape([members, -1])?; // [members, batch * seq]
    let known = ids.f_ge(0)?.f_logical_and(&ids.f_lt(vocab)?)?;
    // Beyond its own rows lie those of the next member: an unknown id must fall out of the whole table.
    let rows = ids.f_add(&offset.f_unsqueeze(1)?)?;
    let rows = rows.f_masked_fill(&known.f_logical_not()?, members * vocab)?;
    let rows = rows.f_view(tokens.size().as_slice())?; // [members * batch, seq]
    Ok(Tensor::f_embedding(&table.f_flatten(0, 1)?, &rows, -1, false, false)?)
}

#[cfg(test)]
mod tests;
