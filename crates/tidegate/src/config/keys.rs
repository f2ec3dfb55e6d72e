//! Access keys, bearer keys and other secrets of a configuration: read from the file or from files of their own, checked, and
//! never shown.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tidegate_auth::{AdminKey, AdminKeys, ApiKey, Credential, Role, Secret};
use toml::{Table, Value};

use super::{Checker, read_file};

/// `[[credentials]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCredential {
    access_key_id: String,
    secret_access_key: Option<String>,
    secret_access_key_file: Option<PathBuf>,
    #[serde(default)]
    allow: Vec<String>,
}

/// `[[keys]]`.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawKey {
    name: Option<String>,
    role: Option<String>,
    key: Option<String>,
    key_file: Option<PathBuf>,
    sha256: Option<String>,
}

/// Members that hold secrets, or name files that do.
const SECRET_MEMBERS: [&str; 6] =
    ["secret_access_key", "api_key", "key", "secret", "database", "session_token"];

/// Secrets of a configuration file and of the environment, with where they stand. What cannot be read is left out.
pub(crate) fn secrets(file: &Path) -> Vec<(String, String)> {
    let mut secrets = Vec::new();
    for name in ["TIDEGATE_SECRET_ACCESS_KEY", "TIDEGATE_API_KEY"] {
        secrets.extend(std::env::var(name).ok().map(|value| (name.to_owned(), value)));
    }
    if let Ok(table) = read_file(file) {
        collect_secrets(&Value::Table(table), "", &mut secrets);
    }
    secrets
}

fn collect_secrets(value: &Value, path: &str, secrets: &mut Vec<(String, String)>) {
    match value {
        Value::Array(items) => {
            for (item_idx, item) in items.iter().enumerate() {
                collect_secrets(item, &format!("{path}[{item_idx}]"), secrets);
            }
        }
        Value::Table(members) => {
            for (name, member) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let is_client_key = path.starts_with("api_keys.");
                let in_file = name
                    .strip_suffix("_file")
                    .is_some_and(|name| SECRET_MEMBERS.contains(&name) || (is_client_key && name == "value"));
                match member {
                    // `key` of [tls] is a file with a private key, which is no text to look for.
                    Value::String(_) if path == "tls.key" => {}
                    Value::String(text) if is_client_key && name == "value" => {
                        secrets.push((path, text.clone()));
                    }
                    Value::String(text) if SECRET_MEMBERS.contains(&name.as_str()) => {
                        secrets.push((path, text.clone()));
                    }
                    Value::String(file) if in_file => {
                        let text = std::fs::read_to_string(file).ok();
                        secrets
                            .extend(text.map(|text| (path, text.trim_end_matches(['\r', '\n']).to_owned())));
                    }
                    member => collect_secrets(member, &path, secrets),
                }
            }
        }
        _ => {}
    }
}

impl Checker<'_> {
    /// A secret in the value or in a file of its own.
    pub(super) fn secret(&mut self, key: &str) -> Option<Secret> {
        let secret = self.secret_or_file(key)?;
        if secret.expose().is_empty() {
            self.problem(key, "is empty");
            return None;
        }
        Some(secret)
    }

    fn secret_or_file(&mut self, key: &str) -> Option<Secret> {
        if let Some(text) = self.value::<String>(key) {
            return Some(Secret::new(text));
        }
        let file_key = format!("{key}_file");
        let path: PathBuf = self.value(&file_key)?;
        match std::fs::read_to_string(&path) {
            // Editors put a newline at the end that is no part of a secret.
            Ok(text) => Some(Secret::new(text.trim_end_matches(['\r', '\n']))),
            Err(error) => {
                self.problem(&file_key, &format!("{}: {error}", path.display()));
                None
            }
        }
    }

    /// The stored form of a key that is presented as `Authorization: Bearer`.
    pub(super) fn bearer_key(&mut self, path: &str, key: &Secret) -> ApiKey {
        // RFC 6750, section 2.1: another one could never be presented.
        let body = key.expose().trim_end_matches('=');
        if body.is_empty() || !body.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b)) {
            self.problem(path, "letters, digits and -._~+/, and = at the end, expected");
        }
        ApiKey::of(key)
    }

    /// `[[keys]]`, and `api_key`, which may do everything.
    pub(super) fn admin_keys(&mut self, api_key: Option<&ApiKey>) -> AdminKeys {
        let mut keys = Vec::new();
        if let Some(hash) = api_key {
            keys.push(AdminKey { name: "api_key".to_owned(), role: Role::Administer, hash: hash.clone() });
        }
        let entries = match self.table.get("keys") {
            None => &[],
            Some(Value::Array(entries)) => entries.as_slice(),
            Some(_) => {
                self.problem("keys", "a list of tables, [[keys]], expected");
                &[]
            }
        };
        for (entry_idx, entry) in entries.iter().enumerate() {
            keys.extend(self.admin_key(&format!("keys[{entry_idx}]"), entry));
        }
        AdminKeys::new(keys).unwrap_or_else(|error| {
            self.problem("keys", &error.to_string());
            AdminKeys::default()
        })
    }

    /// One of `[[keys]]`; `None` only together with problems.
    fn admin_key(&mut self, path: &str, entry: &Value) -> Option<AdminKey> {
        let Value::Table(members) = entry else {
            self.problem(path, "a table expected");
            return None;
        };
        let mut good = Table::new();
        for (member, value) in members {
            let alone = Table::from_iter([(member.clone(), value.clone())]);
            match Value::Table(alone).try_into::<RawKey>() {
                Ok(_) => drop(good.insert(member.clone(), value.clone())),
                // The parser would show the value, which is a secret of the wrong type.
                Err(_) if ["key", "sha256"].contains(&member.as_str()) => {
                    self.problem(&format!("{path}.{member}"), "text expected");
                }
                Err(error) => self.problem(&format!("{path}.{member}"), error.message()),
            }
        }
        let is_complete = good.len() == members.len();
        let raw: RawKey = Value::Table(good).try_into().unwrap_or_default();
        let name = raw.name.filter(|name| {
            let is_name = (1..=64).contains(&name.chars().count()) && !name.chars().any(char::is_control);
            if !is_name {
                self.problem(&format!("{path}.name"), "1 to 64 characters expected");
            }
            is_name
        });
        let role = raw.role.as_deref().and_then(|text| {
            let role = Role::from_name(text);
            if role.is_none() {
                let roles = Role::ALL.map(Role::as_str).join(", ");
                self.problem(&format!("{path}.role"), &format!("`{text}`: one of {roles} expected"));
            }
            role
        });
        for member in ["name", "role"].iter().filter(|member| !members.contains_key(**member)) {
            self.problem(&format!("{path}.{member}"), "missing");
        }
        let hash = match (raw.key, raw.key_file, raw.sha256) {
            (Some(key), None, None) => Some(self.bearer_key(&format!("{path}.key"), &Secret::new(key))),
            (None, Some(file), None) => match std::fs::read_to_string(&file) {
                Ok(text) => {
                    let key = Secret::new(text.trim_end_matches(['\r', '\n']));
                    Some(self.bearer_key(&format!("{path}.key_file"), &key))
                }
                Err(error) => {
                    self.problem(&format!("{path}.key_file"), &format!("{}: {error}", file.display()));
                    None
                }
            },
            (None, None, Some(hash)) => {
                let hash = ApiKey::from_hash_hex(&hash);
                if hash.is_none() {
                    self.problem(&format!("{path}.sha256"), "64 hexadecimal digits expected");
                }
                hash
            }
            _ if !is_complete => None,
            _ => {
                self.problem(path, "one of key, key_file and sha256 expected");
                None
            }
        };
        Some(AdminKey { name: name?, role: role?, hash: hash? })
    }

    pub(super) fn credentials(&mut self) -> Vec<Credential> {
        let mut credentials = Vec::new();
        let id: Option<String> = self.value("access_key_id");
        match (id, self.secret("secret_access_key")) {
            (Some(access_key_id), Some(secret)) => {
                credentials.push(Credential { access_key_id, secret, allow: Vec::new() });
            }
            (None, None) => {}
            (Some(_), None) => self.problem("secret_access_key", "missing beside access_key_id"),
            (None, Some(_)) => self.problem("access_key_id", "missing beside secret_access_key"),
        }
        let Some(Value::Array(entries)) = self.table.get("credentials") else { return credentials };
        for (entry_idx, entry) in entries.iter().enumerate() {
            let path = format!("credentials[{entry_idx}]");
            let raw: RawCredential = match entry.clone().try_into() {
                Ok(raw) => raw,
                Err(error) => {
                    self.problem(&path, error.message());
                    continue;
                }
            };
            let secret = match (&raw.secret_access_key, &raw.secret_access_key_file) {
                (Some(text), None) => Some(text.clone()),
                (None, Some(file)) => match std::fs::read_to_string(file) {
                    Ok(text) => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
                    Err(error) => {
                        self.problem(&path, &format!("{}: {error}", file.display()));
                        None
                    }
                },
                _ => {
                    self.problem(&path, "one of secret_access_key and secret_access_key_file expected");
                    None
                }
            };
            match secret {
                // An empty list would be the root credential; whoever lists rules means rules.
                Some(_) if raw.allow.is_empty() => {
                    self.problem(
                        &path,
                        "allow is empty: list what this credential may do, `*` for everything",
                    );
                }
                Some(secret) if secret.is_empty() => self.problem(&path, "the secret is empty"),
                Some(secret) => credentials.push(Credential {
                    access_key_id: raw.access_key_id,
                    secret: Secret::new(secret),
                    // A rule without an action is about pushes only; a lone star means everything.
                    allow: raw
                        .allow
                        .into_iter()
                        .map(|rule| if rule == "*" { "* *".to_owned() } else { rule })
                        .collect(),
                }),
                None => {}
            }
        }
        credentials
    }
}

#[cfg(test)]
mod tests {
    use super::super::check_table;
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        super::super::tests::problems(text)
    }

    #[test]
    fn keys_of_administrators_are_checked_all_at_once() {
        let found = problems(
            "api_key = 'root'\n[[keys]]\nname = 'ci'\nrole = 'admin'\nkey = 'abc'\n\
             [[keys]]\nrole = 'read'\nkey = 'a b'\nkye = 'x'\n\
             [[keys]]\nname = 'two'\nrole = 'read'\nkey = 'd'\nsha256 = 'e'\n\
             [[keys]]\nname = 'hash'\nrole = 'operate'\nsha256 = 'e'\n\
             [[keys]]\nname = 'file'\nrole = 'operate'\nkey_file = '/nowhere/at/all'\n\
             [[keys]]\nname = 'number'\nrole = 'read'\nkey = 4711\n",
        );
        assert!(!found.iter().any(|problem| problem.contains("4711")), "{found:?}");
        for expected in [
            "keys[0].role: `admin`: one of read, diagnose, operate, administer expected",
            "keys[1].name: missing",
            "keys[1].key: letters, digits",
            "keys[1].kye: unknown field",
            "keys[2]: one of key, key_file and sha256 expected",
            "keys[3].sha256: 64 hexadecimal digits",
            "keys[4].key_file: /nowhere/at/all",
            "keys[5].key: text expected",
        ] {
            assert!(found.iter().any(|problem| problem.starts_with(expected)), "{expected} in {found:?}");
        }
        let found = problems("api_key = 'root'\n[[keys]]\nname = 'ci'\nrole = 'read'\nkey = 'root'\n");
        assert_eq!(found, ["keys: admin keys `api_key` and `ci` are the same key"]);
    }

    #[test]
    fn keys_have_their_roles_and_do_not_show() {
        let sha256 = ApiKey::of(&Secret::new("hashed")).to_hash_hex();
        let text = format!(
            "api_key = 'root'\n[[keys]]\nname = 'ci'\nrole = 'read'\nkey = 'k3yt3xt'\n\
             [[keys]]\nname = 'job'\nrole = 'operate'\nsha256 = '{sha256}'\n"
        );
        let mut problems = Vec::new();
        let config = check_table(&text.parse().expect("TOML"), &mut problems).expect("a configuration");
        assert_eq!(problems, []);
        let role = |key: &str| config.admin_keys.find(key).map(|key| key.role);
        assert_eq!(
            [role("root"), role("k3yt3xt"), role("hashed"), role("other")],
            [Some(Role::Administer), Some(Role::Read), Some(Role::Operate), None]
        );
        assert!(!format!("{config:?}").contains("k3yt3xt"));
    }

    #[test]
    fn a_credential_without_rules_is_refused() {
        let found = problems("[[credentials]]\naccess_key_id = 'a'\nsecret_access_key = 'b'\n");
        assert!(found[0].contains("allow is empty"), "{found:?}");
        assert!(!found[0].contains('b') || !found[0].contains("'b'"));
    }
}
