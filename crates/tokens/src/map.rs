//! The one unsafe line of this crate: a file seen as memory.

use std::fs::File;
use std::io;

use memmap2::Mmap;

/// A read-only memory map of a whole file.
#[derive(Debug)]
pub(crate) struct Map(Mmap);

impl Map {
    pub(crate) fn new(file: &File) -> io::Result<Self> {
        // SAFETY: a map is sound as long as nobody changes or cuts the file. Shard files are
        // written under another name and renamed when they are complete; this crate never opens one
        // for writing, and replaces one by a rename, which leaves the mapped file as it is. Model
        // files it only reads. That other programs do not write into them is a condition of use, as
        // for every memory map.
        #[expect(unsafe_code, reason = "mapping a file is unsafe by nature; see above")]
        let map = unsafe { Mmap::map(file)? };
        Ok(Self(map))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
