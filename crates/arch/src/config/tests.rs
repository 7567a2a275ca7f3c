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
