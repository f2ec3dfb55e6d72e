//! Whether the files of a function have changed.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

/// Files and folders that are looked at; what lies behind them is not watched.
const MAX_ENTRIES: usize = 20_000;

/// Folders that hold what tools make or fetch.
const IGNORED: [&str; 5] = ["node_modules", "__pycache__", "venv", "target", "dist-info"];

/// A number that changes with names, sizes and times of the files below a folder. What cannot be read counts as absent.
/// Hidden files and what tools make are left out.
pub(crate) fn fingerprint(folder: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    let mut n_entries = 0;
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let mut entries: Vec<_> = entries.flatten().collect();
        entries.sort_unstable_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            let shown = name.to_string_lossy();
            if shown.starts_with('.') || IGNORED.contains(&&*shown) || shown.ends_with(".pyc") {
                continue;
            }
            n_entries += 1;
            if n_entries > MAX_ENTRIES {
                return hasher.finish();
            }
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                folders.push(entry.path());
                continue;
            }
            entry.path().hash(&mut hasher);
            metadata.len().hash(&mut hasher);
            metadata.modified().ok().hash(&mut hasher);
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_seen_and_what_tools_make_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
            fingerprint(folder.path())
        };
        let empty = fingerprint(folder.path());
        let first = write("app.py", "1");
        assert_ne!(empty, first);
        assert_eq!(fingerprint(folder.path()), first);
        let below = write("lib/more.py", "1");
        assert_ne!(below, first);
        assert_eq!(write("__pycache__/app.pyc", "1"), below);
        assert_eq!(write("node_modules/x/index.js", "1"), below);
        assert_eq!(write(".git/index", "1"), below);
        assert_ne!(write("app.py", "22"), below);
        assert_eq!(fingerprint(&folder.path().join("none")), empty);
    }
}
