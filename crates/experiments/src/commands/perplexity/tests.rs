use super::*;

fn score(pieces: &[(f64, usize)]) -> Score {
    Score { pieces: pieces.to_vec(), bytes: 40, characters: 20, n_left: 0 }
}

#[test]
fn perplexities_are_those_of_the_sums() {
    let score = score(&[(6.0, 2), (4.0, 2), (5.0, 6)]);
    let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found}");
    close(score.per_token().value, 1.5_f64.exp());
    close(score.per_character().value, 0.75_f64.exp());
    close(score.bits_per_byte().value, 15.0 / 40.0 / std::f64::consts::LN_2);
}

#[test]
fn the_interval_of_equal_pieces_is_students() {
    let pieces = [1.0, 2.0, 2.5, 1.5, 3.0];
    let score = score(&pieces.map(|nats| (8.0 * nats, 8)));
    let expected = student_interval(&pieces, CONFIDENCE).unwrap();
    let found = score.nats_per_token().interval.unwrap();
    assert!((found.low - expected.low).abs() < 1e-12 && (found.high - expected.high).abs() < 1e-12);
    // One piece has no spread.
    let one = Score { pieces: vec![(3.0, 4)], ..score };
    assert_eq!(one.per_token().interval, None);
}

#[test]
fn the_interval_of_a_ratio_covers_it() {
    use rand::Rng;
    // Pieces of unequal length; the true ratio is 1. A nominal 95 % interval of 12 pieces.
    let mut rng = forerun_runs::seed::Seed::new(5).stream("pieces");
    let n_covered = (0..2000)
        .filter(|_| {
            let pieces: Vec<(f64, usize)> = (0..12)
                .map(|_| {
                    let n = rng.random_range(20..60_usize);
                    (n as f64 * (1.0 + rng.random_range(-0.5..0.5)), n)
                })
                .collect();
            score(&pieces).nats_per_token().interval.unwrap().contains(1.0)
        })
        .count();
    assert!((1820..=1960).contains(&n_covered), "{n_covered} of 2000");
}
