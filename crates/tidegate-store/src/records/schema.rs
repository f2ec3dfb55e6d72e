//! The tables of the records, how they came about, and the statements on them.

use rusqlite::{Connection, OptionalExtension, Row, params};
use tidegate_core::port::{Record, RecordCursor, RecordKind, StoreError};

use crate::engine::unavailable;

/// One step per version, see [`crate::engine::Write::MIGRATIONS`].
///
/// `size` holds the bytes of bodies of each kind. Triggers keep it, so that it is right whatever a statement does and
/// whenever a transaction is given up, and no one has to read the whole table.
pub(super) const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE record (
        kind       TEXT    NOT NULL,
        key        TEXT    NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        body       TEXT    NOT NULL,
        PRIMARY KEY (kind, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX record_age ON record (kind, created_at, key);
    CREATE INDEX record_expiry ON record (kind, expires_at);

    CREATE TABLE size (
        kind  TEXT    NOT NULL PRIMARY KEY,
        bytes INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TRIGGER record_added AFTER INSERT ON record BEGIN
        INSERT INTO size (kind, bytes) VALUES (new.kind, octet_length(new.body))
            ON CONFLICT (kind) DO UPDATE SET bytes = bytes + excluded.bytes;
    END;
    CREATE TRIGGER record_changed AFTER UPDATE OF body ON record BEGIN
        UPDATE size SET bytes = bytes - octet_length(old.body) + octet_length(new.body) WHERE kind = new.kind;
    END;
    CREATE TRIGGER record_removed AFTER DELETE ON record BEGIN
        UPDATE size SET bytes = bytes - octet_length(old.body) WHERE kind = old.kind;
    END;
"];

const PUT: &str = "INSERT INTO record (kind, key, created_at, expires_at, body) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (kind, key) DO UPDATE
    SET created_at = excluded.created_at, expires_at = excluded.expires_at, body = excluded.body";
const DELETE: &str = "DELETE FROM record WHERE kind = ?1 AND key = ?2";
const LOAD: &str = "SELECT key, created_at, expires_at, body FROM record
    WHERE kind = ?1 ORDER BY created_at, key";
const FIRST: &str = "SELECT key, created_at, expires_at, body FROM record
    WHERE kind = ?1 ORDER BY created_at, key LIMIT 1";
const LIST: &str = "SELECT key, created_at, expires_at, body FROM record
    WHERE kind = ?1 ORDER BY created_at DESC, key DESC LIMIT ?2";
const LIST_AFTER: &str = "SELECT key, created_at, expires_at, body FROM record
    WHERE kind = ?1 AND (created_at, key) < (?3, ?4) ORDER BY created_at DESC, key DESC LIMIT ?2";
const EXPIRE: &str = "DELETE FROM record WHERE kind = ?1 AND key IN
    (SELECT key FROM record WHERE kind = ?1 AND expires_at <= ?2 ORDER BY expires_at LIMIT ?3)";
const COUNT_EXPIRED: &str = "SELECT count(*) FROM record WHERE kind = ?1 AND expires_at <= ?2";
const BYTES: &str = "SELECT bytes FROM size WHERE kind = ?1";
const OLDEST: &str =
    "SELECT key, octet_length(body) FROM record WHERE kind = ?1 ORDER BY created_at, key LIMIT ?2";

/// Inserts or replaces; the caller has opened a transaction.
pub(super) fn put(connection: &Connection, record: &Record) -> Result<(), StoreError> {
    let Record { kind, key, created_at, expires_at, body } = record;
    connection
        .prepare_cached(PUT)
        .and_then(|mut statement| {
            statement.execute(params![kind.as_str(), key, time(*created_at), time(*expires_at), body])
        })
        .map(drop)
        .map_err(|error| unavailable("write", error))
}

/// Removes one record; answers 1, or 0 if it was absent. The caller has opened a transaction.
pub(super) fn delete(connection: &Connection, kind: RecordKind, key: &str) -> Result<usize, StoreError> {
    connection
        .prepare_cached(DELETE)
        .and_then(|mut statement| statement.execute(params![kind.as_str(), key]))
        .map_err(|error| unavailable("write", error))
}

/// Removes what expired first, at most `limit` records; answers how many. The caller has opened a transaction.
pub(super) fn expire(
    connection: &Connection,
    kind: RecordKind,
    now: u64,
    limit: usize,
) -> Result<usize, StoreError> {
    connection
        .execute(EXPIRE, params![kind.as_str(), time(now), count(limit)])
        .map_err(|error| unavailable("write", error))
}

/// How many records of a kind have expired at `now`.
pub(super) fn count_expired(
    connection: &Connection,
    kind: RecordKind,
    now: u64,
) -> Result<usize, StoreError> {
    let found: i64 = connection
        .query_row(COUNT_EXPIRED, params![kind.as_str(), time(now)], |row| row.get(0))
        .map_err(|error| unavailable("read", error))?;
    Ok(usize::try_from(found).unwrap_or(0))
}

/// Bytes of bodies of a kind.
pub(super) fn bytes(connection: &Connection, kind: RecordKind) -> Result<u64, StoreError> {
    let found: Option<i64> = connection
        .query_row(BYTES, [kind.as_str()], |row| row.get(0))
        .optional()
        .map_err(|error| unavailable("read", error))?;
    Ok(found.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0))
}

/// Removes the oldest records until at most `max_bytes` of bodies are left, at most `limit` of them; answers how many.
/// The caller has opened a transaction.
pub(super) fn shrink(
    connection: &Connection,
    kind: RecordKind,
    max_bytes: u64,
    limit: usize,
) -> Result<usize, StoreError> {
    let failed = |error: rusqlite::Error| unavailable("write", error);
    let mut excess = bytes(connection, kind)?.saturating_sub(max_bytes);
    let mut keys = Vec::new();
    {
        let mut statement = connection.prepare_cached(OLDEST).map_err(failed)?;
        let mut rows = statement.query(params![kind.as_str(), count(limit)]).map_err(failed)?;
        while excess > 0
            && let Some(row) = rows.next().map_err(failed)?
        {
            let length: i64 = row.get(1).map_err(failed)?;
            excess = excess.saturating_sub(u64::try_from(length).unwrap_or(0));
            keys.push(row.get::<_, String>(0).map_err(failed)?);
        }
    }
    for key in &keys {
        delete(connection, kind, key)?;
    }
    Ok(keys.len())
}

/// Every record of a kind, oldest first.
pub(super) fn load(connection: &Connection, kind: RecordKind) -> Result<Vec<Record>, StoreError> {
    connection
        .prepare_cached(LOAD)
        .and_then(|mut statement| {
            statement.query_map([kind.as_str()], |row| record(kind, row))?.collect::<Result<_, _>>()
        })
        .map_err(|error| unavailable("read", error))
}

/// The oldest one.
pub(super) fn oldest(connection: &Connection, kind: RecordKind) -> Result<Option<Record>, StoreError> {
    connection
        .prepare_cached(FIRST)
        .and_then(|mut statement| statement.query_row([kind.as_str()], |row| record(kind, row)).optional())
        .map_err(|error| unavailable("read", error))
}

/// One page, newest first.
pub(super) fn list(
    connection: &Connection,
    kind: RecordKind,
    after: Option<&RecordCursor>,
    limit: usize,
) -> Result<Vec<Record>, StoreError> {
    let failed = |error: rusqlite::Error| unavailable("read", error);
    let records = match after {
        None => connection.prepare_cached(LIST).and_then(|mut statement| {
            statement
                .query_map(params![kind.as_str(), count(limit)], |row| record(kind, row))?
                .collect::<Result<_, _>>()
        }),
        Some(RecordCursor { created_at, key }) => {
            connection.prepare_cached(LIST_AFTER).and_then(|mut statement| {
                let place = params![kind.as_str(), count(limit), time(*created_at), key];
                statement.query_map(place, |row| record(kind, row))?.collect::<Result<_, _>>()
            })
        }
    };
    records.map_err(failed)
}

fn record(kind: RecordKind, row: &Row<'_>) -> rusqlite::Result<Record> {
    let milliseconds = |time: i64| u64::try_from(time).unwrap_or(0);
    Ok(Record {
        kind,
        key: row.get(0)?,
        created_at: milliseconds(row.get(1)?),
        expires_at: milliseconds(row.get(2)?),
        body: row.get(3)?,
    })
}

/// A time as the engine can order it; beyond its range is for ever.
fn time(milliseconds: u64) -> i64 {
    i64::try_from(milliseconds).unwrap_or(i64::MAX)
}

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
