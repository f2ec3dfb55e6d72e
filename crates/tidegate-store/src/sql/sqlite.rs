//! [`Tx`] on a connection to SQLite.

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, ErrorCode, ToSql, params_from_iter};
use tidegate_core::port::StoreError;

use super::{SqlError, SqlRow, SqlValue, Tx};
use crate::engine::{migrate, unavailable};

/// Statements that stay prepared. An application has more texts than the cache of a connection holds by itself.
const MAX_PREPARED: usize = 256;

/// A database in memory for one user of it, without a thread and without a queue: for tests of statements.
#[derive(Debug)]
pub struct MemoryDatabase {
    connection: Connection,
}

/// Opens a [`MemoryDatabase`] and makes its tables.
///
/// # Errors
/// [`StoreError::Unavailable`] when a migration is wrong.
pub fn open_in_memory(migrations: &[&str]) -> Result<MemoryDatabase, StoreError> {
    let connection = Connection::open_in_memory().map_err(|error| unavailable("open", error))?;
    prepare(&connection)?;
    migrate(&connection, migrations)?;
    Ok(MemoryDatabase { connection })
}

impl MemoryDatabase {
    /// Runs `work` in a transaction, which is kept when it gives `Ok` and given up otherwise.
    ///
    /// # Errors
    /// Those of `work`, and [`SqlError`] when the transaction cannot begin or end.
    pub fn transaction<T, E: From<SqlError>>(
        &mut self,
        work: impl FnOnce(&mut dyn Tx) -> Result<T, E>,
    ) -> Result<T, E> {
        // Dropped without a commit it is rolled back.
        let transaction = self.connection.transaction().map_err(|error| E::from(failed(error)))?;
        let answer = work(&mut SqliteTx::new(&transaction))?;
        transaction.commit().map_err(|error| E::from(failed(error)))?;
        Ok(answer)
    }
}

/// What a connection needs before statements of an application run on it.
///
/// # Errors
/// [`StoreError::Unavailable`]
pub(crate) fn prepare(connection: &Connection) -> Result<(), StoreError> {
    connection.set_prepared_statement_cache_capacity(MAX_PREPARED);
    connection.pragma_update(None, "foreign_keys", true).map_err(|error| unavailable("open", error))
}

/// The transaction that is open on a connection.
#[derive(Debug)]
pub(crate) struct SqliteTx<'c> {
    connection: &'c Connection,
}

impl<'c> SqliteTx<'c> {
    /// The caller begins and ends it.
    pub(crate) fn new(connection: &'c Connection) -> Self {
        Self { connection }
    }
}

impl Tx for SqliteTx<'_> {
    fn execute(&mut self, sql: &str, parameters: &[SqlValue]) -> Result<usize, SqlError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        statement.execute(params_from_iter(parameters)).map_err(failed)
    }

    fn query(&mut self, sql: &str, parameters: &[SqlValue]) -> Result<Vec<SqlRow>, SqlError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let n_columns = statement.column_count();
        let mut rows = statement.query(params_from_iter(parameters)).map_err(failed)?;
        let mut answer = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            let values = (0..n_columns).map(|column| {
                let value = row.get_ref(column).map_err(failed)?;
                value_of(value)
            });
            answer.push(SqlRow(values.collect::<Result<_, SqlError>>()?));
        }
        Ok(answer)
    }
}

impl ToSql for SqlValue {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Owned(Value::Null),
            Self::Int(value) => ToSqlOutput::Owned(Value::Integer(*value)),
            Self::Text(value) => ToSqlOutput::Borrowed(ValueRef::Text(value.as_bytes())),
            Self::Bytes(value) => ToSqlOutput::Borrowed(ValueRef::Blob(value)),
        })
    }
}

fn value_of(value: ValueRef<'_>) -> Result<SqlValue, SqlError> {
    let wrong = |text: &'static str| SqlError::Store(unavailable("read", text));
    Ok(match value {
        ValueRef::Null => SqlValue::Null,
        ValueRef::Integer(value) => SqlValue::Int(value),
        ValueRef::Real(_) => return Err(wrong("a column has a fraction")),
        ValueRef::Text(value) => {
            let text = std::str::from_utf8(value).map_err(|_| wrong("a text is not UTF-8"))?;
            SqlValue::Text(text.into())
        }
        ValueRef::Blob(value) => SqlValue::Bytes(value.to_vec()),
    })
}

fn failed(error: rusqlite::Error) -> SqlError {
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) => SqlError::Constraint,
        _ => SqlError::Store(unavailable("run a statement", error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLES: &[&str] = &["CREATE TABLE room (id BYTEA PRIMARY KEY, name TEXT, cap BIGINT NOT NULL);
        CREATE TABLE member (room BYTEA NOT NULL REFERENCES room (id) ON DELETE CASCADE);"];

    fn values() -> Vec<SqlValue> {
        vec![SqlValue::from([7; 16]), SqlValue::from("Reef \u{1f30a}"), SqlValue::from(i64::MIN)]
    }

    #[test]
    fn values_come_back_as_they_went_in() {
        let mut database = open_in_memory(TABLES).unwrap();
        let rows = database.transaction(|tx| {
            tx.execute("INSERT INTO room (id, name, cap) VALUES (?1, ?2, ?3)", &values())?;
            tx.query("SELECT id, name, cap, NULL FROM room WHERE id = ?1", &values()[..1])
        });
        let row = &rows.unwrap()[0];
        assert_eq!(row.0[..3], values());
        assert_eq!(row.id(0), Ok([7; 16]));
        assert_eq!(row.optional(3, SqlRow::text), Ok(None));
        assert!(row.int(1).is_err());
    }

    #[test]
    fn a_broken_constraint_is_told_apart_and_nothing_stays() {
        let mut database = open_in_memory(TABLES).unwrap();
        let result: Result<(), SqlError> = database.transaction(|tx| {
            tx.execute("INSERT INTO room (id, name, cap) VALUES (?1, ?2, ?3)", &values())?;
            tx.execute("INSERT INTO member (room) VALUES (?1)", &[SqlValue::from([8; 16])])?;
            Ok(())
        });
        assert!(matches!(result, Err(SqlError::Constraint)));
        let rows = database.transaction(|tx| tx.query("SELECT id FROM room", &[]));
        assert_eq!(rows.unwrap(), vec![]);
        let wrong = database.transaction(|tx| tx.query("SELECT nothing FROM room", &[]));
        assert!(matches!(wrong, Err(SqlError::Store(_))));
    }
}
