//! Roles of those who administer: what a key of the admin API may do.
//!
//! Four roles, each of which may do all that the one before it may. A bearer key has its role in the configuration
//! ([`AdminKeys`]); a SigV4 credential has the highest one that its allow rules give it ([`Credential::role`]).

use std::fmt;

use http::HeaderMap;

use crate::bearer::{ApiKey, bearer_token};
use crate::credential::Credential;

/// Most bearer keys of an installation; it bounds the comparisons of a request. Source: our choice.
pub const MAX_ADMIN_KEYS: usize = 256;

/// The resource on which the actions of [`Role::action`] are allowed or not: the installation as a whole. A rule for
/// ARNs of single APIs gives no role.
pub const INSTALLATION: &str = "tidegate:installation";

/// What an administrator may do. Ordered: a greater one may do more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// See everything but secrets and the journal.
    Read,
    /// Also read the journal and ask why: who came from where, and what became of it.
    Diagnose,
    /// Also act on what is live: push, close connections, revoke, issue tokens, clean up.
    Operate,
    /// Also change definitions, policies and settings.
    Administer,
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Self; 4] = [Self::Read, Self::Diagnose, Self::Operate, Self::Administer];

    /// Whether this role may do what `needed` may.
    pub fn permits(self, needed: Self) -> bool {
        self >= needed
    }

    /// Its name in configuration and audit.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Diagnose => "diagnose",
            Self::Operate => "operate",
            Self::Administer => "administer",
        }
    }

    /// The role called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// The action that an allow rule names to give this role: `tidegate:Operate *`.
    pub const fn action(self) -> &'static str {
        match self {
            Self::Read => "tidegate:Read",
            Self::Diagnose => "tidegate:Diagnose",
            Self::Operate => "tidegate:Operate",
            Self::Administer => "tidegate:Administer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Credential {
    /// The highest role that the allow rules give: `tidegate:Read *`, `tidegate:Diagnose *`, `tidegate:Operate *`, `tidegate:Administer *`;
    /// `tidegate:* *`, `* *` and an empty list give the highest. `None` for a credential that may only use the data
    /// plane; a rule without an action is about that alone, even `*`.
    pub fn role(&self) -> Option<Role> {
        Role::ALL.into_iter().rev().find(|role| self.allows(role.action(), INSTALLATION))
    }
}

/// A bearer key of the admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminKey {
    /// Who uses it: for the audit, not secret.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Its stored form.
    pub hash: ApiKey,
}

/// All bearer keys of an installation.
#[derive(Debug, Clone, Default)]
pub struct AdminKeys(Vec<AdminKey>);

/// What is wrong with a list of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdminKeysError {
    /// Over [`MAX_ADMIN_KEYS`].
    #[error("{n_keys} admin keys, at most {MAX_ADMIN_KEYS} expected")]
    TooMany {
        /// How many there are.
        n_keys: usize,
    },
    /// Two have this name: the audit could not tell them apart.
    #[error("two admin keys are called `{name}`")]
    SameName {
        /// The name.
        name: String,
    },
    /// Two are the same key under different names or roles.
    #[error("admin keys `{first}` and `{second}` are the same key")]
    SameKey {
        /// The first name.
        first: String,
        /// The second name.
        second: String,
    },
}

impl AdminKeys {
    /// A list of keys, which may be empty.
    ///
    /// # Errors
    /// [`AdminKeysError`] for the first problem.
    pub fn new(keys: Vec<AdminKey>) -> Result<Self, AdminKeysError> {
        if keys.len() > MAX_ADMIN_KEYS {
            return Err(AdminKeysError::TooMany { n_keys: keys.len() });
        }
        for (idx, key) in keys.iter().enumerate() {
            for earlier in keys.get(..idx).unwrap_or_default() {
                if earlier.name == key.name {
                    return Err(AdminKeysError::SameName { name: key.name.clone() });
                }
                if earlier.hash == key.hash {
                    let (first, second) = (earlier.name.clone(), key.name.clone());
                    return Err(AdminKeysError::SameKey { first, second });
                }
            }
        }
        Ok(Self(keys))
    }

    /// The key whose text is `presented`. Every key is compared, each in constant time, so that the time does not tell
    /// which one it is or whether there is one.
    pub fn find(&self, presented: &str) -> Option<&AdminKey> {
        let presented = ApiKey::of_text(presented);
        self.0.iter().fold(None, |found, key| if key.hash.is(&presented) { Some(key) } else { found })
    }

    /// The key of `Authorization: Bearer {key}`.
    pub fn find_bearer(&self, headers: &HeaderMap) -> Option<&AdminKey> {
        self.find(bearer_token(headers)?)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::AUTHORIZATION;

    use super::*;
    use crate::secret::Secret;

    fn key(name: &str, role: Role, text: &str) -> AdminKey {
        AdminKey { name: name.to_owned(), role, hash: ApiKey::of(&Secret::new(text)) }
    }

    fn role_of(allow: &[&str]) -> Option<Role> {
        let allow = allow.iter().map(|&rule| rule.to_owned()).collect();
        Credential { access_key_id: "AKIDEXAMPLE".to_owned(), secret: Secret::new("secret"), allow }.role()
    }

    #[test]
    fn a_role_permits_itself_and_less() {
        for (idx, role) in Role::ALL.into_iter().enumerate() {
            for (needed_idx, needed) in Role::ALL.into_iter().enumerate() {
                assert_eq!(role.permits(needed), idx >= needed_idx, "{role} {needed}");
            }
            assert_eq!(Role::from_name(role.as_str()), Some(role));
        }
        assert_eq!(Role::from_name("root"), None);
    }

    #[test]
    fn rules_of_a_credential_give_its_role() {
        assert_eq!(role_of(&[]), Some(Role::Administer));
        assert_eq!(role_of(&["* *"]), Some(Role::Administer));
        assert_eq!(role_of(&["tidegate:* *"]), Some(Role::Administer));
        assert_eq!(role_of(&["tidegate:Administer *"]), Some(Role::Administer));
        assert_eq!(role_of(&["tidegate:Operate *"]), Some(Role::Operate));
        assert_eq!(role_of(&["tidegate:Diagnose *"]), Some(Role::Diagnose));
        assert_eq!(role_of(&["tidegate:read *"]), Some(Role::Read));
        assert_eq!(
            role_of(&["tidegate:Read *", "arn:aws:execute-api:*", "tidegate:Operate *"]),
            Some(Role::Operate)
        );
        for rule in
            ["*", "execute-api:* *", "arn:*", "tidegate:Read", "tidegate:Read arn:*", "Administer *", ""]
        {
            assert_eq!(role_of(&[rule]), None, "{rule}");
        }
    }

    #[test]
    fn a_key_is_found_by_its_text_only() {
        let keys = AdminKeys::new(vec![
            key("ci", Role::Operate, "key-of-ci"),
            key("ops", Role::Administer, "key-of-ops"),
            key("grafana", Role::Read, "key-of-grafana"),
        ])
        .unwrap();
        for (text, name) in [("key-of-ci", "ci"), ("key-of-ops", "ops"), ("key-of-grafana", "grafana")] {
            assert_eq!(keys.find(text).unwrap().name, name);
        }
        for text in ["", "key-of-", "KEY-OF-CI", "ci", &ApiKey::of(&Secret::new("key-of-ci")).to_hash_hex()] {
            assert_eq!(keys.find(text), None, "{text}");
        }
        assert_eq!(AdminKeys::default().find(""), None);
        let mut headers = HeaderMap::new();
        assert_eq!(keys.find_bearer(&headers), None);
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer key-of-ops"));
        assert_eq!(keys.find_bearer(&headers).unwrap().role, Role::Administer);
    }

    #[test]
    fn lists_that_cannot_be_told_apart_are_refused() {
        let same_name = AdminKeys::new(vec![key("a", Role::Read, "1"), key("a", Role::Read, "2")]);
        assert_eq!(same_name.unwrap_err(), AdminKeysError::SameName { name: "a".to_owned() });
        let same_key = AdminKeys::new(vec![key("a", Role::Read, "1"), key("b", Role::Administer, "1")]);
        assert!(matches!(same_key.unwrap_err(), AdminKeysError::SameKey { .. }));
        let many = (0..=MAX_ADMIN_KEYS).map(|n| key(&n.to_string(), Role::Read, &n.to_string())).collect();
        assert_eq!(AdminKeys::new(many).unwrap_err(), AdminKeysError::TooMany { n_keys: 257 });
    }
}
