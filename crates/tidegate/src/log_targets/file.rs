//! One file of lines: appended to, rotated by size, opened anew when somebody has moved it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often to look whether the file is still the one of its name.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A file that may not exist yet.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    /// Size at which it is put aside.
    max_bytes: u64,
    /// Files that are kept beside it.
    max_files: u32,
    open: Option<Opened>,
    /// A write has ended in the middle of a line.
    is_torn: bool,
}

#[derive(Debug)]
struct Opened {
    file: File,
    size: u64,
    /// Device and number.
    identity: (u64, u64),
    looked_at: Instant,
}

impl LogFile {
    pub(super) fn new(path: PathBuf, max_bytes: u64, max_files: u32) -> Self {
        Self { path, max_bytes, max_files, open: None, is_torn: false }
    }

    /// Appends lines. What was begun when it failed is ended by a line break before the next line.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.forget_moved();
        let size = self.opened()?.size;
        if size > 0 && size + lines.len() as u64 > self.max_bytes {
            self.rotate()?;
        }
        let torn = std::mem::take(&mut self.is_torn);
        let opened = self.opened()?;
        if torn {
            opened.file.write_all(b"\n")?;
            opened.size += 1;
        }
        let mut rest = lines;
        while !rest.is_empty() {
            let result = match opened.file.write(rest) {
                Ok(0) => Err(ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
                other => other,
            };
            match result {
                Ok(n_written) => {
                    opened.size += n_written as u64;
                    rest = &rest[n_written..];
                }
                Err(error) => {
                    let n_written = lines.len() - rest.len();
                    self.is_torn = n_written > 0 && lines[n_written - 1] != b'\n';
                    self.open = None;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// A tool that rotates logs has moved or removed it.
    fn forget_moved(&mut self) {
        let Some(opened) = &mut self.open else { return };
        if opened.looked_at.elapsed() < LOOK_AGAIN {
            return;
        }
        opened.looked_at = Instant::now();
        let is_same = std::fs::metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == opened.identity);
        if !is_same {
            self.open = None;
        }
    }

    fn opened(&mut self) -> io::Result<&mut Opened> {
        let opened = match self.open.take() {
            Some(opened) => opened,
            None => open(&self.path)?,
        };
        Ok(self.open.insert(opened))
    }

    /// `x.log` becomes `x.log.1`, that `x.log.2`; the oldest goes.
    fn rotate(&mut self) -> io::Result<()> {
        self.open = None;
        let numbered = |number: u32| {
            let mut path = self.path.clone().into_os_string();
            path.push(format!(".{number}"));
            PathBuf::from(path)
        };
        let missing_is_fine = |result: io::Result<()>| match result {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        };
        if self.max_files == 0 {
            return missing_is_fine(std::fs::remove_file(&self.path));
        }
        for number in (1..self.max_files).rev() {
            missing_is_fine(std::fs::rename(numbered(number), numbered(number + 1)))?;
        }
        missing_is_fine(std::fs::rename(&self.path, numbered(1)))
    }
}

fn open(path: &Path) -> io::Result<Opened> {
    // Readable for the gateway's user alone: addresses and user agents are personal data.
    let open = || OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    let file = match open() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            }
            open()?
        }
        other => other?,
    };
    let metadata = file.metadata()?;
    let identity = (metadata.dev(), metadata.ino());
    Ok(Opened { file, size: metadata.len(), identity, looked_at: Instant::now() })
}
