//! Connect tokens and the end of sessions, by Tidegate's admin listener.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::push::variable;
use crate::sigv4::{SigV4, SigningName};
use crate::transport::{Call, ClientError, PushError, Transport, encode, json_headers};

/// Calls Tidegate's admin listener. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct AdminClient {
    transport: Transport,
}

/// For whom a connect token is, and what it allows. What is absent is left to the gateway.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TokenRequest {
    /// Id of the API.
    pub api: String,
    /// Name of the stage.
    pub stage: String,
    /// The user that your service has logged in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Id of the login, for [`AdminClient::end_session`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Roles.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// What else channel rules may look at.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, Value>,
    /// The only channels that may be joined; `None` leaves it to the rules of the stage, an empty list allows none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<String>>,
    /// The only page origin that may use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// The only client address that may use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Seconds until it ends unused, 5 to 300; 60 where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<u32>,
}

impl TokenRequest {
    /// For a user of an API and stage.
    pub fn new(api: impl Into<String>, stage: impl Into<String>, user: impl Into<String>) -> Self {
        Self { api: api.into(), stage: stage.into(), user: Some(user.into()), ..Self::default() }
    }
}

/// A one-time token for opening a connection; a page uses it right away, and asks for a new one before it reconnects.
///
/// As JSON it is what the gateway answered, for handing it to a page.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct ConnectToken {
    /// The secret.
    pub token: String,
    /// Seconds.
    pub expires_in: u32,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub expires_at: Value,
    /// Address to connect to, with the token in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

impl std::fmt::Debug for ConnectToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectToken")
            .field("expires_in", &self.expires_in)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl AdminClient {
    /// A client for the admin listener, for example `http://127.0.0.1:8081`.
    ///
    /// # Errors
    /// [`ClientError::Address`], [`ClientError::TlsOff`], [`ClientError::Certificates`].
    pub fn new(admin: &str) -> Result<Self, ClientError> {
        Ok(Self { transport: Transport::new(admin)? })
    }

    /// From the environment: `TIDEGATE_ADMIN` and the bearer key `TIDEGATE_KEY`.
    ///
    /// # Errors
    /// [`ClientError::Environment`] when one is absent, and as [`Self::new`] and [`Self::bearer`].
    pub fn from_env() -> Result<Self, ClientError> {
        Self::new(&variable("TIDEGATE_ADMIN")?)?.bearer(&variable("TIDEGATE_KEY")?)
    }

    /// With a bearer key.
    ///
    /// # Errors
    /// [`ClientError::Key`].
    pub fn bearer(mut self, key: &str) -> Result<Self, ClientError> {
        self.transport.set_bearer(key)?;
        Ok(self)
    }

    /// With signatures of an access key.
    #[must_use]
    pub fn sigv4(mut self, signer: SigV4) -> Self {
        self.transport.set_sigv4(signer, SigningName::ApiGateway);
        self
    }

    /// With another limit than [`crate::REQUEST_TIMEOUT`] for a call.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.transport.timeout = timeout;
        self
    }

    /// Issues a one-time token for a user that your service has logged in.
    ///
    /// # Errors
    /// [`PushError::Slow`] when the user has asked too often, and the general ones.
    pub async fn issue_token(&self, request: &TokenRequest) -> Result<ConnectToken, PushError> {
        let mut call = Call::new(Method::POST, "/api/tokens".to_owned());
        call.headers = json_headers();
        call.body = serde_json::to_vec(request).map_err(|error| PushError::Answer(error.into()))?.into();
        self.transport.json(call).await
    }

    /// Closes the connections of a login and makes its unused tokens worthless: on logout.
    ///
    /// # Errors
    /// The general ones.
    pub async fn end_session(&self, session: &str) -> Result<(), PushError> {
        let call = Call::new(Method::POST, format!("/api/sessions/{}/end", encode(session)));
        self.transport.call(call).await.map(drop)
    }

    /// Closes the connections of a user and makes the unused tokens worthless: on a changed password, a deactivation.
    ///
    /// # Errors
    /// The general ones.
    pub async fn end_user(&self, user: &str) -> Result<(), PushError> {
        let call = Call::new(Method::POST, format!("/api/users/{}/end", encode(user)));
        self.transport.call(call).await.map(drop)
    }
}
