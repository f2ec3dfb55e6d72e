//! Users that are looked up elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::port::{BoxFuture, StoreError};
use tidegate_store::sql::{
    Database, Outcome, SqlError, SqlRow, SqlValue, SqliteDatabase, SqliteFile, Tx, Work,
};

use super::fake::{identity, node_with};
use crate::settings::{RefusalForm, Settings, UserCheck, UserSource};
use crate::user_check::{Directory, HttpGet};

#[derive(Debug)]
struct Service {
    answer: Mutex<Result<(u16, &'static str), &'static str>>,
    asked: Mutex<Vec<String>>,
    never: bool,
}

impl Service {
    fn new(status: u16, body: &'static str) -> Arc<Self> {
        Arc::new(Self { answer: Mutex::new(Ok((status, body))), asked: Mutex::default(), never: false })
    }
}

impl HttpGet for Service {
    fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<(u16, Bytes), &'static str>> {
        self.asked.lock().push(url.to_owned());
        let answer = self.answer.lock().map(|(status, body)| (status, Bytes::from_static(body.as_bytes())));
        let never = self.never;
        Box::pin(async move { if never { std::future::pending().await } else { answer } })
    }
}

fn settings(source: UserSource) -> Settings {
    let roles = vec!["authority".to_owned()];
    let check = UserCheck { source, roles, timeout_ms: 2000, cache_seconds: 60 };
    Settings { user_check: Some(check), ..Settings::default() }
}

fn http(active: Option<&str>) -> Settings {
    let url = "http://users.internal:8080/authorities/{user}?key=k3y".to_owned();
    settings(UserSource::Http { url, active: active.map(str::to_owned) })
}

#[tokio::test]
async fn a_service_says_who_exists() {
    // S3-23
    let service = Service::new(200, "");
    let node = node_with(http(None), Some(Directory::Http(Arc::clone(&service) as _)));
    let connect = |user: &'static str, role: &'static str| node.connect(identity(user, &[role]), "");
    assert!(connect("a/b", "authority").await.is_ok());
    assert_eq!(*service.asked.lock(), ["http://users.internal:8080/authorities/a%2Fb?key=k3y"]);
    // A yes holds for 60 s, a no not at all; admins are not looked up.
    *service.answer.lock() = Ok((404, ""));
    node.later(59_999);
    assert!(connect("a/b", "authority").await.is_ok() && connect("root", "admin").await.is_ok());
    assert_eq!(service.asked.lock().len(), 1);
    node.later(1);
    for asked in [2, 3] {
        let refusal = connect("a/b", "authority").await.err().unwrap();
        assert_eq!((refusal.status, &*refusal.message), (403, "Authority not found"));
        assert_eq!(refusal.diagnosis, Diagnosis::USER_NOT_FOUND);
        assert_eq!(refusal.facts.get("check"), Some(json!("http")));
        assert_eq!(refusal.facts.get("result"), Some(json!("absent")));
        assert_eq!(refusal.facts.get("user"), Some(json!("a/b")));
        assert_eq!(service.asked.lock().len(), asked);
    }
    // Everything else fails closed, and says neither path nor key.
    for (answer, class) in [(Ok((500, "")), "status"), (Ok((302, "")), "status"), (Err("refused"), "refused")]
    {
        *service.answer.lock() = answer;
        let refusal = connect("x", "authority").await.err().unwrap();
        assert_eq!((refusal.status, &*refusal.message), (503, "User verification failed"));
        assert_eq!((refusal.diagnosis, refusal.retry_after), (Diagnosis::USER_CHECK_FAILED, Some(5)));
        assert_eq!(refusal.facts.get("errorClass"), Some(json!(class)));
        assert_eq!(refusal.facts.get("target"), Some(json!("http://users.internal:8080")));
        assert!(refusal.facts.get("elapsedMs").is_some());
        assert!(!format!("{refusal:?}").contains("k3y"));
    }
    assert_eq!(node.app.metrics().connections, 3);
    assert!(!format!("{:?}", node.app).contains("k3y"));
}

#[tokio::test]
async fn a_service_says_who_is_active() {
    // S3-23
    let service = Service::new(200, r#"{"id":1,"is_active":true}"#);
    let node = node_with(http(Some("is_active")), Some(Directory::Http(Arc::clone(&service) as _)));
    assert!(node.connect(identity("1", &["authority"]), "").await.is_ok());
    for body in [r#"{"is_active":false}"#, "{}"] {
        *service.answer.lock() = Ok((200, body));
        let refusal = node.connect(identity("2", &["authority"]), "").await.err().unwrap();
        assert_eq!((refusal.diagnosis, &*refusal.message), (Diagnosis::USER_INACTIVE, "Authority not found"));
    }
    *service.answer.lock() = Ok((200, "<html>"));
    let refusal = node.connect(identity("2", &["authority"]), "").await.err().unwrap();
    assert_eq!(refusal.diagnosis, Diagnosis::USER_CHECK_FAILED);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_does_not_answer_lets_nobody_in() {
    // S3-23: 2 s; row 14 with `close` is 1011.
    let service = Arc::new(Service { answer: Mutex::new(Err("")), asked: Mutex::default(), never: true });
    let settings = Settings { refusal: RefusalForm::Close, ..http(None) };
    let node = node_with(settings, Some(Directory::Http(service)));
    let begun = tokio::time::Instant::now();
    let refusal = node.connect(identity("1", &["authority"]), "").await.err().unwrap();
    assert_eq!(begun.elapsed().as_secs(), 2);
    assert_eq!((refusal.diagnosis, refusal.close_code), (Diagnosis::USER_CHECK_FAILED, Some(1011)));
    assert_eq!(refusal.facts.get("errorClass"), Some(json!("timeout")));
}

#[tokio::test]
async fn a_check_without_its_directory_lets_nobody_in() {
    // S3-23
    let node = node_with(http(None), None);
    let refusal = node.connect(identity("1", &["authority"]), "").await.err().unwrap();
    assert_eq!(refusal.diagnosis, Diagnosis::USER_CHECK_FAILED);
    assert!(node.connect(identity("1", &["admin"]), "").await.is_ok());
}

/// Gives the same rows to every query.
#[derive(Debug, Default)]
struct Rows {
    rows: Mutex<Vec<SqlRow>>,
    asked: Mutex<Vec<(String, Vec<SqlValue>)>>,
    fails: AtomicUsize,
}

struct RowsTx<'a>(&'a Rows);

impl Tx for RowsTx<'_> {
    fn execute(&mut self, _: &str, _: &[SqlValue]) -> Result<usize, SqlError> {
        Err(SqlError::Constraint)
    }

    fn query(&mut self, sql: &str, parameters: &[SqlValue]) -> Result<Vec<SqlRow>, SqlError> {
        self.0.asked.lock().push((sql.to_owned(), parameters.to_vec()));
        Ok(self.0.rows.lock().clone())
    }
}

impl Database for Rows {
    fn write(&self, _: Vec<u64>, _: Work) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Err(StoreError::Busy) })
    }

    fn read(&self, mut work: Work) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            if self.fails.load(Ordering::Relaxed) > 0 {
                return Err(StoreError::Busy);
            }
            match work(&mut RowsTx(self)) {
                Ok(Outcome::Rollback(after) | Outcome::Commit(after)) => after(),
                Err(_) => return Err(StoreError::Busy),
            }
            Ok(())
        })
    }
}

#[tokio::test]
async fn a_query_says_who_exists_and_is_active() {
    // S3-23
    let rows = Arc::new(Rows::default());
    let query = "select is_active from authorities where id = $1".to_owned();
    let source = UserSource::Postgres { url: "postgres://u:p4ss@db/x".to_owned(), query };
    let node = node_with(settings(source), Some(Directory::Sql(Arc::clone(&rows) as _)));
    let connect = || node.connect(identity("u' or 1=1", &["authority"]), "");
    for (row, diagnosis) in [
        (None, Diagnosis::USER_NOT_FOUND),
        (Some(SqlValue::Int(0)), Diagnosis::USER_INACTIVE),
        (Some(SqlValue::Null), Diagnosis::USER_INACTIVE),
    ] {
        *rows.rows.lock() = row.into_iter().map(|value| SqlRow(vec![value])).collect();
        assert_eq!(connect().await.err().unwrap().diagnosis, diagnosis);
    }
    let asked =
        ("select is_active from authorities where id = $1".to_owned(), vec![SqlValue::from("u' or 1=1")]);
    assert_eq!(rows.asked.lock()[0], asked);
    rows.fails.store(1, Ordering::Relaxed);
    let refusal = connect().await.err().unwrap();
    assert_eq!(refusal.diagnosis, Diagnosis::USER_CHECK_FAILED);
    assert_eq!(refusal.facts.get("errorClass"), Some(json!("database")));
    rows.fails.store(0, Ordering::Relaxed);
    *rows.rows.lock() = vec![SqlRow(vec![SqlValue::Int(1)])];
    assert!(connect().await.is_ok());
    assert!(!format!("{:?}", node.app).contains("p4ss"));
}

#[tokio::test]
async fn a_file_of_users_is_read_and_never_written() {
    // S3-23
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    let tables = ["CREATE TABLE authorities (id BIGINT, name TEXT, is_active BIGINT);
        INSERT INTO authorities VALUES (1, 'a', 1), (2, 'b', 0), (3, 'c', NULL);"];
    drop(SqliteDatabase::open(&path, &tables).unwrap());
    let before = std::fs::read(&path).unwrap();
    assert!(SqliteFile::open(&folder.path().join("none.db")).is_err());
    assert!(!folder.path().join("none.db").exists(), "looking at a file made it");
    let node = |query: &str| {
        let source = UserSource::Sqlite { path: path.display().to_string(), query: query.to_owned() };
        let file: Arc<dyn Database> = Arc::new(SqliteFile::open(&path).unwrap());
        node_with(settings(source), Some(Directory::Sql(file)))
    };
    let asked = node("SELECT is_active FROM authorities WHERE id = $1");
    let connect = |user: &'static str| asked.connect(identity(user, &["authority"]), "");
    assert!(connect("1").await.is_ok());
    for (user, diagnosis) in [
        ("2", Diagnosis::USER_INACTIVE),
        ("3", Diagnosis::USER_INACTIVE),
        ("4", Diagnosis::USER_NOT_FOUND),
        ("1 OR 1=1", Diagnosis::USER_NOT_FOUND),
    ] {
        assert_eq!(connect(user).await.err().unwrap().diagnosis, diagnosis, "{user}");
    }
    // Whoever wrote the file writes on.
    let owner = SqliteDatabase::open(&path, &tables).unwrap();
    let change = |tx: &mut dyn Tx| {
        tx.execute("UPDATE authorities SET is_active = 1 WHERE id = 2", &[])?;
        Ok(Outcome::Commit(Box::new(|| ())))
    };
    owner.write(Vec::new(), Box::new(change)).await.unwrap();
    assert!(connect("2").await.is_ok());
    drop(owner);
    let changed = std::fs::read(&path).unwrap();
    assert_ne!(before, changed);
    for query in
        ["DELETE FROM authorities WHERE id = ?1 RETURNING 1", "SELECT nothing FROM authorities WHERE id = ?1"]
    {
        let refusal = node(query).connect(identity("1", &["authority"]), "").await.err().unwrap();
        assert_eq!(refusal.diagnosis, Diagnosis::USER_CHECK_FAILED, "{query}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), changed);
}
