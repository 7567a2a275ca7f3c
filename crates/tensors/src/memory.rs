//! What the process does with memory that libtorch has freed.

use crate::shim;

/// Tells the C library to keep freed memory for the next allocation instead of giving it back to the operating system
/// and faulting it in again, page by page, at every step of a training loop. Affects the whole process, from now on.
/// Returns whether the C library could be told; only glibc can.
pub fn keep_freed_memory() -> bool {
    shim::keep_freed_memory()
}
