//! Questions to the journal.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use tidegate_core::id::RequestId;
use tidegate_core::journal::{Entry, EntryQuery, JournalState, Kind};
use tidegate_core::port::StoreError;

use super::schema::{self, COLUMNS, CONTROL, first_id, kind_number, time_of};
use crate::engine::unavailable;

/// Before the time in a request's id, in microseconds: clocks are set back a little now and then.
const BEFORE_REQUEST: u64 = 2_000_000;

/// After the time in a request's id, in microseconds: no request takes longer.
const AFTER_REQUEST: u64 = 20 * 60 * 1_000_000;

/// The question, narrowed to the time that a request's id says: no index is needed to find it then.
fn narrowed(connection: &Connection, query: &EntryQuery) -> Result<EntryQuery, StoreError> {
    let mut query = query.clone();
    let Some(id) = query.request_id.as_deref().and_then(|text| RequestId::parse(text).ok()) else {
        return Ok(query);
    };
    let Some(newest) = edge(connection, "SELECT max(id) FROM entry")? else { return Ok(query) };
    let made_at = id.made_at(newest / 1000).saturating_mul(1000);
    let (since, until) = (made_at.saturating_sub(BEFORE_REQUEST), made_at.saturating_add(AFTER_REQUEST));
    query.since = query.since.max(Some(since));
    query.until = Some(query.until.map_or(until, |given| given.min(until)));
    Ok(query)
}

/// Conditions of a question, and their values.
fn conditions(query: &EntryQuery) -> (String, Vec<Value>) {
    let mut conditions = Vec::new();
    let mut values = Vec::new();
    if let Some(id) = &query.connection_id {
        values.push(Value::Text(id.clone()));
        conditions.push(schema::is_of_connection(id, values.len()));
    }
    let mut add = |condition: &str, value: Value| {
        values.push(value);
        conditions.push(condition.replace('?', &format!("?{}", values.len())));
    };
    for (column, value) in [
        ("request_id", &query.request_id),
        ("client_ref", &query.client_ref),
        ("user", &query.user),
        ("address", &query.address),
    ] {
        if let Some(value) = value {
            add(&format!("{column} = ?"), Value::Text(value.clone()));
        }
    }
    // A plus keeps the engine from an index that is no help: there is none over these.
    for (column, value) in [("+api_id", &query.api_id), ("+stage", &query.stage)] {
        if let Some(value) = value {
            add(&format!("{column} = ?"), Value::Text(value.clone()));
        }
    }
    if let Some(since) = query.since {
        add("id >= ?", Value::Integer(first_id(since)));
    }
    if let Some(until) = query.until {
        add("id < ?", Value::Integer(first_id(until)));
    }
    let is_control = query.kinds == [Kind::Control];
    if is_control {
        conditions.push(format!("kind = {CONTROL}"));
    } else if !query.kinds.is_empty() {
        let numbers: Vec<String> = query.kinds.iter().map(|kind| kind_number(*kind).to_string()).collect();
        conditions.push(format!("kind IN ({})", numbers.join(", ")));
    }
    if !query.outcomes.is_empty() {
        let mut any = Vec::new();
        for outcome in &query.outcomes {
            if outcome == tidegate_core::journal::OK {
                any.push("outcome IS NULL".to_owned());
            } else {
                values.push(Value::Text(outcome.clone()));
                any.push(format!("outcome = ?{}", values.len()));
            }
        }
        conditions.push(format!("({})", any.join(" OR ")));
    }
    if query.failures_only {
        conditions.push("outcome IS NOT NULL".to_owned());
    }
    let text = match conditions.is_empty() {
        true => String::new(),
        false => format!(" WHERE {}", conditions.join(" AND ")),
    };
    (text, values)
}

/// The newest entries that fit, in the order of time.
pub(super) fn entries(connection: &Connection, query: &EntryQuery) -> Result<Vec<Entry>, StoreError> {
    let narrow = narrowed(connection, query)?;
    let found = read(connection, &narrow)?;
    // An id whose time leads nowhere may come from another clock: everything is looked through for it.
    if found.is_empty() && narrow != *query { read(connection, query) } else { Ok(found) }
}

fn read(connection: &Connection, query: &EntryQuery) -> Result<Vec<Entry>, StoreError> {
    let failed = |error: rusqlite::Error| unavailable("read", error);
    let (conditions, mut values) = conditions(query);
    values.push(Value::Integer(i64::try_from(query.limit).unwrap_or(i64::MAX)));
    let sql = format!("SELECT {COLUMNS} FROM entry{conditions} ORDER BY id DESC LIMIT ?{}", values.len());
    let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
    let mut rows = statement.query(params_from_iter(values)).map_err(failed)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        found.extend(schema::entry(row).map_err(failed)?);
    }
    found.reverse();
    Ok(found)
}

/// How often each outcome is among the failures that fit, the most frequent first.
pub(super) fn count_outcomes(
    connection: &Connection,
    query: &EntryQuery,
) -> Result<Vec<(String, u64)>, StoreError> {
    let query = EntryQuery { failures_only: true, ..narrowed(connection, query)? };
    let (conditions, values) = conditions(&query);
    let sql = format!(
        "SELECT outcome, count(*) FROM entry{conditions} GROUP BY outcome ORDER BY count(*) DESC, outcome"
    );
    connection
        .prepare_cached(&sql)
        .and_then(|mut statement| {
            let count = |row: &rusqlite::Row<'_>| {
                Ok((row.get::<_, String>(0)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0)))
            };
            statement.query_map(params_from_iter(values), count)?.collect()
        })
        .map_err(|error| unavailable("read", error))
}

/// The time of an id that `sql` selects.
fn edge(connection: &Connection, sql: &str) -> Result<Option<u64>, StoreError> {
    connection
        .query_row(sql, [], |row| row.get::<_, Option<i64>>(0))
        .map(|id| id.map(time_of))
        .map_err(|error| unavailable("read", error))
}

/// Everything but what the writer counts.
pub(super) fn state(connection: &Connection) -> Result<JournalState, StoreError> {
    let failed = |error: rusqlite::Error| unavailable("read", error);
    let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).map_err(failed)?;
    Ok(JournalState {
        entries: schema::total(connection)?,
        bytes: u64::try_from(pages).unwrap_or(0) * super::PAGE_SIZE,
        oldest: edge(connection, "SELECT min(id) FROM entry")?,
        newest: edge(connection, "SELECT max(id) FROM entry")?,
        dropped: 0,
        sampled: 0,
    })
}
