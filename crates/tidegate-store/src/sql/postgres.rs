//! [`Database`] on a PostgreSQL server.
//!
//! A work runs on a blocking thread and waits there for each of its statements. Before it begins it takes its locks in this
//! process, in the order of their hashes, and keeps them until its `After` has run, so that what it leaves goes out in the
//! order of the commits; in its transaction it takes the same hashes on the server, so that works of other nodes wait too.

mod tls;

use std::collections::HashMap;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_core::port::{BoxFuture, StoreError};
use tokio::runtime::Handle;
use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Config, NoTls, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use self::tls::AddressError;
use super::{After, Database, Outcome, SqlError, SqlRow, SqlValue, Tx, Work, failed_work, run_after};
use crate::engine::unavailable;

/// Locks of this process; hashes that fall onto the same one wait for each other without need.
const STRIPES: usize = 1024;

/// Works that wait or run at most; one more is refused with [`StoreError::Busy`].
const QUEUE: usize = 8192;

/// How often a work is run that was given up for somebody else's fault.
const ATTEMPTS: u32 = 8;

/// Statements that stay prepared on a connection; of further texts each is prepared for one use.
const MAX_PREPARED: usize = 512;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Of the advisory lock under which tables are made; `tide` in ASCII.
const MIGRATION_LOCK: i64 = 0x7469_6465;

/// How a server is reached.
#[derive(Clone)]
pub struct PostgresOptions {
    /// `postgres://user:password@host/database?sslmode=verify-full&sslrootcert=/etc/ca.pem` or
    /// `host=/run/postgresql dbname=...`. `sslmode` is `disable`, `prefer` (the default), `require`, `verify-ca` or
    /// `verify-full`, as libpq has them, but `allow`.
    pub url: String,
    /// Whom to trust where the address demands a certificate and has no `sslrootcert`.
    pub system_roots: rustls::RootCertStore,
    /// Connections at most; at least 1.
    pub connections: usize,
}

impl PostgresOptions {
    /// With nobody to trust but those of `sslrootcert`.
    pub fn new(url: impl Into<String>, connections: usize) -> Self {
        Self { url: url.into(), system_roots: rustls::RootCertStore::empty(), connections }
    }
}

impl std::fmt::Debug for PostgresOptions {
    /// The address may have a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresOptions").field("connections", &self.connections).finish_non_exhaustive()
    }
}

/// An application's tables on a PostgreSQL server. For use within a tokio runtime of several threads.
#[derive(Debug)]
pub struct PostgresDatabase {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
    stripes: Vec<Arc<tokio::sync::Mutex<()>>>,
    n_waiting: AtomicUsize,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("n_waiting", &self.n_waiting).finish_non_exhaustive()
    }
}

/// A connection and what is prepared on it.
struct Connection {
    client: Client,
    statements: HashMap<Box<str>, Statement>,
}

impl PostgresDatabase {
    /// Connects, and makes the tables: one step of `migrations` for each version; steps are never edited, only added.
    /// Nodes that do so at the same time wait for each other.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the server cannot be reached or refuses; [`StoreError::TooNew`] when a later version
    /// has made the tables.
    pub async fn open(options: PostgresOptions, migrations: &[&str]) -> Result<Self, StoreError> {
        let database = Self::of_others(options)?;
        let shared = &database.shared;
        let connection = shared.connect().await.map_err(|error| unavailable("open", told(error)))?;
        migrate(&connection.client, migrations).await?;
        shared.idle.lock().push(connection);
        Ok(database)
    }

    /// Somebody else's tables, for [`Database::read`]: nothing is made there, and the server is reached by the first work.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the address is none.
    pub fn of_others(options: PostgresOptions) -> Result<Self, StoreError> {
        let (address, tls) = tls::read(&options.url, &options.system_roots).map_err(unusable)?;
        let parsed = address.parse::<Config>();
        let mut config = parsed.map_err(|_| unusable(AddressError::Unreadable))?;
        config.ssl_mode(tls.mode);
        if config.get_hosts().is_empty() {
            // TLS needs a name, even where nobody looks at it.
            for address in config.get_hostaddrs().to_vec() {
                config.host(address.to_string());
            }
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_application_name().is_none() {
            config.application_name("tidegate");
        }
        let shared = Shared {
            config,
            tls: tls.config.map(MakeRustlsConnect::new),
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(options.connections.max(1))),
            stripes: (0..STRIPES).map(|_| Arc::default()).collect(),
            n_waiting: AtomicUsize::new(0),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    async fn run(&self, locks: Vec<u64>, work: Work, kind: TransactionKind) -> Result<(), StoreError> {
        let waiting = Waiting::begin(Arc::clone(&self.shared))?;
        // On a task of its own, because it runs also when nobody waits for it any more.
        let task = tokio::spawn(run(waiting, locks, work, kind));
        task.await.map_err(|error| unavailable(kind.operation(), error))?
    }
}

impl Database for PostgresDatabase {
    fn write(&self, locks: Vec<u64>, work: Work) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.run(locks, work, TransactionKind::Write))
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn read(&self, work: Work) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.run(Vec::new(), work, TransactionKind::Read))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TransactionKind {
    Write,
    Read,
}

impl TransactionKind {
    const fn operation(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
        }
    }

    const fn begin(self) -> &'static str {
        match self {
            Self::Write => "BEGIN",
            // All its statements see the same.
            Self::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        }
    }
}

/// A work that waits or runs.
struct Waiting(Arc<Shared>);

impl Waiting {
    fn begin(shared: Arc<Shared>) -> Result<Self, StoreError> {
        if shared.n_waiting.fetch_add(1, Ordering::Relaxed) >= QUEUE {
            shared.n_waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(StoreError::Busy);
        }
        Ok(Self(shared))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.n_waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn run(
    waiting: Waiting,
    mut locks: Vec<u64>,
    work: Work,
    kind: TransactionKind,
) -> Result<(), StoreError> {
    let shared = &waiting.0;
    locks.sort_unstable();
    locks.dedup();
    // In one order everywhere, so that nobody waits in a circle; before the connection, so that those who wait have none.
    let guards = shared.lock(&locks).await;
    let permit = Arc::clone(&shared.permits).acquire_owned().await;
    let permit = permit.map_err(|error| unavailable(kind.operation(), error))?;
    let shared = Arc::clone(shared);
    let job = move || {
        let handle = Handle::current();
        let result = shared.repeat(&handle, &locks, work, kind);
        if let Ok(after) = result {
            run_after(after);
            drop((guards, permit));
            return Ok(());
        }
        drop((guards, permit));
        result.map(drop)
    };
    tokio::task::spawn_blocking(job).await.map_err(|error| unavailable(kind.operation(), error))?
}

/// Why a work did not come to its end.
enum Failure {
    /// It may come to its end the next time: deadlock, serialization, a connection that was lost before the commit.
    Again(StoreError),
    /// It will not, or nobody knows whether it has.
    Final(StoreError),
}

impl Shared {
    async fn connect(&self) -> Result<Connection, tokio_postgres::Error> {
        let client = match &self.tls {
            Some(tls) => {
                let (client, connection) = self.config.connect(tls.clone()).await?;
                tokio::spawn(connection);
                client
            }
            None => {
                let (client, connection) = self.config.connect(NoTls).await?;
                tokio::spawn(connection);
                client
            }
        };
        Ok(Connection { client, statements: HashMap::new() })
    }

    async fn lock(&self, locks: &[u64]) -> Vec<OwnedMutexGuard<()>> {
        let mut stripes: Vec<usize> = locks.iter().map(|lock| (lock % STRIPES as u64) as usize).collect();
        stripes.sort_unstable();
        stripes.dedup();
        let mut guards = Vec::with_capacity(stripes.len());
        for stripe in stripes {
            guards.push(Arc::clone(&self.stripes[stripe]).lock_owned().await);
        }
        guards
    }

    /// Runs a work until it comes to its end. Blocks.
    fn repeat(
        &self,
        handle: &Handle,
        locks: &[u64],
        mut work: Work,
        kind: TransactionKind,
    ) -> Result<After, StoreError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let failed = |error| unavailable(kind.operation(), told(error));
            let taken = self.idle.lock().pop().filter(|connection| !connection.client.is_closed());
            let mut connection = match taken {
                Some(connection) => connection,
                None => handle.block_on(self.connect()).map_err(failed)?,
            };
            let result = once(&mut connection, handle, locks, &mut work, kind);
            if !connection.client.is_closed() {
                self.idle.lock().push(connection);
            }
            match result {
                Ok(after) => return Ok(after),
                Err(Failure::Again(error)) if attempt >= ATTEMPTS => return Err(error),
                Err(Failure::Again(_)) => {}
                Err(Failure::Final(error)) => return Err(error),
            }
        }
    }
}

/// One transaction.
fn once(
    connection: &mut Connection,
    handle: &Handle,
    locks: &[u64],
    work: &mut Work,
    kind: TransactionKind,
) -> Result<After, Failure> {
    let mut tx = PostgresTx { connection, handle, trouble: None, kind };
    let outcome = match tx.begin(locks) {
        Ok(()) => {
            let result = catch_unwind(AssertUnwindSafe(|| work(&mut tx)));
            failed_work(kind.operation(), result)
        }
        Err(SqlError::Store(error)) => Err(error),
        Err(error) => Err(unavailable(kind.operation(), error)),
    };
    let trouble = tx.trouble.take();
    if let Some(Trouble::Passing) = trouble {
        // Whatever the work has made of it: it is nobody's fault.
        tx.give_up();
        let again = || unavailable(kind.operation(), "the server gives up the transaction again and again");
        return Err(Failure::Again(outcome.err().unwrap_or_else(again)));
    }
    match outcome {
        Ok(Outcome::Commit(_)) if trouble.is_some() => {
            tx.give_up();
            let text = "a work wants to keep what a failed statement has left";
            Err(Failure::Final(unavailable(kind.operation(), text)))
        }
        Ok(Outcome::Commit(after)) if kind == TransactionKind::Write => match tx.batch("COMMIT") {
            Ok(()) => Ok(after),
            Err(error) if is_passing(&error) && !tx.connection.client.is_closed() => {
                Err(Failure::Again(unavailable(kind.operation(), told(error))))
            }
            Err(error) => Err(Failure::Final(unavailable(kind.operation(), told(error)))),
        },
        Ok(Outcome::Commit(after) | Outcome::Rollback(after)) => {
            tx.give_up();
            Ok(after)
        }
        Err(error) => {
            tx.give_up();
            Err(Failure::Final(error))
        }
    }
}

/// The transaction of a work.
struct PostgresTx<'c> {
    connection: &'c mut Connection,
    handle: &'c Handle,
    /// A statement has failed: nothing more can be done in this transaction.
    trouble: Option<Trouble>,
    kind: TransactionKind,
}

#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// Another time it may succeed.
    Passing,
    /// It would fail again.
    Lasting,
}

impl PostgresTx<'_> {
    /// Begins, and takes the locks that other nodes know of.
    fn begin(&mut self, locks: &[u64]) -> Result<(), SqlError> {
        if let Err(error) = self.batch(self.kind.begin()) {
            return Err(self.failed(error));
        }
        for lock in locks {
            let lock = SqlValue::Int(i64::from_ne_bytes(lock.to_ne_bytes()));
            self.query("SELECT 1 FROM (SELECT pg_advisory_xact_lock(?1)) AS taken", &[lock])?;
        }
        Ok(())
    }

    fn batch(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.handle.block_on(self.connection.client.batch_execute(sql))
    }

    fn give_up(&self) {
        if !self.connection.client.is_closed()
            && let Err(error) = self.batch("ROLLBACK")
        {
            // The connection is not used again when it is lost; the server then gives up the transaction itself.
            tracing::debug!(%error, "a transaction could not be rolled back");
        }
    }

    fn failed(&mut self, error: tokio_postgres::Error) -> SqlError {
        let is_lost = self.connection.client.is_closed() || error.is_closed();
        self.trouble = Some(if is_lost || is_passing(&error) { Trouble::Passing } else { Trouble::Lasting });
        match error.code() {
            Some(code) if code.code().starts_with("23") => SqlError::Constraint,
            _ => SqlError::Store(unavailable("run a statement", told(error))),
        }
    }

    fn statement(&mut self, sql: &str) -> Result<Statement, SqlError> {
        if self.trouble.is_some() {
            return Err(SqlError::Store(unavailable("run a statement", "an earlier one has failed")));
        }
        if let Some(statement) = self.connection.statements.get(sql) {
            return Ok(statement.clone());
        }
        let prepared = self.handle.block_on(self.connection.client.prepare(&numbered(sql)));
        let statement = prepared.map_err(|error| self.failed(error))?;
        if self.connection.statements.len() < MAX_PREPARED {
            self.connection.statements.insert(sql.into(), statement.clone());
        }
        Ok(statement)
    }
}

impl Tx for PostgresTx<'_> {
    fn execute(&mut self, sql: &str, parameters: &[SqlValue]) -> Result<usize, SqlError> {
        let statement = self.statement(sql)?;
        let bound = bind(parameters);
        let result = self.handle.block_on(self.connection.client.execute(&statement, &bound));
        let n_rows = result.map_err(|error| self.failed(error))?;
        Ok(usize::try_from(n_rows).unwrap_or(usize::MAX))
    }

    fn query(&mut self, sql: &str, parameters: &[SqlValue]) -> Result<Vec<SqlRow>, SqlError> {
        let statement = self.statement(sql)?;
        let bound = bind(parameters);
        let result = self.handle.block_on(self.connection.client.query(&statement, &bound));
        let rows = result.map_err(|error| self.failed(error))?;
        let rows: Result<_, _> = rows.iter().map(row_of).collect();
        rows.map_err(|error| self.failed(error))
    }
}

fn bind(parameters: &[SqlValue]) -> Vec<&(dyn ToSql + Sync)> {
    parameters.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

fn row_of(row: &Row) -> Result<SqlRow, tokio_postgres::Error> {
    (0..row.len()).map(|column| row.try_get(column)).collect::<Result<_, _>>().map(SqlRow)
}

/// Deadlocks, serialization failures, a server that stops or starts: `40001`, `40P01`, `57P01`, `57P02`, `57P03`, class 08.
fn is_passing(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        let code = code.code();
        code.starts_with("08") || ["40001", "40P01", "57P01", "57P02", "57P03"].contains(&code)
    })
}

/// `?1` as `$1`, but not within quotes.
fn numbered(sql: &str) -> String {
    let mut text = String::with_capacity(sql.len());
    let mut quote = None;
    let mut chars = sql.chars().peekable();
    while let Some(char) = chars.next() {
        match (char, quote) {
            ('\'' | '"', None) => quote = Some(char),
            (char, Some(open)) if char == open => quote = None,
            ('?', None) if chars.peek().is_some_and(char::is_ascii_digit) => {
                text.push('$');
                continue;
            }
            _ => {}
        }
        text.push(char);
    }
    text
}

/// Brings the tables to the latest version, all steps or none.
async fn migrate(client: &Client, migrations: &[&str]) -> Result<(), StoreError> {
    let failed = |error| unavailable("open", told(error));
    let supported = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
    client.batch_execute("BEGIN").await.map_err(failed)?;
    client.query("SELECT pg_advisory_xact_lock($1)", &[&MIGRATION_LOCK]).await.map_err(failed)?;
    let table = "CREATE TABLE IF NOT EXISTS tidegate_schema (version BIGINT NOT NULL)";
    client.batch_execute(table).await.map_err(failed)?;
    let found = client.query_opt("SELECT version FROM tidegate_schema", &[]).await.map_err(failed)?;
    let version: i64 = found.as_ref().map_or(Ok(0), |row| row.try_get(0)).map_err(failed)?;
    let version = u32::try_from(version).unwrap_or(u32::MAX);
    if version > supported {
        client.batch_execute("ROLLBACK").await.map_err(failed)?;
        return Err(StoreError::TooNew { found: version, supported });
    }
    for step in migrations.iter().skip(version as usize) {
        // Every table of a server is what such a one is not.
        if let Err(error) = client.batch_execute(&step.replace(" WITHOUT ROWID", "")).await {
            client.batch_execute("ROLLBACK").await.map_err(failed)?;
            return Err(failed(error));
        }
    }
    client.execute("DELETE FROM tidegate_schema", &[]).await.map_err(failed)?;
    let sql = "INSERT INTO tidegate_schema (version) VALUES ($1)";
    client.execute(sql, &[&i64::from(supported)]).await.map_err(failed)?;
    client.batch_execute("COMMIT").await.map_err(failed)
}

/// What the server says without its details, which quote values of rows.
fn told(error: tokio_postgres::Error) -> Boxed {
    match error.as_db_error() {
        Some(told) => format!("{}: {}", told.code().code(), told.message()).into(),
        None => {
            // Each error of the chain says a part only.
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            if text.ends_with("UnknownIssuer") {
                text.push_str(": nobody who is trusted (sslrootcert) has signed the server's certificate");
            }
            text.into()
        }
    }
}

fn unusable(error: AddressError) -> StoreError {
    unavailable("open", error)
}

type Boxed = Box<dyn Error + Sync + Send>;

impl ToSql for SqlValue {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Boxed> {
        match (self, ty) {
            (Self::Null, _) => Ok(IsNull::Yes),
            (Self::Int(value), &Type::INT4) => i32::try_from(*value)?.to_sql(ty, out),
            (Self::Int(value), &Type::INT2) => i16::try_from(*value)?.to_sql(ty, out),
            (Self::Int(value), &Type::INT8) => value.to_sql(ty, out),
            // Ids of users are texts here, and numbers in many a table.
            (Self::Text(value), &Type::INT8) => value.parse::<i64>()?.to_sql(ty, out),
            (Self::Text(value), &Type::INT4) => value.parse::<i32>()?.to_sql(ty, out),
            (Self::Text(value), ty) if <&str as ToSql>::accepts(ty) => (&**value).to_sql(ty, out),
            (Self::Bytes(value), &Type::BYTEA) => value.to_sql(ty, out),
            (_, ty) => Err(format!("a value that does not fit {ty}").into()),
        }
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::INT2 | Type::INT4 | Type::INT8 | Type::BYTEA) || <&str as ToSql>::accepts(ty)
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for SqlValue {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Boxed> {
        Ok(match *ty {
            Type::INT2 => Self::Int(i16::from_sql(ty, raw)?.into()),
            Type::INT4 => Self::Int(i32::from_sql(ty, raw)?.into()),
            Type::INT8 => Self::Int(i64::from_sql(ty, raw)?),
            Type::BOOL => Self::Int(bool::from_sql(ty, raw)?.into()),
            Type::BYTEA => Self::Bytes(raw.to_vec()),
            _ => Self::Text(<&str>::from_sql(ty, raw)?.into()),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Boxed> {
        Ok(Self::Null)
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::INT2 | Type::INT4 | Type::INT8 | Type::BOOL | Type::BYTEA)
            || <&str as FromSql<'_>>::accepts(ty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_numbered_as_the_server_wants_it() {
        assert_eq!(numbered("a = ?1 AND b = ?12"), "a = $1 AND b = $12");
        assert_eq!(
            numbered("a = '?1' AND \"?2\" = ?3 AND c = 'it''s ?4'"),
            "a = '?1' AND \"?2\" = $3 AND c = 'it''s ?4'"
        );
        assert_eq!(numbered("a ? b"), "a ? b");
    }
}
