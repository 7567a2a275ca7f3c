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

fn args(window: Option<usize>, stride: Option<usize>) -> PerplexityArgs {
    PerplexityArgs {
        model: ModelArgs {
            model: String::new(),
            precision: None,
            tokenizer: None,
            device: "cpu".to_owned(),
            threads: None,
        },
        files: Vec::new(),
        books: false,
        window,
        stride,
        max_tokens: None,
        json: false,
    }
}

#[test]
fn a_window_is_what_the_model_is_made_for_unless_that_is_much() {
    assert_eq!(sizes(&args(None, None), 8192).unwrap(), (1024, 512));
    assert_eq!(sizes(&args(None, None), 512).unwrap(), (512, 256));
    assert_eq!(sizes(&args(Some(2048), Some(100)), 512).unwrap(), (2048, 100)); // who asks gets it
    let error = sizes(&args(None, Some(600)), 512).unwrap_err().to_string();
    assert_eq!(error, "--stride must be from 1 to 511, below the window, got 600");
}

#[test]
fn what_is_missing_is_said() {
    let whole = Notes { n_texts: 3, n_empty: 0, stopped: false, held_out: None };
    assert_eq!(whole.in_words(3), "");
    let of = |notes: &Notes, n| notes.in_words(n).split_whitespace().collect::<Vec<_>>().join(" ");
    let stopped = Notes { stopped: true, ..whole.clone() };
    assert!(of(&stopped, 2).starts_with("Stopped before the end: 2 of 3 texts are here"));
    let empty = Notes { n_empty: 1, ..whole.clone() };
    assert_eq!(of(&empty, 2), "1 text had nothing to predict.");
    let books = Notes { held_out: held_out().unwrap(), ..whole };
    let title = books.held_out.clone().unwrap();
    assert!(of(&books, 3).contains(&format!("but {title}: of a model")), "{}", of(&books, 3));
}
