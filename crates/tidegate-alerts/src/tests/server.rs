//! On a PostgreSQL server, where `TIDEGATE_TEST_POSTGRES` has the address of one; otherwise nothing is tested here.

use std::sync::Arc;

use http::Method;
use serde_json::json;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_store::sql::{Database, Outcome, PostgresDatabase, PostgresOptions, Tx};

use super::fake::{identity, node_of, node_with};
use crate::history::MIGRATIONS;
use crate::settings::{Settings, UserCheck, UserSource};
use crate::user_check::Directory;

fn options(url: &str) -> PostgresOptions {
    PostgresOptions::new(url, 2)
}

async fn run(database: &PostgresDatabase, statements: &[&str]) {
    let statements: Vec<String> = statements.iter().map(|sql| (*sql).to_owned()).collect();
    let work = move |tx: &mut dyn Tx| {
        for sql in &statements {
            tx.execute(sql, &[])?;
        }
        Ok(Outcome::Commit(Box::new(|| ())))
    };
    database.write(Vec::new(), Box::new(work)).await.unwrap();
}

/// The address of a new schema on the server.
async fn schema(kind: &str) -> Option<String> {
    let url = std::env::var("TIDEGATE_TEST_POSTGRES").ok().filter(|url| !url.is_empty())?;
    let name = format!("{kind}_{}", std::process::id());
    let database = PostgresDatabase::of_others(options(&url)).unwrap();
    run(&database, &[&format!("DROP SCHEMA IF EXISTS {name} CASCADE"), &format!("CREATE SCHEMA {name}")])
        .await;
    let separator = if url.contains('?') { '&' } else { '?' };
    Some(format!("{url}{separator}options=-csearch_path%3D{name}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broadcasts_and_answers_are_kept() {
    // S3-56, S3-57
    let Some(url) = schema("alerts").await else { return };
    let start = async || {
        let database = Arc::new(PostgresDatabase::open(options(&url), MIGRATIONS).await.unwrap());
        let node = node_of(Settings::default(), None, Some(database as _));
        node.app.restore().await.unwrap();
        node
    };
    let node = start().await;
    node.open("7", "authority").await;
    let body = json!({ "title": "Storm", "message": "Go inside", "severity": "high" }).to_string();
    let (status, sent) = node.call("jwt.admin.1", Method::POST, "/api/broadcast/all", &body).await;
    assert_eq!((status, &sent["tourists_notified"]), (200, &json!(1)));
    let id = sent["broadcast_id"].as_str().unwrap();
    for status in ["safe", "evacuating"] {
        let body = json!({ "status": status, "lat": 1.5, "lon": 2 }).to_string();
        let path = format!("/api/broadcasts/{id}/acknowledge");
        assert_eq!(node.call("jwt.authority.7", Method::POST, &path, &body).await.0, 200);
    }
    drop(node);
    let (status, details) =
        start().await.call("jwt.admin.1", Method::GET, &format!("/api/broadcast/{id}"), "").await;
    assert_eq!((status, &details["status_breakdown"]), (200, &json!({ "evacuating": 1 })));
    assert_eq!(details["acknowledgments"][0]["location"], json!({ "lat": 1.5, "lon": 2.0 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_of_a_server_are_read_and_nothing_is_made_there() {
    // S3-23
    let Some(url) = schema("users").await else { return };
    let owner = PostgresDatabase::of_others(options(&url)).unwrap();
    let tables = [
        "CREATE TABLE authorities (id INTEGER, name TEXT, is_active BOOLEAN)",
        "INSERT INTO authorities VALUES (1, 'ann', TRUE), (2, 'ben', FALSE)",
    ];
    run(&owner, &tables).await;
    let node = |query: &str| {
        let source = UserSource::Postgres { url: url.clone(), query: query.to_owned() };
        let roles = vec!["authority".to_owned()];
        let check = UserCheck { source, roles, timeout_ms: 5000, cache_seconds: 0 };
        let server: Arc<dyn Database> = Arc::new(PostgresDatabase::of_others(options(&url)).unwrap());
        let settings = Settings { user_check: Some(check), ..Settings::default() };
        node_with(settings, Some(Directory::Sql(server)))
    };
    for (query, user, diagnosis) in [
        ("select 1 from authorities where id = $1 and is_active", "1", None),
        ("select 1 from authorities where id = $1 and is_active", "2", Some(Diagnosis::USER_NOT_FOUND)),
        ("select is_active from authorities where id = $1", "2", Some(Diagnosis::USER_INACTIVE)),
        ("select is_active from authorities where name = $1", "ann", None),
        ("select is_active from authorities where name = $1", "' or 1=1 --", Some(Diagnosis::USER_NOT_FOUND)),
        ("select is_active from authorities where id = $1", "x", Some(Diagnosis::USER_CHECK_FAILED)),
        ("delete from authorities where name = $1 returning 1", "ann", Some(Diagnosis::USER_CHECK_FAILED)),
        ("select is_active from nothing where id = $1", "1", Some(Diagnosis::USER_CHECK_FAILED)),
    ] {
        let result = node(query).connect(identity(user, &["authority"]), "").await;
        assert_eq!(result.err().map(|refusal| refusal.diagnosis), diagnosis, "{query} {user}");
    }
    let made = Arc::new(parking_lot::Mutex::new(0));
    let counted = Arc::clone(&made);
    let count = move |tx: &mut dyn Tx| {
        let sql = "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()";
        *counted.lock() = tx.query(sql, &[])?[0].int(0)?;
        Ok(Outcome::Rollback(Box::new(|| ())))
    };
    owner.read(Box::new(count)).await.unwrap();
    assert_eq!(*made.lock(), 1, "tables beside that of the owner");
}
