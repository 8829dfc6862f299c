//! Reads the files that settings point to, within a bound.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// More than any configuration, certificate bundle or password file needs.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// Reads a file that is not absurdly large.
///
/// # Errors
/// What the system says; also for what is no regular file and might never end.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 16 MiB"));
    }
    Ok(bytes)
}
