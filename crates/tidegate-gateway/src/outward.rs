//! What applications have the gateway ask outside: an address, a function, or an integration of some API.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use tidegate_core::context::{Event, EventKind};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::id::ConnectionId;
use tidegate_core::snapshot::{FunctionName, Route, Stage};

use crate::clock::now_millis;
use crate::functions::{self, FunctionCall};
use crate::gateway::Gateway;
use crate::integration::http::check_host;
use crate::integration::{self, Failure};

/// Header that says who sent an event that an application passes on.
const CHAT_USER: &str = "tidegate-chat-user";

/// A request to a URL.
pub struct Fetch<'a> {
    /// `GET` or `POST`.
    pub method: &'a str,
    /// `http://` or `https://`.
    pub url: &'a str,
    /// Beside `Host`, `User-Agent` and those of the body.
    pub headers: &'a [(HeaderName, HeaderValue)],
    /// JSON; may be empty.
    pub body: &'a [u8],
    /// From the begin to the end of the answer.
    pub timeout: Duration,
}

/// Why there is no answer. Names and numbers only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{class}: {detail}")]
pub struct FetchError {
    /// `timeout`, `refused`, `dns`, `tls`, `function`, ...
    pub class: String,
    /// For operators.
    pub detail: String,
    /// Of the catalogue.
    pub diagnosis: Diagnosis,
}

impl From<Failure> for FetchError {
    fn from(failure: Failure) -> Self {
        let class = failure.facts.text("errorClass").unwrap_or_else(|| "failed".into());
        Self { class, detail: failure.detail.into_owned(), diagnosis: failure.diagnosis }
    }
}

impl Gateway {
    /// Status and body of an answer, whatever the status is. No redirect is followed, and the hosts are those that
    /// integrations may have.
    ///
    /// # Errors
    /// [`FetchError`]
    pub async fn fetch(&self, fetch: Fetch<'_>) -> Result<(u16, Bytes), FetchError> {
        let host = fetch.url.parse::<http::Uri>().ok();
        let host = host.as_ref().and_then(http::Uri::host).unwrap_or_default();
        check_host(&self.in_force().node.settings.all.integration.allowed_hosts, host)?;
        let timeout = fetch.timeout;
        let sent = self.backends.request(
            fetch.method,
            fetch.url,
            "application/json",
            fetch.headers,
            fetch.body,
            timeout,
        );
        Ok(sent.await?)
    }

    /// Calls a function with a JSON document and waits for what it gives: one of this machine, else that of the endpoint for the
    /// service `lambda`. It counts against the function's own limit of calls at a time.
    ///
    /// # Errors
    /// [`FetchError`]; its class is `function` for a function that raised.
    pub async fn call_function(
        &self,
        function: &FunctionName,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, FetchError> {
        let call = FunctionCall {
            function,
            payload,
            is_async: false,
            timeout,
            credentials_arn: None,
            trace_id: None,
        };
        let invoked = functions::invoke(self, call).await?;
        match functions::failed(function, &invoked) {
            None => Ok(invoked.payload),
            Some(failure) => Err(FetchError { class: "function".to_owned(), ..failure.into() }),
        }
    }

    /// Calls an integration by its id with an event of a connection, as if the event were a message of its route. Gives the
    /// answer's body.
    ///
    /// # Errors
    /// What went wrong, for operators.
    pub async fn invoke_integration(
        &self,
        integration_id: &str,
        connection: ConnectionId,
        body: &str,
        user: &str,
    ) -> Result<Bytes, String> {
        let Some((stage, route)) = self.route_of(integration_id) else {
            return Err(format!("no deployed route has the integration {integration_id}"));
        };
        let Some(handle) = self.registry.find(connection) else {
            return Err("the connection has ended".to_owned());
        };
        let now = now_millis();
        let event = Event {
            connection: Arc::clone(&handle.facts),
            request_id: self.request_id(now),
            route_key: Arc::clone(&route.key),
            request_time: now,
            kind: EventKind::Message { message_id: self.request_id(now) },
            session: handle.session_facts(),
            authorized: handle.authorized(),
        };
        let mut headers = HeaderMap::new();
        if let Ok(user) = HeaderValue::from_str(user) {
            headers.insert(CHAT_USER, user);
        }
        let call = integration::Call {
            reads_headers: false,
            event: &event,
            stage: &stage,
            headers: Some(&headers),
            spelling: None,
            query: "",
            body,
            is_base64: false,
            payload: None,
            is_json: true,
            forwarded_for: None,
            client_ref: None,
            log: None,
        };
        match integration::call(self, &route.integration, &call).await {
            Ok(answer) if answer.status < 300 => Ok(answer.body),
            Ok(answer) => Err(format!("the integration answered {}", answer.status)),
            Err(failure) => Err(format!("{}: {}", failure.diagnosis, failure.detail)),
        }
    }

    fn route_of(&self, integration_id: &str) -> Option<(Arc<Stage>, Arc<Route>)> {
        let snapshot = self.snapshot();
        let mut stages = snapshot.apis.values().flat_map(|api| api.stages.values());
        stages.find_map(|stage| {
            let routes = &stage.deployment.as_ref()?.routes;
            let route = routes.values().find(|route| route.integration.integration_id == integration_id)?;
            Some((Arc::clone(stage), Arc::clone(route)))
        })
    }
}
