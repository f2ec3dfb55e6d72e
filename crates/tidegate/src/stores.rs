//! What a node keeps: definitions, records of the session layer, and the keys under which tokens are hashed.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tidegate_auth::TokenKeys;
use tidegate_core::port::{DefinitionStore, RecordStore};
use tidegate_store::{SqliteRecords, SqliteStore};

/// Bytes of a token key.
const KEY_LENGTH: usize = 32;

/// Everything that is kept.
pub(crate) struct Stores {
    pub(crate) definitions: Arc<dyn DefinitionStore>,
    pub(crate) records: Arc<dyn RecordStore>,
    pub(crate) token_keys: TokenKeys,
}

impl Stores {
    /// Those of a data directory, which exists.
    pub(crate) fn open(data_dir: &Path) -> anyhow::Result<Self> {
        let definitions = SqliteStore::open(&data_dir.join("tidegate.db")).context("open the store")?;
        let records = SqliteRecords::open(&data_dir.join("sessions.db")).context("open the session store")?;
        let token_keys = token_keys(&data_dir.join("token.key"))?;
        Ok(Self { definitions: Arc::new(definitions), records: Arc::new(records), token_keys })
    }

    /// Those that are forgotten with the process.
    pub(crate) fn in_memory() -> anyhow::Result<Self> {
        let definitions = SqliteStore::open_in_memory().context("open the store")?;
        let records = SqliteRecords::open_in_memory().context("open the session store")?;
        let token_keys = TokenKeys::new(&[new_key()?]).context("make a token key")?;
        Ok(Self { definitions: Arc::new(definitions), records: Arc::new(records), token_keys })
    }
}

/// The keys of a file: one in each line, in hex, the present one first. To rotate, put a new line on top; the old ones may
/// go when the longest token has expired. The file is made on the first start.
fn token_keys(path: &Path) -> anyhow::Result<TokenKeys> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = format!("{}\n", hex::encode(new_key()?));
            write_private(path, &text).with_context(|| format!("write {}", path.display()))?;
            text
        }
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let keys = lines
        .map(hex::decode)
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("{}: keys in hex, one in each line, expected", path.display()))?;
    TokenKeys::new(&keys).with_context(|| path.display().to_string())
}

fn new_key() -> anyhow::Result<[u8; KEY_LENGTH]> {
    let mut key = [0; KEY_LENGTH];
    getrandom::fill(&mut key).map_err(|error| anyhow::anyhow!("no random bytes from the system: {error}"))?;
    Ok(key)
}

/// For its owner only, and complete or not at all.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let unfinished = path.with_extension("unfinished");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)
}
