use expect_test::expect;

use super::*;

fn refused(change: impl FnOnce(&mut DecoderConfig)) -> String {
    let mut config = crate::testing::tiny();
    change(&mut config);
    config.validate().unwrap_err().to_string()
}

#[test]
fn a_bad_field_is_refused_by_name() {
    let messages = [
        refused(|c| c.vocab_size = 0),
        refused(|c| c.d_model = 18),
        refused(|c| c.n_kv_heads = 3),
        refused(|c| c.n_kv_heads = -1),
        refused(|c| c.dropout = 1.0),
        refused(|c| c.norm_eps = 0.0),
        refused(|c| (c.d_model, c.n_heads) = (12, 4)),
        refused(|c| c.positions = Positions::Rope { base: f64::INFINITY }),
        refused(|c| c.positions = Positions::Xpos { base: 1e4, gamma: 0.4, scale_base: 0.0 }),
        refused(|c| c.positions = Positions::Learned { max_seq_len: 0, offset: 0 }),
        refused(|c| c.init = Init::Normal { std: -0.02 }),
        refused(|c| c.parametrisation = Parametrisation::Mup { base_d_model: 0 }),
    ];
    expect![[r#"
        vocab_size must be positive, got 0
        d_model must be a multiple of n_heads = 4, got 18
        n_kv_heads must be 0 or a divisor of n_heads = 4, got 3
        n_kv_heads must be 0 or a divisor of n_heads = 4, got -1
        dropout must be in [0, 1), got 1
        norm_eps must be in (0, 1), got 0
        head_dim must be even for a rotation, got 3
        positions.base must be finite and above 1, got inf
        positions.scale_base must be positive and finite, got 0
        positions.max_seq_len must be positive, got 0
        init.std must be positive and finite, got -0.02
        parametrisation.base_d_model must be positive, got 0"#]]
    .assert_eq(&messages.join("\n"));
}

#[test]
fn a_config_survives_json() {
    let config = DecoderConfig {
        positions: Positions::Learned { max_seq_len: 7, offset: 2 },
        init: Init::Normal { std: 0.02 },
        parametrisation: Parametrisation::Mup { base_d_model: 32 },
        activation: Activation::SwiGlu,
        ..crate::testing::tiny()
    };
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<DecoderConfig>(&text).unwrap(), config);
}

#[test]
fn sizes_are_enough_and_unknown_fields_are_refused() {
    let sizes = r#""vocab_size": 5, "d_model": 8, "n_layers": 1, "n_heads": 2, "d_ff": 16"#;
    let config: DecoderConfig = serde_json::from_str(&format!("{{{sizes}}}")).unwrap();
    assert_eq!(config.norm, NormPlacement::Sub);
    assert_eq!(config.positions, Positions::Xpos { base: 1e4, gamma: 0.4, scale_base: 512.0 });
    let error = serde_json::from_str::<DecoderConfig>(&format!("{{{sizes}, \"d_modle\": 3}}"));
    assert!(error.unwrap_err().to_string().contains("unknown field `d_modle`"));
    let error = serde_json::from_str::<Positions>(r#"{"kind": "rope", "bsae": 3}"#);
    assert!(error.unwrap_err().to_string().contains("unknown field `bsae`"));
}

#[test]
fn lengths_that_a_decoder_refuses_are_refused_before_and_no_others() {
    let xpos = |scale_base| Positions::Xpos { base: 1e4, gamma: 0.4, scale_base };
    let learned = Positions::Learned { max_seq_len: 40, offset: 2 };
    let mut positions = crate::testing::all_positions();
    positions.extend([xpos(0.5), xpos(0.3), learned]);
    for positions in positions {
        let config = DecoderConfig { n_layers: 1, positions, ..crate::testing::tiny() };
        let mut rng = crate::testing::rng(1);
        let model = crate::Decoder::new(&config, &mut rng, tch::Device::Cpu).unwrap();
        for seq_len in [1, 16, 17, 33, 40, 41, 64, 65, 90] {
            let text = crate::testing::tokens(1, seq_len, config.vocab_size, &mut rng);
            let found = model.hidden(&text, &crate::Forward::default()).err();
            let expected = config.check_length(seq_len).err();
            let text = |error: &dyn std::error::Error| error.to_string();
            assert_eq!(
                found.as_ref().map(|error| text(error)),
                expected.as_ref().map(|error| text(error)),
                "{:?} {seq_len}",
                config.positions
            );
        }
    }
    let refused = |positions: Positions, seq_len| {
        let config = DecoderConfig { positions, ..DecoderConfig::default() };
        config.check_length(seq_len).unwrap_err().to_string()
    };
    let messages = [
        refused(xpos(64.0), 8192),
        refused(xpos(0.5), 65),
        refused(xpos(512.0), i64::MAX),
        refused(Positions::Learned { max_seq_len: 40, offset: 2 }, 41),
        refused(Positions::None, 0),
    ];
    expect![[r#"
        positions.scale_base must be at least 64.2 for 8192 tokens, got 64
        positions.scale_base must be at least 1.1 for 65 tokens, got 0.5
        positions.scale_base must be at least 72216868327670980 for 9223372036854775807 tokens, got 512
        positions.max_seq_len must be at least the sequence of 41 tokens, got 40
        seq_len must be positive, got 0"#]]
    .assert_eq(&messages.join("\n"));
}
