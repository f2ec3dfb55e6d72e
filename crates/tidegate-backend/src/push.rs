//! Sends to clients through the management API.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use serde::Deserialize;

use crate::sigv4::{SigV4, SigningName};
use crate::transport::{Call, ClientError, MAX_MESSAGE, PushError, Transport, encode};

/// Sends to clients. Cheap to clone; clones share their connections.
///
/// [`Self::post`], [`Self::get`] and [`Self::delete`] work with Amazon's gateway too, all else needs Tidegate.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use tidegate_backend::{PushClient, PushError, PushOptions};
///
/// let push = PushClient::new("http://127.0.0.1:8080/_aws/execute-api/dev0000000/dev")?.bearer("key")?;
/// match push.post("awG5LZAAAAIcZCg=", "hello").await {
///     Err(PushError::Gone { .. }) => println!("forget this id"),
///     result => result?,
/// }
/// let counts = push.push_channel("general", "hello all", &PushOptions::default()).await?;
/// println!("{} got it", counts.delivered);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct PushClient {
    transport: Transport,
    max_message: usize,
}

/// How a message to many is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushOptions {
    /// Ids of connections that do not get it, usually the sender's.
    pub except: Vec<String>,
    /// A repeated key is answered with the first result, and nothing is sent.
    pub idempotency_key: Option<String>,
    /// Whether [`PushCounts::gone_ids`] is wanted.
    pub want_gone_ids: bool,
}

impl PushOptions {
    /// To all but one connection.
    pub fn except(connection_id: impl Into<String>) -> Self {
        Self { except: vec![connection_id.into()], ..Self::default() }
    }
}

/// What became of a message to many.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PushCounts {
    /// Connections that took it.
    pub delivered: u64,
    /// Connections that had ended.
    pub gone: u64,
    /// Connections that read too slowly and did not get it.
    pub slow: u64,
    /// Id of the message, where the channel has a history.
    pub message_id: Option<String>,
    /// Ids of the connections that had ended, on request.
    pub gone_ids: Vec<String>,
}

/// A connection, as `GET @connections/{id}` answers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionInfo {
    /// Address and program of the client.
    pub identity: ClientIdentity,
    /// RFC 3339.
    pub connected_at: String,
    /// RFC 3339.
    pub last_active_at: String,
}

/// Address and program of a client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientIdentity {
    /// IP address.
    pub source_ip: String,
    /// As the client sent it.
    pub user_agent: String,
}

/// Which connections are listed; the default is all of the stage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionFilter {
    /// Only those in this channel.
    pub channel: Option<String>,
    /// Only those of this user.
    pub user: Option<String>,
    /// Only those of this login.
    pub session: Option<String>,
    /// Most on a page.
    pub limit: Option<u32>,
    /// [`ConnectionPage::next_token`] of the page before.
    pub next_token: Option<String>,
}

/// A page of open connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionPage {
    /// Those on this page.
    pub connections: Vec<Connection>,
    /// How many are on this page.
    pub count: u64,
    /// For the next page; absent on the last.
    pub next_token: Option<String>,
}

/// An open connection in a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Connection {
    /// Its id.
    pub connection_id: String,
    /// Whose it is.
    pub user: Option<String>,
    /// The login that it belongs to.
    pub session: Option<String>,
    /// The channels that it is in.
    pub channels: Vec<String>,
    /// RFC 3339.
    pub connected_at: Option<String>,
    /// RFC 3339.
    pub last_active_at: Option<String>,
    /// Address of the client.
    pub source_ip: Option<String>,
}

impl PushClient {
    /// A client for the address of one API and stage, up to and without `/@connections`: with Tidegate
    /// `http://127.0.0.1:8080/_aws/execute-api/{api}/{stage}`, with Amazon `https://{api}.execute-api.{region}.amazonaws.com/{stage}`.
    ///
    /// # Errors
    /// [`ClientError::Address`], [`ClientError::TlsOff`], [`ClientError::Certificates`].
    pub fn new(endpoint: &str) -> Result<Self, ClientError> {
        Ok(Self { transport: Transport::new(endpoint)?, max_message: MAX_MESSAGE })
    }

    /// From the environment: `TIDEGATE_ENDPOINT` and the bearer key `TIDEGATE_KEY`.
    ///
    /// # Errors
    /// [`ClientError::Environment`] when one is absent, and as [`Self::new`] and [`Self::bearer`].
    pub fn from_env() -> Result<Self, ClientError> {
        Self::new(&variable("TIDEGATE_ENDPOINT")?)?.bearer(&variable("TIDEGATE_KEY")?)
    }

    /// With a bearer key of Tidegate.
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
        self.transport.set_sigv4(signer, SigningName::ExecuteApi);
        self
    }

    /// With another limit than [`crate::REQUEST_TIMEOUT`] for a call.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.transport.timeout = timeout;
        self
    }

    /// With another limit than [`MAX_MESSAGE`], in bytes, for gateways that are configured so.
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// Sends one text message to one connection. It may be called while the connection's own message is being handled.
    ///
    /// # Errors
    /// [`PushError::Gone`], [`PushError::TooLarge`], [`PushError::Slow`], and the others.
    pub async fn post(&self, connection_id: &str, message: impl Into<Bytes>) -> Result<(), PushError> {
        let mut call = Call::new(Method::POST, connection_path(connection_id));
        call.body = self.checked(message.into())?;
        self.call(call).await.map(drop)
    }

    /// Who a connection is.
    ///
    /// # Errors
    /// As [`Self::post`].
    pub async fn get(&self, connection_id: &str) -> Result<ConnectionInfo, PushError> {
        self.transport.json(Call::new(Method::GET, connection_path(connection_id))).await
    }

    /// Closes a connection.
    ///
    /// # Errors
    /// As [`Self::post`].
    pub async fn delete(&self, connection_id: &str) -> Result<(), PushError> {
        self.call(Call::new(Method::DELETE, connection_path(connection_id))).await.map(drop)
    }

    /// Sends to all connections in a channel.
    ///
    /// # Errors
    /// As [`Self::post`], except that gone and slow connections are counted.
    pub async fn push_channel(
        &self,
        channel: &str,
        message: impl Into<Bytes>,
        options: &PushOptions,
    ) -> Result<PushCounts, PushError> {
        self.push_to_many(format!("/@channels/{}", encode(channel)), message.into(), options).await
    }

    /// Sends to all connections of a user.
    ///
    /// # Errors
    /// As [`Self::push_channel`].
    pub async fn push_user(
        &self,
        user: &str,
        message: impl Into<Bytes>,
        options: &PushOptions,
    ) -> Result<PushCounts, PushError> {
        self.push_to_many(format!("/@users/{}", encode(user)), message.into(), options).await
    }

    /// Sends to all connections of the stage.
    ///
    /// # Errors
    /// As [`Self::push_channel`].
    pub async fn broadcast(
        &self,
        message: impl Into<Bytes>,
        options: &PushOptions,
    ) -> Result<PushCounts, PushError> {
        self.push_to_many("/@broadcast".to_owned(), message.into(), options).await
    }

    /// A page of the connections that are open.
    ///
    /// # Errors
    /// [`PushError::Denied`] and the general ones.
    pub async fn list(&self, filter: &ConnectionFilter) -> Result<ConnectionPage, PushError> {
        let mut call = Call::new(Method::GET, "/@connections".to_owned());
        let limit = filter.limit.map(|limit| limit.to_string());
        for (name, value) in [
            ("channel", &filter.channel),
            ("user", &filter.user),
            ("session", &filter.session),
            ("limit", &limit),
            ("nextToken", &filter.next_token),
        ] {
            if let Some(value) = value {
                call.query.push(name, value);
            }
        }
        self.transport.json(call).await
    }

    /// Puts a connection into a channel.
    ///
    /// # Errors
    /// As [`Self::post`].
    pub async fn join(&self, channel: &str, connection_id: &str) -> Result<(), PushError> {
        self.call(Call::new(Method::PUT, member_path(channel, connection_id))).await.map(drop)
    }

    /// Takes a connection out of a channel.
    ///
    /// # Errors
    /// As [`Self::post`].
    pub async fn leave(&self, channel: &str, connection_id: &str) -> Result<(), PushError> {
        self.call(Call::new(Method::DELETE, member_path(channel, connection_id))).await.map(drop)
    }

    async fn push_to_many(
        &self,
        path: String,
        message: Bytes,
        options: &PushOptions,
    ) -> Result<PushCounts, PushError> {
        let mut call = Call::new(Method::POST, path);
        call.body = self.checked(message)?;
        for connection_id in &options.except {
            call.query.push("except", connection_id);
        }
        if options.want_gone_ids {
            call.query.push("goneIds", "true");
        }
        if let Some(key) = &options.idempotency_key {
            let key = HeaderValue::from_str(key).map_err(|error| PushError::Request(error.into()))?;
            call.headers.insert(HeaderName::from_static("idempotency-key"), key);
        }
        let answer = self.call(call).await?;
        serde_json::from_slice(&answer).map_err(|error| PushError::Answer(error.into()))
    }

    async fn call(&self, call: Call) -> Result<Bytes, PushError> {
        self.transport.call(call).await
    }

    fn checked(&self, message: Bytes) -> Result<Bytes, PushError> {
        if message.len() > self.max_message {
            return Err(PushError::TooLarge { size: message.len(), limit: Some(self.max_message) });
        }
        Ok(message)
    }
}

fn connection_path(connection_id: &str) -> String {
    format!("/@connections/{}", encode(connection_id))
}

fn member_path(channel: &str, connection_id: &str) -> String {
    format!("/@channels/{}/connections/{}", encode(channel), encode(connection_id))
}

pub(crate) fn variable(name: &'static str) -> Result<String, ClientError> {
    std::env::var(name).map_err(|source| ClientError::Environment { name, source })
}
