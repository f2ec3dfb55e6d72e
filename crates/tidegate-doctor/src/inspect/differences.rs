//! What has changed in an API since one of its deployments: the list behind `stage.redeploy-needed`.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};
use tidegate_core::definition::{Api, ApiDefinition, Integration, Route};

use super::shown_url;

/// Differences that are listed; the number of all is told beside them.
const MAX_LISTED: usize = 50;

/// Longest value that is shown, in characters.
const LONGEST_VALUE: usize = 120;

/// Members whose values are no secrets. Parameters, templates and models may hold some.
const SHOWN: [&str; 13] = [
    "routeKey",
    "target",
    "authorizationType",
    "authorizerId",
    "apiKeyRequired",
    "routeResponseSelectionExpression",
    "routeSelectionExpression",
    "apiKeySelectionExpression",
    "disableExecuteApiEndpoint",
    "integrationType",
    "integrationMethod",
    "integrationUri",
    "timeoutInMillis",
];

/// One object or member that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// `route join`, `integration abc1234`, `API`.
    pub object: String,
    /// Absent: the whole object was added or removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// For people.
    pub sentence: String,
}

/// What clients do not see yet: differences from what was deployed to what is defined now, at most 50, and how many there
/// are. Nothing when a deployment would change nothing.
pub fn between(deployed: &ApiDefinition, current: &ApiDefinition) -> (Vec<Difference>, usize) {
    let mut found = Vec::new();
    compare("API", &frozen_part(&deployed.api), &frozen_part(&current.api), &mut found);
    let routes = |definition: &ApiDefinition| by(&definition.routes, |route: &Route| route.route_key.clone());
    compare_all("route", routes(deployed), routes(current), &mut found);
    let integrations = |definition: &ApiDefinition| {
        by(&definition.integrations, |integration: &Integration| integration.integration_id.clone())
    };
    compare_all("integration", integrations(deployed), integrations(current), &mut found);
    let authorizers = |definition: &ApiDefinition| by(&definition.authorizers, |a| a.authorizer_id.clone());
    compare_all("authorizer", authorizers(deployed), authorizers(current), &mut found);
    let models = |definition: &ApiDefinition| by(&definition.models, |model| model.name.clone());
    compare_all("model", models(deployed), models(current), &mut found);
    let route_responses = |definition: &ApiDefinition| {
        let keys: BTreeMap<&str, &str> = definition
            .routes
            .iter()
            .map(|route| (route.route_id.as_str(), route.route_key.as_str()))
            .collect();
        let all = definition.route_responses.iter().flat_map(|(route_id, responses)| {
            let key = keys.get(route_id.as_str()).copied().unwrap_or(route_id);
            responses
                .iter()
                .map(move |response| (format!("{} of {key}", response.route_response_key), json(response)))
        });
        all.collect::<BTreeMap<String, Value>>()
    };
    compare_all("route response", route_responses(deployed), route_responses(current), &mut found);
    let integration_responses = |definition: &ApiDefinition| {
        let all = definition.integration_responses.iter().flat_map(|(id, responses)| {
            responses.iter().map(move |response| {
                (format!("{} of {id}", response.integration_response_key), json(response))
            })
        });
        all.collect::<BTreeMap<String, Value>>()
    };
    compare_all(
        "integration response",
        integration_responses(deployed),
        integration_responses(current),
        &mut found,
    );
    let n_all = found.len();
    found.truncate(MAX_LISTED);
    (found, n_all)
}

/// Members of the API that need a deployment; everything else of it is live.
fn frozen_part(api: &Api) -> Value {
    serde_json::json!({
        "routeSelectionExpression": api.route_selection_expression,
        "apiKeySelectionExpression": api.api_key_selection_expression,
        "disableExecuteApiEndpoint": api.disable_execute_api_endpoint,
        "disableSchemaValidation": api.disable_schema_validation,
    })
}

fn json(object: &impl Serialize) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

fn by<T: Serialize>(objects: &[T], name: impl Fn(&T) -> String) -> BTreeMap<String, Value> {
    objects.iter().map(|object| (name(object), json(object))).collect()
}

fn compare_all(
    kind: &str,
    deployed: BTreeMap<String, Value>,
    current: BTreeMap<String, Value>,
    found: &mut Vec<Difference>,
) {
    for (name, before) in &deployed {
        let object = format!("{kind} {name}");
        match current.get(name) {
            Some(after) => compare(&object, before, after, found),
            None => {
                let sentence = format!("{object} is deployed and defined no more");
                found.push(Difference { object, member: None, sentence });
            }
        }
    }
    for name in current.keys().filter(|name| !deployed.contains_key(*name)) {
        let object = format!("{kind} {name}");
        let sentence = format!("{object} is defined and not deployed");
        found.push(Difference { object, member: None, sentence });
    }
}

/// Two objects, member by member. Ids of generated objects are no difference that a client could see.
fn compare(object: &str, before: &Value, after: &Value, found: &mut Vec<Difference>) {
    let none = Map::new();
    let (before, after) = (before.as_object().unwrap_or(&none), after.as_object().unwrap_or(&none));
    let mut names: Vec<&String> =
        before.keys().chain(after.keys().filter(|name| !before.contains_key(*name))).collect();
    names.sort();
    for name in names {
        if before.get(name) == after.get(name) || name == "routeId" {
            continue;
        }
        let sentence = match SHOWN.contains(&name.as_str()) {
            true => format!("{object}: {name} {} -> {}", value(before.get(name)), value(after.get(name))),
            false => format!("{object}: {name} has changed"),
        };
        found.push(Difference { object: object.to_owned(), member: Some(name.clone()), sentence });
    }
}

fn value(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => return "(not set)".to_owned(),
        Some(Value::String(text)) if text.contains("://") => shown_url(text),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    match text.char_indices().nth(LONGEST_VALUE) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
