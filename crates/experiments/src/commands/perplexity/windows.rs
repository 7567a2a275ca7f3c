//! Where windows begin, and which tokens each of them scores.

use std::ops::Range;

/// One forward pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// The first token that it reads; it reads up to the end of what it scores.
    pub(super) from: usize,
    /// The tokens that it scores: those that no window before did.
    pub(super) scored: Range<usize>,
}

/// Windows of at most `window` tokens over `n` tokens, of which those before `first` (at least 1) are given and all others
/// scored, each once. The first window scores all that it can, each other one `stride` more, or what is left.
pub(super) fn windows(n: usize, first: usize, window: usize, stride: usize) -> Vec<Window> {
    let mut all = Vec::new();
    let mut done = first;
    let mut end = window;
    while done < n {
        end = end.min(n);
        if end > done {
            all.push(Window { from: end.saturating_sub(window), scored: done..end });
            done = end;
        }
        end += stride;
    }
    all
}

#[cfg(test)]
mod tests;
