//! What goes when there is too much: old entries, then successes, then failures, and ends of connections last.

use rusqlite::{Connection, params};
use tidegate_core::journal::{Erase, Kind, Retention};
use tidegate_core::port::StoreError;

use super::PAGE_SIZE;
use super::schema::{self, first_id, kind_number};
use crate::engine::unavailable;

/// What may stay.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) retention: Retention,
    /// Bytes of pages in use.
    pub(super) max_bytes: u64,
}

impl Limits {
    /// Down to here, so that there is room until the next time: a sixteenth below.
    fn low_bytes(&self) -> u64 {
        self.max_bytes - self.max_bytes / 16
    }

    fn low_entries(&self) -> u64 {
        self.retention.max_entries - self.retention.max_entries / 16
    }
}

/// What an end of a connection is: closes, and handshakes that were accepted. Who asks about a dead id needs them.
fn is_end() -> String {
    let (close, handshake) = (kind_number(Kind::Close), kind_number(Kind::Handshake));
    format!("(kind = {close} OR (kind = {handshake} AND outcome IS NULL))")
}

/// Where a clean-up is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    /// Successes with a smaller id that may go are gone.
    cleared: i64,
    /// There was too much, and the lower mark is not reached yet.
    is_under_way: bool,
}

/// Removes at most `limit` entries; answers how many. 0: nothing more has to go. The caller has opened a transaction.
pub(super) fn step(
    connection: &Connection,
    limits: &Limits,
    progress: &mut Progress,
    limit: usize,
) -> Result<u64, StoreError> {
    let retention = &limits.retention;
    let is_end = is_end();
    let ends = first_id(retention.ends_before);
    let before = first_id(retention.before);
    let old = format!("id < ?1 AND (id < ?2 OR NOT {is_end})");
    let found = ids(connection, &old, before, ends, limit)?;
    if !found.is_empty() {
        return delete(connection, &found);
    }
    let used = used_bytes(connection)?;
    let n_entries = schema::total(connection)?;
    let is_over = used > limits.max_bytes || n_entries > retention.max_entries;
    let is_above_low = used > limits.low_bytes() || n_entries > limits.low_entries();
    progress.is_under_way = is_over || progress.is_under_way && is_above_low;
    if !progress.is_under_way {
        return Ok(0);
    }
    let excess = n_entries.saturating_sub(limits.low_entries());
    // As large a part of all as there are bytes too much, and at least a few.
    let excess_bytes = used.saturating_sub(limits.low_bytes());
    let part = n_entries.saturating_mul(excess_bytes) / used.max(1) + u64::from(excess_bytes > 0) * 16;
    let limit = limit.min(usize::try_from(excess.max(part)).unwrap_or(usize::MAX));
    let success = format!("id >= ?1 AND outcome IS NULL AND (id < ?2 OR NOT {is_end})");
    let failure = format!("id >= ?1 AND outcome IS NOT NULL AND (id < ?2 OR NOT {is_end})");
    let anything = "id >= ?1 AND ?2 = ?2".to_owned();
    // Ends that were kept at the first look are older at the next one, so the second look begins at the start.
    for from in [progress.cleared, 0] {
        let found = ids(connection, &success, from, ends, limit)?;
        if let Some(last) = found.last() {
            progress.cleared = *last;
            return delete(connection, &found);
        }
    }
    for condition in [failure, anything] {
        let found = ids(connection, &condition, 0, ends, limit)?;
        if !found.is_empty() {
            return delete(connection, &found);
        }
    }
    Ok(0)
}

fn ids(
    connection: &Connection,
    condition: &str,
    first: i64,
    second: i64,
    limit: usize,
) -> Result<Vec<i64>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    connection
        .prepare_cached(&format!("SELECT id FROM entry WHERE {condition} ORDER BY id LIMIT ?3"))
        .and_then(|mut statement| {
            statement.query_map(params![first, second, limit], |row| row.get(0))?.collect()
        })
        .map_err(|error| unavailable("write", error))
}

fn delete(connection: &Connection, ids: &[i64]) -> Result<u64, StoreError> {
    if ids.is_empty() {
        return Ok(0);
    }
    let failed = |error: rusqlite::Error| unavailable("write", error);
    let mut statement = connection.prepare_cached("DELETE FROM entry WHERE id = ?1").map_err(failed)?;
    for id in ids {
        statement.execute([id]).map_err(failed)?;
    }
    schema::add_to_total(connection, -i64::try_from(ids.len()).unwrap_or(0))?;
    Ok(ids.len() as u64)
}

/// Bytes of pages that hold something.
fn used_bytes(connection: &Connection) -> Result<u64, StoreError> {
    let number = |pragma: &str| -> Result<u64, StoreError> {
        let found: i64 =
            connection.query_row(pragma, [], |row| row.get(0)).map_err(|error| unavailable("read", error))?;
        Ok(u64::try_from(found).unwrap_or(0))
    };
    let pages = number("PRAGMA page_count")?.saturating_sub(number("PRAGMA freelist_count")?);
    Ok(pages * PAGE_SIZE)
}

/// Gives free pages back to the file system while the file has more than `max_pages`.
pub(super) fn give_back(connection: &Connection, max_pages: u64) -> Result<(), StoreError> {
    let failed = |error: rusqlite::Error| unavailable("write", error);
    let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).map_err(failed)?;
    let excess = u64::try_from(pages).unwrap_or(0).saturating_sub(max_pages);
    match excess {
        0 => Ok(()),
        _ => run(connection, &format!("PRAGMA incremental_vacuum({excess})")),
    }
}

/// Runs a pragma to its end: each step of it does a part.
fn run(connection: &Connection, sql: &str) -> Result<(), StoreError> {
    let failed = |error: rusqlite::Error| unavailable("write", error);
    let mut statement = connection.prepare(sql).map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    while rows.next().map_err(failed)?.is_some() {}
    Ok(())
}

/// Removes at most `limit` entries of somebody and overwrites them; answers how many. The caller has opened a
/// transaction.
pub(super) fn erase(connection: &Connection, whose: &Erase, limit: usize) -> Result<u64, StoreError> {
    let failed = |error: rusqlite::Error| unavailable("write", error);
    let (column, name) = match whose {
        Erase::User(user) => ("user", user),
        Erase::Address(address) => ("address", address),
    };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    // First what is theirs only by the connection: the entries that say whose it is go last.
    for condition in [
        format!(
            "connection_id IN (SELECT connection_id FROM entry WHERE {column} = ?1 AND connection_id IS NOT NULL) \
             AND {column} IS NULL"
        ),
        format!("{column} = ?1"),
    ] {
        let found: Vec<i64> = connection
            .prepare_cached(&format!("SELECT id FROM entry WHERE {condition} LIMIT ?2"))
            .and_then(|mut statement| statement.query_map(params![name, limit], |row| row.get(0))?.collect())
            .map_err(failed)?;
        if !found.is_empty() {
            run(connection, "PRAGMA secure_delete=ON")?;
            let n_removed = delete(connection, &found);
            run(connection, "PRAGMA secure_delete=FAST")?;
            return n_removed;
        }
    }
    Ok(0)
}

/// Gives back free pages, which may hold what was removed earlier, and empties the log of writes, which still has it.
pub(super) fn forget_log(connection: &Connection) -> Result<(), StoreError> {
    run(connection, "PRAGMA incremental_vacuum")?;
    run(connection, "PRAGMA wal_checkpoint(TRUNCATE)")
}
