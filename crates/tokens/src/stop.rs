//! Stop strings in a text that comes in pieces.

use std::mem;

use crate::error::{Result, ensure};

/// Finds stop strings in a text that comes piece by piece, wherever the pieces are cut.
///
/// The text ends where the first stop string is complete, and what is shown ends where that one
/// began; of two that are complete at once, the longer one counts. Text that may yet turn out to
/// begin a stop string is held back until that is decided, so nothing of one is ever shown.
///
/// ```
/// use forerun_tokens::StopStrings;
///
/// let mut stops = StopStrings::new(["\nUser:"])?;
/// assert_eq!(stops.push("Fine.\n"), "Fine.");
/// assert_eq!(stops.push("Use it.\nUs"), "\nUse it.");
/// assert_eq!(stops.push("er: and"), "");
/// assert_eq!(stops.found(), Some("\nUser:"));
/// # Ok::<(), forerun_tokens::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct StopStrings {
    stops: Vec<String>,
    /// Text that may begin a stop string.
    held: String,
    /// Index of the stop string that was met.
    found: Option<usize>,
}

impl StopStrings {
    /// Looks for any of `stops`; with none, every piece passes unchanged.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for an empty one, which would stop everything.
    pub fn new<T: Into<String>>(stops: impl IntoIterator<Item = T>) -> Result<Self> {
        let stops: Vec<String> = stops.into_iter().map(Into::into).collect();
        let all_filled = stops.iter().all(|stop| !stop.is_empty());
        ensure(all_filled, "stop string", "a non-empty text", "an empty one")?;
        Ok(Self { stops, held: String::new(), found: None })
    }

    /// The text that `piece` decides: none of it belongs to a stop string. After one was found,
    /// always empty.
    pub fn push(&mut self, piece: &str) -> String {
        if self.found.is_some() {
            return String::new();
        }
        self.held.push_str(piece);
        if let Some((start, index)) = self.first_complete() {
            self.found = Some(index);
            self.held.truncate(start);
            return mem::take(&mut self.held);
        }
        let n_decided = self.held.len() - self.undecided();
        self.held.drain(..n_decided).collect()
    }

    /// The stop string that was met, if any.
    #[must_use]
    pub fn found(&self) -> Option<&str> {
        self.found.map(|index| self.stops[index].as_str())
    }

    /// What was still held back when the text ended; it did not become a stop string.
    #[must_use]
    pub fn finish(self) -> String {
        self.held
    }

    /// Where the stop string that is complete first begins, and its index.
    fn first_complete(&self) -> Option<(usize, usize)> {
        let starts = self.stops.iter().map(|stop| self.held.find(stop));
        let found = starts.enumerate().filter_map(|(index, start)| start.map(|s| (s, index)));
        found.min_by_key(|&(start, index)| (start + self.stops[index].len(), start))
    }

    /// Bytes at the end of the text with which a stop string begins.
    fn undecided(&self) -> usize {
        let begins = |stop: &String| {
            let ends_so = |&n: &usize| stop.is_char_boundary(n) && self.held.ends_with(&stop[..n]);
            (1..stop.len()).rev().find(ends_so)
        };
        self.stops.iter().filter_map(begins).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
