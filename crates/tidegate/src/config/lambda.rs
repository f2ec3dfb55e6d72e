//! `[lambda]` and `[aws]`: functions on this machine, and how functions elsewhere and other services are reached.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_auth::{CredentialKeys, Secret};
use tidegate_gateway::{AwsConfig, AwsCredentials};
use tidegate_lambda::FunctionSettings;
use toml::{Table, Value};

use super::Checker;

/// What is configured.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lambda {
    pub(crate) aws: AwsConfig,
    pub(crate) functions: Vec<FunctionSettings>,
}

/// Members that make a key to sign with.
const KEY_MEMBERS: [&str; 4] =
    ["access_key_id", "secret_access_key", "secret_access_key_file", "session_token"];

/// `[lambda]` as it is written, without the tables below it.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawLambda {
    endpoint: Option<String>,
    region: Option<String>,
    credentials_from_environment: bool,
}

/// A key to sign with, as it is written.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawKey {
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    secret_access_key_file: Option<PathBuf>,
    session_token: Option<String>,
}

/// `[lambda.functions.NAME]` as it is written.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawFunction {
    command: Vec<String>,
    handler: Option<String>,
    directory: PathBuf,
    #[serde(skip_serializing)]
    environment: BTreeMap<String, String>,
    memory_mb: u32,
    timeout_ms: u64,
    concurrency: usize,
    queue: usize,
    reload: bool,
}

impl Default for RawFunction {
    /// Times and sizes as Lambda has them for a function of which nothing is said.
    fn default() -> Self {
        Self {
            command: Vec::new(),
            handler: None,
            directory: PathBuf::from("."),
            environment: BTreeMap::new(),
            memory_mb: 128,
            timeout_ms: 3000,
            concurrency: 10,
            queue: 100,
            reload: true,
        }
    }
}

impl Lambda {
    /// What is in effect, for those who look at settings; no secrets.
    pub(super) fn shown(&self) -> Table {
        let functions = self.functions.iter().map(|function| {
            let raw = RawFunction {
                command: function.command.clone(),
                handler: Some(function.handler.clone()),
                directory: function.directory.clone(),
                environment: BTreeMap::new(),
                memory_mb: function.memory_mb,
                timeout_ms: u64::try_from(function.timeout.as_millis()).unwrap_or(u64::MAX),
                concurrency: function.concurrency,
                queue: function.queue,
                reload: function.reload,
            };
            let table = Value::try_from(raw).unwrap_or_else(|_| Value::Table(Table::new()));
            (function.name.clone(), table)
        });
        let functions: Table = functions.collect();
        let region = ("region".to_owned(), Value::String(self.aws.region.clone()));
        Table::from_iter([region, ("functions".to_owned(), Value::Table(functions))])
    }
}

impl Checker<'_> {
    /// All of it. `region` is the node's own.
    pub(super) fn lambda(&mut self, region: &str) -> Lambda {
        let mut lambda = Lambda::default();
        lambda.aws.region = region.to_owned();
        match self.table.get("aws") {
            None => {}
            Some(Value::Table(section)) => {
                for key in section.keys().filter(|key| *key != "endpoints") {
                    self.problem(&format!("aws.{key}"), "unknown key; endpoints expected");
                }
                match section.get("endpoints") {
                    Some(Value::Table(endpoints)) => {
                        for (service, value) in endpoints {
                            let path = format!("aws.endpoints.{service}");
                            if let Some(uri) = self.endpoint(&path, value.as_str()) {
                                lambda.aws.endpoints.insert(service.clone(), uri);
                            }
                        }
                    }
                    None => {}
                    Some(_) => self.problem("aws.endpoints", "a table expected"),
                }
            }
            Some(_) => self.problem("aws", "a table expected"),
        }
        let Some(value) = self.table.get("lambda") else { return lambda };
        let Value::Table(section) = value else {
            self.problem("lambda", "a table expected");
            return lambda;
        };
        let mut section = section.clone();
        let (functions, profiles) = (section.remove("functions"), section.remove("profiles"));
        let key: Table = KEY_MEMBERS
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), section.remove(*name)?)))
            .collect();
        let (raw, _): (RawLambda, _) = self.good_of("lambda", &section);
        if let Some(uri) = raw.endpoint.and_then(|text| self.endpoint("lambda.endpoint", Some(&text))) {
            lambda.aws.endpoints.insert("lambda".to_owned(), uri);
        }
        if let Some(region) = raw.region {
            lambda.aws.region = region;
        }
        lambda.aws.credentials = match (raw.credentials_from_environment, key.is_empty()) {
            (true, true) => self.key_of_environment(),
            (true, false) => {
                self.problem("lambda.credentials_from_environment", "a key is written here already");
                None
            }
            (false, true) => None,
            (false, false) => self.key("lambda", &key),
        };
        lambda.aws.profiles = self.profiles(profiles);
        lambda.functions = self.functions(functions);
        lambda
    }

    fn endpoint(&mut self, path: &str, text: Option<&str>) -> Option<http::Uri> {
        let uri = text.and_then(|text| text.parse::<http::Uri>().ok()).filter(|uri| {
            let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
            let authority = uri.authority().map_or("", |authority| authority.as_str());
            is_http && !authority.is_empty() && !authority.contains('@') && uri.query().is_none()
        });
        if uri.is_none() {
            self.problem(path, "http://host:port or https://host:port expected");
        }
        uri
    }

    fn key_of_environment(&mut self) -> Option<AwsCredentials> {
        let of = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (id, secret) = (of("AWS_ACCESS_KEY_ID"), of("AWS_SECRET_ACCESS_KEY"));
        let (Some(access_key_id), Some(secret)) = (id, secret) else {
            let message = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not both set";
            self.problem("lambda.credentials_from_environment", message);
            return None;
        };
        let session_token = of("AWS_SESSION_TOKEN").map(Secret::new);
        let keys = CredentialKeys { session_token, ..CredentialKeys::permanent(Secret::new(secret)) };
        Some(AwsCredentials { access_key_id, keys })
    }

    fn key(&mut self, path: &str, members: &Table) -> Option<AwsCredentials> {
        // Not what the deserializer says: it may quote the value.
        let Ok(raw) = Value::Table(members.clone()).try_into::<RawKey>() else {
            let known = KEY_MEMBERS.join(", ");
            self.problem(path, &format!("only {known} expected, each a text"));
            return None;
        };
        let secret = match (raw.secret_access_key, raw.secret_access_key_file) {
            (Some(secret), None) => Some(secret),
            (None, Some(file)) => match std::fs::read_to_string(&file) {
                Ok(text) => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
                Err(error) => {
                    let path = format!("{path}.secret_access_key_file");
                    self.problem(&path, &format!("{}: {error}", file.display()));
                    return None;
                }
            },
            _ => None,
        };
        let secret = secret.filter(|secret| !secret.is_empty());
        let (Some(access_key_id), Some(secret)) = (raw.access_key_id, secret) else {
            let message = "access_key_id, and one of secret_access_key and secret_access_key_file, expected";
            self.problem(path, message);
            return None;
        };
        let session_token = raw.session_token.map(Secret::new);
        let keys = CredentialKeys { session_token, ..CredentialKeys::permanent(Secret::new(secret)) };
        Some(AwsCredentials { access_key_id, keys })
    }

    fn profiles(&mut self, value: Option<Value>) -> HashMap<String, AwsCredentials> {
        let mut profiles = HashMap::new();
        match value {
            None => {}
            Some(Value::Table(entries)) => {
                for (arn, members) in entries {
                    let path = format!("lambda.profiles.{arn}");
                    match members {
                        Value::Table(members) => {
                            if let Some(key) = self.key(&path, &members) {
                                profiles.insert(arn, key);
                            }
                        }
                        _ => self.problem(&path, "a table expected"),
                    }
                }
            }
            Some(_) => self.problem("lambda.profiles", "a table expected"),
        }
        profiles
    }

    fn functions(&mut self, value: Option<Value>) -> Vec<FunctionSettings> {
        let mut functions = Vec::new();
        match value {
            None => {}
            Some(Value::Table(entries)) => {
                for (name, members) in entries {
                    let path = format!("lambda.functions.{name}");
                    match members {
                        Value::Table(members) => functions.extend(self.function(&path, name, &members)),
                        _ => self.problem(&path, "a table expected"),
                    }
                }
            }
            Some(_) => self.problem("lambda.functions", "a table expected"),
        }
        functions
    }

    fn function(&mut self, path: &str, name: String, members: &Table) -> Option<FunctionSettings> {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if name.is_empty() || name.len() > 64 || !name.bytes().all(is_letter) {
            self.problem(path, "1 to 64 letters, digits, - and _ expected as the name of a function");
            return None;
        }
        let (raw, bad): (RawFunction, _) = self.good_of(path, members);
        let is_told = bad.iter().any(|key| key == "command");
        if !is_told && raw.command.first().is_none_or(String::is_empty) {
            self.problem(
                &format!("{path}.command"),
                "a program and its arguments expected, such as [\"python3\", \"-m\", \"awslambdaric\", \"app.handler\"]",
            );
        }
        let ranges: [(&str, u64, std::ops::RangeInclusive<u64>); 4] = [
            ("memory_mb", raw.memory_mb.into(), 128..=10_240),
            ("timeout_ms", raw.timeout_ms, 1..=900_000),
            ("concurrency", raw.concurrency as u64, 1..=1000),
            ("queue", raw.queue as u64, 0..=10_000),
        ];
        for (key, value, range) in ranges {
            if !range.contains(&value) {
                let message = format!("{value} is not between {} and {}", range.start(), range.end());
                self.problem(&format!("{path}.{key}"), &message);
            }
        }
        for name in raw.environment.keys() {
            if name.is_empty() || name.contains(['=', '\0']) {
                self.problem(&format!("{path}.environment"), "a name of a variable is empty or holds =");
            }
        }
        let directory = std::path::absolute(&raw.directory).ok().filter(|directory| directory.is_dir());
        let Some(directory) = directory else {
            let message = format!("{}: no such directory", raw.directory.display());
            self.problem(&format!("{path}.directory"), &message);
            return None;
        };
        let handler = raw.handler.or_else(|| raw.command.last().cloned()).unwrap_or_default();
        Some(FunctionSettings {
            name,
            handler,
            command: raw.command,
            directory,
            environment: raw.environment,
            memory_mb: raw.memory_mb,
            timeout: Duration::from_millis(raw.timeout_ms),
            concurrency: raw.concurrency,
            queue: raw.queue,
            reload: raw.reload,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config_of, problems_of};
    use super::*;

    #[test]
    fn a_function_needs_a_command_and_nothing_else() {
        let config = config_of(
            "region = 'eu-west-1'\n[lambda.functions.chat]\ncommand = ['python3', '-m', 'awslambdaric', 'app.handler']\n\
             environment = { TOKEN = 'hush' }\n",
        );
        let [function] = config.lambda.functions.as_slice() else { panic!("one function") };
        assert_eq!((function.name.as_str(), function.handler.as_str()), ("chat", "app.handler"));
        assert_eq!(
            (function.timeout, function.memory_mb, function.concurrency),
            (Duration::from_secs(3), 128, 10)
        );
        assert!(function.directory.is_absolute() && function.reload);
        assert_eq!(config.lambda.aws.region, "eu-west-1");
        assert!(config.lambda.aws.credentials.is_none());
        let shown = format!("{:?} {config:?}", config.shown);
        assert!(!shown.contains("hush"), "{shown}");
        assert_eq!(config.shown["lambda.functions.chat.timeout_ms"], ("3000".to_owned(), "default"));
        assert_eq!(config.shown["lambda.functions.chat.environment.TOKEN"].0, "****");
    }

    #[test]
    fn endpoints_have_keys() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "h1dden\n").unwrap();
        let config = config_of(&format!(
            "[lambda]\nendpoint = 'http://127.0.0.1:9001'\nregion = 'eu-west-1'\naccess_key_id = 'AKIA1'\n\
             secret_access_key_file = '{}'\nsession_token = 's3ssion'\n\
             [lambda.profiles.'arn:aws:iam::1:role/x']\naccess_key_id = 'AKIA2'\nsecret_access_key = 's3cret'\n\
             [aws.endpoints]\nsqs = 'http://127.0.0.1:9002/base'\n",
            file.path().display()
        ));
        let aws = &config.lambda.aws;
        let common = aws.credentials.as_ref().unwrap();
        assert_eq!((common.access_key_id.as_str(), common.keys.secret.expose()), ("AKIA1", "h1dden"));
        assert_eq!(common.keys.session_token.as_ref().map(Secret::expose), Some("s3ssion"));
        assert_eq!(aws.profiles["arn:aws:iam::1:role/x"].keys.secret.expose(), "s3cret");
        assert_eq!(aws.endpoints["sqs"], "http://127.0.0.1:9002/base");
        assert_eq!((aws.endpoints["lambda"].port_u16(), aws.region.as_str()), (Some(9001), "eu-west-1"));
        let shown = format!("{:?} {config:?}", config.shown);
        for secret in ["h1dden", "s3ssion", "s3cret"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }

    #[test]
    fn all_problems_are_told_with_path_and_range() {
        let found: Vec<String> = problems_of(
            "[lambda]\nendpoint = 'ftp://x'\naccess_key_id = 'AKIA1'\n\
             [lambda.functions.one]\ncommand = []\ntimeout_ms = 900001\nmemory_mb = 64\nconcurrency = 0\n\
             directory = '/nowhere/at/all'\n[lambda.functions.two]\ncommand = 'python'\n\
             [lambda.functions.'a b']\ncommand = ['x']\n[lambda.profiles.p]\nsecret_access_key = 4711\n\
             [aws]\nendpoint = 'x'\n[aws.endpoints]\nsqs = 'nowhere'\n",
        )
        .into_iter()
        .map(|problem| format!("{}: {}", problem.path, problem.message))
        .collect();
        for expected in [
            "lambda.endpoint: http://host:port or https://host:port expected",
            "lambda: access_key_id, and one of",
            "lambda.functions.one.command: a program",
            "lambda.functions.one.timeout_ms: 900001 is not between 1 and 900000",
            "lambda.functions.one.memory_mb: 64 is not between 128 and 10240",
            "lambda.functions.one.concurrency: 0 is not between 1 and 1000",
            "lambda.functions.one.directory: /nowhere/at/all: no such directory",
            "lambda.functions.two.command: invalid type",
            "lambda.functions.a b: 1 to 64 letters",
            "lambda.profiles.p: only access_key_id",
            "aws.endpoint: unknown key",
            "aws.endpoints.sqs: http://host:port",
        ] {
            assert!(found.iter().any(|problem| problem.starts_with(expected)), "{expected} in {found:?}");
        }
        assert!(!found.iter().any(|problem| problem.contains("4711")), "{found:?}");
        let misspelt = problems_of("[lambda]\nendpont = 'http://127.0.0.1:9001'\n");
        assert_eq!(misspelt[0].path, "lambda.endpont");
        assert!(misspelt[0].message.starts_with("unknown field"), "{}", misspelt[0].message);
        // One mistake hides no other, in the section and in a function.
        let several = problems_of(
            "[lambda]\nendpont = 'x'\nendpoint = 'ftp://x'\nregion = 7\ncredentials_from_environment = true\n\
             access_key_id = 'AKIA1'\n[lambda.functions.one]\ntimeout = 3\nmemory_mb = 64\n\
             [lambda.functions.two]\ncommand = 'x'\ntimeout_ms = 0\n",
        );
        let mut paths: Vec<&str> = several.iter().map(|problem| problem.path.as_str()).collect();
        paths.sort_unstable();
        let expected = [
            "lambda.credentials_from_environment",
            "lambda.endpoint",
            "lambda.endpont",
            "lambda.functions.one.command",
            "lambda.functions.one.memory_mb",
            "lambda.functions.one.timeout",
            "lambda.functions.two.command",
            "lambda.functions.two.timeout_ms",
            "lambda.region",
        ];
        assert_eq!(paths, expected);
    }
}
