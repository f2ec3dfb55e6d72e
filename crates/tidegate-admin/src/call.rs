//! One request, checked against its route.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tidegate_control::declarative::Problem;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::snapshot::Stage;

use crate::api::Inner;
use crate::caller::Caller;
use crate::refusal::Refusal;
use crate::route::{Body, PathValues, Route};
use crate::shape::Shape;

/// A request that fits its route.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) route: &'static Route,
    /// Absent on routes that are open to everybody.
    pub(crate) caller: Option<Caller>,
    /// Milliseconds since 1970.
    pub(crate) now: u64,
    /// As received, for the record.
    pub(crate) path: String,
    path_values: PathValues,
    query: Map<String, Value>,
    /// Of a JSON body.
    body: Value,
    pub(crate) bytes: Bytes,
    is_toml: bool,
    accept: String,
}

/// Content type without its parameters, in lower case.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?;
    let text = value.to_str().unwrap_or_default();
    Some(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

impl Call {
    /// Checks everything that was sent.
    ///
    /// # Errors
    /// 400 with all problems, 415.
    pub(crate) fn read(
        route: &'static Route,
        path_values: PathValues,
        parts: &http::request::Parts,
        bytes: Bytes,
        caller: Option<Caller>,
        now: u64,
    ) -> Result<Self, Refusal> {
        let mut problems = Vec::new();
        for (name, value) in &path_values {
            Route::path_shape(name).check(&Value::from(value.as_str()), name, &mut problems);
        }
        let query = read_query(route, parts.uri.query().unwrap_or_default(), &mut problems);
        let media_type = media_type(&parts.headers);
        let (mut body, mut is_toml) = (Value::Null, false);
        match route.body {
            Body::None | Body::Message => {}
            Body::Json(members) => {
                body = read_json(media_type.as_deref(), &bytes)?;
                Shape::Record(members).check(&body, "", &mut problems);
            }
            // Nothing at all is not the empty document: it would take away whatever a policy demands.
            Body::Document(_) if bytes.is_empty() => return Err(Refusal::malformed("The body is missing")),
            Body::Document(_) => match media_type.as_deref() {
                Some("application/toml") => is_toml = true,
                _ => body = read_json(media_type.as_deref(), &bytes)?,
            },
        }
        match problems.is_empty() {
            true => {}
            false => return Err(Refusal::problems("The request has problems", problems)),
        }
        let accept = parts.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        Ok(Self {
            route,
            caller,
            now,
            path: parts.uri.path().to_owned(),
            path_values,
            query,
            body,
            bytes,
            is_toml,
            accept: accept.to_ascii_lowercase(),
        })
    }

    /// A value of the path.
    pub(crate) fn path(&self, name: &str) -> &str {
        self.path_values.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }

    /// A text of the query.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.query.get(name)?.as_str()
    }

    /// A number of the query.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.query.get(name)?.as_u64()
    }

    /// Whether the query has `name=true`.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.query.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// The query as it was understood, for the record.
    pub(crate) fn query(&self) -> &Map<String, Value> {
        &self.query
    }

    /// The JSON body as a type.
    ///
    /// # Errors
    /// 400: what the description of the body does not say.
    pub(crate) fn body<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        T::deserialize(&self.body)
            .map_err(|error| Refusal::malformed(format!("The body cannot be read: {error}")))
    }

    /// The JSON body.
    pub(crate) fn json(&self) -> &Value {
        &self.body
    }

    /// The body as text, when it is TOML.
    ///
    /// # Errors
    /// 400: not UTF-8.
    pub(crate) fn toml(&self) -> Result<Option<&str>, Refusal> {
        match self.is_toml {
            true => self.utf8().map(Some),
            false => Ok(None),
        }
    }

    /// The body as text.
    ///
    /// # Errors
    /// 400: not UTF-8.
    pub(crate) fn utf8(&self) -> Result<&str, Refusal> {
        std::str::from_utf8(&self.bytes).map_err(|_| Refusal::malformed("The body is not UTF-8"))
    }

    /// Whether the caller wants TOML.
    pub(crate) fn wants_toml(&self) -> bool {
        let types = self.accept.split(',').map(|range| range.split(';').next().unwrap_or_default().trim());
        types.into_iter().any(|range| range == "application/toml")
    }

    /// The stage that path or query names.
    ///
    /// # Errors
    /// 404.
    pub(crate) fn stage(&self, inner: &Inner) -> Result<Arc<Stage>, Refusal> {
        let value = |name: &str| match self.path(name) {
            "" => self.text(name).unwrap_or_default().to_owned(),
            value => value.to_owned(),
        };
        find_stage(inner, &value("api"), &value("stage"))
    }
}

/// A stage that is live.
///
/// # Errors
/// 404, and whether the API or only its stage is missing.
pub(crate) fn find_stage(inner: &Inner, api_id: &str, stage: &str) -> Result<Arc<Stage>, Refusal> {
    inner.gateway.find_stage(api_id, stage).ok_or_else(|| {
        match inner.control.live().apis.iter().any(|api| api.api.api_id == api_id) {
            true => {
                Refusal::not_found(Diagnosis::STAGE_UNKNOWN, format!("The API {api_id} has no stage {stage}"))
            }
            false => Refusal::not_found(Diagnosis::API_UNKNOWN, format!("There is no API {api_id}")),
        }
    })
}

fn read_query(route: &Route, query: &str, problems: &mut Vec<Problem>) -> Map<String, Value> {
    let mut values = Map::new();
    let mut problem = |path: &str, message: String| {
        problems.push(Problem { path: path.to_owned(), message, diagnosis: None });
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decode = |text: &str| {
            let spaced = text.replace('+', " ");
            percent_decode_str(&spaced).decode_utf8().map(|text| text.into_owned()).ok()
        };
        let (Some(name), Some(value)) = (decode(name), decode(value)) else {
            problem("", "the query is not UTF-8".to_owned());
            continue;
        };
        // A signature may stand in the query.
        if name.starts_with("X-Amz-") {
            continue;
        }
        let Some(member) = route.query.iter().find(|member| member.name == name) else {
            let hint = tidegate_core::nearest::nearest(&name, route.query.iter().map(|member| member.name));
            let hint = hint.map(|known| format!("; did you mean `{known}`?")).unwrap_or_default();
            problem(&name, format!("unknown parameter{hint}"));
            continue;
        };
        let value = member.shape.parse(&value);
        if values.insert(name.clone(), value).is_some() {
            problem(&name, "is given twice".to_owned());
        }
    }
    Shape::Record(route.query).check(&Value::Object(values.clone()), "", problems);
    values
}

fn read_json(media_type: Option<&str>, bytes: &Bytes) -> Result<Value, Refusal> {
    let is_json = media_type.is_none_or(|media_type| media_type == "application/json");
    if !is_json && !bytes.is_empty() {
        let message = "The body must be application/json";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Diagnosis::ADMIN_CONTENT_TYPE, message));
    }
    if bytes.is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    serde_json::from_slice(bytes).map_err(|error| Refusal::malformed(format!("The body is no JSON: {error}")))
}
