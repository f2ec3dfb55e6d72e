//! One process per database: an advisory lock on a file beside it, which the system drops with the process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Another process has the database open.
#[derive(Debug, thiserror::Error)]
#[error("{} is in use by another process{}", path.display(), holder(process))]
pub struct InUse {
    /// The lock file.
    pub path: PathBuf,
    /// Its process id, if it could be read.
    pub process: Option<u32>,
}

fn holder(process: &Option<u32>) -> String {
    process.map(|id| format!(" (process {id})")).unwrap_or_default()
}

/// Holds the lock until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock file `{database}.lock`, and writes the process id into it for the other's error message.
    ///
    /// # Errors
    /// [`InUse`] inside an [`io::Error`] of the kind `ResourceBusy`; what the file system says otherwise.
    pub(crate) fn take(database: &Path) -> io::Result<Self> {
        let mut path = database.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                file.take(20).read_to_string(&mut text)?;
                let process = text.trim().parse().ok();
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, InUse { path, process }));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Only for the message: a full disk must not keep the store from opening.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| {
            let id = std::process::id();
            file.write_all(format!("{id}\n").as_bytes())
        });
        Ok(Self { _file: file })
    }
}
