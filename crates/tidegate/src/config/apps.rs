//! `[jwt]`, `[chat]` and `[apps.*]`: the applications in the process, and whose tokens they take.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tidegate_chat::error::ChatError;
use tidegate_chat::server::{NewUser, users_of};
use tidegate_chat::settings::Settings as ChatSettings;
use tidegate_core::policy::{Admission, Attempts, Jwt, JwtKey, Policy};
use tidegate_core::snapshot::FunctionName;
use toml::{Table, Value};

use super::{Checker, Lambda, nearest};

/// What is switched on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Apps {
    /// Who signs tokens; there when an application is.
    pub(crate) jwt: Option<Jwt>,
    pub(crate) chat: Option<Chat>,
    pub(crate) alerts: Option<Alerts>,
    /// The users of the example pages are entered into the chat's directory. Never configured.
    pub(crate) has_demo_users: bool,
}

/// `[apps.alerts]`.
#[derive(Debug, Clone)]
pub(crate) struct Alerts {
    pub(crate) settings: tidegate_alerts::Settings,
    /// As [`Chat::database`].
    pub(crate) database: Option<tidegate_auth::Secret>,
}

/// `[chat]`.
#[derive(Debug, Clone)]
pub(crate) struct Chat {
    pub(crate) settings: tidegate_chat::settings::Settings,
    /// Address of a PostgreSQL database; otherwise a file in the data directory.
    pub(crate) database: Option<tidegate_auth::Secret>,
    /// How often somebody may try to connect.
    pub(crate) attempts: Attempts,
    /// Origins and numbers of connections.
    pub(crate) admission: Admission,
    /// Those of `users_file`.
    pub(crate) users: Vec<NewUser>,
}

/// Most users of `chat.users_file`.
const MAX_USERS: usize = 100_000;

/// Clients of one office come from one address, so only refusals are counted there. Source: our choice.
const REFUSED_PER_ADDRESS: u32 = 60;

/// `[jwt]` as it is written.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawJwt {
    /// One secret.
    secret: Option<String>,
    /// A file with one secret in each line; the first one signs.
    secrets_file: Option<PathBuf>,
    jwks_url: Option<String>,
    jwks_file: Option<String>,
    algorithms: Option<Vec<String>>,
    issuer: Option<String>,
    audience: Option<String>,
    leeway: Option<Value>,
    require_exp: bool,
    close_on_expiry: bool,
    default_role: String,
    cookie: String,
    allow_weak_secret: bool,
}

impl Default for RawJwt {
    fn default() -> Self {
        Self {
            secret: None,
            secrets_file: None,
            jwks_url: None,
            jwks_file: None,
            algorithms: None,
            issuer: None,
            audience: None,
            leeway: None,
            require_exp: false,
            close_on_expiry: true,
            default_role: "tourist".to_owned(),
            cookie: String::new(),
            allow_weak_secret: false,
        }
    }
}

/// Applications that `[apps]` may name.
const KNOWN: &[&str] = &["alerts"];

impl Checker<'_> {
    /// All of it.
    pub(super) fn apps(&mut self) -> Apps {
        let jwt = self.section::<RawJwt>("jwt").and_then(|raw| self.jwt(raw));
        let chat = self.chat();
        let mut alerts = None;
        if let Some(value) = self.table.get("apps") {
            match value {
                Value::Table(apps) => {
                    for name in apps.keys().filter(|name| !KNOWN.contains(&name.as_str())) {
                        let hint = nearest(name, KNOWN.iter().copied());
                        self.problem(&format!("apps.{name}"), &format!("unknown application{hint}"));
                    }
                    alerts = self.alerts(apps);
                }
                _ => self.problem("apps", "a table expected"),
            }
        }
        if let (Some(Chat { database: Some(one), .. }), Some(Alerts { database: Some(other), .. })) =
            (&chat, &alerts)
            && one.expose() == other.expose()
        {
            // Each counts the versions of its own tables, in a table of the same name.
            self.problem("apps.alerts.database", "the chat has this database: another one, or another schema of it (`?options=-csearch_path%3Dalerts`), expected");
        }
        let app = match (&chat, &alerts) {
            (Some(_), _) => Some("[chat]"),
            (None, Some(_)) => Some("[apps.alerts]"),
            (None, None) => None,
        };
        if let Some(app) = app.filter(|_| !self.table.contains_key("jwt")) {
            self.problem("jwt", &format!("missing: {app} needs to know whose tokens it takes"));
        }
        Apps { jwt, chat, alerts, has_demo_users: false }
    }

    fn alerts(&mut self, apps: &Table) -> Option<Alerts> {
        let Value::Table(section) = apps.get("alerts")? else {
            self.problem("apps.alerts", "a table expected");
            return None;
        };
        let mut section: Table = section.clone();
        let database = self.database("apps.alerts.database", &mut section);
        let settings: tidegate_alerts::Settings = self.table_of("apps.alerts", &section)?;
        for problem in settings.problems() {
            self.problem(&format!("apps.alerts.{}", problem.path), &problem.message);
        }
        Some(Alerts { settings, database })
    }

    /// Takes the key `database` out of an application's section, whose path is `key`.
    fn database(&mut self, key: &str, section: &mut Table) -> Option<tidegate_auth::Secret> {
        match section.remove("database")? {
            Value::String(text) if is_postgres(&text) => Some(tidegate_auth::Secret::new(text)),
            Value::String(text) if text == "sqlite" => None,
            _ => {
                self.problem(key, "sqlite, or postgres://user@host/database, expected");
                None
            }
        }
    }

    fn chat(&mut self) -> Option<Chat> {
        let Value::Table(section) = self.table.get("chat")? else {
            self.problem("chat", "a table expected");
            return None;
        };
        let mut section: Table = section.clone();
        let database = self.database("chat.database", &mut section);
        let attempts = match section.remove("attempts") {
            Some(Value::Table(written)) => {
                let mut table = Table::from_iter([
                    ("per_address".to_owned(), Value::Integer(0)),
                    ("per_user".to_owned(), Value::Integer(0)),
                    ("failed_per_address".to_owned(), Value::Integer(REFUSED_PER_ADDRESS.into())),
                ]);
                table.extend(written);
                self.table_of("chat.attempts", &table)?
            }
            Some(_) => {
                self.problem("chat.attempts", "a table expected");
                return None;
            }
            None => chat_attempts(),
        };
        let admission = match section.remove("admission") {
            Some(Value::Table(written)) => self.table_of("chat.admission", &written)?,
            Some(_) => {
                self.problem("chat.admission", "a table expected");
                return None;
            }
            None => Admission::default(),
        };
        let policy = Policy { attempts: attempts.clone(), admission: admission.clone(), ..Policy::default() };
        for problem in policy.problems().into_iter().filter(|problem| problem.is_error) {
            self.problem(&format!("chat.{}", problem.path), &problem.message);
        }
        // The application's own reader knows its keys and says which is nearest.
        let document = serde_json::to_value(&section).unwrap_or_default();
        let environment = |name: &str| std::env::var(name).ok();
        match tidegate_chat::settings::Settings::read(&document, &environment) {
            Ok(settings) => {
                let users = self.users_of_file(&settings);
                Some(Chat { settings, database, attempts, admission, users })
            }
            Err(problems) => {
                for problem in problems {
                    self.problem(&problem.path, &problem.message);
                }
                None
            }
        }
    }

    fn users_of_file(&mut self, settings: &ChatSettings) -> Vec<NewUser> {
        let Some(path) = &settings.users_file else { return Vec::new() };
        let problem = match std::fs::read_to_string(path) {
            Err(error) => error.to_string(),
            Ok(text) => match serde_json::from_str(&text).map(|document| users_of(settings, document)) {
                Ok(Ok(users)) if users.len() <= MAX_USERS => return users,
                Ok(Ok(users)) => format!("{} users, and at most {MAX_USERS} expected", users.len()),
                Ok(Err(ChatError::Fields(fields))) => {
                    let names = fields.keys().cloned().collect::<Vec<_>>().join(", ");
                    format!(
                        "{names} is missing or wrong; {{\"users\": [{{\"id\": 7, \"username\": \"ana\"}}]}} expected"
                    )
                }
                Ok(Err(error)) => error.to_string(),
                Err(error) => format!("no JSON: {error}"),
            },
        };
        self.problem("chat.users_file", &format!("{path}: {problem}"));
        Vec::new()
    }

    /// A hook whose function nobody has would deny everything, or never be told.
    pub(super) fn hook_functions(&mut self, apps: &Apps, lambda: &Lambda) {
        let hooks = apps.chat.iter().flat_map(|chat| chat.settings.hooks.iter().enumerate());
        for (at, hook) in hooks.filter(|(_, hook)| hook.is_function()) {
            // What is no name was told with the other settings.
            let Ok(function) = FunctionName::parse(&hook.target) else { continue };
            let is_here = lambda.functions.iter().any(|known| known.name == function.name);
            if !is_here && !lambda.aws.is_reachable("lambda", None) {
                let message = format!(
                    "there is no [lambda.functions.{}], and neither an endpoint nor credentials for other functions",
                    function.name
                );
                self.problem(&format!("chat.hooks[{at}].target"), &message);
            }
        }
    }

    fn jwt(&mut self, raw: RawJwt) -> Option<Jwt> {
        let mut keys = Vec::new();
        let hmac = || vec!["HS256".to_owned()];
        let named = raw.algorithms.clone();
        let of_secret = |secret: String| JwtKey {
            secret: Some(secret),
            algorithms: named.clone().unwrap_or_else(hmac),
            ..JwtKey::default()
        };
        keys.extend(raw.secret.map(of_secret));
        if let Some(path) = &raw.secrets_file {
            match std::fs::read_to_string(path) {
                Ok(text) => {
                    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
                    keys.extend(lines.map(|line| of_secret(line.to_owned())));
                }
                Err(error) => self.problem("jwt.secrets_file", &format!("{}: {error}", path.display())),
            }
        }
        let asymmetric = || named.clone().unwrap_or_else(|| vec!["RS256".to_owned(), "ES256".to_owned()]);
        for (jwks_url, jwks_file) in [(raw.jwks_url, None), (None, raw.jwks_file)] {
            if jwks_url.is_some() || jwks_file.is_some() {
                keys.push(JwtKey { jwks_url, jwks_file, algorithms: asymmetric(), ..JwtKey::default() });
            }
        }
        if keys.is_empty() {
            self.problem("jwt", "one of secret, secrets_file, jwks_url and jwks_file expected");
            return None;
        }
        let leeway = match raw.leeway {
            None => Some(30),
            Some(Value::Integer(seconds)) => u64::try_from(seconds).ok(),
            Some(Value::String(text)) => text.strip_suffix('s').and_then(|text| text.trim().parse().ok()),
            Some(_) => None,
        };
        let leeway = leeway.filter(|leeway| *leeway <= 300).unwrap_or_else(|| {
            self.problem("jwt.leeway", "0s to 300s expected");
            30
        });
        let jwt = Jwt {
            keys,
            issuer: raw.issuer,
            audience: raw.audience,
            leeway,
            require_exp: raw.require_exp,
            close_on_expiry: raw.close_on_expiry,
            default_role: raw.default_role,
            cookie: raw.cookie,
            allow_weak_secret: raw.allow_weak_secret,
            ..Jwt::default()
        };
        let mut policy = tidegate_core::policy::Policy { jwt: Some(jwt), ..Default::default() };
        policy.admission.checks = vec![tidegate_core::policy::IdentityCheck::Jwt];
        // Nobody could connect with a secret that the data plane refuses.
        let weak = tidegate_control::weak_secrets(&policy);
        for problem in policy.problems().into_iter().filter(|problem| problem.is_error).chain(weak) {
            self.problem(&problem.path, &problem.message);
        }
        policy.jwt
    }
}

/// Those of a chat whose configuration does not say.
pub(crate) fn chat_attempts() -> Attempts {
    Attempts { per_address: 0, per_user: 0, failed_per_address: REFUSED_PER_ADDRESS, ..Attempts::default() }
}

fn is_postgres(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config_of, problems_of};

    const SECRET: &str = "q3V8sLw0Zt6Ky1Rb5Nf7Xc9Jd2Gh4Mp8";

    #[test]
    fn a_secret_is_enough() {
        // S2-3, S3-10, S3-13
        let config = config_of(&format!("[jwt]\nsecret = \"{SECRET}\"\nleeway = \"5s\"\n[chat]\n"));
        let jwt = config.apps.jwt.expect("a [jwt]");
        assert_eq!((jwt.keys.len(), jwt.leeway), (1, 5));
        assert_eq!(jwt.keys[0].algorithms, ["HS256"]);
        assert_eq!(config.apps.chat.expect("a chat").settings.path, "/messaging/");
        assert!(!config.shown.values().any(|(value, _)| value.contains(SECRET)), "a secret is shown");
    }

    #[test]
    fn users_of_a_file_are_read_and_checked() {
        // S2-113
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("users.json");
        let config = format!("[jwt]\nsecret = \"{SECRET}\"\n[chat]\nusers_file = \"{}\"\n", path.display());
        let told = || -> Vec<String> {
            let problems = problems_of(&config).into_iter();
            problems
                .filter(|problem| problem.path == "chat.users_file")
                .map(|problem| problem.message)
                .collect()
        };
        assert!(told()[0].contains("No such file"), "{:?}", told());
        for (text, part) in
            [("x", "no JSON"), ("{}", "users is missing"), (r#"{"users":[{"id":"x"}]}"#, "users[0].id")]
        {
            std::fs::write(&path, text).expect("write");
            assert!(told()[0].contains(part), "{:?}", told());
        }
        std::fs::write(&path, r#"{"users":[{"id":7,"username":"ana"},{"id":8}]}"#).expect("write");
        assert_eq!(config_of(&config).apps.chat.expect("a chat").users.len(), 2);
    }

    #[test]
    fn alerts_are_shown_and_their_secrets_are_not() {
        // S3-70, S3-23
        let jwt = format!("[jwt]\nsecret = \"{SECRET}\"\n");
        let database = "postgres://u:p4ss@db/alerts";
        let config = config_of(&format!(
            "{jwt}[apps.alerts]\nhistory = 7\ndatabase = \"{database}\"\n[apps.alerts.user_check]\nkind = \"http\"\nurl = \"http://users/{{user}}?key=p4ss\"\n"
        ));
        let alerts = config.apps.alerts.expect("alerts");
        assert_eq!(alerts.database.expect("a database").expose(), database);
        let shown = |key: &str| config.shown.get(key).map(|(value, origin)| (value.as_str(), *origin));
        assert_eq!(shown("apps.alerts.history"), Some(("7", "file")));
        assert_eq!(shown("apps.alerts.refusal"), Some(("http", "default")));
        assert_eq!(shown("apps.alerts.on_text"), Some(("ignore", "default")));
        assert_eq!(shown("apps.alerts.user_check.timeout_ms"), Some(("2000", "default")));
        for key in ["apps.alerts.database", "apps.alerts.user_check.url"] {
            assert_eq!(shown(key), Some(("****", "file")), "{key}");
        }
        assert!(!config.shown.values().any(|(value, _)| value.contains("p4ss")), "a secret is shown");
        let both =
            format!("{jwt}[chat]\ndatabase = \"{database}\"\n[apps.alerts]\ndatabase = \"{database}\"\n");
        let problems = problems_of(&both);
        assert!(problems.iter().any(|problem| problem.path == "apps.alerts.database"), "{problems:?}");
    }

    #[test]
    fn operators_are_told_of_tokens_in_logs_and_of_tokens_for_ever() {
        // S3-13, S3-73
        let told = |text: &str| -> Vec<&str> {
            let config = config_of(&format!("[jwt]\nsecret = \"{SECRET}\"\n{text}"));
            super::super::app_warnings(&config).iter().map(|warning| warning.id).collect()
        };
        assert_eq!(told("[apps.alerts]\n"), ["jwt.no-expiry"]);
        assert_eq!(told("require_exp = true\n[apps.alerts]\n"), [""; 0]);
        let config = format!(
            "trusted_proxies = [\"192.0.2.0/24\"]\n[jwt]\nsecret = \"{SECRET}\"\nrequire_exp = true\n[apps.alerts]\n"
        );
        let warnings = super::super::app_warnings(&config_of(&config));
        assert_eq!(warnings.iter().map(|warning| warning.id).collect::<Vec<_>>(), ["log.token-in-query"]);
        assert!(warnings[0].message.contains("exp"), "{warnings:?}");
        assert!(super::super::app_warnings(&config_of("trusted_proxies = [\"192.0.2.0/24\"]\n")).is_empty());
    }

    #[test]
    fn a_value_of_the_wrong_type_is_not_repeated() {
        // S3-70: a secret without its quotes, or at the wrong place.
        for (text, path, message) in [
            ("api_key = 55443322\n", "api_key", "invalid type: integer, expected a string"),
            ("[jwt]\nsecret = 55443322.5\n", "jwt.secret", "invalid type: floating point, expected a string"),
            (
                "[jwt]\nrequire_exp = \"55443322, expected x\"\n",
                "jwt.require_exp",
                "invalid type: string, expected a boolean",
            ),
            ("[jwt]\nsecret = [\"55443322\"]\n", "jwt.secret", "invalid type: sequence, expected a string"),
        ] {
            let problems = problems_of(text);
            let problem = problems.iter().find(|problem| problem.path == path);
            assert_eq!(
                problem.map(|problem| problem.message.as_str()),
                Some(message),
                "{text}: {problems:?}"
            );
        }
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_path() {
        // S2-115, S3-10
        for (text, path) in [
            ("[chat]\n", "jwt"),
            ("[jwt]\n", "jwt"),
            ("[jwt]\nsecret = \"short\"\n", "jwt.keys[0].secret"),
            ("[jwt]\nsecret = \"your-secret-key-change-in-production\"\n", "jwt.keys[0].secret"),
            ("[jwt]\nsecret = \"abababababababababababababababababab\"\n", "jwt.keys[0].secret"),
            ("[jwt]\nsecret = \"q3V8sLw0Zt6Ky1Rb5Nf7Xc9Jd2Gh4Mp8\"\nleeway = \"1h\"\n", "jwt.leeway"),
            (
                "[jwt]\nsecret = \"q3V8sLw0Zt6Ky1Rb5Nf7Xc9Jd2Gh4Mp8\"\n[chat]\nsoft_delet = true\n",
                "chat.soft_delet",
            ),
            (
                "[jwt]\nsecret = \"q3V8sLw0Zt6Ky1Rb5Nf7Xc9Jd2Gh4Mp8\"\n[chat]\ndatabase = \"mysql://a\"\n",
                "chat.database",
            ),
            (
                "[jwt]\nsecret = \"q3V8sLw0Zt6Ky1Rb5Nf7Xc9Jd2Gh4Mp8\"\n[apps.alerts]\ndatabase = 7\n",
                "apps.alerts.database",
            ),
            ("[apps.alert]\n", "apps.alert"),
            (
                "[jwt]\nsecret = \"q3V8sLw0Zt6Ky1Rb5Nf7Xc9Jd2Gh4Mp8\"\n[chat]\n[[chat.hooks]]\non = \"after\"\ntarget = \"arn:aws:lambda:us-east-1:000000000000:function:nobody\"\n",
                "chat.hooks[0].target",
            ),
        ] {
            let problems = problems_of(text);
            assert!(problems.iter().any(|problem| problem.path == path), "{text}: {problems:?}");
        }
    }
}
