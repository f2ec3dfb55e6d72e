//! What leads from one state to another, as sentences.
//!
//! Both states are shown as documents show them, and the steps are the differences: so a plan cannot say anything
//! else than what happens, and an empty plan means that nothing does.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};

use super::form::{self, Secrets};
use super::names::Names;
use super::quote;
use crate::deploy;
use crate::state::{ApiState, State};

/// Longest value in a sentence, in characters; longer ones are cut.
const LONGEST_VALUE: usize = 120;

/// What a step is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Kind {
    VpcLink,
    Api,
    Model,
    Authorizer,
    Integration,
    Route,
    Stage,
    Policy,
    DomainName,
    ApiMapping,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::VpcLink => "VPC link",
            Self::Api => "API",
            Self::Model => "model",
            Self::Authorizer => "authorizer",
            Self::Integration => "integration",
            Self::Route => "route",
            Self::Stage => "stage",
            Self::Policy => "policy of stage",
            Self::DomainName => "domain name",
            Self::ApiMapping => "mapping",
        }
    }
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Action {
    Create,
    Change,
    Rename,
    Remove,
    Deploy,
}

/// One member that changes; secrets are `****`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemberChange {
    /// As in the document: `request_parameters."integration.request.header.connectionId"`.
    pub path: String,
    /// Absent: it was not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// Absent: it is no longer set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// What happens.
    pub action: Action,
    /// To what.
    pub kind: Kind,
    /// Its name in the document; of a deployment the stage's.
    pub name: String,
    /// Name of the API, or the domain name, that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// For people: `change integration backend of API chat: uri http://a/ -> http://b/`.
    pub sentence: String,
    /// What changes; with [`Action::Create`] what is set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<MemberChange>,
}

/// Which object: kind, what it belongs to, id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    kind: Kind,
    parent: String,
    id: String,
}

impl Key {
    pub(super) fn new(kind: Kind, parent: &str, id: &str) -> Self {
        Self { kind, parent: parent.to_owned(), id: id.to_owned() }
    }
}

/// One object as a document shows it.
struct Shown {
    key: Key,
    name: String,
    of: Option<String>,
    /// With secrets: to tell what changes.
    open: Value,
    /// Without: to show it.
    masked: Value,
}

impl Shown {
    fn new(key: Key, name: &str, of: Option<&str>, shown: impl Fn(Secrets) -> Value) -> Self {
        let (open, masked) = (shown(Secrets::Shown), shown(Secrets::Masked));
        Self { key, name: name.to_owned(), of: of.map(str::to_owned), open, masked }
    }

    /// `integration backend of API chat`.
    fn title(&self) -> String {
        let name = plain(&self.name);
        let word = self.key.kind.word();
        match (&self.of, self.key.kind) {
            (None, _) => format!("{word} {name}"),
            (Some(of), Kind::ApiMapping) if self.name.is_empty() => {
                format!("root {word} of domain name {}", plain(of))
            }
            (Some(of), Kind::ApiMapping) => format!("{word} {name} of domain name {}", plain(of)),
            (Some(of), _) => format!("{word} {name} of API {}", plain(of)),
        }
    }
}

fn value(form: impl Serialize) -> Value {
    match serde_json::to_value(form) {
        // A route that is only the name of its integration.
        Ok(Value::String(integration)) => {
            [("integration".to_owned(), Value::from(integration))].into_iter().collect()
        }
        Ok(Value::Object(mut members)) => {
            for name in ["id", "deploy", "deployment_description"] {
                members.remove(name);
            }
            Value::Object(members)
        }
        // Forms are objects.
        _ => Value::Null,
    }
}

fn show(state: &State) -> Vec<Shown> {
    let mut all = Vec::new();
    for link in state.vpc_links.iter() {
        let key = Key::new(Kind::VpcLink, "", &link.vpc_link_id);
        all.push(Shown::new(key, &link.name, None, |_| value(form::vpc_link(link))));
    }
    for api in state.apis.iter() {
        show_api(api, &mut all);
    }
    for domain in state.domains.iter() {
        let name = &domain.domain.domain_name;
        let key = Key::new(Kind::DomainName, "", name);
        all.push(Shown::new(key, name, None, |_| value(form::domain(&domain.domain))));
        for mapping in domain.mappings.iter() {
            let key = Key::new(Kind::ApiMapping, name, &mapping.api_mapping_id);
            let shown = |_| value(form::mapping(mapping, state));
            all.push(Shown::new(key, &mapping.api_mapping_key, Some(name), shown));
        }
    }
    all
}

fn show_api(api: &ApiState, all: &mut Vec<Shown>) {
    let (id, name) = (&api.api.api_id, api.api.name.as_str());
    let key = |kind, object: &str| Key::new(kind, id, object);
    let integrations = Names::of_integrations(api);
    let authorizers = Names::of_authorizers(api);
    all.push(Shown::new(Key::new(Kind::Api, "", id), name, None, |_| value(form::api_alone(&api.api))));
    for it in api.models.iter() {
        all.push(Shown::new(key(Kind::Model, &it.model_id), &it.name, Some(name), |_| {
            value(form::model(it))
        }));
    }
    for it in api.authorizers.iter() {
        let own = authorizers.name(&it.authorizer_id).unwrap_or(&it.authorizer_id);
        // Without a key that could stand for it, its own name is shown.
        let shown = |_| value(form::authorizer(it, ""));
        all.push(Shown::new(key(Kind::Authorizer, &it.authorizer_id), own, Some(name), shown));
    }
    for it in api.integrations.iter() {
        let own = integrations.name(&it.integration_id).unwrap_or(&it.integration_id);
        let shown = |secrets| value(form::integration(it, api, secrets));
        all.push(Shown::new(key(Kind::Integration, &it.integration_id), own, Some(name), shown));
    }
    for it in api.routes.iter() {
        let shown = |_| value(form::route(it, api, &integrations, &authorizers));
        all.push(Shown::new(key(Kind::Route, &it.route_id), &it.route_key, Some(name), shown));
    }
    for it in api.stages.iter() {
        let stage = &it.stage_name;
        all.push(Shown::new(key(Kind::Stage, stage), stage, Some(name), |_| value(form::stage(it))));
        if let Some((_, policy)) = api.policies.get(stage) {
            let shown = |secrets| value(form::policy(policy, secrets));
            all.push(Shown::new(key(Kind::Policy, stage), stage, Some(name), shown));
        }
    }
}

/// What [`compare`] found.
pub(super) struct Comparison {
    pub(super) steps: Vec<Step>,
    /// Objects that the document names and that stay as they are.
    pub(super) unchanged: usize,
    /// Objects beside them that it does not name.
    pub(super) left_alone: Vec<String>,
}

/// The steps from `old` to `new`; `named` is what the document is about.
pub(super) fn compare(old: &State, new: &State, named: &BTreeSet<Key>) -> Comparison {
    let shown_before = show(old);
    let before: BTreeMap<&Key, &Shown> = shown_before.iter().map(|s| (&s.key, s)).collect();
    let after = show(new);
    let mut found = Comparison { steps: Vec::new(), unchanged: 0, left_alone: Vec::new() };
    for shown in &after {
        let n_steps = found.steps.len();
        match before.get(&shown.key) {
            None => found.steps.push(created(shown)),
            Some(before) => changed(before, shown, &mut found.steps),
        }
        if found.steps.len() == n_steps {
            if named.contains(&shown.key) {
                found.unchanged += 1;
            } else if [Kind::Api, Kind::DomainName]
                .iter()
                .any(|kind| named.contains(&Key::new(*kind, "", &shown.key.parent)))
            {
                found.left_alone.push(shown.title());
            }
        }
    }
    let kept: BTreeSet<&Key> = after.iter().map(|s| &s.key).collect();
    for shown in shown_before.iter().filter(|s| !kept.contains(&s.key)) {
        let sentence = format!("remove {}", shown.title());
        found.steps.push(step(Action::Remove, shown, sentence, Vec::new()));
    }
    for api in new.apis.iter() {
        for stage in api.stages.iter() {
            let old_api = old.apis.get(&api.api.api_id);
            let before = old_api.and_then(|api| api.stages.get(&stage.stage_name));
            let is_deployed = stage.deployment_id.as_ref().is_some_and(|id| {
                let is_other = before.is_none_or(|before| before.deployment_id.as_ref() != Some(id));
                // Changes that follow closely share a deployment of `autoDeploy`.
                is_other || old_api.is_some_and(|old| !deploy::is_same_content(old, api, id))
            });
            if is_deployed {
                let (name, of) = (stage.stage_name.clone(), api.api.name.clone());
                let sentence = format!("deploy API {} to stage {name}", plain(&of));
                let (action, kind, changes) = (Action::Deploy, Kind::Stage, Vec::new());
                found.steps.push(Step { action, kind, name, of: Some(of), sentence, changes });
            }
        }
    }
    found
}

fn step(action: Action, shown: &Shown, sentence: String, changes: Vec<MemberChange>) -> Step {
    let (kind, name, of) = (shown.key.kind, shown.name.clone(), shown.of.clone());
    Step { action, kind, name, of, sentence, changes }
}

fn created(shown: &Shown) -> Step {
    let nothing = Value::Object(Map::new());
    let mut changes = Vec::new();
    differences(&mut String::new(), (&nothing, &shown.open), (&nothing, &shown.masked), &mut changes);
    let text = |name: &str| shown.masked.get(name).and_then(Value::as_str);
    let detail = match shown.key.kind {
        Kind::Integration => match (text("type"), text("uri")) {
            (Some(kind), Some(uri)) => format!(": {kind} {}", plain(uri)),
            (Some(kind), None) => format!(": {kind}"),
            _ => String::new(),
        },
        Kind::Route => text("integration").map(|name| format!(" -> {}", plain(name))).unwrap_or_default(),
        Kind::ApiMapping => match (text("api"), text("stage")) {
            (Some(api), Some(stage)) => format!(" -> stage {} of API {}", plain(stage), plain(api)),
            _ => String::new(),
        },
        _ => String::new(),
    };
    step(Action::Create, shown, format!("create {}{detail}", shown.title()), changes)
}

fn changed(before: &Shown, after: &Shown, steps: &mut Vec<Step>) {
    if before.name != after.name && after.key.kind != Kind::Api && after.key.kind != Kind::VpcLink {
        let sentence = format!("rename {} to {}", before.title(), plain(&after.name));
        steps.push(step(Action::Rename, after, sentence, Vec::new()));
    }
    let mut changes = Vec::new();
    let (open, masked) = ((&before.open, &after.open), (&before.masked, &after.masked));
    differences(&mut String::new(), open, masked, &mut changes);
    if changes.is_empty() {
        return;
    }
    let texts: Vec<String> = changes.iter().map(sentence_of).collect();
    let title = if after.key.kind == Kind::Api { before.title() } else { after.title() };
    let sentence = format!("change {title}: {}", texts.join(", "));
    steps.push(step(Action::Change, after, sentence, changes));
}

fn sentence_of(change: &MemberChange) -> String {
    let show = |value: &Option<Value>| match value {
        None => "none".to_owned(),
        Some(Value::String(text)) => plain(text),
        Some(value) => cut(&value.to_string()),
    };
    let (before, after) = (show(&change.before), show(&change.after));
    // What differs behind two masks, or behind the cut.
    if before == after {
        format!("{} (another value)", change.path)
    } else {
        format!("{} {before} -> {after}", change.path)
    }
}

/// The text itself, or in quotes when it would not stand out from a sentence.
fn plain(text: &str) -> String {
    let is_plain =
        !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"');
    if is_plain { cut(text) } else { cut(&Value::from(text).to_string()) }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST_VALUE) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}...", &text[..at]),
    }
}

/// Members that differ between two open values, with what their masked values show.
fn differences(
    path: &mut String,
    (before, after): (&Value, &Value),
    (masked_before, masked_after): (&Value, &Value),
    changes: &mut Vec<MemberChange>,
) {
    if before == after {
        return;
    }
    if let (Value::Object(old), Value::Object(new)) = (before, after) {
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for name in names {
            let length = path.len();
            if length > 0 {
                path.push('.');
            }
            path.push_str(&quote(name));
            let get = |value: &Value| value.get(name).cloned();
            match (old.get(name), new.get(name)) {
                (Some(old), Some(new)) => {
                    let masked_old = get(masked_before).unwrap_or_default();
                    let masked_new = get(masked_after).unwrap_or_default();
                    differences(path, (old, new), (&masked_old, &masked_new), changes);
                }
                _ => changes.push(MemberChange {
                    path: path.clone(),
                    before: get(masked_before),
                    after: get(masked_after),
                }),
            }
            path.truncate(length);
        }
        return;
    }
    changes.push(MemberChange {
        path: path.clone(),
        before: Some(masked_before.clone()),
        after: Some(masked_after.clone()),
    });
}
