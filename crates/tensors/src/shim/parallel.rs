//! Work spread over libtorch's own threads.

use std::any::Any;
use std::ffi::c_void;
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use super::{check, ft_parallel_for};
use crate::error::{Error, Result};

/// What the threads share.
struct Shared<'a, J, F> {
    jobs: *mut Option<J>,
    work: &'a F,
    panicked: AtomicBool,
}

/// Hands each job to `work` once, on libtorch's threads; a thread is not started for fewer than `grain` jobs.
///
/// # Errors
/// [`Error::Foreign`] if `work` panicked; some jobs may then not have been done.
pub(crate) fn for_each<J, F>(jobs: Vec<J>, grain: usize, work: &F) -> Result<()>
where
    J: Send,
    F: Fn(J) + Sync,
{
    if jobs.len() <= grain.max(1) {
        return match catch_unwind(AssertUnwindSafe(|| jobs.into_iter().for_each(work))) {
            Ok(()) => Ok(()),
            Err(payload) => Err(panicked(payload)),
        };
    }
    let mut jobs: Vec<Option<J>> = jobs.into_iter().map(Some).collect();
    let shared = Shared { jobs: jobs.as_mut_ptr(), work, panicked: AtomicBool::new(false) };
    // SAFETY: `shared` outlives the call, which ends when all threads are done with it.
    unsafe {
        let context = (&raw const shared).cast::<c_void>();
        check(ft_parallel_for(jobs.len() as i64, grain.max(1) as i64, context, range::<J, F>))?;
    }
    match shared.panicked.load(Ordering::Relaxed) {
        false => Ok(()),
        true => Err(Error::Foreign(PANICKED.to_owned())),
    }
}

const PANICKED: &str = "a kernel panicked";

fn panicked(payload: Box<dyn Any + Send>) -> Error {
    forget(payload); // its own destructor might panic
    Error::Foreign(PANICKED.to_owned())
}

extern "C" fn range<J: Send, F: Fn(J) + Sync>(context: *const c_void, begin: i64, end: i64) {
    // SAFETY: `for_each` passes this type, and waits.
    let shared = unsafe { &*context.cast::<Shared<'_, J, F>>() };
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        for i in begin..end {
            // SAFETY: at::parallel_for hands out each index of the list once, so no other thread is at this entry.
            let job = unsafe { (*shared.jobs.add(i as usize)).take() };
            if let Some(job) = job {
                (shared.work)(job);
            }
        }
    }));
    if let Err(payload) = outcome {
        shared.panicked.store(true, Ordering::Relaxed);
        forget(payload); // its own destructor might panic
    }
}
