//! Ctrl-C: the first asks for a clean stop, the second ends the program.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Exit status of a program that Ctrl-C ended, as shells expect it.
pub(crate) const INTERRUPTED: i32 = 130;

static ASKED: AtomicBool = AtomicBool::new(false);
static HANDLER: OnceLock<bool> = OnceLock::new();

/// Installs the handler once in a process. Where none can be installed, Ctrl-C ends the program at once, which
/// loses no finished cell either.
pub(crate) fn install() {
    HANDLER.get_or_init(|| {
        ctrlc::set_handler(|| {
            if ASKED.swap(true, Ordering::SeqCst) {
                std::process::exit(INTERRUPTED);
            }
        })
        .is_ok()
    });
}

/// Whether a stop was asked for.
pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}
