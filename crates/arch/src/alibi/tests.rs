use super::*;

#[test]
fn slopes_are_those_of_the_paper() {
    let eight: Vec<f64> = (1..=8).map(|h| 0.5_f64.powi(h)).collect();
    assert_eq!(alibi_slopes(8), eight);
    // The authors' rule for 6: the four of n = 4, then every other one of n = 8.
    let six: Vec<f64> = [2, 4, 6, 8, 1, 3].map(|power| 0.5_f64.powi(power)).into();
    assert_eq!(alibi_slopes(6), six);
}

#[test]
fn the_bias_is_minus_slope_times_distance() {
    let slopes = Tensor::from_slice(&alibi_slopes(2));
    let bias = bias(&slopes, 5..7, 4..7, Device::Cpu).unwrap();
    assert_eq!(bias.size(), [1, 2, 2, 3]);
    let flat: Vec<f32> = Vec::try_from(bias.view([-1])).unwrap();
    let (a, b) = (1.0 / 16.0, 1.0 / 256.0);
    assert_eq!(flat, [-a, 0.0, -a, -2.0 * a, -a, 0.0, -b, 0.0, -b, -2.0 * b, -b, 0.0]);
}
