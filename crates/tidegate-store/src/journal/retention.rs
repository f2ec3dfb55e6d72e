//! What goes when there is too much: old entries, then successes, then failures, and ends of connections last.

use std::collections::HashSet;

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

/// Where a clean-up is: what it looked through need not be looked through again, in the next step and in the next minute.
/// An entry that came later with an earlier time is not seen; it goes when it is the oldest.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    /// Old entries with a smaller id that may go are gone.
    old: i64,
    /// So are successes.
    successes: i64,
    /// So are failures.
    failures: i64,
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
    for (condition, from, until) in
        [("TRUE", &mut 0, ends.min(before)), (format!("NOT {is_end}").as_str(), &mut progress.old, before)]
    {
        let found = ids(connection, condition, from, until, limit)?;
        if !found.is_empty() {
            return delete(connection, &found);
        }
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
    for (condition, from) in [
        (format!("outcome IS NULL AND NOT {is_end}").as_str(), &mut progress.successes),
        (format!("outcome IS NOT NULL AND NOT {is_end}").as_str(), &mut progress.failures),
        ("TRUE", &mut 0),
    ] {
        let found = ids(connection, condition, from, i64::MAX, limit)?;
        if !found.is_empty() {
            return delete(connection, &found);
        }
    }
    Ok(0)
}

/// The first ids from `from` on and before `until` that fit. `from` goes to the first of them, behind the last entry where
/// there are none: what is found is about to be removed, but that may fail.
fn ids(
    connection: &Connection,
    condition: &str,
    from: &mut i64,
    until: i64,
    limit: usize,
) -> Result<Vec<i64>, StoreError> {
    let failed = |error: rusqlite::Error| unavailable("write", error);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let found: Vec<i64> = connection
        .prepare_cached(&format!(
            "SELECT id FROM entry WHERE id >= ?1 AND id < ?2 AND {condition} ORDER BY id LIMIT ?3"
        ))
        .and_then(|mut statement| {
            statement.query_map(params![*from, until, limit], |row| row.get(0))?.collect()
        })
        .map_err(failed)?;
    *from = match found.first() {
        Some(first) => *first,
        None => connection
            .query_row("SELECT max(id) + 1 FROM entry", [], |row| row.get::<_, Option<i64>>(0))
            .map_err(failed)?
            .map_or(*from, |behind| behind.min(until).max(*from)),
    };
    Ok(found)
}

fn delete(connection: &Connection, ids: &[i64]) -> Result<u64, StoreError> {
    if ids.is_empty() {
        return Ok(0);
    }
    let failed = |error: rusqlite::Error| unavailable("write", error);
    let mut statement = connection.prepare_cached("DELETE FROM entry WHERE id = ?1").map_err(failed)?;
    let mut n_removed = 0;
    for id in ids {
        n_removed += statement.execute([id]).map_err(failed)?;
    }
    schema::add_to_total(connection, -i64::try_from(n_removed).unwrap_or(0))?;
    Ok(n_removed as u64)
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

/// At most `limit` ids of entries of somebody: first those that are theirs only by the connection, because the entries
/// that say whose it is have to go last.
pub(super) fn find(connection: &Connection, whose: &Erase, limit: usize) -> Result<Vec<i64>, StoreError> {
    let failed = |error: rusqlite::Error| unavailable("read", error);
    let (column, name) = match whose {
        Erase::User(user) => ("user", user),
        Erase::Address(address) => ("address", address),
    };
    let mut own: Vec<i64> = Vec::new();
    let mut connections = HashSet::new();
    let mut statement = connection
        .prepare_cached(&format!(
            "SELECT id, coalesce(connection_id, near_connection) FROM entry WHERE {column} = ?1 LIMIT ?2"
        ))
        .map_err(failed)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![name, limit]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        own.push(row.get(0).map_err(failed)?);
        connections.extend(row.get::<_, Option<String>>(1).map_err(failed)?);
    }
    let mut found = Vec::new();
    let mut statement = connection
        .prepare_cached(&format!("SELECT id FROM entry WHERE connection_id = ?1 AND {column} IS NULL"))
        .map_err(failed)?;
    for id in &connections {
        let rows = statement.query_map([id], |row| row.get(0)).map_err(failed)?;
        found.extend(rows.collect::<Result<Vec<i64>, _>>().map_err(failed)?);
    }
    if !connections.is_empty() {
        // All at once: a look around each connection would read the same entries again and again.
        let sql = format!(
            "SELECT id, near_connection FROM entry WHERE near_connection IS NOT NULL AND {column} IS NULL"
        );
        let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            if connections.contains(row.get_ref(1).and_then(|id| Ok(id.as_str()?)).map_err(failed)?) {
                found.push(row.get(0).map_err(failed)?);
            }
        }
    }
    found.extend(own);
    Ok(found)
}

/// Removes entries and overwrites them; answers how many. The caller has opened a transaction.
pub(super) fn erase(connection: &Connection, ids: &[i64]) -> Result<u64, StoreError> {
    run(connection, "PRAGMA secure_delete=ON")?;
    let n_removed = delete(connection, ids);
    run(connection, "PRAGMA secure_delete=FAST")?;
    n_removed
}

/// Gives back free pages, which may hold what was removed earlier, and empties the log of writes, which still has it.
pub(super) fn forget_log(connection: &Connection) -> Result<(), StoreError> {
    run(connection, "PRAGMA incremental_vacuum")?;
    run(connection, "PRAGMA wal_checkpoint(TRUNCATE)")
}
