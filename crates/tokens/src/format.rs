//! What a file holds, by the end of its name, and its bytes without compression.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use crate::error::{Error, Result};

/// The largest window that `zstd --long=31` writes, as a power of 2 in bytes.
const ZSTD_WINDOW_LOG_MAX: u32 = 31;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Parquet,
    Jsonl(Compression),
    Text(Compression),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Format {
    /// The format of `file` by its name.
    pub(crate) fn of(file: &Path) -> Result<Self> {
        let name = file.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let (stem, compression) = match name.rsplit_once('.') {
            Some((stem, "gz")) => (stem, Compression::Gzip),
            Some((stem, "zst")) => (stem, Compression::Zstd),
            _ => (name.as_str(), Compression::None),
        };
        match stem.rsplit_once('.').map(|(_, extension)| extension) {
            Some("parquet") if compression == Compression::None => Ok(Self::Parquet),
            Some("jsonl" | "ndjson") => Ok(Self::Jsonl(compression)),
            Some("txt" | "text" | "md") => Ok(Self::Text(compression)),
            _ => {
                let remedy = "rename it to end in .parquet, .jsonl or .txt, the last two with .gz \
                              or .zst where they are compressed";
                Err(Error::input(file, None, "the name does not say what the file holds", remedy))
            }
        }
    }

    /// The name that goes into a source's hash.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Jsonl(Compression::None) => "jsonl",
            Self::Jsonl(Compression::Gzip) => "jsonl.gz",
            Self::Jsonl(Compression::Zstd) => "jsonl.zst",
            Self::Text(Compression::None) => "txt",
            Self::Text(Compression::Gzip) => "txt.gz",
            Self::Text(Compression::Zstd) => "txt.zst",
        }
    }
}

/// Opens `file` for reading its uncompressed bytes.
pub(crate) fn open(file: &Path, compression: Compression) -> Result<Box<dyn BufRead + Send>> {
    let reader = BufReader::with_capacity(1 << 18, open_file(file)?);
    Ok(match compression {
        Compression::None => Box::new(reader),
        Compression::Gzip => {
            let decoder = flate2::bufread::MultiGzDecoder::new(reader);
            Box::new(BufReader::with_capacity(1 << 18, decoder))
        }
        Compression::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(reader)
                .and_then(|mut decoder| {
                    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                    Ok(decoder)
                })
                .map_err(Error::io("decompress", file))?;
            Box::new(BufReader::with_capacity(1 << 18, decoder))
        }
    })
}

/// Opens `file` and refuses one without a byte.
pub(crate) fn open_file(file: &Path) -> Result<File> {
    let opened = File::open(file).map_err(Error::io("open", file))?;
    let n_bytes = opened.metadata().map_err(Error::io("open", file))?.len();
    if n_bytes == 0 { Err(crate::source::empty(file)) } else { Ok(opened) }
}

/// The error for a failed read at `row`: the disk's fault if the operating system gave a number,
/// else the stream's.
pub(crate) fn read_error(file: &Path, row: u64, error: io::Error) -> Error {
    if error.raw_os_error().is_some() {
        return Error::io("read", file)(error);
    }
    let remedy = "the file is damaged or cut off: fetch or compress it again";
    Error::input(file, row, format!("cannot be decompressed: {error}"), remedy)
}
