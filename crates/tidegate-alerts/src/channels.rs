//! Which channels a connection gets: those of its roles, or the part of them that it asks for.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidegate_core::identity::Identity;

use crate::settings::Settings;

/// What a channel's name must be.
pub const RULE: &str = "1 to 128 characters out of letters, digits, `_`, `.`, `:` and `-` expected";

/// The channel `user:{sub}` belongs to that user alone.
pub const USER_PREFIX: &str = "user:";

/// Most names that a handshake may list.
const MAX_ASKED: usize = 64;

/// Whether a text can be a channel's name.
pub fn is_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':' | b'-'))
}

/// Channels of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// Names, without the user's own channel, in order.
    pub channels: Vec<Arc<str>>,
    /// The first of the roles that has any of them.
    pub role: Arc<str>,
}

/// Why a connection gets no channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// No role has any.
    Role,
    /// It asked for one that none of its roles has; absent when the text is no name, or when the token's own list leaves
    /// nothing.
    Channel(Option<String>),
}

/// Decides.
///
/// # Errors
/// [`Denied`]
pub fn grant(settings: &Settings, identity: &Identity, query: &str) -> Result<Granted, Denied> {
    let of_role = |role: &String| settings.roles.get(role).filter(|names| !names.is_empty());
    let role = identity.roles.iter().find(|role| of_role(role).is_some()).ok_or(Denied::Role)?;
    let is_on_token = |name: &str| {
        identity.channels.as_ref().is_none_or(|list| {
            list.iter().any(|entry| match entry.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => entry == name,
            })
        })
    };
    let names = identity.roles.iter().filter_map(of_role).flatten().map(|name| settings.resolve(name));
    let allowed: BTreeSet<&str> = names.filter(|name| is_on_token(name)).collect();
    if allowed.is_empty() {
        return Err(Denied::Channel(None));
    }
    let asked = asked(query);
    let own = identity.user.as_deref().map(|user| format!("{USER_PREFIX}{user}"));
    let mut chosen = BTreeSet::new();
    for name in &asked {
        let name = settings.resolve(name);
        match allowed.get(name) {
            Some(name) => _ = chosen.insert(*name),
            // Everybody is in the own one anyway.
            None if own.as_deref() == Some(name) => {}
            None => return Err(Denied::Channel(is_name(name).then(|| name.to_owned()))),
        }
    }
    let channels = if asked.is_empty() { allowed } else { chosen };
    Ok(Granted { channels: channels.into_iter().map(Into::into).collect(), role: role.as_str().into() })
}

/// Values of `channel`, repeated or with commas. One more than may be is left in, as a name that nobody has.
fn asked(query: &str) -> Vec<String> {
    let values = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "channel");
    let mut names = Vec::new();
    for (_, value) in values {
        names.extend(value.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned));
        if names.len() > MAX_ASKED {
            return vec![String::new()];
        }
    }
    names
}
