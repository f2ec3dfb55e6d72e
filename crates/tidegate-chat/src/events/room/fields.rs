//! Fields of rooms, as events write them.

use std::collections::HashSet;

use serde_json::{Map, Value, json};
use tidegate_core::diagnosis::Diagnosis;

use crate::error::ChatError;
use crate::field;
use crate::model::UserId;
use crate::sanitize;
use crate::settings::{Sanitise, Settings};
use crate::value;

/// Characters of a name.
const MAX_NAME: usize = 64;
/// Characters of an avatar's URL.
const MAX_AVATAR: usize = 200;

/// What is wrong with fields, all of them together.
#[derive(Debug, Default)]
pub(super) struct Errors(Map<String, Value>);

impl Errors {
    /// Adds what is wrong with a field.
    pub(super) fn add(&mut self, name: &str, text: &str) {
        self.0.insert(name.to_owned(), json!([text]));
    }

    /// The value of a field, unless something is wrong with it.
    pub(super) fn take<T>(&mut self, name: &str, field: Result<T, String>) -> Option<T> {
        field.map_err(|text| self.add(name, &text)).ok()
    }

    /// All so far, for checks that know no more than names and texts.
    pub(super) fn fields(&mut self) -> &mut Map<String, Value> {
        &mut self.0
    }

    /// Nothing was wrong, or 4003.
    pub(super) fn finish(self) -> Result<(), ChatError> {
        if self.0.is_empty() { Ok(()) } else { Err(ChatError::Fields(self.0)) }
    }
}

/// A name: 1 to 64 characters.
pub(super) fn name(value: &Value, settings: &Settings) -> Result<String, String> {
    let name = plain(field::filled_text(value, Some(MAX_NAME))?, settings);
    // There may have been nothing but markup.
    if name.is_empty() { Err(field::BLANK.to_owned()) } else { Ok(name) }
}

/// A description: any text, or nothing.
pub(super) fn description(value: &Value, settings: &Settings) -> Result<Option<String>, String> {
    if value.is_null() {
        return Ok(None);
    }
    field::text(value, None).map(|text| Some(plain(text, settings)))
}

/// Without markup, where the settings say so.
fn plain(text: String, settings: &Settings) -> String {
    match settings.sanitise {
        Sanitise::Content => text,
        Sanitise::All => sanitize::plain(&text).trim().to_owned(),
    }
}

/// An avatar: an absolute URL, an empty text, or nothing.
pub(super) fn avatar(value: &Value) -> Result<Option<String>, String> {
    if value.is_null() {
        return Ok(None);
    }
    if matches!(value, Value::Bool(_) | Value::Array(_) | Value::Object(_)) {
        return Err(field::URL.to_owned());
    }
    let text = field::text(value, Some(MAX_AVATAR))?;
    if text.is_empty() || is_absolute_url(&text) { Ok(Some(text)) } else { Err(field::URL.to_owned()) }
}

/// What is said of a property that is `null`.
pub(super) const NO_DATA: &str = "No data provided";
/// What a value is called in such texts, which are those of a Python framework.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

/// What is said of a property that is no object.
pub(super) const PROPERTY: &str = "Room property must be a python dictionary/javascript object";
/// What is said of preferences that are no object.
pub(super) const PREFERENCES: &str = "preferences must be a python dictionary/javascript object";

/// Distinct user ids, in the order in which they first appear.
///
/// # Errors
/// 4003 for the first that is none.
pub(super) fn user_ids<'v>(
    items: impl IntoIterator<Item = &'v Value>,
    settings: &Settings,
) -> Result<Vec<UserId>, ChatError> {
    let mut seen = HashSet::new();
    let mut ids = Vec::new();
    for item in items {
        let Some(id) = value::user_id(item, settings) else {
            let shown: String = item.to_string().chars().take(100).collect();
            let text = format!("{shown} is not a valid user id.");
            return Err(ChatError::rule(text, Diagnosis::CHAT_BAD_PAYLOAD));
        };
        if seen.insert(id.clone()) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// `http`, `https`, `ftp` or `ftps`, and a host that can be one: an address, `localhost`, or a name with a dot.
fn is_absolute_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let is_known = ["http", "https", "ftp", "ftps"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    if !is_known || rest.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return false;
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (credentials, host) = authority.rsplit_once('@').map_or(("", authority), |(c, host)| (c, host));
    if credentials.contains('@') || credentials.matches(':').count() > 1 {
        return false;
    }
    if let Some(bracketed) = host.strip_prefix('[') {
        let Some((address, port)) = bracketed.split_once(']') else { return false };
        return address.parse::<std::net::Ipv6Addr>().is_ok()
            && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    match host.split_once(':') {
        Some((host, port)) => is_host(host) && is_port(port),
        None => is_host(host),
    }
}

fn is_port(text: &str) -> bool {
    (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_host(host: &str) -> bool {
    if host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::Ipv4Addr>().is_ok() {
        return true;
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || !c.is_ascii())
    };
    let Some((_, top)) = host.rsplit_once('.') else { return false };
    let is_top =
        top.chars().count() >= 2 && (top.starts_with("xn--") || !top.chars().any(|c| c.is_ascii_digit()));
    host.len() <= 253 && is_top && host.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S2-86: an avatar is an absolute URL of four schemes.
    #[test]
    fn avatars_are_absolute_urls() {
        let good = [
            "http://e.test",
            "https://cdn.e.test/a.png?x=1#y",
            "HTTPS://E.TEST/",
            "ftp://e.test/a",
            "ftps://user:word@e.test:2121/a",
            "http://localhost:8000/a.png",
            "http://127.0.0.1/a.png",
            "http://[::1]:8080/a.png",
            "http://\u{fc}mlaut.test/",
            "http://e.xn--p1ai/",
            "http://e.test./",
        ];
        for url in good {
            assert_eq!(avatar(&json!(url)), Ok(Some(url.to_owned())));
        }
        let bad = [
            "x",
            "e.test/a.png",
            "/a.png",
            "//e.test/a.png",
            "javascript:alert(1)",
            "javascript://e.test/%0aalert(1)",
            "data:image/png;base64,AA",
            "ws://e.test",
            "http://",
            "http:///a",
            "http://host",
            "http://-e.test",
            "http://e..test",
            "http://e.t",
            "http://e.123",
            "http://e.test:port",
            "http://e.test:123456",
            "http://[::zz]/",
            "http://[::1]x/",
            "http://a@b@e.test/",
            "http://e.test/a b",
            "http://256.1.1.1/",
        ];
        for url in bad {
            assert_eq!(avatar(&json!(url)), Err(field::URL.to_owned()), "{url}");
        }
        assert_eq!(avatar(&json!("")), Ok(Some(String::new())));
        assert_eq!(avatar(&Value::Null), Ok(None));
        assert_eq!(avatar(&json!(" https://e.test/ ")), Ok(Some("https://e.test/".to_owned())));
        assert_eq!(avatar(&json!(["https://e.test/"])), Err(field::URL.to_owned()));
        let long = format!("https://e.test/{}", "a".repeat(185));
        assert_eq!(avatar(&json!(long)), Ok(Some(long.clone())));
        let too_long = avatar(&json!(format!("{long}a")));
        assert_eq!(too_long, Err("Ensure this field has no more than 200 characters.".to_owned()));
    }

    /// S2-24: numbers and texts are the same user, each once.
    #[test]
    fn a_user_is_named_by_number_or_text() {
        let items = [json!(7), json!("8"), json!("7"), json!(8), json!(9)];
        let ids = user_ids(&items, &Settings::default()).unwrap();
        let ids: Vec<&str> = ids.iter().map(UserId::as_str).collect();
        assert_eq!(ids, ["7", "8", "9"]);
        for bad in [json!("x"), json!("07"), json!(""), json!(1.5), json!(true), json!([7]), json!({})] {
            let refused = user_ids(std::iter::once(&bad), &Settings::default()).unwrap_err().frame();
            assert_eq!(refused["error"]["code"], 4003, "{bad}");
            assert!(refused["error"]["detail"].is_array(), "{bad}");
        }
    }
}
