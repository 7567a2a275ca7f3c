//! Which vector instructions a kernel is compiled for, and the choice among them.
//!
//! A kernel is plain loops in functions that are always inlined, over a type parameter that says whether a fused
//! multiply-add is one instruction. They end up in one of the three functions below, each compiled for other
//! instructions, and the compiler vectorises them there.

use std::sync::OnceLock;

use crate::error::Result;
use crate::shim::for_each;

/// What the compiler may assume.
pub(super) trait Machine: Copy {
    /// Whether `a * b + c` rounds once, in one instruction; otherwise it rounds twice.
    const FUSED: bool;

    /// Proof of an instruction that multiplies pairs of bf16 and adds them in f32.
    #[cfg(target_arch = "x86_64")]
    fn dot_pairs() -> Option<DotPairs> {
        None
    }

    /// Proof of an instruction that multiplies bytes by fours and adds them in i32.
    #[cfg(target_arch = "x86_64")]
    fn dot_bytes() -> Option<DotBytes> {
        None
    }

    /// Proof of one that multiplies bytes by pairs and adds them in i16.
    #[cfg(target_arch = "x86_64")]
    fn pair_bytes() -> Option<PairBytes> {
        None
    }
}

/// That the processor has AVX-512 with its instructions for bf16.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct DotPairs(());

/// That the processor has AVX-512 with its instructions for bytes, VNNI.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct DotBytes(());

/// That the processor has AVX2, and instructions for f16.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct PairBytes(());

/// What one thread does in one go: some rows, with the parts of the outputs that belong to them.
pub(super) trait Job: Send {
    /// To be `#[inline(always)]`, and all that it calls.
    fn run<M: Machine>(self);
}

/// Runs every job, on libtorch's threads, at least `grain` jobs a thread.
pub(super) fn run<J: Job>(jobs: impl IntoIterator<Item = J>, grain: usize) -> Result<()> {
    let level = Level::current();
    for_each(jobs.into_iter().collect(), grain, &|job| level.run(job))
}

/// Vector instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// Those that every processor of the architecture has.
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

#[derive(Clone, Copy)]
struct Plain;

impl Machine for Plain {
    const FUSED: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));
}

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct WithFma;

#[cfg(target_arch = "x86_64")]
impl Machine for WithFma {
    const FUSED: bool = true;

    fn pair_bytes() -> Option<PairBytes> {
        is_x86_feature_detected!("f16c").then_some(PairBytes(()))
    }
}

/// With fused multiply-add and AVX-512.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Wide;

#[cfg(target_arch = "x86_64")]
impl Machine for Wide {
    const FUSED: bool = true;

    fn dot_pairs() -> Option<DotPairs> {
        is_x86_feature_detected!("avx512bf16").then_some(DotPairs(()))
    }

    fn dot_bytes() -> Option<DotBytes> {
        is_x86_feature_detected!("avx512vnni").then_some(DotBytes(()))
    }

    fn pair_bytes() -> Option<PairBytes> {
        WithFma::pair_bytes()
    }
}

impl Level {
    /// Those that this processor has, from the least to the best.
    pub(super) fn available() -> Vec<Self> {
        let mut levels = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            levels.extend(avx2.then_some(Self::Avx2));
            levels.extend((avx2 && avx512).then_some(Self::Avx512));
        }
        levels
    }

    fn best() -> Self {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().pop().unwrap_or(Self::Portable))
    }

    #[cfg(not(test))]
    fn current() -> Self {
        Self::best()
    }

    #[cfg(test)]
    fn current() -> Self {
        tests::FORCED.get().unwrap_or_else(Self::best)
    }

    fn run<J: Job>(self, job: J) {
        match self {
            Self::Portable => job.run::<Plain>(),
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "instructions that not every processor has")]
            // SAFETY: a level other than `Portable` exists only if `available` found its instructions.
            Self::Avx2 => unsafe { avx2(job) },
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "instructions that not every processor has")]
            // SAFETY: as above.
            Self::Avx512 => unsafe { avx512(job) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<J: Job>(job: J) {
    job.run::<WithFma>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn avx512<J: Job>(job: J) {
    job.run::<Wide>();
}

#[cfg(test)]
pub(super) mod tests;
