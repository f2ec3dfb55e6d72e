//! Who has a right.

use std::sync::Arc;

use crate::identity::Identity;
use crate::policy::{Access, PolicyProblem};

/// Compiled form of [`Access`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessRule {
    /// Nobody.
    Deny,
    /// Everybody, also those who have not said who they are.
    Allow,
    /// Everybody who has a user id.
    Authenticated,
    /// One of the lists, all of its terms.
    Any(Vec<Vec<Term>>),
    /// The backend decides.
    Ask {
        /// Where.
        url: Arc<str>,
        /// Seconds for which an answer holds.
        cache_s: u64,
    },
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Term {
    /// `role:NAME`.
    Role(Box<str>),
    /// `perm:NAME`.
    Permission(Box<str>),
    /// `user:ID`.
    User(Box<str>),
    /// `claim:NAME=VALUE`.
    Claim {
        /// The claim.
        name: Box<str>,
        /// As [`Identity::claim`] gives it.
        value: Box<str>,
    },
}

impl AccessRule {
    /// Compiles; what is wrong goes to `problems`, and a term that is wrong admits nobody.
    pub(super) fn compile(access: &Access, path: &str, problems: &mut Vec<PolicyProblem>) -> Self {
        match access {
            Access::Deny => Self::Deny,
            Access::Allow => Self::Allow,
            Access::Authenticated => Self::Authenticated,
            Access::Ask { url, cache } => Self::Ask { url: url.as_str().into(), cache_s: *cache },
            Access::Any(lists) => {
                let mut compiled = Vec::with_capacity(lists.len());
                for (list_idx, list) in lists.iter().enumerate() {
                    let mut terms = Vec::with_capacity(list.len());
                    for (term_idx, text) in list.iter().enumerate() {
                        match Term::parse(text) {
                            Ok(term) => terms.push(term),
                            Err(message) => problems.push(PolicyProblem::invalid(
                                format!("{path}.any[{list_idx}][{term_idx}]"),
                                message,
                            )),
                        }
                    }
                    // S0-66: an empty list, of lists or of terms, admits nobody.
                    if !terms.is_empty() && terms.len() == list.len() {
                        compiled.push(terms);
                    }
                }
                Self::Any(compiled)
            }
        }
    }

    /// Whether the identity is admitted without asking anybody.
    pub fn admits(&self, identity: &Identity) -> bool {
        match self {
            Self::Deny | Self::Ask { .. } => false,
            Self::Allow => true,
            Self::Authenticated => identity.user.is_some(),
            Self::Any(lists) => lists.iter().any(|list| list.iter().all(|term| term.holds(identity))),
        }
    }
}

impl Term {
    /// Parses a term.
    ///
    /// # Errors
    /// A text for whoever wrote it. An unknown word is an error and not a permit (S0-66).
    fn parse(text: &str) -> Result<Self, String> {
        const FORMS: &str = "role:NAME, perm:NAME, user:ID or claim:NAME=VALUE expected";
        let Some((word, rest)) = text.split_once(':') else {
            return Err(format!("`{text}`: {FORMS}"));
        };
        Ok(match word {
            "role" | "perm" | "user" if rest.is_empty() => return Err(format!("`{text}`: {FORMS}")),
            "role" => Self::Role(rest.into()),
            "perm" => Self::Permission(rest.into()),
            "user" => Self::User(rest.into()),
            "claim" => match rest.split_once('=') {
                // The same alias as in patterns.
                Some(("sub", value)) if !value.is_empty() => Self::User(value.into()),
                Some((name, value)) if !name.is_empty() && !value.is_empty() => {
                    Self::Claim { name: name.into(), value: value.into() }
                }
                _ => return Err(format!("`{text}`: claim:NAME=VALUE expected")),
            },
            _ => return Err(format!("unknown word `{word}`: {FORMS}")),
        })
    }

    fn holds(&self, identity: &Identity) -> bool {
        match self {
            Self::Role(role) => identity.roles.iter().any(|held| **held == **role),
            Self::Permission(name) => identity.has_permission(name),
            Self::User(user) => identity.user.as_deref() == Some(user),
            Self::Claim { name, value } => identity.claim_text(name).as_deref() == Some(value),
        }
    }
}
