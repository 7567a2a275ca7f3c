//! What is read from `config.json`, and what is refused.

use super::*;

#[test]
fn a_field_that_makes_no_sense_is_named_with_its_file() {
    let check = |edit: fn(&mut Value), want: &str| {
        let folder = folder();
        edit_config(folder.path(), edit);
        assert_eq!(message(folder.path()), format!("`config.json`: {want}"));
    };
    check(|f| f["num_attention_heads"] = json!(0), "`num_attention_heads` must be positive, got 0");
    check(|f| f["hidden_size"] = json!(-32), "`hidden_size` must be positive, got -32");
    check(
        |f| {
            f["num_attention_heads"] = json!(5);
            f.as_object_mut().unwrap().remove("head_dim");
        },
        "`hidden_size` must be a multiple of `num_attention_heads` = 5, got 32",
    );
    check(
        |f| f["head_dim"] = json!(7),
        "`partial_rotary_factor` must be positive, even and at most head_dim = 7, got 7",
    );
    check(|f| f["head_dim"] = json!(0), "`head_dim` must be positive and below 2^31, got 0");
    check(
        |f| f["quantization_config"] = json!({ "quant_method": "awq" }),
        "`quantization_config.quant_method` must be `forerun`, got `awq`",
    );
    check(
        |f| f["num_key_value_heads"] = json!(0),
        "`num_key_value_heads` must be positive and below 2^31, got 0",
    );
    check(
        |f| f["num_key_value_heads"] = json!(3),
        "`num_key_value_heads` must be a divisor of n_heads = 4, got 3",
    );
    check(
        |f| f["num_hidden_layers"] = json!(1_u64 << 40),
        "`num_hidden_layers` must be positive and below 2^31, got 1099511627776",
    );
    check(|f| f["rms_norm_eps"] = json!(-1e-5), "`rms_norm_eps` must be in (0, 1), got -0.00001");
    check(|f| f["hidden_act"] = json!("relu"), "`hidden_act` must be `silu`, got `relu`");
    check(
        |f| f["model_type"] = json!("gpt2"),
        "`model_type`: `gpt2` is not one of llama, phi3, phi3small",
    );
    check(
        |f| f["architectures"] = json!(["LlamaForSequenceClassification"]),
        "`architectures`: `LlamaForSequenceClassification` is not one of LlamaForCausalLM, Phi3ForCausalLM, Phi3SmallForCausalLM",
    );
    check(
        |f| f["architectures"] = json!(["Phi3ForCausalLM"]),
        "`architectures`: `Phi3ForCausalLM` is no `llama`",
    );
    check(
        |f| f["rope_scaling"] = json!({ "type": "yarn", "factor": 4.0 }),
        "`rope_scaling.type`: `yarn` is not one of default, linear, llama3",
    );
    check(
        |f| f["rope_parameters"] = json!({ "rope_type": "dynamic" }),
        "`rope_parameters.rope_type`: `dynamic` is not one of default, linear, llama3",
    );
    check(
        |f| f["rope_scaling"] = json!({ "rope_type": "llama3", "factor": 8.0 }),
        "`rope_scaling.low_freq_factor` is missing",
    );
    check(|f| f["rope_theta"] = json!(0.5), "`rope_theta` must be finite and above 1, got 0.5");
    let folder = folder();
    edit_config(folder.path(), |f| f["vocab_size"] = json!("many"));
    let said = message(folder.path());
    assert!(said.starts_with("`config.json`: `vocab_size`: invalid type: string"), "{said}");
    edit_config(folder.path(), |f| drop(f.as_object_mut().unwrap().remove("vocab_size")));
    let said = message(folder.path());
    assert!(
        said.contains("`config.json`: ") && said.contains("missing field `vocab_size`"),
        "{said}"
    );
    edit_config(folder.path(), |f| {
        f["rope_scaling"] = json!({ "type": "linear", "factor": 2.0, "beta": 1 });
    });
    assert!(message(folder.path()).contains("unknown field `beta`"));
}

#[test]
fn the_wrong_sizes_are_found_in_the_tensors() {
    let folder = folder();
    edit_config(folder.path(), |fields| fields["intermediate_size"] = json!(50));
    let want = "`model.safetensors`: tensor `model.layers.0.mlp.gate_proj.weight` has shape [48, 32], the config's is [50, 32]";
    assert_eq!(message(folder.path()), want);
    // No memory is asked for by a number alone.
    edit_config(folder.path(), |fields| {
        fields["intermediate_size"] = json!(48);
        fields["num_hidden_layers"] = json!(2_000_000_000);
    });
    let want = "`model.safetensors`: tensor `model.layers.2.input_layernorm.weight` is missing";
    assert_eq!(message(folder.path()), want);
}

#[test]
fn both_spellings_of_long_rope_are_one() {
    let folder = tempfile::tempdir().unwrap();
    let config = all_lm_configs().remove(2);
    lm(&config, 4).save(folder.path()).unwrap();
    let (short, long) = (vec![1.0, 1.1, 1.2, 1.3], vec![2.0, 3.0, 4.0, 5.0]);
    let mut read = Vec::new();
    for kind in ["su", "longrope", "yarn"] {
        edit_config(folder.path(), |f| {
            f["rope_scaling"] = json!({ "type": kind, "short_factor": short, "long_factor": long });
        });
        read.push(LmConfig::read(&folder.path().join(CONFIG)).unwrap());
    }
    edit_config(folder.path(), |f| {
        f.as_object_mut().unwrap().remove("rope_scaling");
        f["rope_parameters"] = json!({
            "rope_type": "longrope", "rope_theta": 100.0, "short_factor": short, "long_factor": long,
            "original_max_position_embeddings": 12, "partial_rotary_factor": 1.0,
        });
    });
    read.push(LmConfig::read(&folder.path().join(CONFIG)).unwrap());
    assert!(read.windows(2).all(|pair| pair[0] == pair[1]));
    let crate::lm::RopeScaling::LongRope { scales, .. } = read[0].rope.scaling else { panic!() };
    let want = (1.0 + (64.0_f64 / 12.0).ln() / 12.0_f64.ln()).sqrt();
    assert_eq!(scales, [want, want]);
}

#[test]
fn fields_of_phi_3_small_are_checked_under_their_names() {
    let check = |field: &str, value: Value, want: &str| {
        let folder = tempfile::tempdir().unwrap();
        let _ = crate::testing::phi3_small_checkpoint(folder.path(), 16, 24);
        edit_config(folder.path(), |fields| fields[field] = value);
        assert_eq!(message(folder.path()), format!("`config.json`: `{field}` must be {want}"));
    };
    check("dense_attention_every_n_layers", json!(0), "positive, got 0");
    check("blocksparse_block_size", json!(-1), "positive, got -1");
    check("blocksparse_num_local_blocks", json!(0), "positive, got 0");
    check("blocksparse_vert_stride", json!(0), "positive, got 0");
    check("mup_attn_multiplier", json!(0.0), "positive and finite, got 0");
    check("gegelu_limit", json!(-20.0), "positive and finite, got -20");
    check("dummy_token_indices", json!([1, 40]), "token ids, from 0 to 39, got 40");
    check("hidden_act", json!("silu"), "`gegelu`, got `silu`");
}
