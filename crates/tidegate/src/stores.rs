//! What a node keeps: definitions, records of the session layer, the journal, and the keys under which tokens are hashed.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tidegate_auth::TokenKeys;
use tidegate_core::port::{DefinitionStore, RecordStore};
use tidegate_doctor::journal::{AddressKey, NoJournal};
use tidegate_store::{JournalOptions, SqliteJournal, SqliteRecords, SqliteStore};

use crate::config::Config;

/// Bytes of a token key.
const KEY_LENGTH: usize = 32;

/// Everything that is kept.
pub(crate) struct Stores {
    pub(crate) definitions: Arc<dyn DefinitionStore>,
    pub(crate) records: Arc<dyn RecordStore>,
    pub(crate) token_keys: TokenKeys,
    /// A node without it serves all the same.
    pub(crate) journal: Result<OpenJournal, NoJournal>,
}

/// The journal's file, and the key under which it hashes addresses.
pub(crate) struct OpenJournal {
    pub(crate) store: SqliteJournal,
    pub(crate) address_key: AddressKey,
}

/// Name of the journal in a data directory.
pub(crate) const JOURNAL_FILE: &str = "journal.db";

impl Stores {
    /// Those of a data directory, which exists.
    pub(crate) fn open(config: &Config) -> anyhow::Result<Self> {
        let data_dir = &config.data_dir;
        let definitions = SqliteStore::open(&data_dir.join("tidegate.db")).context("open the store")?;
        let records = SqliteRecords::open(&data_dir.join("sessions.db")).context("open the session store")?;
        let token_keys = token_keys(&data_dir.join("token.key"))?;
        let journal = open_journal(config);
        Ok(Self { definitions: Arc::new(definitions), records: Arc::new(records), token_keys, journal })
    }

    /// Those that are forgotten with the process, and a journal in the data directory.
    pub(crate) fn in_memory(config: &Config) -> anyhow::Result<Self> {
        let definitions = SqliteStore::open_in_memory().context("open the store")?;
        let records = SqliteRecords::open_in_memory().context("open the session store")?;
        let token_keys = TokenKeys::new(&[new_key()?]).context("make a token key")?;
        let journal = open_journal(config);
        Ok(Self { definitions: Arc::new(definitions), records: Arc::new(records), token_keys, journal })
    }
}

fn open_journal(config: &Config) -> Result<OpenJournal, NoJournal> {
    if !config.journal.enabled {
        let reason = "the journal is switched off: journal.enabled = false".to_owned();
        return Err(NoJournal { reason, is_off: true });
    }
    let open = || -> anyhow::Result<OpenJournal> {
        let options = JournalOptions { max_bytes: config.journal.max_bytes };
        let path = config.data_dir.join(JOURNAL_FILE);
        let store = SqliteJournal::open(&path, options).with_context(|| path.display().to_string())?;
        let address_key = AddressKey::new(&address_key(&config.data_dir.join("journal.key"))?);
        Ok(OpenJournal { store, address_key })
    };
    open().map_err(|error| NoJournal { reason: format!("{error:#}"), is_off: false })
}

/// The key of a file, in hex; made on the first start.
fn address_key(path: &Path) -> anyhow::Result<Vec<u8>> {
    let text = read_or_make(path)?;
    hex::decode(text.trim()).with_context(|| format!("{}: a key in hex expected", path.display()))
}

/// The keys of a file: one in each line, in hex, the present one first. To rotate, put a new line on top; the old ones may
/// go when the longest token has expired. The file is made on the first start.
fn token_keys(path: &Path) -> anyhow::Result<TokenKeys> {
    let text = read_or_make(path)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let keys = lines
        .map(hex::decode)
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("{}: keys in hex, one in each line, expected", path.display()))?;
    TokenKeys::new(&keys).with_context(|| path.display().to_string())
}

/// The text of a file of keys, which is made with a new one where it is missing.
fn read_or_make(path: &Path) -> anyhow::Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = format!("{}\n", hex::encode(new_key()?));
            write_private(path, &text).with_context(|| format!("write {}", path.display()))?;
            Ok(text)
        }
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
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
