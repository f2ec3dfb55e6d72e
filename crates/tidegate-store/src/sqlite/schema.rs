//! The tables, how they came about, and the statements on them.

use rusqlite::{Connection, params};
use tidegate_core::port::{Change, Document, StoreError};

use crate::engine::unavailable;

/// One step per version, see [`crate::engine::Write::MIGRATIONS`].
pub(super) const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE document (
        kind     TEXT    NOT NULL,
        parent   TEXT    NOT NULL,
        id       TEXT    NOT NULL,
        sequence INTEGER NOT NULL,
        body     TEXT    NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX document_place ON document (parent, kind, id);
"];

const PUT: &str = "INSERT INTO document (kind, parent, id, sequence, body) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (parent, kind, id) DO UPDATE SET body = excluded.body";
const DELETE: &str = "DELETE FROM document WHERE kind = ?1 AND parent = ?2 AND id = ?3";
// `0` is the character after `/`: the range holds exactly the parents that begin with `{parent}/`.
const DELETE_TREE: &str =
    "DELETE FROM document WHERE parent = ?1 OR (parent >= ?1 || '/' AND parent < ?1 || '0')";
const READ_ALL: &str = "SELECT kind, parent, id, sequence, body FROM document ORDER BY sequence, rowid";

/// Makes one change; the caller has opened a transaction.
pub(super) fn make(connection: &Connection, change: &Change) -> Result<(), StoreError> {
    let failed = |error: rusqlite::Error| unavailable("write", error);
    match change {
        Change::Put(Document { kind, parent, id, sequence, body }) => {
            let sequence = i64::try_from(*sequence).map_err(|error| unavailable("write", error))?;
            let mut statement = connection.prepare(PUT).map_err(failed)?;
            statement.execute(params![kind, parent, id, sequence, body]).map_err(failed)?;
        }
        Change::Delete { kind, parent, id } => {
            let mut statement = connection.prepare(DELETE).map_err(failed)?;
            statement.execute(params![kind, parent, id]).map_err(failed)?;
        }
        Change::DeleteTree { parent } if parent.is_empty() => {
            return Err(unavailable("write", "a tree without a parent would be everything"));
        }
        Change::DeleteTree { parent } => {
            let mut statement = connection.prepare(DELETE_TREE).map_err(failed)?;
            statement.execute(params![parent]).map_err(failed)?;
        }
    }
    Ok(())
}

/// Every document in creation order.
pub(super) fn read_all(connection: &Connection) -> Result<Vec<Document>, StoreError> {
    let failed = |error: rusqlite::Error| unavailable("read", error);
    let mut statement = connection.prepare(READ_ALL).map_err(failed)?;
    let rows = statement
        .query_map([], |row| {
            let sequence: i64 = row.get(3)?;
            Ok(Document {
                kind: row.get(0)?,
                parent: row.get(1)?,
                id: row.get(2)?,
                sequence: u64::try_from(sequence).unwrap_or(0),
                body: row.get(4)?,
            })
        })
        .map_err(failed)?;
    rows.collect::<Result<Vec<_>, _>>().map_err(failed)
}
