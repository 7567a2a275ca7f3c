use forerun_tokens::gguf::GgmlType;
use rand::Rng;
use tch::Kind;

use super::*;
use crate::gguf::tests::{bytes, file_with};
use crate::lm::{CausalLm, LmConfig};
use crate::testing::{CPU, lm, lm_config, max_diff, rng, tokens};

/// Blocks with codes at random and a scale of some size; of their minima, if they have one, too.
fn blocks(kind: GgmlType, n_values: usize, seed: u64) -> Vec<u8> {
    let mut rng = rng(seed);
    let mut all = Vec::new();
    for _ in 0..n_values / Codes::GROUP {
        // f16 of 2^-4 to 2^-3, or a sixteenth of that where codes are sixteen times as large.
        let exponent = if kind == GgmlType::Q8_0 { 0x1c } else { 0x2c };
        all.extend([rng.random(), exponent + rng.random_range(0..4)]);
        if kind == GgmlType::Q4_1 {
            all.extend([rng.random(), 0xb8 + rng.random_range(0..4)]); // -1 to -0.5
        }
        match kind {
            GgmlType::Q8_0 => all.extend((0..32).map(|_| rng.random_range(-127..=127_i8) as u8)),
            _ => all.extend((0..16).map(|_| rng.random::<u8>())),
        }
    }
    all
}

/// A model whose matrices are of this type, but its tables.
fn file(kind: GgmlType) -> Gguf {
    let model = lm(&LmConfig { d_ff: 64, ..lm_config() }, 1);
    file_with(&model, |name, tensor| match tensor.size().as_slice() {
        [out, columns] if name.starts_with("blk.") => {
            (kind, blocks(kind, (out * columns) as usize, *columns as u64))
        }
        _ => (GgmlType::F32, bytes(tensor)),
    })
}

#[test]
fn whole_numbers_stay_as_they_are() {
    for kind in [GgmlType::Q4_0, GgmlType::Q4_1, GgmlType::Q8_0] {
        let file = file(kind);
        let plain = CausalLm::from_gguf(&file, Kind::Float, CPU).unwrap();
        let packed = CausalLm::from_gguf_packed(&file, Kind::Float).unwrap();
        assert_eq!(packed.config(), plain.config());
        let mut n = 0;
        for (packed, plain) in packed.projections().zip(plain.projections()) {
            let crate::Map::Packed(matrix) = packed.map() else { panic!("{}", packed.name()) };
            let got = matrix.matrix.dequantize(Kind::Float).unwrap();
            // `scale * code - 8 * scale` and `scale * (code - 8)` are rounded differently.
            assert!(max_diff(&got, &plain.linear().unwrap().weight) < 1e-6, "{}", packed.name());
            n += 1;
        }
        assert_eq!(n, 14);
        let text = tokens(2, 20, 37, &mut rng(2));
        let logits = |model: &CausalLm| tch::no_grad(|| model.logits(&text).unwrap());
        let (got, want) = (logits(&packed), logits(&plain));
        let size = |x: &Tensor| f64::try_from(x.square().mean(Kind::Double).sqrt()).unwrap();
        // What comes into a product is rounded to 8 bits.
        let share = size(&(&got - &want)) / size(&want);
        assert!(share < 0.05, "{kind:?}: {share}");
    }
}

#[test]
fn what_cannot_be_packed_is_named() {
    let model = lm(&LmConfig { d_ff: 64, ..lm_config() }, 1);
    let name = "blk.1.ffn_up.weight";
    let file = file_with(&model, |own, tensor| {
        let mut all = blocks(GgmlType::Q4_1, tensor.numel(), 3);
        match own == name {
            true => {
                all[1] = 0x7c; // infinite
                all[0] = 0;
                (GgmlType::Q4_1, all)
            }
            false => (GgmlType::F32, bytes(tensor)),
        }
    });
    let message = CausalLm::from_gguf_packed(&file, Kind::Float).unwrap_err().to_string();
    let want =
        format!("`model.gguf`: tensor `{name}` scale must be at most 65,504 in size, got inf");
    assert_eq!(message, want);
}
