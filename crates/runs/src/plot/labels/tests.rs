use proptest::prelude::*;

use super::{FONT, shorten, width, wrap};

#[test]
fn short_labels_stay_and_long_ones_are_cut() {
    assert_eq!(shorten("loss", FONT, 100.0), "loss");
    let cut = shorten("validation loss after a very long training", FONT, 100.0);
    assert!(cut.ends_with('…') && width(&cut, FONT) <= 100.0, "{cut}");
}

#[test]
fn wrapping_breaks_between_words() {
    let lines = wrap("Perplexity against evaluation length", FONT, 130.0, 3);
    assert_eq!(lines, ["Perplexity against", "evaluation length"]);
    assert_eq!(wrap("", FONT, 130.0, 3), Vec::<String>::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_line_is_wider_than_its_room(text in "[ -~漢é]{0,80}", room in 30.0..400.0, most in 1..4_usize) {
        let lines = wrap(&text, FONT, room, most);
        prop_assert!(lines.len() <= most);
        prop_assert!(lines.iter().all(|line| width(line, FONT) <= room), "{lines:?}");
    }
}
