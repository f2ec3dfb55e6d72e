//! The table of the entries, and how entries become rows.

use rusqlite::{Connection, Row, params};
use tidegate_core::journal::{Entry, Kind, OK};
use tidegate_core::port::StoreError;

use crate::engine::unavailable;

/// Bits of an id below its time: entries of one microsecond that are told apart without a look.
const COUNT_BITS: u32 = 11;

/// One step per version, see [`crate::engine::Write::MIGRATIONS`].
///
/// An id is the time in microseconds with a count behind it: the order of ids is the order of time, and no index is
/// needed for that. `kind` is the place in `Kind::ALL`. A success has no outcome. `total` holds the number of entries,
/// because counting reads them all.
pub(super) const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE entry (
        id            INTEGER PRIMARY KEY,
        kind          INTEGER NOT NULL,
        outcome       TEXT,
        request_id    TEXT,
        connection_id TEXT,
        client_ref    TEXT,
        node          INTEGER NOT NULL,
        api_id        TEXT,
        stage         TEXT,
        route_key     TEXT,
        user          TEXT,
        address       TEXT,
        duration_ms   REAL,
        facts         TEXT
    ) STRICT;
    CREATE INDEX entry_connection ON entry (connection_id) WHERE connection_id IS NOT NULL;
    CREATE INDEX entry_request ON entry (request_id) WHERE request_id IS NOT NULL;
    CREATE INDEX entry_client_ref ON entry (client_ref) WHERE client_ref IS NOT NULL;
    CREATE INDEX entry_user ON entry (user) WHERE user IS NOT NULL;
    CREATE INDEX entry_address ON entry (address) WHERE address IS NOT NULL;
    CREATE INDEX entry_outcome ON entry (outcome) WHERE outcome IS NOT NULL;
    CREATE INDEX entry_failure ON entry (id) WHERE outcome IS NOT NULL;
    CREATE INDEX entry_control ON entry (id) WHERE kind = 12;

    CREATE TABLE total (entries INTEGER NOT NULL) STRICT;
    INSERT INTO total (entries) VALUES (0);
"];

/// Place of [`Kind::Control`] in `Kind::ALL`; it stands in the schema.
pub(super) const CONTROL: i64 = 12;

/// What [`entry`] reads, in its order.
pub(super) const COLUMNS: &str = "id, kind, outcome, request_id, connection_id, client_ref, node, api_id, stage, \
     route_key, user, address, duration_ms, facts";

// Ignored where the id is taken.
const INSERT: &str = "INSERT OR IGNORE INTO entry (id, kind, outcome, request_id, connection_id, client_ref, node, \
     api_id, stage, route_key, user, address, duration_ms, facts) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";

/// The smallest id of a time.
pub(super) fn first_id(ts: u64) -> i64 {
    const LAST: u64 = (i64::MAX as u64) >> COUNT_BITS;
    (ts.min(LAST) << COUNT_BITS) as i64
}

/// The time of an id.
pub(super) fn time_of(id: i64) -> u64 {
    u64::try_from(id).unwrap_or(0) >> COUNT_BITS
}

/// The number of a kind in the table.
pub(super) fn kind_number(kind: Kind) -> i64 {
    Kind::ALL
        .iter()
        .position(|known| *known == kind)
        .and_then(|place| i64::try_from(place).ok())
        .unwrap_or(-1)
}

/// Adds entries; the caller has opened a transaction.
pub(super) fn append(connection: &Connection, entries: &[Entry]) -> Result<(), StoreError> {
    let failed = |error: rusqlite::Error| unavailable("write", error);
    let mut statement = connection.prepare_cached(INSERT).map_err(failed)?;
    let mut facts = Vec::new();
    let mut id = 0;
    for entry in entries {
        facts.clear();
        if !entry.facts.is_empty() {
            serde_json::to_writer(&mut facts, &entry.facts).map_err(|error| unavailable("write", error))?;
        }
        let facts = std::str::from_utf8(&facts).ok().filter(|text| !text.is_empty());
        let first = first_id(entry.ts);
        // Behind the entry before where both are of one microsecond: no look whether the id is free fails then.
        id = if id >= first && time_of(id) == entry.ts { id + 1 } else { first };
        let outcome = (entry.outcome != OK).then_some(&entry.outcome);
        let kind = kind_number(entry.kind);
        loop {
            let n_added = statement
                .execute(params![
                    id,
                    kind,
                    outcome,
                    entry.request_id,
                    entry.connection_id,
                    entry.client_ref,
                    entry.node,
                    entry.api_id,
                    entry.stage,
                    entry.route_key,
                    entry.user,
                    entry.address,
                    entry.duration_ms,
                    facts,
                ])
                .map_err(failed)?;
            if n_added == 1 {
                break;
            }
            // Taken by an earlier call: behind all that have this time.
            id = free_id(connection, first)?.max(id + 1);
        }
    }
    let n_added = i64::try_from(entries.len()).unwrap_or(i64::MAX);
    add_to_total(connection, n_added)
}

/// The id behind the last one of its microsecond.
fn free_id(connection: &Connection, first: i64) -> Result<i64, StoreError> {
    let next = first.saturating_add(1 << COUNT_BITS);
    connection
        .prepare_cached("SELECT max(id) + 1 FROM entry WHERE id >= ?1 AND id < ?2")
        .and_then(|mut statement| statement.query_row([first, next], |row| row.get::<_, Option<i64>>(0)))
        .map(|found| found.unwrap_or(first))
        .map_err(|error| unavailable("write", error))
}

/// Keeps the number of entries; the caller has opened a transaction.
pub(super) fn add_to_total(connection: &Connection, n: i64) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE total SET entries = entries + ?1")
        .and_then(|mut statement| statement.execute([n]))
        .map(drop)
        .map_err(|error| unavailable("write", error))
}

/// Number of entries.
pub(super) fn total(connection: &Connection) -> Result<u64, StoreError> {
    connection
        .prepare_cached("SELECT entries FROM total")
        .and_then(|mut statement| statement.query_row([], |row| row.get::<_, i64>(0)))
        .map(|found| u64::try_from(found).unwrap_or(0))
        .map_err(|error| unavailable("read", error))
}

/// The entry of a row of [`COLUMNS`]; none for a kind of a later version.
pub(super) fn entry(row: &Row<'_>) -> rusqlite::Result<Option<Entry>> {
    let kind = usize::try_from(row.get::<_, i64>(1)?).ok().and_then(|place| Kind::ALL.get(place)).copied();
    let Some(kind) = kind else { return Ok(None) };
    let facts: Option<String> = row.get(13)?;
    Ok(Some(Entry {
        ts: time_of(row.get(0)?),
        kind,
        outcome: row.get::<_, Option<String>>(2)?.unwrap_or_else(|| OK.to_owned()),
        request_id: row.get(3)?,
        connection_id: row.get(4)?,
        client_ref: row.get(5)?,
        node: row.get(6)?,
        api_id: row.get(7)?,
        stage: row.get(8)?,
        route_key: row.get(9)?,
        user: row.get(10)?,
        address: row.get(11)?,
        duration_ms: row.get(12)?,
        facts: facts.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
    }))
}
