use super::*;

#[test]
fn sinusoids_are_those_of_the_paper() {
    let rows = Absolute::Sinusoidal { d_model: 6, device: Device::Cpu }.rows(3..5).unwrap();
    assert_eq!(rows.size(), [2, 6]);
    for (row, position) in [3.0_f64, 4.0].into_iter().enumerate() {
        for pair in 0..3 {
            let angle = position / 10_000_f64.powf(2.0 * pair as f64 / 6.0);
            for (channel, want) in [(2 * pair, angle.sin()), (2 * pair + 1, angle.cos())] {
                let got = rows.double_value(&[row as i64, channel]);
                assert!((got - want).abs() < 1e-7, "{row} {channel}");
            }
        }
    }
}

#[test]
fn learned_rows_start_after_the_offset_and_end_with_the_table() {
    let table = Tensor::arange(12, (Kind::Float, Device::Cpu)).view([6, 2]);
    let learned = Absolute::Learned { table, offset: 2 };
    let rows: Vec<f32> = Vec::try_from(learned.rows(1..3).unwrap().view([-1])).unwrap();
    assert_eq!(rows, [6.0, 7.0, 8.0, 9.0]);
    let message = learned.rows(3..5).unwrap_err().to_string();
    assert_eq!(message, "positions.max_seq_len must be at least the sequence of 5 tokens, got 4");
}
