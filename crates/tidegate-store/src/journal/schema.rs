//! The table of the entries, and how entries become rows.

use std::fmt::Write as _;

use rusqlite::{CachedStatement, Connection, Row};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::id::ConnectionId;
use tidegate_core::journal::{Draft, Entry, Facts, Kind, OK};
use tidegate_core::port::StoreError;

use crate::engine::unavailable;

/// Bits of an id below its time: entries of one microsecond that are told apart without a look.
const COUNT_BITS: u32 = 11;

/// One step per version, see [`crate::engine::Write::MIGRATIONS`].
///
/// An id is the time in microseconds with a count behind it: the order of ids is the order of time, and no index is
/// needed for that. `kind` is the place in `Kind::ALL`. A success has no outcome. `total` holds the number of entries,
/// because counting reads them all.
pub(super) const MIGRATIONS: [&str; 4] = [
    "
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
",
    // An entry cost 25 us, most of it for pages of these that were changed for one line each. Who asks for a user, an
    // address or a client's reference looks through the entries of the time that is meant; a request's id says its time.
    "
    DROP INDEX entry_request;
    DROP INDEX entry_client_ref;
    DROP INDEX entry_user;
    DROP INDEX entry_address;
",
    // Facts as `tidegate_core::journal::Facts` packs them; `facts` holds those of entries that were written before, or that come as entries.
    "
    ALTER TABLE entry ADD COLUMN packed BLOB;
",
    // The connection of an entry that was made soon after its connection: see `is_near`. It has no index.
    "
    ALTER TABLE entry ADD COLUMN near_connection TEXT;
",
];

/// The time of an entry, in microseconds, within which the time in its connection's id says where to look for it. The
/// index over connections costs more than anything else about an entry, and most connections have only what their
/// handshake says and, some time later, their end.
const BEFORE_NEAR: u64 = 1_000_000;
const AFTER_NEAR: u64 = 10_000_000;

/// The ids of entries that may be near a connection: from the first, before the second.
pub(super) fn near(connection_id: &str) -> Option<(i64, i64)> {
    let made_at = ConnectionId::parse(connection_id).ok()?.made_at().saturating_mul(1000);
    let (from, until) = (made_at.saturating_sub(BEFORE_NEAR), made_at.saturating_add(AFTER_NEAR));
    Some((first_id(from), first_id(until)))
}

/// The condition for entries of a connection, whose id is parameter `place`.
pub(super) fn is_of_connection(connection_id: &str, place: usize) -> String {
    match near(connection_id) {
        None => format!("connection_id = ?{place}"),
        Some((from, until)) => format!(
            "(connection_id = ?{place} OR (id >= {from} AND id < {until} AND near_connection = ?{place}))"
        ),
    }
}

/// For a file that was written before its last steps and is only read: the columns that it lacks are empty.
pub(super) fn fill_up(connection: &Connection, version: u32) -> rusqlite::Result<()> {
    match version {
        0..3 => connection.execute_batch(
            "CREATE TEMP VIEW entry AS SELECT *, NULL AS packed, NULL AS near_connection FROM main.entry",
        ),
        3 => connection
            .execute_batch("CREATE TEMP VIEW entry AS SELECT *, NULL AS near_connection FROM main.entry"),
        _ => Ok(()),
    }
}

/// Place of [`Kind::Control`] in `Kind::ALL`; it stands in the schema.
pub(super) const CONTROL: i64 = 12;

/// What [`entry`] reads, in its order.
pub(super) const COLUMNS: &str = "id, kind, outcome, request_id, coalesce(connection_id, near_connection), client_ref, node, api_id, stage, \
     route_key, user, address, duration_ms, facts, packed";

// Ignored where the id is taken.
const INSERT: &str = "INSERT OR IGNORE INTO entry (id, kind, outcome, request_id, connection_id, client_ref, node, \
     api_id, stage, route_key, user, address, duration_ms, facts, packed, near_connection) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";

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

/// An entry as it goes into the table.
struct Columns<'a> {
    ts: u64,
    kind: Kind,
    outcome: Option<&'a str>,
    request_id: Option<&'a str>,
    connection_id: Option<&'a str>,
    client_ref: Option<&'a str>,
    node: u32,
    api_id: Option<&'a str>,
    stage: Option<&'a str>,
    route_key: Option<&'a str>,
    user: Option<&'a str>,
    address: Option<&'a str>,
    duration_ms: Option<f64>,
}

/// Adds entries; the caller has opened a transaction.
pub(super) fn append(connection: &Connection, entries: &[Entry]) -> Result<(), StoreError> {
    let mut inserts = Inserts::new(connection)?;
    let mut facts = Vec::new();
    for entry in entries {
        let columns = Columns {
            ts: entry.ts,
            kind: entry.kind,
            outcome: (entry.outcome != OK).then_some(entry.outcome.as_str()),
            request_id: entry.request_id.as_deref(),
            connection_id: entry.connection_id.as_deref(),
            client_ref: entry.client_ref.as_deref(),
            node: entry.node,
            api_id: entry.api_id.as_deref(),
            stage: entry.stage.as_deref(),
            route_key: entry.route_key.as_deref(),
            user: entry.user.as_deref(),
            address: entry.address.as_deref(),
            duration_ms: entry.duration_ms,
        };
        facts.clear();
        if !entry.facts.is_empty() {
            serde_json::to_writer(&mut facts, &entry.facts).map_err(|error| unavailable("write", error))?;
        }
        inserts.add(&columns, some(std::str::from_utf8(&facts).ok()), &[])?;
    }
    add_to_total(connection, i64::try_from(entries.len()).unwrap_or(i64::MAX))
}

/// Adds entries from what the gateway told; the caller has opened a transaction.
pub(super) fn append_drafts(connection: &Connection, drafts: &[Draft]) -> Result<(), StoreError> {
    let mut inserts = Inserts::new(connection)?;
    let (mut request_id, mut connection_id) = (String::new(), String::new());
    for draft in drafts {
        let place = &draft.place;
        let columns = Columns {
            ts: draft.ts,
            kind: draft.kind,
            outcome: draft.outcome.map(Diagnosis::as_str),
            request_id: print(&mut request_id, place.request_id.as_ref()),
            connection_id: print(&mut connection_id, place.connection_id.as_ref()),
            client_ref: some(place.client_ref.as_deref()),
            node: draft.node,
            api_id: some(Some(&place.api_id)),
            stage: some(Some(&place.stage)),
            route_key: some(place.route_key.as_deref()),
            user: some(place.user.as_deref()),
            address: draft.address.as_deref(),
            duration_ms: draft.duration_ms,
        };
        inserts.add(&columns, None, draft.facts.as_packed())?;
    }
    add_to_total(connection, i64::try_from(drafts.len()).unwrap_or(i64::MAX))
}

fn some(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

fn print<'a>(buffer: &'a mut String, id: Option<&impl std::fmt::Display>) -> Option<&'a str> {
    buffer.clear();
    // Writing into a string cannot fail; an id that could not be written would be none.
    write!(buffer, "{}", id?).ok().map(|()| buffer.as_str())
}

/// Rows that are being added, and the id of the last one.
struct Inserts<'c> {
    connection: &'c Connection,
    statement: CachedStatement<'c>,
    id: i64,
}

impl<'c> Inserts<'c> {
    fn new(connection: &'c Connection) -> Result<Self, StoreError> {
        let statement = connection.prepare_cached(INSERT).map_err(|error| unavailable("write", error))?;
        Ok(Self { connection, statement, id: 0 })
    }

    /// With facts as JSON or packed.
    fn add(&mut self, columns: &Columns<'_>, facts: Option<&str>, packed: &[u8]) -> Result<(), StoreError> {
        let failed = |error: rusqlite::Error| unavailable("write", error);
        let first = first_id(columns.ts);
        // Behind the entry before where both are of one microsecond: no look whether the id is free fails then.
        self.id = if self.id >= first && time_of(self.id) == columns.ts { self.id + 1 } else { first };
        let kind = kind_number(columns.kind);
        let is_near = |id: &&str| near(id).is_some_and(|(from, until)| first >= from && first < until);
        let near_connection = columns.connection_id.filter(is_near);
        let connection_id = columns.connection_id.filter(|_| near_connection.is_none());
        let statement = &mut self.statement;
        statement.raw_bind_parameter(2, kind).map_err(failed)?;
        for (place, text) in [
            (3, columns.outcome),
            (4, columns.request_id),
            (5, connection_id),
            (6, columns.client_ref),
            (8, columns.api_id),
            (9, columns.stage),
            (10, columns.route_key),
            (11, columns.user),
            (12, columns.address),
            (14, facts),
            (16, near_connection),
        ] {
            statement.raw_bind_parameter(place, text).map_err(failed)?;
        }
        statement.raw_bind_parameter(7, columns.node).map_err(failed)?;
        statement.raw_bind_parameter(13, columns.duration_ms).map_err(failed)?;
        let packed = (!packed.is_empty()).then_some(packed);
        statement.raw_bind_parameter(15, packed).map_err(failed)?;
        loop {
            self.statement.raw_bind_parameter(1, self.id).map_err(failed)?;
            if self.statement.raw_execute().map_err(failed)? == 1 {
                return Ok(());
            }
            // Taken by an earlier call: behind all that have this time.
            self.id = free_id(self.connection, first)?.max(self.id + 1);
        }
    }
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
    let facts = match row.get_ref(14)?.as_blob_or_null()? {
        Some(bytes) => Facts::from_packed(bytes).into_map(),
        None => {
            let text: Option<String> = row.get(13)?;
            text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
        }
    };
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
        facts,
    }))
}
