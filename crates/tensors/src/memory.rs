//! What the process does with memory that libtorch has freed.

use crate::shim;

/// Tells the C library to keep freed memory for the next allocation, from now on and for the whole process. Otherwise
/// every large tensor of a training step is mapped anew, faulted in page by page and given back. In return the process
/// never becomes smaller again than it has been at its largest. Returns whether the C library could be told: only
/// glibc can.
pub fn keep_freed_memory() -> bool {
    shim::keep_freed_memory()
}

#[cfg(test)]
mod tests;
