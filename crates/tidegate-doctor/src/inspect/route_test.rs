//! Where one message goes, and why not elsewhere.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_core::definition::ApiDefinition;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::nearest::nearest;
use tidegate_core::policy::Policy;
use tidegate_core::snapshot::IntegrationKind;
use tidegate_core::transformed::Backend;

use super::shown_url;

/// Longest value that is shown, in characters.
const LONGEST_VALUE: usize = 64;

/// Routes that are explained.
const MAX_OTHERS: usize = 50;

/// Values of a message that are looked through, and how deep.
const MAX_VALUES: usize = 1000;
const MAX_DEPTH: usize = 8;

/// The way of one message through one version of an API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteTest {
    /// `deployed` or `defined`.
    pub version: String,
    /// Expressions that choose, in their order.
    pub selection: Vec<String>,
    /// The message is JSON.
    pub is_json: bool,
    /// What the expression found, cut to 64 characters; empty: nothing.
    pub selected_value: String,
    /// The route; none: the client is told Forbidden.
    pub route_key: Option<String>,
    /// What the route calls: an address without query, `echo`, `mock`, or why it cannot work.
    pub target: Option<String>,
    /// What the backend answers goes to the client.
    pub has_reply: bool,
    /// Why it is not the route that was probably meant; none: nothing is odd.
    pub diagnosis: Option<String>,
    /// The route key that looks most like the value.
    pub nearest: Option<String>,
    /// Where in the message a known route key stands, when the expression looks elsewhere.
    pub found_at: Option<String>,
    /// Every other route, and why not.
    pub others: Vec<Other>,
}

/// A route that was not chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Other {
    /// Its key.
    pub route_key: String,
    /// Why not.
    pub reason: String,
}

/// Follows a message through a definition as if it were deployed under this policy.
pub fn test(
    version: &str,
    definition: &ApiDefinition,
    policy: Option<&Arc<Policy>>,
    message: &str,
) -> Option<RouteTest> {
    let stage = super::definitions::compiled(definition, policy)?;
    let deployment = stage.deployment.as_ref()?;
    let choice = deployment.select_route_with(stage.policy.as_deref(), message);
    let value = match choice.selected.is_json {
        true => choice.selected.value.as_str(),
        false => "",
    };
    let chosen = choice.route.map(|route| route.key.to_string());
    let custom = || deployment.routes.keys().map(String::as_str).filter(|key| !key.starts_with('$'));
    let near = match value {
        "" => None,
        value => custom()
            .find(|key| *key != value && key.trim().eq_ignore_ascii_case(value.trim()))
            .or_else(|| nearest(value, custom())),
    };
    let near = near.filter(|key| chosen.as_deref() != Some(*key)).map(str::to_owned);
    let is_custom = chosen.as_deref().is_some_and(|key| !key.starts_with('$'));
    let found_at = match is_custom {
        true => None,
        false => known_key(message, &|text| deployment.routes.contains_key(text) && !text.starts_with('$')),
    };
    let is_same_word = near.as_deref().is_some_and(|key| key.trim().eq_ignore_ascii_case(value.trim()));
    let diagnosis = match choice.diagnosis {
        Some(diagnosis) => Some(diagnosis),
        None if is_custom => None,
        None if is_same_word => Some(Diagnosis::ROUTE_KEY_MISMATCH),
        None if found_at.is_some() => Some(Diagnosis::HANDLER_SELECTION_MISMATCH),
        None if near.is_some() => Some(Diagnosis::ROUTE_KEY_MISMATCH),
        None if chosen.is_none() => Some(Diagnosis::ROUTE_NO_MATCH),
        None if !value.is_empty()
            && !matches!(value, "default" | "$default")
            && custom().next().is_some() =>
        {
            Some(Diagnosis::ROUTE_NOT_CREATED)
        }
        None => None,
    };
    let mut keys: Vec<&String> =
        deployment.routes.keys().filter(|key| Some(*key) != chosen.as_ref()).collect();
    keys.sort();
    let others = keys
        .into_iter()
        .take(MAX_OTHERS)
        .map(|key| Other { route_key: key.clone(), reason: why_not(key, value, &choice.selected) });
    let mut selection = policy.map_or_else(Vec::new, |policy| policy.handlers.select.clone());
    if selection.is_empty() {
        selection.push(definition.api.route_selection_expression.clone());
    }
    Some(RouteTest {
        version: version.to_owned(),
        selection,
        is_json: choice.selected.is_json,
        selected_value: value.chars().take(LONGEST_VALUE).collect(),
        target: choice.route.map(|route| match &route.integration.kind {
            IntegrationKind::Http(_) => address(definition, &route.integration.integration_id),
            IntegrationKind::Transformed(integration) => match &integration.backend {
                Backend::Mock => "mock".to_owned(),
                Backend::Http(_) => address(definition, &route.integration.integration_id),
                Backend::Lambda { function, .. } => format!("the function {}", function.function.to_text()),
                Backend::Aws(action) => format!("the service {}", action.service),
            },
            IntegrationKind::Echo => "echo".to_owned(),
            IntegrationKind::App(name) => format!("the application {name}"),
            IntegrationKind::Lambda(function) => format!("the function {}", function.function.to_text()),
            IntegrationKind::Broken(reason) => format!("nothing: {reason}"),
        }),
        has_reply: choice.route.is_some_and(|route| route.is_two_way),
        route_key: chosen,
        diagnosis: diagnosis.map(|diagnosis| diagnosis.as_str().to_owned()),
        nearest: near,
        found_at,
        others: others.collect(),
    })
}

fn address(definition: &ApiDefinition, integration_id: &str) -> String {
    let integration = definition.integrations.iter().find(|known| known.integration_id == integration_id);
    shown_url(integration.and_then(|known| known.integration_uri.as_deref()).unwrap_or_default())
}

fn why_not(key: &str, value: &str, selected: &tidegate_core::select::Selected) -> String {
    match key {
        "$connect" => "runs when a client connects".to_owned(),
        "$disconnect" => "runs when a client leaves".to_owned(),
        "$default" => "another route fits".to_owned(),
        _ if key.starts_with("tidegate.") => {
            "keys that begin with `tidegate.` are the gateway's own".to_owned()
        }
        _ if !selected.is_json => "the message is no JSON".to_owned(),
        _ if value.is_empty() => "the expression finds nothing in the message".to_owned(),
        _ if key.eq_ignore_ascii_case(value) => "differs in case".to_owned(),
        _ if key.trim() == value.trim() => "differs in blanks".to_owned(),
        _ if key.trim().eq_ignore_ascii_case(value.trim()) => "differs in case and blanks".to_owned(),
        _ => "is another word".to_owned(),
    }
}

/// The path of the first value in a message that is a route key: `$request.body.data.action`.
fn known_key(message: &str, is_key: &dyn Fn(&str) -> bool) -> Option<String> {
    let value: Value = serde_json::from_str(message).ok()?;
    let mut open = vec![("$request.body".to_owned(), &value, 0)];
    let mut n_seen = 0;
    while let Some((path, value, depth)) = open.pop() {
        n_seen += 1;
        if n_seen > MAX_VALUES {
            return None;
        }
        match value {
            Value::String(text) if is_key(text) => return Some(path),
            Value::Object(members) if depth < MAX_DEPTH => {
                open.extend(
                    members.iter().rev().map(|(name, value)| (format!("{path}.{name}"), value, depth + 1)),
                );
            }
            _ => {}
        }
    }
    None
}

impl RouteTest {
    /// As people read it.
    pub fn text(&self) -> String {
        let mut lines =
            vec![format!("{}:", self.version), format!("  expression  {}", self.selection.join(", then "))];
        lines.push(match (self.is_json, self.selected_value.as_str()) {
            (false, _) => "  value       none: the message is no JSON".to_owned(),
            (true, "") => "  value       none: the expression finds nothing".to_owned(),
            (true, value) => format!("  value       {value:?}"),
        });
        lines.push(match &self.route_key {
            Some(key) => format!("  route       {key}"),
            None => "  route       none: the client is told Forbidden".to_owned(),
        });
        lines.extend(self.target.iter().map(|target| format!("  calls       {target}")));
        let reply =
            if self.has_reply { "the answer goes to the client" } else { "the answer goes to nobody" };
        if self.route_key.is_some() {
            lines.push(format!("  reply       {reply}"));
        }
        lines.extend(self.nearest.iter().map(|key| format!("  nearest     {key}")));
        lines.extend(self.found_at.iter().map(|path| format!("  found at    {path} has the key of a route")));
        lines.extend(self.diagnosis.iter().map(|id| format!("  because     {id}")));
        lines.extend(
            self.others.iter().map(|other| format!("  not         {}: {}", other.route_key, other.reason)),
        );
        lines.join("\n") + "\n"
    }
}
