use proptest::prelude::*;

use super::*;

/// What is shown of `pieces`, and the stop string that was found.
fn run(stops: &[&str], pieces: &[String]) -> (String, Option<String>) {
    let mut filter = StopStrings::new(stops.iter().copied()).unwrap();
    let mut shown: String = pieces.iter().map(|piece| filter.push(piece)).collect();
    let found = filter.found().map(str::to_owned);
    shown.push_str(&filter.finish());
    (shown, found)
}

/// The obvious way: after every character, does the text end in a stop string?
fn oracle(stops: &[&str], text: &str) -> (String, Option<String>) {
    let mut seen = String::new();
    for c in text.chars() {
        seen.push(c);
        let longest = stops.iter().filter(|stop| seen.ends_with(**stop)).max_by_key(|s| s.len());
        if let Some(stop) = longest {
            return (seen[..seen.len() - stop.len()].to_owned(), Some((*stop).to_owned()));
        }
    }
    (seen, None)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_cuts_between_pieces_do_not_matter(
        pieces in prop::collection::vec("[abé]{0,4}", 0..8),
        stops in prop::collection::vec("[abé]{1,4}", 0..4),
    ) {
        let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
        prop_assert_eq!(run(&stops, &pieces), oracle(&stops, &pieces.concat()));
    }
}

#[test]
fn nothing_is_held_longer_than_it_is_undecided() {
    let mut filter = StopStrings::new(["</s>", "<|end|>"]).unwrap();
    let shown = ["a<", "b<|", "en", "d<|end|", "x"].map(|piece| filter.push(piece));
    assert_eq!(shown, ["a", "<b", "", "<|end", "<|end|x"]);
    assert_eq!(filter.finish(), "");
}

#[test]
fn after_a_stop_nothing_is_shown() {
    let mut filter = StopStrings::new(["x"]).unwrap();
    assert_eq!(filter.push("axbx"), "a");
    assert_eq!(filter.push("more"), "");
    assert_eq!((filter.found(), filter.clone().finish()), (Some("x"), String::new()));
}

#[test]
fn an_empty_stop_string_is_refused() {
    let error = StopStrings::new(["a", ""]).unwrap_err().to_string();
    assert_eq!(error, "stop string must be a non-empty text, got an empty one");
}
