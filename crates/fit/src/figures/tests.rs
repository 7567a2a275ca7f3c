use super::*;

#[test]
fn curves_are_drawn_at_places_that_one_can_read() {
    let places: Vec<f64> = steps(6e8, 4e10, 60).collect();
    assert_eq!((places[0], places[60]), (6e8, 4e10));
    assert!(places.windows(2).all(|pair| pair[0] < pair[1]));
    // Four digits and zeros.
    let digits = |x: &f64| format!("{x}").trim_end_matches('0').len();
    assert!(places.iter().all(|x| digits(x) <= 4), "{places:?}");
}
