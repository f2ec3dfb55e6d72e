//! Routes for the three events, and the choice of a handler for a message.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use http::{HeaderName, StatusCode};
use serde_json::{Map, Value};

use crate::checks::{Checks, Rejection};
use crate::event::{Checked, Slug};

type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;
type BoxedHandler<S> = Arc<dyn Fn(Request, S) -> Answer + Send + Sync>;

/// Keys of a message that may name its handler, in this order. Source: the Django package, 4.1.0.
const HANDLER_KEYS: [&str; 2] = ["handler", "action"];

/// Name of the handler for everything that names no other.
const DEFAULT: &str = "default";

/// Takes the three events and calls the handler that fits.
///
/// | request | event |
/// | --- | --- |
/// | `POST {base}connect` | [`Self::on_connect`] |
/// | `POST {base}default` | a message: the handler that its JSON names, else [`Self::default`] |
/// | `POST {base}{name}` | a message on a route of the gateway's own: the handler `name` |
/// | `POST {base}disconnect` | [`Self::on_disconnect`] |
///
/// Handlers are axum handlers: async functions whose last argument may be [`crate::Connect`], [`crate::Message`] and so on, with any
/// other extractors before it.
///
/// **The handler of a message** is looked for under each key in turn (`handler`, then `action`). A text that names a handler chooses it. The
/// text `default` chooses the default handler, and no later key is looked at (the Django package lets a second key
/// overrule that). What is absent, no text or no known name leads to the next key, and in the end to the default handler. A message that is
/// no JSON object names nothing. Without a default handler such messages are answered 400 `Invalid request format (1)`.
///
/// **Events without a handler** are answered 200: a connect is accepted, a disconnect is forgotten.
#[must_use]
pub struct GatewayRouter<S = ()> {
    base: String,
    keys: Vec<String>,
    checks: Checks,
    connect: Option<BoxedHandler<S>>,
    disconnect: Option<BoxedHandler<S>>,
    messages: BTreeMap<String, BoxedHandler<S>>,
}

impl<S> std::fmt::Debug for GatewayRouter<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GatewayRouter")
            .field("base", &self.base)
            .field("keys", &self.keys)
            .field("checks", &self.checks)
            .field("messages", &self.messages.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl<S: Clone + Send + Sync + 'static> Default for GatewayRouter<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Clone + Send + Sync + 'static> GatewayRouter<S> {
    /// Without handlers, secrets and pinned APIs, under the base `/`.
    pub fn new() -> Self {
        Self {
            base: "/".to_owned(),
            keys: HANDLER_KEYS.map(str::to_owned).to_vec(),
            checks: Checks::new(),
            connect: None,
            disconnect: None,
            messages: BTreeMap::new(),
        }
    }

    /// Called before a connection opens: [`crate::Accept`], [`crate::Refuse`], or any other answer; 2xx accepts.
    pub fn on_connect<H: Handler<T, S>, T: 'static>(mut self, handler: H) -> Self {
        self.connect = Some(boxed(handler));
        self
    }

    /// Called when a connection has ended.
    pub fn on_disconnect<H: Handler<T, S>, T: 'static>(mut self, handler: H) -> Self {
        self.disconnect = Some(boxed(handler));
        self
    }

    /// Called for messages that name it, and for those on the gateway's route of that name. A second handler of the same name
    /// replaces the first.
    pub fn on<H: Handler<T, S>, T: 'static>(mut self, name: impl Into<String>, handler: H) -> Self {
        self.messages.insert(name.into(), boxed(handler));
        self
    }

    /// Called for messages that name no other handler.
    pub fn default<H: Handler<T, S>, T: 'static>(self, handler: H) -> Self {
        self.on(DEFAULT, handler)
    }

    /// The keys of a message that may name its handler, in order. Default: `handler`, `action`.
    pub fn keys(mut self, keys: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.keys = keys.into_iter().map(Into::into).collect();
        self
    }

    /// The path before `connect`, `default`, `disconnect`, as in the integration's URI; a slash is added at either end where it is missing.
    /// Only for [`Self::into_router`]; a nested router wants none.
    pub fn base(mut self, base: &str) -> Self {
        let inner = base.trim_matches('/');
        self.base = if inner.is_empty() { "/".to_owned() } else { format!("/{inner}/") };
        self
    }

    /// As [`Checks::secrets`].
    pub fn secret(mut self, secrets: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.checks = self.checks.secrets(secrets);
        self
    }

    /// As [`Checks::secret_header`].
    pub fn secret_header(mut self, name: HeaderName) -> Self {
        self.checks = self.checks.secret_header(name);
        self
    }

    /// As [`Checks::sign_secrets`].
    pub fn sign_secrets(mut self, secrets: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.checks = self.checks.sign_secrets(secrets);
        self
    }

    /// As [`Checks::api_ids`].
    pub fn api_ids(mut self, api_ids: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.checks = self.checks.api_ids(api_ids);
        self
    }

    /// As [`Checks::trust_identity`].
    pub fn trust_identity(mut self, is_trusted: bool) -> Self {
        self.checks = self.checks.trust_identity(is_trusted);
        self
    }

    /// The route `{base}{slug}` for all slugs. Nest or merge it, or serve it as it is.
    ///
    /// # Panics
    /// As `axum::Router::route`, when the base holds braces.
    pub fn into_router(self) -> Router<S> {
        let path = format!("{}{{tidegate_route}}", self.base);
        Router::new().route(&path, self.into_endpoint())
    }

    /// One endpoint for a path of your own, for example `/chat/{room_server}/{route}`: the event is told by the last part of the path.
    pub fn into_endpoint(self) -> MethodRouter<S> {
        let routes = Arc::new(self);
        post(
            move |State(state): State<S>, request: Request| async move { routes.answer(request, state).await },
        )
    }

    async fn answer(&self, request: Request, state: S) -> Response {
        let (checked, request) = match Checked::check(&self.checks, request).await {
            Ok(checked) => checked,
            Err(rejection) => return rejection.into_response(),
        };
        let (parts, body) = request.into_parts();
        let slug = Slug::of_parts(&parts);
        let request = Request::from_parts(parts, body);
        let handler = match &slug {
            Slug::Connect => self.connect.as_ref(),
            Slug::Disconnect => self.disconnect.as_ref(),
            Slug::Default => match self.choose(&checked.body) {
                Some(handler) => Some(handler),
                None => {
                    tracing::info!(connection_id = checked.head.connection_id, "message names no handler");
                    return Rejection::NoHandler.into_response();
                }
            },
            Slug::Named(name) => match self.messages.get(name) {
                Some(handler) => Some(handler),
                None => {
                    tracing::warn!(
                        route = name,
                        diag = "backend.route-param-missing",
                        "path names no event and no handler"
                    );
                    return Rejection::Path.into_response();
                }
            },
        };
        match handler {
            Some(handler) => handler(request, state).await,
            None => StatusCode::OK.into_response(),
        }
    }

    fn choose(&self, body: &[u8]) -> Option<&BoxedHandler<S>> {
        let object: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
        let names = self.keys.iter().filter_map(|key| object.get(key).and_then(Value::as_str));
        for name in names {
            if name == DEFAULT {
                break;
            }
            if let Some(handler) = self.messages.get(name) {
                return Some(handler);
            }
        }
        self.messages.get(DEFAULT)
    }
}

fn boxed<H: Handler<T, S>, T: 'static, S: Clone + Send + Sync + 'static>(handler: H) -> BoxedHandler<S> {
    Arc::new(move |request, state| Box::pin(handler.clone().call(request, state)))
}
