use super::*;

#[track_caller]
fn check(n: usize, first: usize, window: usize, stride: usize, expected: &[(usize, usize, usize)]) {
    let found: Vec<_> = windows(n, first, window, stride)
        .into_iter()
        .map(|window| (window.from, window.scored.start, window.scored.end))
        .collect();
    assert_eq!(found, expected, "{n} tokens, {first} given, {window}/{stride}");
}

#[test]
fn windows_overlap_and_score_each_token_once() {
    check(10, 1, 4, 2, &[(0, 1, 4), (2, 4, 6), (4, 6, 8), (6, 8, 10)]);
    check(9, 1, 4, 3, &[(0, 1, 4), (3, 4, 7), (5, 7, 9)]);
    check(3, 1, 8, 4, &[(0, 1, 3)]);
    check(1, 1, 8, 4, &[]);
    check(0, 1, 8, 4, &[]);
    check(6, 3, 2, 1, &[(2, 3, 4), (3, 4, 5), (4, 5, 6)]);
}

#[test]
fn every_token_is_scored_once_with_enough_before_it() {
    for n in 0..40 {
        for first in 1..4 {
            for window in 2..9 {
                for stride in 1..window {
                    let all = windows(n, first, window, stride);
                    let scored: Vec<usize> = all.iter().flat_map(|w| w.scored.clone()).collect();
                    let expected: Vec<usize> = (first..n.max(first)).collect();
                    assert_eq!(scored, expected, "{n} {first} {window} {stride}");
                    for Window { from, scored } in all {
                        assert!(scored.end - from <= window && from < scored.start);
                        // All but those of a text's beginning have window - stride tokens before them.
                        assert!(from == 0 || scored.start - from >= window - stride);
                    }
                }
            }
        }
    }
}
