//! Fixed windows over documents that follow one another.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Result, ensure};
use crate::shard::Shards;

/// Rows of `seq_len + 1` ids over the documents of shards, for a model that predicts each id from
/// those before it.
///
/// The stream is the documents in the order given, each with its end. Row `i` holds the ids from `i
/// · seq_len` on and the one before them, so that neighbours overlap by one and every id is
/// predicted exactly once; the first has the end-of-document id before it, as every other
/// document's first id has. The last `n_tokens mod seq_len` ids fill no row: [`Packed::tail`] has
/// them.
#[derive(Clone, Debug)]
pub struct Packed {
    shards: Arc<Shards>,
    seq_len: usize,
    documents: Vec<usize>,
    /// Ids of the stream before each document, then of all.
    starts: Vec<u64>,
    /// The part of the stream that rows are made of.
    part: Range<u64>,
}

impl Packed {
    /// Packs all documents, in their order.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if `seq_len` is 0 or longer than all documents
    /// together.
    pub fn new(shards: Arc<Shards>, seq_len: usize) -> Result<Self> {
        let documents = (0..shards.n_documents()).collect();
        Self::of_documents(shards, documents, seq_len)
    }

    /// Packs the documents with these indexes, in this order; the others are not seen.
    ///
    /// # Errors
    /// As [`Packed::new`], and if there is no such document.
    pub fn of_documents(
        shards: Arc<Shards>,
        documents: Vec<usize>,
        seq_len: usize,
    ) -> Result<Self> {
        let mut starts = vec![0];
        let mut n_tokens = 0;
        for &document in &documents {
            let range = shards.range(document)?;
            n_tokens += range.end - range.start;
            starts.push(n_tokens);
        }
        Self { shards, seq_len, documents, starts, part: 0..n_tokens }.checked()
    }

    /// The rows over a part of the stream's ids, to keep the end of a long document apart, say. The
    /// first row begins with the id before the part.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if the part is not within [`Packed::n_tokens`] or
    /// shorter than `seq_len`.
    pub fn part(&self, tokens: Range<u64>) -> Result<Self> {
        let want = format!("within 0..{}", self.n_tokens());
        let inside = tokens.start <= tokens.end && tokens.end <= self.n_tokens();
        ensure(inside, "part", want, format!("{tokens:?}"))?;
        let part = self.part.start + tokens.start..self.part.start + tokens.end;
        Self { part, ..self.clone() }.checked()
    }

    /// Whole rows.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.n_tokens() / self.seq_len as u64
    }

    /// Never: what has no row is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ids that a row predicts.
    #[must_use]
    pub fn seq_len(&self) -> usize {
        self.seq_len
    }

    /// Ids of the stream, ends of documents included: `len() · seq_len()` in rows, the rest in the
    /// tail.
    #[must_use]
    pub fn n_tokens(&self) -> u64 {
        self.part.end - self.part.start
    }

    /// Row `index`: `seq_len + 1` ids.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if `index` is not below [`Packed::len`].
    pub fn row(&self, index: u64) -> Result<Vec<i64>> {
        let mut row = Vec::with_capacity(self.seq_len + 1);
        self.extend_with_row(index, &mut row)?;
        Ok(row)
    }

    /// Appends row `index` to `rows`, as when a batch is put together.
    ///
    /// # Errors
    /// As [`Packed::row`].
    pub fn extend_with_row(&self, index: u64, rows: &mut Vec<i64>) -> Result<()> {
        ensure(index < self.len(), "row", format!("below {}", self.len()), index)?;
        let start = index * self.seq_len as u64;
        self.extend(start..start + self.seq_len as u64, rows);
        Ok(())
    }

    /// The ids that fill no row, with the one before them, like a short row; empty if there are
    /// none.
    #[must_use]
    pub fn tail(&self) -> Vec<i64> {
        let mut tail = Vec::new();
        let start = self.len() * self.seq_len as u64;
        if start < self.n_tokens() {
            self.extend(start..self.n_tokens(), &mut tail);
        }
        tail
    }

    /// Positions in row `index` at which a document begins: behind each end of a document but one
    /// that the row ends with.
    ///
    /// # Errors
    /// As [`Packed::row`].
    pub fn document_starts(&self, index: u64) -> Result<Vec<usize>> {
        ensure(index < self.len(), "row", format!("below {}", self.len()), index)?;
        let first = self.part.start + index * self.seq_len as u64;
        let from = self.starts.partition_point(|&start| start < first);
        let inside = self.starts[from..self.documents.len()].iter();
        let before_end = inside.take_while(|&&start| start < first + self.seq_len as u64);
        Ok(before_end.map(|&start| (start - first) as usize + 1).collect())
    }

    /// Appends the ids of `range` in the part, and before them the one that precedes them.
    fn extend(&self, range: Range<u64>, row: &mut Vec<i64>) {
        let (mut from, to) = (self.part.start + range.start, self.part.start + range.end);
        if from == 0 {
            row.push(i64::from(self.shards.end_of_document()));
        } else {
            from -= 1;
        }
        // The document that holds the id at `from`: the last that starts at or before it.
        let mut at = self.starts.partition_point(|&start| start <= from).saturating_sub(1);
        while from < to {
            let (start, end) = (self.starts[at], self.starts[at + 1].min(to));
            // Checked when the documents were packed.
            let Ok(ids) = self.shards.range(self.documents[at]) else { return };
            self.shards.slice(ids.start + from - start..ids.start + end - start).extend_row(row);
            (from, at) = (end, at + 1);
        }
    }

    fn checked(self) -> Result<Self> {
        let n_tokens = self.n_tokens();
        ensure(self.seq_len > 0, "seq_len", "positive", self.seq_len)?;
        let want = format!("at most {n_tokens}, the number of tokens there are");
        ensure(self.seq_len as u64 <= n_tokens, "seq_len", want, self.seq_len)?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
