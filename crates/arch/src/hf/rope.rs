//! Rotary positions in both spellings.

use std::path::Path;

use super::config::Family;
use super::fields::{Fields, RopeFields};
use super::refused;
use crate::error::{Error, Result};
use crate::lm::{LmRope, RopeScaling};

/// Phi-3's first training, where a configuration does not say.
const PHI3_ORIGINAL: i64 = 4096;

pub(super) fn rope(path: &Path, family: Family, head_dim: i64, fields: &Fields) -> Result<LmRope> {
    let (block, name) = match (&fields.rope_parameters, &fields.rope_scaling) {
        (Some(block), _) => (block.clone(), "rope_parameters"),
        (None, Some(block)) => (block.clone(), "rope_scaling"),
        (None, None) => (RopeFields::default(), "rope_scaling"),
    };
    let theta = block.rope_theta.or(fields.rope_theta).or(fields.small.rope_embedding_base);
    let default_theta = if family == Family::Phi3Small { 1e6 } else { 1e4 };
    let part = block.partial_rotary_factor.or(fields.partial_rotary_factor).unwrap_or(1.0);
    if !(part > 0.0 && part <= 1.0) {
        return Err(refused(
            path,
            format!("`partial_rotary_factor` must be in (0, 1], got {part}"),
        ));
    }
    let scaling = Scaling { path, name, family, fields, block: &block };
    Ok(LmRope {
        theta: theta.unwrap_or(default_theta),
        rotary_dim: (head_dim as f64 * part) as i64,
        scaling: scaling.resolve()?,
    })
}

struct Scaling<'a> {
    path: &'a Path,
    name: &'a str,
    family: Family,
    fields: &'a Fields,
    block: &'a RopeFields,
}

impl Scaling<'_> {
    fn resolve(&self) -> Result<RopeScaling> {
        let given = self.block.rope_type.as_deref().or(self.block.kind.as_deref());
        match (given.unwrap_or("default"), self.family) {
            ("default", Family::Phi3Small) => self.position_scale(),
            ("default", _) => Ok(RopeScaling::None),
            ("linear", Family::Llama) => {
                Ok(RopeScaling::Linear { factor: self.need("factor", self.block.factor)? })
            }
            ("llama3", Family::Llama) => self.llama3(),
            // Early configurations of Phi-3 say "su", some "yarn"; both mean LongRoPE.
            ("longrope" | "su" | "yarn", Family::Phi3 | Family::Phi3Small) => self.long_rope(),
            (other, family) => {
                let known = match family {
                    Family::Llama => "default, linear, llama3",
                    Family::Phi3 | Family::Phi3Small => "default, longrope, su, yarn",
                };
                let field = if self.block.rope_type.is_some() { "rope_type" } else { "type" };
                let place = format!("`{}.{field}`", self.name);
                Err(refused(self.path, format!("{place}: `{other}` is not one of {known}")))
            }
        }
    }

    fn position_scale(&self) -> Result<RopeScaling> {
        match self.fields.small.rope_position_scale {
            None | Some(1.0) => Ok(RopeScaling::None),
            Some(scale) if scale > 0.0 => Ok(RopeScaling::Linear { factor: 1.0 / scale }),
            Some(scale) => {
                let reason = format!("`rope_position_scale` must be positive, got {scale}");
                Err(refused(self.path, reason))
            }
        }
    }

    fn llama3(&self) -> Result<RopeScaling> {
        let block = self.block;
        let original =
            block.original_max_position_embeddings.or(self.fields.max_position_embeddings);
        let name = "original_max_position_embeddings";
        Ok(RopeScaling::Llama3 {
            factor: self.need("factor", block.factor)?,
            low_freq_factor: self.need("low_freq_factor", block.low_freq_factor)?,
            high_freq_factor: self.need("high_freq_factor", block.high_freq_factor)?,
            original_max_seq_len: original.ok_or_else(|| self.missing(name))?,
        })
    }

    fn long_rope(&self) -> Result<RopeScaling> {
        let block = self.block;
        let top = self.fields.original_max_position_embeddings;
        let original = block.original_max_position_embeddings.or(top).unwrap_or(PHI3_ORIGINAL);
        if original <= 0 {
            let name = "original_max_position_embeddings";
            return Err(refused(self.path, format!("`{name}` must be positive, got {original}")));
        }
        let longest = self.fields.max_position_embeddings.unwrap_or(original);
        let factor = block.factor.unwrap_or(longest as f64 / original as f64);
        // Applies to short texts too.
        let computed = RopeScaling::long_rope_scale(factor, original);
        let scale = block.attention_factor.unwrap_or(computed);
        let list =
            |name: &str, list: &Option<Vec<f64>>| list.clone().ok_or_else(|| self.missing(name));
        Ok(RopeScaling::LongRope {
            short_factors: list("short_factor", &block.short_factor)?,
            long_factors: list("long_factor", &block.long_factor)?,
            original_max_seq_len: original,
            scales: [block.short_mscale.unwrap_or(scale), block.long_mscale.unwrap_or(scale)],
        })
    }

    fn need(&self, field: &str, value: Option<f64>) -> Result<f64> {
        value.ok_or_else(|| self.missing(field))
    }

    fn missing(&self, field: &str) -> Error {
        refused(self.path, format!("`{}.{field}` is missing", self.name))
    }
}
