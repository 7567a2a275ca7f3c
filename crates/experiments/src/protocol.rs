//! What a worker says to the process that started it: one JSON object a line on its standard output.
//!
//! The other direction needs no words: the parent holds the worker's standard input open, and a worker that sees
//! it end writes a checkpoint and stops. So a worker never outlives its parent, however that one died.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Message {
    /// Another process computes this very cell; the worker waits for it.
    Waiting,
    /// Something that a person should know of; the work goes on.
    Note {
        /// `a damaged checkpoint was passed over: …`
        text: String,
    },
    /// A command was started, which must not outlive the worker.
    Command {
        /// The number of its process group.
        group: u32,
    },
    /// Part of the work is done.
    Progress {
        /// Between 0 and 1.
        fraction: f64,
        /// `loss 1.93, 12,300 tokens/s`
        note: String,
    },
    /// The result is on disk.
    Finished,
    /// The result was on disk already: another process computed it meanwhile.
    Found,
    /// Asked to stop, and did.
    Stopped {
        /// Whether what was done is in a checkpoint.
        resumable: bool,
    },
    /// The cell cannot be computed.
    Failed {
        /// The whole chain of causes.
        error: String,
    },
}

impl Message {
    /// Whether a worker says nothing after it, and leaves nothing running.
    pub(crate) fn is_last(&self) -> bool {
        matches!(self, Self::Finished | Self::Found | Self::Stopped { .. } | Self::Failed { .. })
    }

    /// Says it to the parent. A parent that is gone is noticed at standard input, not here.
    pub(crate) fn send(&self) {
        if let Ok(line) = serde_json::to_string(self) {
            let mut out = std::io::stdout().lock();
            let _ = writeln!(out, "{line}").and_then(|()| out.flush());
        }
    }
}

/// A flag that rises when standard input ends.
pub(crate) fn stop_when_parent_is_gone() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&flag);
    std::thread::spawn(move || {
        let mut sink = [0; 64];
        let mut input = std::io::stdin().lock();
        while matches!(input.read(&mut sink), Ok(n) if n > 0) {}
        raised.store(true, Ordering::Relaxed);
    });
    flag
}
