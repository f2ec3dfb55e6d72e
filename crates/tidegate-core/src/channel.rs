//! Channels: their names, and who may use which.
//!
//! [`ChannelRules`] is the compiled form of [`policy::Channels`]. Asking it costs one hash look-up for an exact
//! name, and a scan of the few patterns with placeholders or a prefix otherwise.

mod access;
mod pattern;

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::diagnosis::Diagnosis;
use crate::identity::Identity;
use crate::policy::{self, History, PolicyProblem, Unlisted};
pub use access::AccessRule;
use pattern::Pattern;

/// Longest name, in characters. Source: the Django package's `MAX_CHANNEL_NAME_LENGTH` (S0-64).
pub const MAX_NAME_LENGTH: usize = 128;

/// Name of a channel: 1 to 128 characters out of `A-Z`, `a-z`, `0-9`, `_` and `-`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChannelName(Arc<str>);

/// The text is no channel name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a channel name has 1 to {MAX_NAME_LENGTH} characters out of letters, digits, `_` and `-`")]
pub struct ChannelNameError;

impl ChannelName {
    /// Takes a name as it is; nothing is trimmed or decoded.
    ///
    /// # Errors
    /// [`ChannelNameError`]; the diagnosis is `channel.invalid`.
    pub fn parse(text: &str) -> Result<Self, ChannelNameError> {
        match text.len() <= MAX_NAME_LENGTH && is_name_part(text) {
            true => Ok(Self(text.into())),
            false => Err(ChannelNameError),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, shared.
    pub fn to_shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

/// Not empty, and only characters that a name may have.
fn is_name_part(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

impl Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ChannelName {
    type Error = ChannelNameError;

    fn try_from(text: String) -> Result<Self, ChannelNameError> {
        Self::parse(&text)
    }
}

impl std::str::FromStr for ChannelName {
    type Err = ChannelNameError;

    fn from_str(text: &str) -> Result<Self, ChannelNameError> {
        Self::parse(text)
    }
}

impl From<ChannelName> for String {
    fn from(name: ChannelName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What somebody wants to do with a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Right {
    /// Get its messages.
    Join,
    /// Send into it.
    Publish,
    /// See who is there.
    Presence,
}

/// What the rules say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Yes.
    Allow,
    /// No.
    Deny {
        /// `channel.unlisted`, or `channel.forbidden` as of a join; a caller who asks again about a member says
        /// `perm.channel` instead.
        diagnosis: Diagnosis,
        /// Pattern of the rule that refused, for operators; absent when there is none.
        rule: Option<Arc<str>>,
    },
    /// The backend has to be asked.
    Ask {
        /// Where.
        url: Arc<str>,
        /// Seconds for which its answer holds; 0 = only now.
        cache_s: u64,
        /// Pattern of the rule that asks.
        rule: Arc<str>,
    },
}

/// One compiled rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// As it is written in the policy.
    pub pattern: Arc<str>,
    /// Who may join.
    pub join: AccessRule,
    /// Which clients may publish.
    pub publish: AccessRule,
    /// Who may see who is there.
    pub presence: AccessRule,
    /// Members who may see who is there are told who comes and goes.
    pub presence_events: bool,
    /// Messages are kept.
    pub history: Option<History>,
    /// Messages come in an envelope.
    pub envelope: bool,
}

impl Rule {
    fn access(&self, right: Right) -> &AccessRule {
        match right {
            Right::Join => &self.join,
            Right::Publish => &self.publish,
            Right::Presence => &self.presence,
        }
    }
}

/// The rules of a stage, compiled.
///
/// Of all rules whose pattern fits a name for an identity the most specific counts, alone:
///
/// 1. an exact name without placeholders;
/// 2. an exact name with placeholders;
/// 3. a prefix; the longer one, measured with its placeholders filled in, before the shorter one.
///
/// Rules of the same rank that fit the same name at the same length are ordered by these, in turn: no
/// placeholders before some; more characters outside of placeholders; fewer placeholders; the smaller pattern in
/// byte order, `{sub}` read as `{user}`. Two equal patterns do not compile, so the order is total.
#[derive(Debug, Clone, Default)]
pub struct ChannelRules {
    rules: Vec<Rule>,
    /// Exact names without placeholders.
    literals: HashMap<Box<str>, usize>,
    /// Exact names with placeholders, first is first.
    templates: Vec<(Pattern, usize)>,
    /// Prefixes without placeholders.
    literal_prefixes: HashMap<Box<str>, usize>,
    /// The different lengths of them, longest first.
    prefix_lengths: Vec<usize>,
    /// Prefixes with placeholders; among those that fit at the same length the first counts.
    template_prefixes: Vec<(Pattern, usize)>,
    allows_unlisted: bool,
    default: Option<ChannelName>,
    /// By domain name in lower case; an empty name stands for no channel.
    default_by_domain: HashMap<Box<str>, Option<ChannelName>>,
}

impl ChannelRules {
    /// Compiles the rules of a policy.
    ///
    /// # Errors
    /// Everything that is wrong: patterns, access terms, equal patterns, names of default channels. Paths start
    /// with `channels.`.
    pub fn compile(channels: &policy::Channels) -> Result<Self, Vec<PolicyProblem>> {
        let mut problems = Vec::new();
        let mut compiled = Self { allows_unlisted: channels.unlisted == Unlisted::Allow, ..Self::default() };
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for (rule_idx, rule) in channels.rules.iter().enumerate() {
            let path = format!("channels.rules[{rule_idx}]");
            let mut access = |right: &str, access: &policy::Access| {
                AccessRule::compile(access, &format!("{path}.{right}"), &mut problems)
            };
            let rule_compiled = Rule {
                pattern: rule.pattern.as_str().into(),
                join: access("join", &rule.join),
                publish: access("publish", &rule.publish),
                presence: access("presence", &rule.presence),
                presence_events: rule.presence_events,
                history: rule.history,
                envelope: rule.envelope,
            };
            let pattern = match Pattern::parse(&rule.pattern) {
                Ok(pattern) => pattern,
                Err(error) => {
                    problems.push(PolicyProblem::invalid(format!("{path}.match"), error.to_string()));
                    continue;
                }
            };
            // S0-65: a tie is an error of whoever wrote the rules.
            if let Some(first) = seen.insert(pattern.canonical(), rule_idx) {
                let message = format!("the same pattern as that of channels.rules[{first}]");
                problems.push(PolicyProblem::invalid(format!("{path}.match"), message));
                continue;
            }
            compiled.add(pattern, rule_compiled);
        }
        compiled.templates.sort_by_cached_key(|(pattern, _)| pattern.rank());
        compiled.template_prefixes.sort_by_cached_key(|(pattern, _)| pattern.rank());
        compiled.prefix_lengths.sort_unstable_by_key(|length| std::cmp::Reverse(*length));
        compiled.prefix_lengths.dedup();

        let mut name = |path: String, text: &str| match text {
            "" => None,
            text => ChannelName::parse(text)
                .map_err(|error| problems.push(PolicyProblem::invalid(path, error.to_string())))
                .ok(),
        };
        compiled.default = name("channels.default".to_owned(), &channels.default);
        for (domain, text) in &channels.default_by_domain {
            let channel = name(format!("channels.default_by_domain.{domain}"), text);
            compiled.default_by_domain.insert(domain.to_ascii_lowercase().into(), channel);
        }
        if problems.is_empty() { Ok(compiled) } else { Err(problems) }
    }

    fn add(&mut self, pattern: Pattern, rule: Rule) {
        let idx = self.rules.len();
        self.rules.push(rule);
        match (pattern.literal(), pattern.is_prefix()) {
            (Some(name), false) => {
                self.literals.insert(name.into(), idx);
            }
            (Some(prefix), true) => {
                self.prefix_lengths.push(prefix.len());
                self.literal_prefixes.insert(prefix.into(), idx);
            }
            (None, false) => self.templates.push((pattern, idx)),
            (None, true) => self.template_prefixes.push((pattern, idx)),
        }
    }

    /// The rule that counts for a name and an identity.
    pub fn rule(&self, name: &ChannelName, identity: &Identity) -> Option<&Rule> {
        let text = name.as_str();
        let idx = self
            .literals
            .get(text)
            .copied()
            .or_else(|| {
                let fits = |(pattern, _): &&(Pattern, usize)| pattern.fits(text, identity).is_some();
                self.templates.iter().find(fits).map(|(_, idx)| *idx)
            })
            .or_else(|| self.longest_prefix(text, identity))?;
        self.rules.get(idx)
    }

    fn longest_prefix(&self, text: &str, identity: &Identity) -> Option<usize> {
        let mut best = self
            .prefix_lengths
            .iter()
            .find_map(|length| Some((*length, *self.literal_prefixes.get(text.get(..*length)?)?)));
        for (pattern, idx) in &self.template_prefixes {
            // Only a longer one: those of the same length are worse, by the order of the vector.
            if let Some(length) = pattern.fits(text, identity)
                && best.is_none_or(|(longest, _)| length > longest)
            {
                best = Some((length, *idx));
            }
        }
        best.map(|(_, idx)| idx)
    }

    /// The rule that says how messages of a channel are delivered: the same for everybody, whoever they are, so
    /// placeholders stand for any text here.
    pub fn delivery(&self, name: &ChannelName) -> Option<&Rule> {
        let text = name.as_str();
        let exact = self.literals.get(text).copied();
        let template = || {
            let fits = |(pattern, _): &&(Pattern, usize)| pattern.could_fit(text).is_some();
            self.templates.iter().find(fits).map(|(_, idx)| *idx)
        };
        let prefix = || {
            let literal = self
                .prefix_lengths
                .iter()
                .find_map(|length| Some((*length, *self.literal_prefixes.get(text.get(..*length)?)?)));
            let templates = self.template_prefixes.iter();
            let template = templates.filter_map(|(pattern, idx)| Some((pattern.could_fit(text)?, *idx)));
            // At the same length the one without placeholders, and the first.
            let longest = literal
                .into_iter()
                .chain(template)
                .reduce(|best, next| if next.0 > best.0 { next } else { best });
            longest.map(|(_, idx)| idx)
        };
        self.rules.get(exact.or_else(template).or_else(prefix)?)
    }

    /// Whether an identity has a right.
    ///
    /// A token's own list of channels ([`Identity::channels`]) restricts joins beside the rules, and is asked
    /// before the backend is. Channels without a rule: nobody may do anything, or everybody may join, as the
    /// policy says; nobody may publish into them or see who is there.
    pub fn decide(&self, name: &ChannelName, identity: &Identity, right: Right) -> Decision {
        let rule = self.rule(name, identity);
        let deny = |diagnosis| Decision::Deny { diagnosis, rule: rule.map(|rule| Arc::clone(&rule.pattern)) };
        if rule.is_none() && !(self.allows_unlisted && right == Right::Join) {
            return deny(Diagnosis::CHANNEL_UNLISTED);
        }
        if right == Right::Join && !is_on_list(identity.channels.as_deref(), name) {
            return deny(Diagnosis::CHANNEL_FORBIDDEN);
        }
        // Without a rule only joins that are open come here.
        let Some(rule) = rule else { return Decision::Allow };
        match rule.access(right) {
            AccessRule::Ask { url, cache_s } => {
                Decision::Ask { url: Arc::clone(url), cache_s: *cache_s, rule: Arc::clone(&rule.pattern) }
            }
            access if access.admits(identity) => Decision::Allow,
            _ => deny(Diagnosis::CHANNEL_FORBIDDEN),
        }
    }

    /// The listed pattern that looks most like a name, for operators who read `channel.unlisted`. Compares with
    /// all rules: not for a path that clients can hurry along.
    pub fn nearest(&self, name: &str) -> Option<&str> {
        crate::nearest::nearest(name, self.rules.iter().map(|rule| &*rule.pattern))
    }

    /// The channel of a handshake that names none, by the custom domain it came through.
    pub fn default_channel(&self, domain: Option<&str>) -> Option<&ChannelName> {
        let of_domain =
            domain.and_then(|domain| self.default_by_domain.get(domain.to_ascii_lowercase().as_str()));
        match of_domain {
            Some(channel) => channel.as_ref(),
            None => self.default.as_ref(),
        }
    }

    /// All rules, in the order of the policy.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Everybody may join channels that have no rule.
    pub fn allows_unlisted(&self) -> bool {
        self.allows_unlisted
    }
}

/// Whether a token's list, where there is one, has the name. Entries are exact, or `prefix*`.
fn is_on_list(list: Option<&[String]>, name: &ChannelName) -> bool {
    list.is_none_or(|list| {
        list.iter().any(|entry| match entry.strip_suffix('*') {
            Some(prefix) => name.as_str().starts_with(prefix),
            None => entry == name.as_str(),
        })
    })
}

#[cfg(test)]
mod tests;
