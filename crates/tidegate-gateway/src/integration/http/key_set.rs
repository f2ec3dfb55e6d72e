//! Key sets of issuers: one way to fetch them, for the node and for those who look whether it could.

use std::time::{Duration, Instant};

use http::header::{AGE, DATE};
use tidegate_auth::jwt::Jwks;

use super::pool::Backends;
use crate::clock::now_millis;

/// A key set as it was fetched, and what its answer says beside it.
#[derive(Debug)]
pub struct FetchedKeySet {
    /// The keys; none may be usable.
    pub jwks: Jwks,
    /// The answer's `Date`, unless a cache gave the answer.
    pub date: Option<String>,
    /// When the answer had come, in milliseconds since 1970.
    pub received_at: u64,
    /// From the first step to the end.
    pub duration: Duration,
}

impl Backends {
    /// Fetches a key set. No redirect is followed; time and size are bounded.
    ///
    /// # Errors
    /// Why there is none, for the operator.
    pub(crate) async fn key_set(&self, url: &str) -> Result<FetchedKeySet, String> {
        let started = Instant::now();
        let (status, headers, body) = self.get_whole(url).await.map_err(|failure| failure.detail)?;
        if status != 200 {
            return Err(format!("status {status}"));
        }
        let jwks = Jwks::parse(&body).map_err(|error| error.to_string())?;
        let date = headers.get(DATE).filter(|_| !headers.contains_key(AGE));
        Ok(FetchedKeySet {
            jwks,
            date: date.and_then(|date| date.to_str().ok()).map(str::to_owned),
            received_at: now_millis(),
            duration: started.elapsed(),
        })
    }
}

/// Fetches a key set over a connection of its own, as a node with these settings of TLS fetches it.
///
/// # Errors
/// Why there is none, for the operator.
///
/// # Cancel safety
/// Dropping the future drops its connection.
pub async fn fetch_key_set(tls: rustls::ClientConfig, url: &str) -> Result<FetchedKeySet, String> {
    Backends::new(tls, Duration::ZERO).key_set(url).await
}
