//! What the process does with memory that libtorch has freed.

use crate::shim;

/// Tells the C library to keep freed memory for the next allocation, from now on and for the whole process. Otherwise
/// every large tensor of a training step is mapped anew, faulted in page by page and given back. In return the process
/// never becomes smaller again than it has been at its largest. Threads that allocate share one heap from now on. Returns
/// whether the C library could be told: only glibc can.
///
/// Before 2.38 glibc finds room for an aligned block only where there is more than it needs, so that at first some blocks
/// of one size lie side by side, at most about nine, before the first is used again.
pub fn keep_freed_memory() -> bool {
    shim::keep_freed_memory()
}
