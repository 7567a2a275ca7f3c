//! Damaged files: whatever the bytes, there is an answer or an error, never a panic, and never more memory than the file and a small factor.
//!
//! `RUN_SLOW=1` raises the number of mutations to 100,000 of each kind of file.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use rand::Rng;
use rand_chacha::ChaCha20Rng;

use super::rng;

/// Counts what the thread allocates, so that a test can ask for the most that it held at once.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    let _ = HELD.try_with(|held| {
        held.set(held.get() + change);
        MOST.try_with(|most| most.set(most.get().max(held.get())))
    });
}

#[expect(unsafe_code, reason = "an allocator; it passes everything on to the system's")]
// SAFETY: every method calls the system's allocator with its own arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that `work` held beyond what was held before.
fn most_held(work: impl FnOnce()) -> usize {
    let before = HELD.get();
    MOST.set(before);
    work();
    (MOST.get() - before) as usize
}

/// Reads mutations of each of `files`, some hundreds or 100,000 of all together, and says which share `read` took for sound. It may hold up to
/// `factor` bytes for each byte of the file, and 64 KiB.
pub(crate) fn survives(
    files: &[Vec<u8>],
    factor: usize,
    mut read: impl FnMut(&[u8]) -> bool,
) -> f64 {
    let slow = std::env::var_os("RUN_SLOW").is_some();
    let n = if slow { 100_000 } else { 600 } / files.len() + 1;
    let mut rng = rng(7);
    let mut n_sound = 0;
    for file in files {
        assert!(read(file), "the file itself is sound");
        for _ in 0..n {
            let damaged = mutated(file, &mut rng);
            let mut sound = false;
            let held = most_held(|| sound = read(&damaged));
            n_sound += usize::from(sound);
            let most = factor * damaged.len() + (64 << 10);
            let text = String::from_utf8_lossy(&damaged);
            assert!(held <= most, "{held} bytes for a file of {}: {text}", damaged.len());
        }
    }
    n_sound as f64 / (n * files.len()) as f64
}

/// `bytes` with one to three changes: a byte, a character of JSON, a whole number that is large or lies at a border, a piece cut out, doubled, or
/// many brackets.
fn mutated(bytes: &[u8], rng: &mut ChaCha20Rng) -> Vec<u8> {
    const NUMBERS: [&str; 12] = [
        "0",
        "-1",
        "1",
        "3",
        "2147483647",
        "2147483648",
        "9223372036854775807",
        "-9223372036854775808",
        "18446744073709551615",
        "1e308",
        "1e-308",
        "null",
    ];
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..bytes.len().max(1));
        let end = bytes.len().min(at + rng.random_range(1..24));
        match rng.random_range(0..7) {
            _ if bytes.is_empty() => break,
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = rng.random(),
            2 => bytes[at] = b"0123456789-.e\"{}[],:"[rng.random_range(0..20)],
            3 => {
                // In the place of the number that is next.
                let is_number = |byte: &u8| byte.is_ascii_digit() || b"-.e".contains(byte);
                let from = bytes[at..].iter().position(u8::is_ascii_digit).map_or(at, |i| at + i);
                let n = bytes[from..].iter().take_while(|byte| is_number(byte)).count();
                bytes.splice(from..from + n, NUMBERS[rng.random_range(0..12)].bytes());
            }
            4 => drop(bytes.drain(at..end)),
            5 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let n = [1, 1, 1, 200, 20_000][rng.random_range(0..5)];
                bytes.splice(at..at, std::iter::repeat_n(b'[', n));
            }
        }
    }
    bytes
}
