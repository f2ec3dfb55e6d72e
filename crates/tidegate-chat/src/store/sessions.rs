//! The table of sessions: which devices are connected, to which process.

use std::sync::Arc;

use tidegate_core::id::ConnectionId;
use tidegate_store::sql::{SqlError, SqlRow, SqlValue, Tx};
use uuid::Uuid;

use crate::error::ChatError;
use crate::model::{Micros, UserId};

/// Most nodes that one look at them reads; dead ones are the oldest, and come first.
const MAX_NODES: i64 = 1000;

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// The process that has the connection.
    pub node: Uuid,
    /// The connection.
    pub connection: ConnectionId,
    /// Whose it is.
    pub user: UserId,
    /// When it was accepted.
    pub connected_at: Micros,
    /// Its last event, as far as it was written.
    pub last_seen: Micros,
}

/// The bytes of an id's text.
fn key(connection: ConnectionId) -> SqlValue {
    SqlValue::Bytes(connection.to_string().into_bytes())
}

/// Enters a node without sessions.
///
/// # Errors
/// The database.
pub fn enter_node(tx: &mut dyn Tx, node: Uuid, now: Micros) -> Result<(), SqlError> {
    tx.execute("DELETE FROM chat_node WHERE id = ?1", &[SqlValue::from(node.into_bytes())])?;
    let sql = "INSERT INTO chat_node (id, started_at, beat) VALUES (?1, ?2, 0)";
    tx.execute(sql, &[SqlValue::from(node.into_bytes()), SqlValue::Int(now)]).map(drop)
}

/// Takes all nodes out, with their sessions: for a database that only one process can have open.
///
/// # Errors
/// The database.
pub fn remove_all(tx: &mut dyn Tx) -> Result<(), SqlError> {
    tx.execute("DELETE FROM chat_node", &[]).map(drop)
}

/// Takes a node out, with its sessions.
///
/// # Errors
/// The database.
pub fn remove_node(tx: &mut dyn Tx, node: Uuid) -> Result<(), SqlError> {
    tx.execute("DELETE FROM chat_node WHERE id = ?1", &[SqlValue::from(node.into_bytes())]).map(drop)
}

/// Takes a node out whose beat is still this one; whether it was.
///
/// # Errors
/// The database.
pub fn remove_silent(tx: &mut dyn Tx, node: Uuid, beat: i64) -> Result<bool, SqlError> {
    let sql = "DELETE FROM chat_node WHERE id = ?1 AND beat = ?2";
    tx.execute(sql, &[SqlValue::from(node.into_bytes()), SqlValue::Int(beat)]).map(|count| count == 1)
}

/// Whether a node is entered. Somebody may have thought that it was dead.
///
/// # Errors
/// The database.
pub fn is_entered(tx: &mut dyn Tx, node: Uuid) -> Result<bool, SqlError> {
    let sql = "SELECT 1 FROM chat_node WHERE id = ?1";
    Ok(!tx.query(sql, &[SqlValue::from(node.into_bytes())])?.is_empty())
}

/// Moves a node's beat on.
///
/// # Errors
/// The database.
pub fn beat(tx: &mut dyn Tx, node: Uuid) -> Result<(), SqlError> {
    let sql = "UPDATE chat_node SET beat = beat + 1 WHERE id = ?1";
    tx.execute(sql, &[SqlValue::from(node.into_bytes())]).map(drop)
}

/// All other nodes with their beats.
///
/// # Errors
/// The database.
pub fn other_nodes(tx: &mut dyn Tx, node: Uuid) -> Result<Vec<(Uuid, i64)>, SqlError> {
    let sql = "SELECT id, beat FROM chat_node WHERE id <> ?1 ORDER BY id LIMIT ?2";
    let rows = tx.query(sql, &[SqlValue::from(node.into_bytes()), SqlValue::Int(MAX_NODES)])?;
    rows.iter().map(|row| Ok((Uuid::from_bytes(row.id(0)?), row.int(1)?))).collect()
}

/// Writes a session.
///
/// # Errors
/// The database.
pub fn insert(tx: &mut dyn Tx, row: &SessionRow) -> Result<(), ChatError> {
    let sql = "INSERT INTO chat_session (node, connection, user_id, connected_at, last_seen) VALUES (?1, ?2, ?3, ?4, ?5) \
               ON CONFLICT (node, connection) DO UPDATE SET last_seen = excluded.last_seen";
    let parameters = [
        SqlValue::from(row.node.into_bytes()),
        key(row.connection),
        SqlValue::Text(Arc::clone(&row.user.0)),
        SqlValue::Int(row.connected_at),
        SqlValue::Int(row.last_seen),
    ];
    tx.execute(sql, &parameters)?;
    Ok(())
}

/// Notes that a session was heard of.
///
/// # Errors
/// The database.
pub fn touch(
    tx: &mut dyn Tx,
    node: Uuid,
    connection: ConnectionId,
    last_seen: Micros,
) -> Result<(), SqlError> {
    let sql = "UPDATE chat_session SET last_seen = ?3 WHERE node = ?1 AND connection = ?2";
    let parameters = [SqlValue::from(node.into_bytes()), key(connection), SqlValue::Int(last_seen)];
    tx.execute(sql, &parameters).map(drop)
}

/// Takes a session out.
///
/// # Errors
/// The database.
pub fn remove(tx: &mut dyn Tx, node: Uuid, connection: ConnectionId) -> Result<(), SqlError> {
    let sql = "DELETE FROM chat_session WHERE node = ?1 AND connection = ?2";
    tx.execute(sql, &[SqlValue::from(node.into_bytes()), key(connection)]).map(drop)
}

/// Sessions of other nodes behind `after` (the text of a connection id; empty: from the first), by connection.
///
/// # Errors
/// The database.
pub fn of_other_nodes(
    tx: &mut dyn Tx,
    node: Uuid,
    after: &str,
    most: usize,
) -> Result<Vec<SessionRow>, ChatError> {
    let sql = "SELECT node, connection, user_id, connected_at, last_seen FROM chat_session \
               WHERE node <> ?1 AND connection > ?2 ORDER BY connection LIMIT ?3";
    let parameters = [
        SqlValue::from(node.into_bytes()),
        SqlValue::Bytes(after.as_bytes().to_vec()),
        SqlValue::Int(i64::try_from(most).unwrap_or(i64::MAX)),
    ];
    tx.query(sql, &parameters)?.iter().map(row_of).collect()
}

/// How many devices a user has at other nodes.
///
/// # Errors
/// The database.
pub fn count_elsewhere(tx: &mut dyn Tx, node: Uuid, user: &UserId) -> Result<usize, SqlError> {
    let sql = "SELECT count(*) FROM chat_session WHERE user_id = ?1 AND node <> ?2";
    let parameters = [SqlValue::Text(Arc::clone(&user.0)), SqlValue::from(node.into_bytes())];
    let count = tx.query(sql, &parameters)?.first().map_or(Ok(0), |row| row.int(0))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

fn row_of(row: &SqlRow) -> Result<SessionRow, ChatError> {
    let connection = row.id(1)?;
    let connection = std::str::from_utf8(&connection).ok().and_then(|text| ConnectionId::parse(text).ok());
    Ok(SessionRow {
        node: Uuid::from_bytes(row.id(0)?),
        connection: connection
            .ok_or_else(|| ChatError::Internal("a session without a connection".to_owned()))?,
        user: UserId(row.text(2)?),
        connected_at: row.int(3)?,
        last_seen: row.int(4)?,
    })
}
