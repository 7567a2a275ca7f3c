use super::*;

fn tries(points: &[(f64, Option<f64>)]) -> CellResult {
    let member = |&(lr, loss): &(f64, Option<f64>)| {
        let outcome = if loss.is_some() { "finished" } else { "diverged" };
        let row =
            [("lr", json!(lr)), ("validation_loss", json!(loss)), ("outcome", json!(outcome))];
        let row = row.map(|(name, value)| (name.to_owned(), value)).into();
        MemberResult { row, series: Vec::new() }
    };
    CellResult { members: points.iter().map(member).collect(), ..CellResult::default() }
}

#[track_caller]
fn check(points: &[(f64, Option<f64>)], expected: Option<f64>) {
    assert_eq!(best(&tries(points)), expected, "{points:?}");
}

#[test]
fn the_lowest_loss_decides_and_of_equal_ones_the_lower_rate() {
    check(&[(1e-3, Some(2.0)), (2e-3, Some(1.5)), (4e-3, Some(1.7))], Some(2e-3));
    check(&[(4e-3, Some(1.5)), (2e-3, Some(1.5)), (1e-3, Some(1.6))], Some(2e-3));
    check(&[(1e-3, Some(2.0)), (2e-3, None)], Some(1e-3));
    check(&[(1e-3, None), (2e-3, None)], None);
    check(&[], None);
}

#[test]
fn a_diverged_try_is_not_taken_for_the_loss_that_it_had_before() {
    let mut tries = tries(&[(1e-3, Some(2.0)), (2e-3, Some(1.0))]);
    tries.members[1].row.insert("outcome".to_owned(), json!("diverged"));
    assert_eq!(best(&tries), Some(1e-3));
}

#[test]
fn a_stack_is_called_after_any_member_that_finished() {
    let finished = Outcome::Finished { step: 1, tokens: 1, loss: 1.0, eval_loss: None };
    let diverged = Outcome::Diverged { step: 1, loss: f64::NAN };
    assert_eq!(of_all(&[diverged, finished]), "finished");
    assert_eq!(of_all(&[diverged, diverged]), "diverged");
    assert_eq!(of_all(&[Outcome::OutOfMemory { step: 3 }]), "out-of-memory");
}

#[test]
fn the_cost_of_a_stack_is_that_of_its_members() {
    let model = DecoderConfig {
        vocab_size: 257,
        d_model: 64,
        n_layers: 2,
        n_heads: 4,
        d_ff: 256,
        ..DecoderConfig::default()
    };
    let training: TrainConfig = serde_json::from_value(json!({
        "seq_len": 128, "batch_size": 16, "micro_batch_size": 16, "steps": 10, "optimiser": { "lr": 1.0 }
    }))
    .unwrap();
    let (one, four) = (cost(&model, &training, 1), cost(&model, &training, 4));
    assert_eq!(one.n_params, four.n_params, "parameters are those of one model");
    assert_eq!((4 * one.n_tokens, 4 * one.disk_bytes), (four.n_tokens, four.disk_bytes));
    assert_eq!(4.0 * one.flops, four.flops);
    let own = |cost: &Cost| cost.memory_bytes as f64 - LIBTORCH_BYTES;
    assert!((own(&four) / own(&one) - 4.0).abs() < 1e-6, "libtorch is there once");
}
