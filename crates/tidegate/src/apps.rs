//! The applications of the configuration: their databases, and how they reach what is outside.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use serde_json::Value;
use tidegate_alerts::Alerts;
use tidegate_alerts::history::MIGRATIONS;
use tidegate_alerts::settings::UserSource;
use tidegate_alerts::user_check::{Directory, HttpGet};
use tidegate_auth::Secret;
use tidegate_chat::app::Chat;
use tidegate_chat::extension::Extensions;
use tidegate_chat::front::{Integrations, Ports};
use tidegate_chat::hook::{HookAnswer, HookCall, HookFailure, HookTransport};
use tidegate_chat::mount::Door;
use tidegate_chat::settings::live::LiveSettings;
use tidegate_chat::store;
use tidegate_core::app::Mount;
use tidegate_core::id::ConnectionId;
use tidegate_core::policy::Jwt;
use tidegate_core::port::BoxFuture;
use tidegate_core::snapshot::FunctionName;
use tidegate_gateway::{Fetch, FetchError, Gateway, MountChange};
use tidegate_store::sql::{Database, PostgresDatabase, PostgresOptions, SqliteDatabase, SqliteFile};

use crate::certs;
use crate::config::changes::Outcome;
use crate::config::{self, Config};
use crate::demo;

/// Name of the chat's database in a data directory.
const CHAT_FILE: &str = "chat.db";

/// Name of the database of alerts in a data directory.
const ALERTS_FILE: &str = "alerts.db";

/// Connections to a PostgreSQL server.
const POSTGRES_CONNECTIONS: usize = 8;

/// How long the look-up of a user may take; the application has a shorter limit of its own.
const LOOK_UP: Duration = Duration::from_secs(10);

/// The applications, before the gateway that they are part of exists.
pub(crate) struct Apps {
    pub(crate) mounts: Vec<Mount>,
    pub(crate) counted: Counted,
    outside: Arc<Outside>,
}

/// The applications whose numbers are on the page of metrics.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counted {
    pub(crate) chat: Option<Arc<Chat>>,
    pub(crate) alerts: Option<Arc<Alerts>>,
}

impl Apps {
    /// Opens what they keep.
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        let outside = Arc::new(Outside::default());
        let mut mounts = Vec::new();
        let mut counted = Counted::default();
        let Some(jwt) = &config.apps.jwt else { return Ok(Self { mounts, counted, outside }) };
        if let Some(chat) = &config.apps.chat {
            let file = config.data_dir.join(CHAT_FILE);
            let database = own_database(file, chat.database.as_ref(), store::MIGRATIONS);
            let database = database.await.context("open the chat's database")?;
            if config.apps.has_demo_users {
                demo::enter_users(database.as_ref()).await?;
            }
            let ports = Ports {
                transport: Some(Arc::clone(&outside) as Arc<dyn HookTransport>),
                integrations: Some(Arc::clone(&outside) as Arc<dyn Integrations>),
            };
            let settings = Arc::new(LiveSettings::new(chat.settings.clone()));
            let app =
                Arc::new(Chat::with_extensions(settings, database, Arc::new(Extensions::default()), ports));
            let entered = app.enter_users(chat.users.clone()).await;
            entered.context("enter the users of chat.users_file")?;
            mounts.push(tidegate_chat::mount::mount(&app, door(chat, jwt)));
            counted.chat = Some(app);
        }
        if let Some(config::Alerts { settings, database }) = &config.apps.alerts {
            let file = config.data_dir.join(ALERTS_FILE);
            let database = own_database(file, database.as_ref(), MIGRATIONS);
            let database = database.await.context("open the database of alerts")?;
            let check = settings.user_check.as_ref();
            let directory = check.map(|check| directory(&check.source, &outside)).transpose()?;
            let (mount, alerts) =
                tidegate_alerts::mount::mount(settings.clone(), jwt.clone(), directory, Some(database));
            alerts.restore().await.context("read the broadcasts in the database of alerts")?;
            mounts.push(mount);
            counted.alerts = Some(alerts);
        }
        Ok(Self { mounts, counted, outside })
    }

    /// Lets them reach what is outside.
    pub(crate) fn connect(outside: &Outside, gateway: &Arc<Gateway>) {
        // Set once, right after the gateway was made.
        let _ = outside.0.set(Arc::downgrade(gateway));
    }

    /// See [`Self::connect`].
    pub(crate) fn outside(&self) -> Arc<Outside> {
        Arc::clone(&self.outside)
    }
}

/// What of the applications' stages a new configuration changes; replaces the settings of the chat.
///
/// # Errors
/// Settings that cannot be in force, with their paths: nothing has changed then.
pub(crate) fn changed_mounts(
    config: &Config,
    apps: &Counted,
    outcome: &Outcome,
) -> Result<Vec<MountChange>, Vec<(String, String)>> {
    let mut mounts = Vec::new();
    let Some(jwt) = &config.apps.jwt else { return Ok(mounts) };
    let reads_files = outcome.has_changed(&["jwt"]);
    if let (Some(app), Some(chat)) = (&apps.chat, &config.apps.chat)
        && outcome.has_changed(&["jwt", "chat"])
    {
        app.settings().replace(chat.settings.clone()).map_err(|problems| {
            problems
                .into_iter()
                .map(|problem| (problem.path, problem.message.into_owned()))
                .collect::<Vec<_>>()
        })?;
        let Mount { api_id, policy, settings, .. } = tidegate_chat::mount::mount(app, door(chat, jwt));
        mounts.push(MountChange { api_id, policy, settings, reads_files });
    }
    if let (Some(app), Some(config::Alerts { settings, .. })) = (&apps.alerts, &config.apps.alerts)
        && outcome.has_changed(&["jwt", "apps.alerts"])
    {
        app.change(settings.clone());
        let policy = tidegate_alerts::mount::policy(settings, jwt.clone());
        let stage = Arc::new(tidegate_alerts::mount::stage_settings(settings));
        let api_id = tidegate_alerts::mount::API_ID.to_owned();
        mounts.push(MountChange { api_id, policy, settings: stage, reads_files });
    }
    Ok(mounts)
}

/// What is demanded of those who come to the chat.
fn door(chat: &config::apps::Chat, jwt: &Jwt) -> Door {
    Door { jwt: jwt.clone(), attempts: chat.attempts.clone(), admission: chat.admission.clone() }
}

/// The database of an application: a server where one is configured, otherwise a file.
async fn own_database(
    file: PathBuf,
    url: Option<&Secret>,
    migrations: &[&str],
) -> anyhow::Result<Arc<dyn Database>> {
    Ok(match url {
        None => Arc::new(SqliteDatabase::open(&file, migrations)?),
        Some(url) => Arc::new(PostgresDatabase::open(postgres(url.expose()), migrations).await?),
    })
}

fn postgres(url: &str) -> PostgresOptions {
    let system_roots = certs::system_roots();
    PostgresOptions { url: url.to_owned(), system_roots, connections: POSTGRES_CONNECTIONS }
}

/// Where users are looked up. A file has to be there at the start; servers may come later, and nobody who would be looked up
/// gets in until then.
fn directory(source: &UserSource, outside: &Arc<Outside>) -> anyhow::Result<Directory> {
    Ok(match source {
        UserSource::Http { .. } => Directory::Http(Arc::clone(outside) as Arc<dyn HttpGet>),
        UserSource::Sqlite { path, .. } => {
            let file = SqliteFile::open(Path::new(path));
            let file = file.with_context(|| format!("open apps.alerts.user_check.path, {path}"))?;
            Directory::Sql(Arc::new(file))
        }
        UserSource::Postgres { url, .. } => {
            let server = PostgresDatabase::of_others(postgres(url));
            Directory::Sql(Arc::new(server.context("use apps.alerts.user_check.url")?))
        }
    })
}

/// The gateway's way out, for applications that were made before it.
#[derive(Debug, Default)]
pub(crate) struct Outside(OnceLock<Weak<Gateway>>);

impl Outside {
    fn gateway(&self) -> Option<Arc<Gateway>> {
        self.0.get()?.upgrade()
    }
}

impl HookTransport for Outside {
    fn call(&self, call: HookCall) -> BoxFuture<'_, Result<HookAnswer, HookFailure>> {
        Box::pin(async move {
            let HookCall { target, headers, body, timeout, max_answer } = call;
            let unreachable = |why: &str| HookFailure::Unreachable(why.to_owned());
            let gateway = self.gateway().ok_or_else(|| unreachable("the node is stopping"))?;
            if target.starts_with("arn:") {
                return call_function(&gateway, &target, &headers, body, timeout).await;
            }
            let headers: Vec<(HeaderName, HeaderValue)> = headers
                .iter()
                // Those of the body are written with it.
                .filter(|(name, _)| !name.eq_ignore_ascii_case("content-type"))
                .filter_map(|(name, value)| {
                    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
                    Some((name, HeaderValue::from_str(value).ok()?))
                })
                .collect();
            let fetch = Fetch { method: "POST", url: &target, headers: &headers, body: &body, timeout };
            match gateway.fetch(fetch).await {
                Ok((_, body)) if body.len() > max_answer => {
                    Err(HookFailure::Answer(format!("over {max_answer} bytes")))
                }
                Ok((status, body)) => Ok(HookAnswer { status, body }),
                Err(error) if error.class == "timeout" => Err(HookFailure::Timeout(timeout)),
                Err(FetchError { class, .. }) => Err(HookFailure::Unreachable(class)),
            }
        })
    }
}

/// A hook that is a function: it gets the body of the webhook, with the delivery's id in it instead of in a header.
async fn call_function(
    gateway: &Gateway,
    arn: &str,
    headers: &[(&'static str, String)],
    body: Bytes,
    timeout: Duration,
) -> Result<HookAnswer, HookFailure> {
    let function = FunctionName::parse(arn).map_err(|error| HookFailure::Unreachable(error.to_string()))?;
    let delivery = headers.iter().find(|(name, _)| *name == "x-tidegate-delivery");
    let event = match (delivery, body.strip_prefix(b"{")) {
        // The body is an object with members, so that one more can stand in front of them.
        (Some((_, id)), Some(members)) => {
            let mut event = format!("{{\"delivery\":\"{id}\",").into_bytes();
            event.extend_from_slice(members);
            event.into()
        }
        _ => body,
    };
    match gateway.call_function(&function, event, timeout).await {
        Ok(given) if matches!(given.trim_ascii(), b"" | b"null") => {
            Ok(HookAnswer { status: 204, body: Bytes::new() })
        }
        Ok(body) => Ok(HookAnswer { status: 200, body }),
        Err(error) if error.class == "timeout" => Err(HookFailure::Timeout(timeout)),
        Err(FetchError { class, detail, .. }) if class == "function" => Err(HookFailure::Function(detail)),
        Err(FetchError { detail, .. }) => Err(HookFailure::Unreachable(detail)),
    }
}

impl Integrations for Outside {
    fn invoke<'a>(
        &'a self,
        integration: &'a str,
        connection: Option<ConnectionId>,
        event: Value,
        chat_user: Value,
    ) -> BoxFuture<'a, Result<Option<Value>, String>> {
        Box::pin(async move {
            let gateway = self.gateway().ok_or("the node is stopping")?;
            let connection = connection.ok_or("only events of connections go to integrations")?;
            let (event, user) = (event.to_string(), chat_user.to_string());
            let body = gateway.invoke_integration(integration, connection, &event, &user).await?;
            // What is no JSON is not for the client.
            Ok(serde_json::from_slice(&body).ok())
        })
    }
}

impl HttpGet for Outside {
    fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<(u16, Bytes), &'static str>> {
        Box::pin(async move {
            let gateway = self.gateway().ok_or("stopping")?;
            let fetch = Fetch { method: "GET", url, headers: &[], body: &[], timeout: LOOK_UP };
            gateway.fetch(fetch).await.map_err(|error| match error.class.as_str() {
                "timeout" => "timeout",
                "refused" => "refused",
                "dns" => "dns",
                class if class.starts_with("tls") => "tls",
                _ => "failed",
            })
        })
    }
}
