//! What looks wrong about a table before anything is fitted to it.

use std::collections::BTreeMap;

use forerun_scaling::{Law, Observations};

/// Warnings about the points of a law.
pub(super) fn about(law: &dyn Law, points: &Observations) -> Vec<String> {
    few_values(law, points)
        .into_iter()
        .chain(small_counts(points))
        .chain(repeated(law, points))
        .collect()
}

/// Values of an input that an exponent needs.
const MIN_VALUES: usize = 3;

/// Says so if a size or a horizon takes too few values for a power law with a floor.
fn few_values(law: &dyn Law, points: &Observations) -> Option<String> {
    let has_floor = law.parameters().iter().any(|parameter| parameter.name == "E");
    let few = ["n", "d"].into_iter().filter_map(|name| {
        let mut values = points.input(name)?.to_vec();
        values.sort_by(f64::total_cmp);
        values.dedup();
        let n = values.len();
        let unit = if n == 1 { "value" } else { "values" };
        (n < MIN_VALUES).then(|| {
            format!(
                "`{name}` takes {n} {unit}, and an exponent needs {MIN_VALUES}: runs at other values of `{name}` would \
                 tell most"
            )
        })
    });
    let few: Vec<String> = few.filter(|_| has_floor).collect();
    (!few.is_empty()).then(|| few.join("; "))
}

/// Says so if rows have the inputs and the target of another row, to all digits.
fn repeated(law: &dyn Law, points: &Observations) -> Option<String> {
    let names = law.inputs().into_iter().map(|input| input.name);
    let inputs: Vec<&[f64]> = names.filter_map(|name| points.input(&name)).collect();
    let mut first: BTreeMap<Vec<u64>, usize> = BTreeMap::new();
    let mut copies = vec![];
    for (i, (target, &row)) in points.target().iter().zip(points.rows()).enumerate() {
        let bits = inputs.iter().map(|values| values[i].to_bits());
        let known = *first.entry(bits.chain([target.to_bits()]).collect()).or_insert(row);
        if known != row {
            copies.push((row, known));
        }
    }
    let &(row, known) = copies.first()?;
    let n = copies.len();
    let rows = if n == 1 { "row is" } else { "rows are" };
    Some(format!(
        "{n} {rows} another one again to all digits (row {row} is row {known}): each counts as a measurement of its own, \
         and intervals are too narrow if it is none"
    ))
}

/// Counts below these are not those of a language model.
const SMALL: [(&str, f64); 2] = [("n", 1e4), ("d", 1e5)];

/// Says so if counts look like millions or billions: compute is counted as `6 n d`, and constants would differ.
fn small_counts(points: &Observations) -> Option<String> {
    let found = SMALL.iter().filter_map(|&(name, small)| {
        let largest = points.input(name)?.iter().copied().fold(0., f64::max);
        (largest < small).then_some((name, largest))
    });
    let found: Vec<(&str, f64)> = found.collect();
    let largest: Vec<String> =
        found.iter().map(|(name, largest)| format!("`{name}` is at most {largest}")).collect();
    let units: Vec<String> = found.iter().map(|(name, _)| format!("{name}=1e9")).collect();
    (!found.is_empty()).then(|| {
        format!(
            "{}, which looks like millions or billions: laws and compute (6 n d) want raw counts; for billions say \
             --unit {}",
            largest.join(" and "),
            units.join(",")
        )
    })
}
