use super::*;
use crate::catalog;
use crate::config::Overrides;

#[test]
fn the_heading_says_what_means_are_over() {
    let check = |names: &[&str], expected: &str| {
        let resolve = |name: &&str| {
            Experiment::resolve(&catalog::find(name).unwrap(), &Overrides::default()).unwrap()
        };
        let experiments: Vec<Experiment> = names.iter().map(resolve).collect();
        assert_eq!(heading(experiments.iter()).trim(), expected, "{names:?}");
    };
    let pieces = "Results (arithmetic means over seeds, pieces of text or turns)";
    check(&["quickstart", "quickstart"], "Results (means over seeds)");
    check(&["phi3-quantize", "phi3-quantize"], pieces);
    check(&["quickstart", "phi3-quantize"], pieces);
}
