//! Markup in texts of users: a few elements stay, everything else goes and leaves its text.

mod markup;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use ammonia::{Builder, UrlRelative};
use serde_json::{Map, Value};

use crate::field;

/// Elements that stay.
pub const ELEMENTS: &[&str] = &["a", "b", "br", "em", "i", "li", "ol", "p", "span", "strong", "ul"];
/// Attributes that stay on all of them.
pub const ATTRIBUTES: &[&str] = &["class", "id"];
/// Attributes that stay on links.
pub const LINK_ATTRIBUTES: &[&str] = &["href", "target", "title"];
/// Schemes of links that stay; so do relative links.
pub const SCHEMES: &[&str] = &["http", "https", "mailto"];

/// How often a plain text is looked through for markup that appeared when other markup went.
const MAX_ROUNDS: usize = 8;

static CONTENT: LazyLock<Builder<'static>> = LazyLock::new(|| builder(ELEMENTS));
static PLAIN: LazyLock<Builder<'static>> = LazyLock::new(|| builder(&[]));

fn builder(elements: &'static [&'static str]) -> Builder<'static> {
    let mut builder = Builder::empty();
    builder
        .tags(elements.iter().copied().collect())
        // Scripts and styles too leave their text, which is harmless as text.
        .clean_content_tags(HashSet::new())
        .generic_attributes(ATTRIBUTES.iter().copied().collect())
        .url_schemes(SCHEMES.iter().copied().collect())
        .url_relative(UrlRelative::PassThrough)
        .link_rel(None)
        .strip_comments(true);
    if elements.contains(&"a") {
        builder.tag_attributes(HashMap::from([("a", LINK_ATTRIBUTES.iter().copied().collect())]));
    }
    builder
}

/// Content of a message as it is stored: well-formed, nothing outside the lists of this module. Text that is nested so deeply
/// that a browser's rules would make it many times larger is kept as text, with no element at all.
pub fn content(text: &str) -> String {
    if !needs_parser(text) {
        return text.to_owned();
    }
    match markup::escape_incomplete(text) {
        Some(text) => CONTENT.clean(&text).to_string(),
        None => escape(text),
    }
}

/// Bytes of the shortest content that is sanitized before its event's transaction, in which everybody else would wait for it: markup
/// that is hostile takes up to a microsecond for each byte, and more where it is nested.
pub const LARGE: usize = 8 * 1024;

/// Content that was sanitized ahead of the transaction that stores it.
#[derive(Clone)]
pub struct Cleaned {
    given: String,
    clean: String,
}

impl std::fmt::Debug for Cleaned {
    /// The text is payload.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cleaned").field("bytes", &self.given.len()).finish_non_exhaustive()
    }
}

impl Cleaned {
    /// Sanitizes content. Takes long.
    pub fn of(given: String) -> Self {
        let clean = content(&given);
        Self { given, clean }
    }

    /// The result for a text, when it is the one that was sanitized.
    pub fn find(&self, text: &str) -> Option<&str> {
        (self.given == text).then_some(&*self.clean)
    }
}

/// The content of an event that is to be sanitized ahead: that of `message.send`, or of `message.modify`.
pub fn large_content(data: &Map<String, Value>) -> Option<String> {
    let of_fields = || data.get("extra_fields")?.get("content");
    let is_large = |value: &&Value| value.as_str().is_some_and(|text| text.len() >= LARGE);
    let value = data.get("content").filter(is_large).or_else(|| of_fields().filter(is_large))?;
    let text = field::filled_text(value, None).ok()?;
    needs_parser(&text).then_some(text)
}

fn needs_parser(text: &str) -> bool {
    text.contains(['<', '>', '&', '\r', '\u{a0}'])
}

/// A name, description or caption without markup: it is plain text, in which an entity means nothing and stays as it is.
pub fn plain(text: &str) -> String {
    let mut text = text.to_owned();
    for _ in 0..MAX_ROUNDS {
        if !text.contains('<') {
            return text;
        }
        let escaped = text.replace('&', "&amp;");
        let Some(complete) = markup::escape_incomplete(&escaped) else {
            break;
        };
        let stripped = unescape(&PLAIN.clean(&complete).to_string()).into_owned();
        if stripped == text {
            return text;
        }
        text = stripped;
    }
    text.retain(|character| character != '<');
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Undoes what the sanitizer writes for five characters of text.
fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&nbsp;", "\u{a0}");
    Cow::Owned(text.replace("&quot;", "\"").replace("&amp;", "&"))
}

#[cfg(test)]
mod tests;
