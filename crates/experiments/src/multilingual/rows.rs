//! Rows of several texts in fixed shares.

use forerun_tokens::{Packed, Sampler};
use forerun_train::{BoxError, Sequences};
use tch::Tensor;

/// Positions between two remembered counts.
const STRIDE: usize = 1024;

/// Which text each row of a training comes from. Every text is as near to its share as whole rows allow at every
/// moment: the next row is of the text that is furthest behind. Nothing is drawn at random, so that mixtures differ in
/// their shares and in nothing else.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Schedule {
    texts: Vec<u8>,
    /// Rows of each text before every [`STRIDE`]-th position.
    counts: Vec<Vec<u64>>,
}

impl Schedule {
    /// For at most 256 shares, not negative and 1 in sum.
    pub(super) fn new(shares: &[f64], n_rows: u64) -> Self {
        let mut counts = vec![0_u64; shares.len()];
        let (mut texts, mut remembered) = (Vec::new(), Vec::new());
        for position in 0..n_rows {
            if position.is_multiple_of(STRIDE as u64) {
                remembered.push(counts.clone());
            }
            let behind =
                |(share, count): (&f64, &u64)| share * (position + 1) as f64 - *count as f64;
            let mut furthest = (0, f64::NEG_INFINITY);
            for (text, pair) in shares.iter().zip(&counts).enumerate() {
                // A text without a share is never behind.
                if shares[text] > 0.0 && behind(pair) > furthest.1 {
                    furthest = (text, behind(pair));
                }
            }
            counts[furthest.0] += 1;
            texts.push(furthest.0 as u8);
        }
        Self { texts, counts: remembered }
    }

    /// Text, and its rows before this one, of `n` positions from `first` on; fewer at the end.
    fn rows(&self, first: u64, n: usize) -> Vec<(usize, u64)> {
        let first = (first as usize).min(self.texts.len());
        let end = (first + n).min(self.texts.len());
        let known = first / STRIDE;
        let Some(counts) = self.counts.get(known) else { return Vec::new() };
        let mut counts = counts.clone();
        let mut rows = Vec::with_capacity(n);
        for (position, &text) in self.texts[..end].iter().enumerate().skip(known * STRIDE) {
            let text = usize::from(text);
            if position >= first {
                rows.push((text, counts[text]));
            }
            counts[text] += 1;
        }
        rows
    }

    /// Rows of each text in all.
    pub(super) fn totals(&self, n_texts: usize) -> Vec<u64> {
        let mut totals = vec![0; n_texts];
        self.texts.iter().for_each(|&text| totals[usize::from(text)] += 1);
        totals
    }
}

/// The rows of one training, each text shuffled anew every time it has been read.
pub(super) struct MixedRows<'a> {
    pub(super) texts: &'a [Packed],
    /// One for each text.
    pub(super) order: Vec<Sampler>,
    pub(super) schedule: Schedule,
}

impl Sequences for MixedRows<'_> {
    fn rows(&mut self, first_index: u64, n: usize) -> Result<Tensor, BoxError> {
        let rows = self.schedule.rows(first_index, n);
        if rows.len() < n {
            return Err(format!("the schedule ends before row {}", first_index + n as u64).into());
        }
        let width = self.texts.first().map_or(0, |text| text.seq_len() + 1);
        let mut ids = Vec::with_capacity(n * width);
        for (text, position) in rows {
            let row = self.order[text].index(position).1;
            self.texts[text].extend_with_row(row, &mut ids)?;
        }
        Ok(Tensor::f_from_slice(&ids)?.f_view([n as i64, width as i64])?)
    }
}

/// `n_rows` rows from all over a text, at equal distances.
pub(super) struct Spread<'a> {
    pub(super) text: &'a Packed,
    /// At most as many as the text has.
    pub(super) n_rows: u64,
}

impl Sequences for Spread<'_> {
    fn rows(&mut self, first_index: u64, n: usize) -> Result<Tensor, BoxError> {
        let width = self.text.seq_len() + 1;
        let mut ids = Vec::with_capacity(n * width);
        for position in first_index..first_index + n as u64 {
            let row = spread(position, self.n_rows, self.text.len());
            self.text.extend_with_row(row, &mut ids)?;
        }
        Ok(Tensor::f_from_slice(&ids)?.f_view([n as i64, width as i64])?)
    }
}

/// The row of a text of `n_there` rows that stands at `position` of `n_rows`.
fn spread(position: u64, n_rows: u64, n_there: u64) -> u64 {
    (u128::from(position) * u128::from(n_there) / u128::from(n_rows.max(1))) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_rows_are_distinct_and_reach_the_end() {
        for (n_rows, n_there) in [(320, 320), (320, 321), (320, 1000), (1, 7), (7, 7)] {
            let rows: Vec<u64> = (0..n_rows).map(|at| spread(at, n_rows, n_there)).collect();
            assert!(rows.is_sorted_by(|a, b| a < b), "{n_rows} of {n_there}");
            assert!(rows[0] == 0 && rows[rows.len() - 1] + n_there.div_ceil(n_rows) >= n_there);
        }
    }

    const SHARES: [f64; 5] = [0.45, 0.25, 0.15, 0.1, 0.05];

    #[test]
    fn every_prefix_is_as_near_to_the_shares_as_whole_rows_allow() {
        let schedule = Schedule::new(&SHARES, 5000);
        let mut counts = [0.0; 5];
        for (position, &text) in schedule.texts.iter().enumerate() {
            counts[usize::from(text)] += 1.0;
            for (count, share) in counts.iter().zip(SHARES) {
                // Being furthest behind goes first: nobody is more than four others' turns away.
                assert!((count - share * (position + 1) as f64).abs() < 2.0, "{position}");
            }
        }
        assert_eq!(schedule.totals(5), [2250, 1250, 750, 500, 250]);
    }

    #[test]
    fn any_piece_is_what_the_whole_has_there() {
        let schedule = Schedule::new(&SHARES, 3000);
        let whole = schedule.rows(0, 3000);
        for (first, n) in [(0, 1), (7, 100), (1023, 3), (1024, 8), (2047, 900), (2990, 10)] {
            assert_eq!(schedule.rows(first as u64, n), whole[first..first + n]);
        }
        assert_eq!(schedule.rows(2990, 20).len(), 10, "it ends");
        assert!(schedule.rows(9000, 1).is_empty());
        // The rows of a text are counted without a gap.
        for text in 0..5 {
            let of: Vec<u64> = whole.iter().filter(|row| row.0 == text).map(|row| row.1).collect();
            assert_eq!(of, (0..of.len() as u64).collect::<Vec<u64>>());
        }
    }

    #[test]
    fn a_text_without_a_share_never_comes() {
        let totals = Schedule::new(&[0.0, 0.7, 0.3], 1000).totals(3);
        assert_eq!(totals, [0, 700, 300]);
    }
}
