//! How a definition changes: one at a time, durable before it shows.
//!
//! A change takes the write lock, edits a draft of the state, and the difference goes to the store. Only after the
//! store has answered does the draft become the state that reads see, and the data plane gets it. From the store on,
//! a change runs in a task of its own that holds the write lock: a caller who leaves in the middle cannot leave
//! store and memory different. That lock is also the task's owner: [`ControlPlane::close`] takes it last.

use std::fmt;
use std::sync::Arc;

use http::Method;
use jiff::Timestamp;
use parking_lot::RwLock;
use serde_json::Value;
use tidegate_core::definition::{ApiDefinition, Live};
use tidegate_core::port::{DefinitionSink, DefinitionStore, StoreError};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::error::ApiError;
use crate::limits::Quotas;
use crate::state::State;
use crate::{changes, deploy, id, limits};

/// What the control plane shows of the installation, and what it permits.
#[derive(Debug, Clone)]
pub struct ControlSettings {
    /// For ARNs: `us-east-1`.
    pub region: String,
    /// For ARNs: twelve digits.
    pub account_id: String,
    /// Scheme, host and port of the public listener: `ws://127.0.0.1:8080`.
    pub public_base: String,
    /// Address of an API by host, with `{apiId}` in it: `wss://{apiId}.execute-api.example.com`. Unset: addresses are
    /// `{public_base}/_aws/execute-api/{apiId}`.
    pub wildcard_base: Option<String>,
    /// The DNS target that custom domains show, at most 255 characters.
    pub public_hostname: String,
    /// Longest `timeoutInMillis` of an integration, in milliseconds.
    pub max_timeout_ms: u32,
    /// Hosts that integrations and authorizers may call: exact, or `*.example.com` for sub-domains only. Empty: any.
    pub allow_integration_hosts: Vec<String>,
    /// Authorizers may be of type `JWT`.
    pub allow_jwt_authorizer: bool,
    /// How many of each there may be, and how often operations may be called.
    pub quotas: Quotas,
}

impl Default for ControlSettings {
    fn default() -> Self {
        Self {
            region: "us-east-1".to_owned(),
            account_id: "000000000000".to_owned(),
            public_base: "ws://127.0.0.1:8080".to_owned(),
            wildcard_base: None,
            public_hostname: "localhost".to_owned(),
            max_timeout_ms: limits::MAX_TIMEOUT_MS,
            allow_integration_hosts: Vec::new(),
            allow_jwt_authorizer: false,
            quotas: Quotas::default(),
        }
    }
}

impl ControlSettings {
    /// Address of the API `api_id`, without stage.
    pub fn api_endpoint(&self, api_id: &str) -> String {
        match &self.wildcard_base {
            Some(base) => base.replace("{apiId}", api_id),
            None => format!("{}/_aws/execute-api/{api_id}", self.public_base.trim_end_matches('/')),
        }
    }
}

/// Tells the time; the binary gives the system's, tests their own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Why the stored definitions cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store does not answer.
    #[error("read the stored definitions")]
    Store(#[source] StoreError),
    /// A document is not what its kind says.
    #[error("read the stored {kind} {id}")]
    Document {
        /// Kind of the document.
        kind: String,
        /// Id of the document.
        id: String,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// A document's parent is missing.
    #[error("the stored {kind} {id} belongs to {parent}, which is missing")]
    Orphan {
        /// Kind of the document.
        kind: String,
        /// Id of the document.
        id: String,
        /// The missing parent.
        parent: String,
    },
    /// A later version wrote this.
    #[error("the store holds documents of the unknown kind {kind}")]
    UnknownKind {
        /// The kind.
        kind: String,
    },
}

/// What a change may know beside the state.
pub(crate) struct Context<'a> {
    pub(crate) settings: &'a ControlSettings,
    pub(crate) now: Timestamp,
}

impl Context<'_> {
    pub(crate) fn timestamp(&self) -> String {
        id::timestamp(self.now)
    }

    pub(crate) fn quotas(&self) -> &Quotas {
        &self.settings.quotas
    }
}

/// The definitions of all APIs, and the only way to change them. Cheap to clone.
#[derive(Clone)]
pub struct ControlPlane {
    inner: Arc<Inner>,
}

struct Inner {
    settings: RwLock<Arc<ControlSettings>>,
    store: Arc<dyn DefinitionStore>,
    sink: Arc<dyn DefinitionSink>,
    clock: Clock,
    state: RwLock<Arc<State>>,
    writing: Arc<Mutex<()>>,
}

impl fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlPlane").field("store", &self.inner.store).finish_non_exhaustive()
    }
}

impl ControlPlane {
    /// Reads everything from `store` and publishes it once to `sink`.
    ///
    /// # Errors
    /// [`LoadError`]: nothing has been published then.
    pub async fn load(
        store: Arc<dyn DefinitionStore>,
        sink: Arc<dyn DefinitionSink>,
        settings: ControlSettings,
        clock: Clock,
    ) -> Result<Self, LoadError> {
        let documents = store.load().await.map_err(LoadError::Store)?;
        let state = State::from_documents(documents, &settings)?;
        sink.publish(state.live());
        let inner = Inner {
            settings: RwLock::new(Arc::new(settings)),
            store,
            sink,
            clock,
            state: RwLock::new(Arc::new(state)),
            writing: Arc::new(Mutex::new(())),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What is live now: the value last handed to the sink, or an equal one.
    pub fn live(&self) -> Live {
        self.state().live()
    }

    /// The stages, as API id and name, whose API has changed since their deployment: what clients do not see yet.
    pub fn stages_behind(&self) -> Vec<(String, String)> {
        let state = self.state();
        let mut behind = Vec::new();
        for api in state.apis.iter() {
            for stage in api.stages.iter() {
                let content = stage.deployment_id.as_ref().and_then(|id| api.contents.get(id));
                if content.is_some_and(|(_, content)| deploy::is_behind(content, api)) {
                    behind.push((api.api.api_id.clone(), stage.stage_name.clone()));
                }
            }
        }
        behind
    }

    /// An API as it is defined now, in the form that a deployment would freeze.
    pub fn definition(&self, api_id: &str) -> Option<ApiDefinition> {
        self.state().apis.get(api_id).map(|api| deploy::freeze(api))
    }

    /// The settings as they are now.
    pub fn settings(&self) -> Arc<ControlSettings> {
        Arc::clone(&self.inner.settings.read())
    }

    /// Runs on other settings from now on, and publishes what is live once more, so that the sink can look at settings of
    /// its own. Addresses that follow from the settings are derived again. The throttle of calls stays that of the start.
    ///
    /// # Cancel safety
    /// When the future is dropped, this has either happened completely or not at all.
    pub async fn change_settings(&self, settings: ControlSettings) {
        // No change of definitions is under way meanwhile, so that none is published over a newer one.
        let turn = self.inner.writing.lock().await;
        let mut draft = State::clone(&self.state());
        draft.derive(&settings);
        let live = draft.live();
        *self.inner.settings.write() = Arc::new(settings);
        *self.inner.state.write() = Arc::new(draft);
        self.inner.sink.publish(live);
        drop(turn);
    }

    /// Runs one operation of the API in process, without authentication.
    ///
    /// `target` is path and query as on the wire, `/v2/apis/abc?maxResults=10`, percent-encoded; `body` is the JSON
    /// body, or `Null` for none. Answers the JSON body, `Null` where the reply has none.
    ///
    /// # Errors
    /// What the operation would have answered over HTTP.
    ///
    /// # Cancel safety
    /// When the future is dropped, the operation has either happened completely or not at all.
    pub async fn request(&self, method: &Method, target: &str, body: Value) -> Result<Value, ApiError> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let reply = crate::rest::dispatch(self, method, path, query, body).await?;
        Ok(reply.body.unwrap_or(Value::Null))
    }

    /// CreateApi with a chosen id; `body` as the operation takes it.
    ///
    /// # Errors
    /// As CreateApi; `ConflictException` when the id is taken, `BadRequestException` when it is not a lower-case DNS
    /// label of at most [`limits::API_ID`] characters.
    pub async fn create_api_with_id(&self, api_id: &str, body: Value) -> Result<Value, ApiError> {
        let reply = crate::rest::api::create(self, Some(api_id), body).await?;
        Ok(reply.body.unwrap_or(Value::Null))
    }

    /// Waits until a change that is being stored has been stored and published; later changes are refused no more
    /// than before. Call it after the listener has closed and before the store does.
    pub async fn close(&self) {
        drop(self.inner.writing.lock().await);
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.inner.clock)()
    }

    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&self.inner.state.read())
    }

    /// Runs `change` on a draft, stores the difference, then shows it. When `change` or the store refuses, nothing
    /// has happened.
    pub(crate) async fn write<R: Send>(
        &self,
        change: impl FnOnce(&mut State, &Context<'_>) -> Result<R, ApiError> + Send,
    ) -> Result<R, ApiError> {
        self.write_and_compare(change, |_, _, answer| answer).await
    }

    /// As [`Self::write`]; `conclude` makes the answer from the state before, the state after, in which stages with
    /// `autoDeploy` have been deployed, and what `change` answered.
    pub(crate) async fn write_and_compare<R: Send, A: Send, E: From<ApiError>>(
        &self,
        change: impl FnOnce(&mut State, &Context<'_>) -> Result<R, E> + Send,
        conclude: impl FnOnce(&State, &State, R) -> A + Send,
    ) -> Result<A, E> {
        let turn = Arc::clone(&self.inner.writing).lock_owned().await;
        let old = self.state();
        let (mut draft, answer) = self.draft(&old, change)?;
        let answer = conclude(&old, &draft, answer);
        let changes = changes::between(&old, &draft)?;
        if changes.is_empty() {
            return Ok(answer);
        }
        let is_live_changed = deploy::refresh(&old, &mut draft);
        let commit = commit(Arc::clone(&self.inner), turn, changes, draft, is_live_changed);
        match tokio::spawn(commit).await {
            Ok(done) => done.map(|()| answer).map_err(E::from),
            Err(error) => {
                tracing::error!(%error, diag = "auth.internal", "storing a change failed unexpectedly");
                Err(ApiError::internal().into())
            }
        }
    }

    /// What `change` makes of `old`; nothing is stored or shown.
    pub(crate) fn draft<R, E: From<ApiError>>(
        &self,
        old: &State,
        change: impl FnOnce(&mut State, &Context<'_>) -> Result<R, E>,
    ) -> Result<(State, R), E> {
        let mut draft = State::clone(old);
        let settings = self.settings();
        let context = Context { settings: &settings, now: self.now() };
        let answer = change(&mut draft, &context)?;
        deploy::auto_deploy(old, &mut draft, &context)?;
        Ok((draft, answer))
    }
}

async fn commit(
    inner: Arc<Inner>,
    turn: OwnedMutexGuard<()>,
    changes: Vec<tidegate_core::port::Change>,
    draft: State,
    is_live_changed: bool,
) -> Result<(), ApiError> {
    if let Err(error) = inner.store.apply(changes).await {
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        tracing::error!(%error, cause, diag = "store.unavailable", "a change was not stored");
        return Err(ApiError::from(&error));
    }
    let live = is_live_changed.then(|| draft.live());
    *inner.state.write() = Arc::new(draft);
    if let Some(live) = live {
        inner.sink.publish(live);
    }
    drop(turn);
    Ok(())
}
