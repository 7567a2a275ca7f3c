use std::cell::Cell;

use super::Level;

thread_local! {
    /// What kernels started by this thread run with, if not the best.
    pub(super) static FORCED: Cell<Option<Level>> = const { Cell::new(None) };
}

/// Runs `body` once for each set of vector instructions that this processor has.
pub(in crate::kernels) fn at_every_level(mut body: impl FnMut(Level)) {
    struct Restore;
    impl Drop for Restore {
        fn drop(&mut self) {
            FORCED.set(None);
        }
    }
    let _restore = Restore;
    for level in Level::available() {
        FORCED.set(Some(level));
        body(level);
    }
}

/// What `body` gives with each set of vector instructions that this processor has.
pub(in crate::kernels) fn on_every_level<T>(body: impl Fn() -> T) -> Vec<T> {
    let mut all = Vec::new();
    at_every_level(|_| all.push(body()));
    all
}

#[test]
fn the_portable_level_is_always_there() {
    assert_eq!(Level::available()[0], Level::Portable);
    assert_eq!(Some(Level::best()), Level::available().pop());
}
