//! The table of routes: paths, what they take and answer, who may call them.

use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::Value;
use tidegate_auth::Role;
use tidegate_core::port::BoxFuture;

use crate::api::Inner;
use crate::call::Call;
use crate::operation;
use crate::refusal::Refusal;
use crate::shape::{Member, Shape};

/// Runs an operation.
pub(crate) type Handler = for<'a> fn(&'a Inner, &'a Call) -> BoxFuture<'a, Answer>;

/// What an operation answers.
pub(crate) type Answer = Result<Reply, Refusal>;

/// An answer that is not a refusal.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reply {
    pub(crate) body: Content,
    /// What the record of a change says beside who and when; never a secret.
    pub(crate) note: Option<Value>,
}

/// The body of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    Json(Value),
    Toml(String),
}

impl Reply {
    pub(crate) fn json(body: Value) -> Self {
        Self { body: Content::Json(body), note: None }
    }

    pub(crate) fn with_note(mut self, note: Value) -> Self {
        self.note = Some(note);
        self
    }
}

/// One method of one path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    pub(crate) method: Verb,
    /// `/api/users/{id}/ban`.
    pub(crate) path: &'static str,
    /// Name in the document and in the record of changes.
    pub(crate) operation: &'static str,
    /// One sentence.
    pub(crate) summary: &'static str,
    pub(crate) access: Access,
    /// Parameters in the query.
    pub(crate) query: &'static [Member],
    pub(crate) body: Body,
    /// Longest body, in bytes.
    pub(crate) max_body: usize,
    /// Form of the answer.
    pub(crate) reply: Shape,
    /// Refusals beside those that every route has.
    pub(crate) refusals: &'static [u16],
    pub(crate) handler: Handler,
}

/// Methods that routes have; [`Method`] cannot stand in a constant table of `Copy` rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Post,
    Put,
    Delete,
}

/// Who may call a route, and whether it changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody, without a key.
    Open,
    /// The role; nothing changes.
    Look(Role),
    /// The role; something changes, which is recorded.
    Change(Role),
}

/// What a route takes as its body.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Body {
    None,
    /// A JSON object.
    Json(&'static [Member]),
    /// Bytes of any type: a message.
    Message,
    /// A document in TOML or JSON; the text describes it.
    Document(&'static str),
}

/// Longest body of most requests, in bytes.
pub(crate) const MAX_BODY: usize = 1024 * 1024;

/// Longest body that carries a message, in bytes: the largest that a stage may permit, with room for JSON around it.
pub(crate) const MAX_MESSAGE: usize = 32 * 1024 * 1024;

impl Verb {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

impl Access {
    /// The role that is needed.
    pub(crate) fn role(self) -> Option<Role> {
        match self {
            Self::Open => None,
            Self::Look(role) | Self::Change(role) => Some(role),
        }
    }
}

impl Route {
    /// A row without parameters and body.
    pub(crate) const fn new(
        method: Verb,
        path: &'static str,
        operation: &'static str,
        access: Access,
        summary: &'static str,
        reply: Shape,
        handler: Handler,
    ) -> Self {
        Self {
            method,
            path,
            operation,
            summary,
            access,
            query: &[],
            body: Body::None,
            max_body: MAX_BODY,
            reply,
            refusals: &[],
            handler,
        }
    }

    pub(crate) const fn query(self, query: &'static [Member]) -> Self {
        Self { query, ..self }
    }

    pub(crate) const fn body(self, body: Body) -> Self {
        Self { body, ..self }
    }

    pub(crate) const fn max_body(self, max_body: usize) -> Self {
        Self { max_body, ..self }
    }

    pub(crate) const fn refuses(self, refusals: &'static [u16]) -> Self {
        Self { refusals, ..self }
    }

    /// Names of the parameters in the path.
    pub(crate) fn path_parameters(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(parameter)
    }

    /// The form of a parameter in the path.
    pub(crate) fn path_shape(name: &str) -> Shape {
        match name {
            "channel" => Shape::Channel,
            _ => Shape::Text { min: 1, max: 1024 },
        }
    }

    /// Every status that it may refuse with.
    pub(crate) fn all_refusals(&self) -> Vec<u16> {
        let mut all = match self.access {
            Access::Open => vec![400, 403],
            Access::Look(_) => vec![400, 401, 403],
            // The record of the change needs the store.
            Access::Change(Role::Administer) => vec![400, 401, 403, 503],
            Access::Change(_) => vec![400, 401, 403],
        };
        match self.body {
            Body::None => {}
            Body::Message => all.push(413),
            Body::Json(_) | Body::Document(_) => all.extend([413, 415]),
        }
        all.extend(self.refusals);
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Values of the parameters where `path` fits.
    fn fit(&self, path: &str) -> Option<PathValues> {
        let mut values = Vec::new();
        let mut given = path.split('/');
        for wanted in self.path.split('/') {
            let given = given.next()?;
            match parameter(wanted) {
                None if wanted == given => {}
                Some(name) if !given.is_empty() => values.push((name, given.to_owned())),
                _ => return None,
            }
        }
        given.next().is_none().then_some(values)
    }
}

fn parameter(segment: &'static str) -> Option<&'static str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

/// All routes, in the order of the document.
pub(crate) fn all() -> impl Iterator<Item = &'static Route> {
    operation::ROUTES.iter().copied().flatten()
}

/// Values of the parameters in a path, by name.
pub(crate) type PathValues = Vec<(&'static str, String)>;

/// The route of a request, and the values of its path, decoded.
///
/// # Errors
/// 404, or 405 with the methods that the path has.
pub(crate) fn find(method: &Method, path: &str) -> Result<(&'static Route, PathValues), Refusal> {
    use tidegate_core::diagnosis::Diagnosis;
    let mut verbs = Vec::new();
    for route in all() {
        let Some(values) = route.fit(path) else { continue };
        if method.as_str() != route.method.as_str() {
            verbs.push(route.method.as_str());
            continue;
        }
        let mut decoded = Vec::with_capacity(values.len());
        for (name, value) in values {
            match percent_decode_str(&value).decode_utf8() {
                Ok(value) => decoded.push((name, value.into_owned())),
                Err(_) => return Err(Refusal::problem(name, "is not UTF-8")),
            }
        }
        return Ok((route, decoded));
    }
    if verbs.is_empty() {
        return Err(Refusal::not_found(Diagnosis::ADMIN_UNKNOWN_PATH, format!("Nothing is at {path}")));
    }
    verbs.sort_unstable();
    verbs.dedup();
    let allow = verbs.join(", ");
    let message = format!("{path} takes {allow}");
    let mut refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, Diagnosis::ADMIN_WRONG_METHOD, message);
    refusal.allow = Some(allow);
    Err(refusal)
}
