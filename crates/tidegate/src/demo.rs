//! The example pages of `tidegate dev --app`: their files, and the demo users with their tokens.
//!
//! Only `dev` uses it: whoever reaches the admin listener gets a token of each demo user.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use serde_json::{Map, Value, json};
use tidegate_auth::Secret;
use tidegate_auth::jwt::{Algorithm, sign_hmac};
use tidegate_chat::model::{User, UserId};
use tidegate_chat::store::users;
use tidegate_core::policy::{Admission, Jwt, JwtKey};
use tidegate_store::sql::{Database, Outcome};

use crate::cli::ExampleApp;
use crate::config::{Config, apps};

/// Seconds that a token is good for; the page asks for a new one before each connection.
const TOKEN_SECONDS: u64 = 15 * 60;

/// Bytes of the secret that signs them.
const SECRET_BYTES: usize = 32;

/// Alerts of each channel that a page gets which comes late.
const HISTORY: usize = 50;

/// Role of those who may only receive.
const VISITOR: &str = "tourist";

/// Somebody whose part a window takes.
struct DemoUser {
    id: u32,
    username: &'static str,
    first_name: &'static str,
    last_name: &'static str,
    role: &'static str,
}

impl DemoUser {
    fn email(&self) -> String {
        format!("{}@example.com", self.username)
    }
}

const USERS: [DemoUser; 3] = [
    DemoUser { id: 1, username: "ana", first_name: "Ana", last_name: "Lima", role: "authority" },
    DemoUser { id: 2, username: "ben", first_name: "Ben", last_name: "Okafor", role: "admin" },
    DemoUser { id: 3, username: "chen", first_name: "Chen", last_name: "Wei", role: VISITOR },
];

/// A file of a page.
#[derive(Clone, Copy)]
pub(crate) struct File {
    pub(crate) content_type: &'static str,
    pub(crate) text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const ICON: &str = "image/svg+xml";
const CLIENT: &str = include_str!("../../../clients/js/dist/reconnecting-socket.js");

fn file(app: ExampleApp, name: &str) -> Option<File> {
    let (content_type, text) = match (app, name) {
        (_, "reconnecting-socket.js") => (SCRIPT, CLIENT),
        (ExampleApp::Chat, "icon.svg") => (ICON, include_str!("../../../examples/chat/icon.svg")),
        (ExampleApp::Alerts, "icon.svg") => (ICON, include_str!("../../../examples/alerts/icon.svg")),
        (ExampleApp::Chat, "") => (HTML, include_str!("../../../examples/chat/index.html")),
        (ExampleApp::Chat, "style.css") => (STYLE, include_str!("../../../examples/chat/style.css")),
        (ExampleApp::Chat, "app.js") => (SCRIPT, include_str!("../../../examples/chat/app.js")),
        (ExampleApp::Alerts, "") => (HTML, include_str!("../../../examples/alerts/index.html")),
        (ExampleApp::Alerts, "style.css") => (STYLE, include_str!("../../../examples/alerts/style.css")),
        (ExampleApp::Alerts, "app.js") => (SCRIPT, include_str!("../../../examples/alerts/app.js")),
        (ExampleApp::Alerts, "map.js") => (SCRIPT, include_str!("../../../examples/alerts/map.js")),
        (ExampleApp::Alerts, "land.js") => (SCRIPT, include_str!("../../../examples/alerts/land.js")),
        _ => return None,
    };
    Some(File { content_type, text })
}

/// What a path of the admin listener is.
pub(crate) enum Asked {
    File(File),
    /// What the page needs to know: addresses, users, tokens.
    Data,
}

/// The pages that are on.
pub(crate) struct Demo {
    apps: Vec<ExampleApp>,
    secret: Secret,
    algorithm: Algorithm,
    issuer: Option<String>,
    audience: Option<String>,
    /// Claims that the chat reads a user's id from.
    user_claims: Vec<String>,
    chat_path: String,
    alerts_path: String,
}

impl Demo {
    /// Switches the applications on, where the configuration does not have them yet.
    ///
    /// # Errors
    /// The configuration's `[jwt]` has no secret to sign with.
    pub(crate) fn switch_on(config: &mut Config, named: &[ExampleApp]) -> anyhow::Result<Self> {
        let mut apps: Vec<ExampleApp> = Vec::new();
        for app in named {
            if !apps.contains(app) {
                apps.push(*app);
            }
        }
        let jwt = match config.apps.jwt.take() {
            Some(jwt) => jwt,
            None => Jwt { keys: vec![random_key()?], default_role: VISITOR.to_owned(), ..Jwt::default() },
        };
        let signing = jwt.keys.iter().find_map(|key| {
            let algorithm = Algorithm::from_name(key.algorithms.first()?)?;
            Some((Secret::new(key.secret.clone()?), algorithm))
        });
        let (secret, algorithm) =
            signing.context("--app: [jwt] has no secret that could sign the tokens of the demo users")?;
        let (issuer, audience) = (jwt.issuer.clone(), jwt.audience.clone());
        config.apps.jwt = Some(jwt);
        if apps.contains(&ExampleApp::Chat) {
            let chat = config.apps.chat.get_or_insert_with(|| apps::Chat {
                settings: tidegate_chat::settings::Settings { typing_room: true, ..Default::default() },
                database: None,
                attempts: apps::chat_attempts(),
                admission: Admission::default(),
                users: Vec::new(),
            });
            // With everything else of `dev`, in its temporary folder: the demo users are not for a real database.
            chat.database = None;
            config.apps.has_demo_users = true;
        }
        if apps.contains(&ExampleApp::Alerts) {
            config.apps.alerts.get_or_insert_with(|| {
                let mut settings = tidegate_alerts::Settings { history: HISTORY, ..Default::default() };
                settings.roles.insert(VISITOR.to_owned(), vec!["tourists".to_owned()]);
                apps::Alerts { settings, database: None }
            });
        }
        let chat = config.apps.chat.as_ref().map(|chat| &chat.settings);
        let alerts = config.apps.alerts.as_ref().and_then(|alerts| alerts.settings.mounts.first());
        Ok(Self {
            user_claims: chat.map(|chat| chat.claims.user.clone()).unwrap_or_default(),
            chat_path: chat.map(|chat| chat.path.clone()).unwrap_or_default(),
            alerts_path: alerts.cloned().unwrap_or_default(),
            apps,
            secret,
            algorithm,
            issuer,
            audience,
        })
    }

    /// The first page is at `/`, and each at its own name too.
    pub(crate) fn find(&self, path: &str) -> Option<Asked> {
        let own = self.apps.iter().find_map(|app| {
            let rest = path.strip_prefix('/')?.strip_prefix(app.name())?.strip_prefix('/')?;
            Some((*app, rest))
        });
        let (app, name) = match own {
            Some(found) => found,
            None => (*self.apps.first()?, path.strip_prefix('/')?),
        };
        if name == "dev.json" {
            return Some(Asked::Data);
        }
        file(app, name).map(Asked::File)
    }

    /// What pages and programs need, with tokens that are new. `public` as the page reaches it.
    pub(crate) fn data(&self, public: SocketAddr) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let users: Vec<Value> = USERS
            .iter()
            .map(|user| {
                json!({
                    "id": user.id,
                    "username": user.username,
                    "name": format!("{} {}", user.first_name, user.last_name),
                    "role": user.role,
                    "token": self.token(self.claims_of(user), now),
                })
            })
            .collect();
        let mut data = json!({ "users": users, "expiresAt": now + TOKEN_SECONDS });
        for app in &self.apps {
            data[app.name()] = match app {
                ExampleApp::Chat => {
                    json!({ "path": self.chat_path, "url": format!("ws://{public}{}", self.chat_path) })
                }
                ExampleApp::Alerts => {
                    let claims = [("sub", json!("demo-publisher")), ("role", json!("service"))];
                    let claims = claims.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
                    json!({
                        "path": self.alerts_path,
                        "url": format!("ws://{public}{}", self.alerts_path),
                        "base": format!("http://{public}"),
                        "publisher": self.token(claims, now),
                    })
                }
            };
        }
        data
    }

    /// For the terminal: where the pages are, and a token of each user.
    pub(crate) fn introduction(&self, admin: SocketAddr, public: SocketAddr) -> String {
        let data = self.data(public);
        let mut text = "Example pages:\n\n".to_owned();
        let mut line = |name: &str, value: &str| text.push_str(&format!("  {name:<12} {value}\n"));
        for (index, app) in self.apps.iter().enumerate() {
            let path = if index == 0 { String::new() } else { format!("{}/", app.name()) };
            line(app.title(), &format!("http://{admin}/{path}   (another window: ?user=2, ?user=3)"));
            line("", data[app.name()]["url"].as_str().unwrap_or_default());
        }
        text.push_str(&format!("\nTokens, good for {} minutes:\n\n", TOKEN_SECONDS / 60));
        let mut line = |name: &str, value: &Value| {
            text.push_str(&format!("  {name:<12} {}\n", value.as_str().unwrap_or_default()));
        };
        for user in data["users"].as_array().into_iter().flatten() {
            line(user["username"].as_str().unwrap_or_default(), &user["token"]);
        }
        if self.apps.contains(&ExampleApp::Alerts) {
            line("publisher", &data["alerts"]["publisher"]);
        }
        text
    }

    fn claims_of(&self, user: &DemoUser) -> Map<String, Value> {
        let mut claims = Map::new();
        for name in &self.user_claims {
            claims.insert(name.clone(), user.id.to_string().into());
        }
        claims.insert("sub".to_owned(), user.id.to_string().into());
        claims.insert("username".to_owned(), user.username.into());
        claims.insert("email".to_owned(), user.email().into());
        claims.insert("first_name".to_owned(), user.first_name.into());
        claims.insert("last_name".to_owned(), user.last_name.into());
        claims.insert("role".to_owned(), user.role.into());
        claims
    }

    fn token(&self, mut claims: Map<String, Value>, now: u64) -> Value {
        // The alerts demand an address of everybody, of programs too.
        claims.entry("email").or_insert_with(|| "demo@example.com".into());
        claims.insert("iat".to_owned(), now.into());
        claims.insert("exp".to_owned(), (now + TOKEN_SECONDS).into());
        for (name, value) in [("iss", &self.issuer), ("aud", &self.audience)] {
            if let Some(value) = value {
                claims.insert(name.to_owned(), value.as_str().into());
            }
        }
        // `switch_on` took an algorithm that signs; another one gives no token, and the page says so.
        let signed = sign_hmac(self.secret.expose().as_bytes(), self.algorithm, &claims);
        signed.map_or(Value::Null, |token| token.expose().into())
    }
}

/// Where a page finds the public listener: if that listens on all addresses, on the one that the page came from.
pub(crate) fn public_as_seen(public: SocketAddr, host: Option<&str>) -> SocketAddr {
    let seen = host.and_then(host_address).filter(|_| public.ip().is_unspecified());
    seen.map_or(public, |ip| SocketAddr::new(ip, public.port()))
}

/// Whether a `Host` is an address or `localhost`. Under any other name the page may be somebody else's that had its name
/// point here, and tokens are not for it.
pub(crate) fn is_own_host(host: Option<&str>) -> bool {
    host.is_some_and(|host| host_address(host).is_some())
}

fn host_address(host: &str) -> Option<IpAddr> {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    if name.eq_ignore_ascii_case("localhost") {
        return Some(IpAddr::from([127, 0, 0, 1]));
    }
    host.parse().ok()
}

fn random_key() -> anyhow::Result<JwtKey> {
    let mut secret = [0; SECRET_BYTES];
    getrandom::fill(&mut secret)
        .map_err(|error| anyhow::anyhow!("no random bytes from the system: {error}"))?;
    let algorithms = vec!["HS256".to_owned()];
    Ok(JwtKey { secret: Some(hex::encode(secret)), algorithms, ..JwtKey::default() })
}

/// Enters the demo users, so that each can be written to before they have come.
///
/// # Errors
/// The database.
pub(crate) async fn enter_users(database: &dyn Database) -> anyhow::Result<()> {
    let work = |tx: &mut dyn tidegate_store::sql::Tx| {
        for user in &USERS {
            let written = users::write(
                tx,
                &User {
                    id: UserId(user.id.to_string().into()),
                    username: Arc::from(user.username),
                    email: user.email().into(),
                    first_name: user.first_name.into(),
                    last_name: user.last_name.into(),
                    is_disabled: false,
                    claims: Value::Null,
                },
            );
            if let Err(error) = written {
                tracing::debug!(%error, "a demo user was not entered");
                return Ok(Outcome::Rollback(Box::new(|| {})));
            }
        }
        Ok(Outcome::Commit(Box::new(|| {})))
    };
    database.write(Vec::new(), Box::new(work)).await.context("enter the demo users")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_only_for_pages_under_an_address() {
        for (host, is_own) in [
            (Some("127.0.0.1:8081"), true),
            (Some("[::1]:8081"), true),
            (Some("localhost:8081"), true),
            (Some("LOCALHOST"), true),
            (Some("192.168.1.5"), true),
            (Some("evil.example:8081"), false),
            (Some("127.0.0.1.evil.example"), false),
            (Some(""), false),
            (None, false),
        ] {
            assert_eq!(is_own_host(host), is_own, "{host:?}");
        }
    }

    #[test]
    fn a_page_from_elsewhere_finds_the_public_listener() {
        let all = "0.0.0.0:8080".parse().unwrap();
        let one = "127.0.0.1:8080".parse().unwrap();
        assert_eq!(public_as_seen(all, Some("192.168.1.5:8081")).to_string(), "192.168.1.5:8080");
        assert_eq!(public_as_seen(one, Some("192.168.1.5:8081")), one);
        assert_eq!(public_as_seen(all, None), all);
    }
}
