//! TLS to a PostgreSQL server. `TIDEGATE_TEST_POSTGRES` has its address and `TIDEGATE_TEST_POSTGRES_CA` the file of who has
//! signed its certificate, which is for `localhost` only; the user `scram` has to prove a password over TLS.

use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_core::port::StoreError;
use tidegate_store::sql::{Database as _, Outcome, PostgresDatabase, PostgresOptions, Tx};

/// The server by its name and the file, where there is one.
fn server() -> Option<(String, String)> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (url, ca) = (variable("TIDEGATE_TEST_POSTGRES")?, variable("TIDEGATE_TEST_POSTGRES_CA")?);
    assert!(
        url.contains("@127.0.0.1:") && !url.contains('?'),
        "the tests change host and parameters of {url}"
    );
    Some((url.replace("@127.0.0.1:", "@localhost:"), ca))
}

/// Whether the connection is under TLS, as the server says.
async fn is_secure(url: &str) -> Result<bool, StoreError> {
    let database = PostgresDatabase::of_others(PostgresOptions::new(url, 1))?;
    let found = Arc::new(Mutex::new(None));
    let answer = Arc::clone(&found);
    let work = move |tx: &mut dyn Tx| {
        let rows = tx.query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[])?;
        *answer.lock() = rows.first().map(|row| row.bool(0)).transpose()?;
        Ok(Outcome::Rollback(Box::new(|| ())))
    };
    database.read(Box::new(work)).await?;
    let found = found.lock().take();
    Ok(found.expect("an answer"))
}

fn told(result: Result<bool, StoreError>) -> String {
    let error = result.expect_err("a refusal");
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    format!("{error}: {cause}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_trusted_as_far_as_its_address_says() {
    let Some((url, ca)) = server() else { return };
    for parameters in [
        String::new(),
        "?sslmode=prefer".to_owned(),
        "?sslmode=require".to_owned(),
        format!("?sslmode=require&sslrootcert={ca}"),
        format!("?sslmode=verify-ca&sslrootcert={ca}"),
        format!("?sslmode=verify-full&sslrootcert={ca}&application_name=x"),
    ] {
        assert!(is_secure(&format!("{url}{parameters}")).await.expect("connected"), "{parameters}");
    }
    assert!(!is_secure(&format!("{url}?sslmode=disable")).await.expect("connected"));
    // The certificate is for another name: that matters to `verify-full` only.
    let by_number = url.replace("@localhost:", "@127.0.0.1:");
    assert!(is_secure(&format!("{by_number}?sslmode=verify-ca&sslrootcert={ca}")).await.expect("connected"));
    let refused = told(is_secure(&format!("{by_number}?sslmode=verify-full&sslrootcert={ca}")).await);
    assert!(refused.contains("TLS handshake") && refused.contains("not valid for name"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_somebody_else_is_refused_and_told() {
    let Some((url, _)) = server() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let file = folder.path().join("other.pem");
    std::fs::write(&file, other.cert.pem()).expect("written");
    let file = file.display();
    for mode in ["require", "verify-ca", "verify-full"] {
        let refused = told(is_secure(&format!("{url}?sslmode={mode}&sslrootcert={file}")).await);
        assert!(refused.contains("UnknownIssuer") && refused.contains("sslrootcert"), "{mode}: {refused}");
    }
    // As libpq does: nobody asked who the server is.
    assert!(is_secure(&format!("{url}?sslmode=prefer&sslrootcert={file}")).await.expect("connected"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_are_bound_to_the_channel() {
    let Some((url, ca)) = server() else { return };
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let (_, place) = rest.split_once('@').expect("a user");
    let address = |password: &str, parameters: &str| {
        format!("{scheme}://scram:{password}@{place}?sslmode=verify-full&sslrootcert={ca}{parameters}")
    };
    assert!(is_secure(&address("pencil", "&channel_binding=require")).await.expect("connected"));
    let refused = told(is_secure(&address("penci1", "")).await);
    assert!(refused.contains("password authentication failed") && !refused.contains("penci1"), "{refused}");
    // Without TLS there is nothing to bind to.
    let plain = format!("{scheme}://scram:pencil@{place}?sslmode=disable&channel_binding=require");
    let refused = told(is_secure(&plain).await);
    assert!(refused.contains("store cannot read"), "{refused}");
}
