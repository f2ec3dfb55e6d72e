//! The applications of the configuration: their databases, and how they reach what is outside.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use serde_json::Value;
use tidegate_alerts::user_check::{Directory, HttpGet};
use tidegate_chat::app::Chat;
use tidegate_chat::extension::Extensions;
use tidegate_chat::front::{Integrations, Ports};
use tidegate_chat::hook::{HookAnswer, HookCall, HookFailure, HookTransport};
use tidegate_chat::mount::Door;
use tidegate_chat::settings::live::LiveSettings;
use tidegate_chat::store;
use tidegate_core::app::Mount;
use tidegate_core::id::ConnectionId;
use tidegate_core::port::BoxFuture;
use tidegate_gateway::{Fetch, FetchError, Gateway};
use tidegate_store::sql::{Database, PostgresDatabase, PostgresOptions, SqliteDatabase};

use crate::config::Config;
use crate::demo;

/// Name of the chat's database in a data directory.
const CHAT_FILE: &str = "chat.db";

/// Connections to a PostgreSQL server.
const POSTGRES_CONNECTIONS: usize = 8;

/// How long the look-up of a user may take; the application has a shorter limit of its own.
const LOOK_UP: Duration = Duration::from_secs(10);

/// The applications, before the gateway that they are part of exists.
pub(crate) struct Apps {
    pub(crate) mounts: Vec<Mount>,
    outside: Arc<Outside>,
}

impl Apps {
    /// Opens what they keep.
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        let outside = Arc::new(Outside::default());
        let mut mounts = Vec::new();
        let Some(jwt) = &config.apps.jwt else { return Ok(Self { mounts, outside }) };
        if let Some(chat) = &config.apps.chat {
            let database: Arc<dyn Database> = match &chat.database {
                None => Arc::new(
                    SqliteDatabase::open(&config.data_dir.join(CHAT_FILE), store::MIGRATIONS)
                        .context("open the chat's database")?,
                ),
                Some(url) => Arc::new(
                    postgres(url.expose(), store::MIGRATIONS).await.context("open the chat's database")?,
                ),
            };
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
            let door = Door { jwt: jwt.clone(), ..Door::default() };
            mounts.push(tidegate_chat::mount::mount(&app, door));
        }
        if let Some(settings) = &config.apps.alerts {
            let directory = Directory::Http(Arc::clone(&outside) as Arc<dyn HttpGet>);
            let (mount, _) = tidegate_alerts::mount::mount(settings.clone(), jwt.clone(), Some(directory));
            mounts.push(mount);
        }
        Ok(Self { mounts, outside })
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

async fn postgres(url: &str, migrations: &[&str]) -> anyhow::Result<PostgresDatabase> {
    let options = PostgresOptions { url: url.to_owned(), tls: None, connections: POSTGRES_CONNECTIONS };
    Ok(PostgresDatabase::open(options, migrations).await?)
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
