//! The declarative form: a document says what shall be, and applying it makes it so.
//!
//! [`Document`] is what people write, in TOML or JSON. [`plan`] says as sentences what [`apply`] would do; both run the
//! same checks and edits on a draft of the state (`draft.rs`) and read the steps off the two states (`steps.rs`).
//! [`apply`] stores its draft by one write: everything or nothing, between two other changes and never amid one.
//! [`export`] writes a document of everything that is there; applied to an empty control plane it makes the same,
//! applied where it comes from it changes nothing.
//!
//! Objects are recognised by what people call them: see `names.rs` for those that have only generated ids.

mod document;
mod draft;
mod form;
mod locate;
mod names;
mod provisioning;
mod secret;
mod steps;

use std::fmt;

use serde::{Deserialize as _, Serialize};
use serde_json::Value;
use tidegate_core::policy::Policy;

pub use document::{
    AccessLogForm, ApiForm, AuthorizerForm, ConfigurationForm, Document, DomainForm, IntegrationForm,
    IntegrationResponseForm, JwtForm, MAX_DOCUMENT, MappingForm, ModelForm, MutualTlsForm, RouteForm,
    RouteResponseForm, RouteSettingsForm, StageForm, Throttle, VpcLinkForm,
};
pub use form::Secrets;
pub use provisioning::provisioning;
pub use steps::{Action, Kind, MemberChange, Step};

use crate::error::ApiError;
use crate::plane::ControlPlane;
use crate::state::State;

/// One thing that is wrong with a document, or that an operator should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where: `apis.chat.integrations.backend.uri`; empty: the whole document.
    pub path: String,
    /// For whoever wrote it. Never has a secret in it.
    pub message: String,
    /// Id of the diagnosis catalogue, where one applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<String>,
}

impl Problem {
    pub(crate) fn new(path: String, message: String) -> Self {
        Self { path, message, diagnosis: None }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

/// A key as TOML writes it in a path.
fn quote(key: &str) -> String {
    let is_bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if is_bare { key.to_owned() } else { serde_json::Value::from(key).to_string() }
}

/// How a document is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// What the document does not mention goes: routes, integrations, authorizers, models, stages and policies of the
    /// APIs that it names, mappings of the domain names that it names. Whole APIs, domain names and VPC links stay.
    pub prune: bool,
}

/// How far an API of a document is; see [`provisioning`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Name of the API.
    pub api: String,
    /// Its id; absent: it does not exist yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Before.
    pub before: &'static str,
    /// Afterwards.
    pub after: &'static str,
}

/// What applying a document does, or would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// In the order in which people read them; they take effect together. Empty: everything is as the document says.
    pub steps: Vec<Step>,
    /// Objects that the document names and that stay as they are.
    pub unchanged: usize,
    /// Objects that the document does not name, beside those that it names; pruning would remove them.
    pub left_alone: Vec<String>,
    /// The APIs that the document names.
    pub apis: Vec<Progress>,
    /// What an operator should know.
    pub warnings: Vec<Problem>,
}

/// What applying did.
pub type Applied = Plan;

/// Why a document was not applied. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// All problems of the document.
    #[error("the document has {} problems", .0.len())]
    Problems(Vec<Problem>),
    /// The store refuses, or this process cannot go on.
    #[error("apply the document")]
    Refused(#[source] ApiError),
}

impl From<ApiError> for ApplyError {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

/// Reads a policy from JSON that has already been parsed. What it says is checked when it is put.
///
/// # Errors
/// Every unknown key and every value of the wrong type, each with its path.
pub fn read_policy(value: &Value) -> Result<Policy, Vec<Problem>> {
    Policy::deserialize(value).map_err(|error| locate::locate::<Policy>(value, &error))
}

/// Reads a policy from TOML.
///
/// # Errors
/// As [`read_policy`].
pub fn read_policy_toml(text: &str) -> Result<Policy, Vec<Problem>> {
    read_policy(&document::value_of_toml(text)?)
}

/// What [`apply`] would do now.
///
/// # Errors
/// As [`apply`], except for the store.
pub fn plan(plane: &ControlPlane, document: &Document, options: Options) -> Result<Plan, ApplyError> {
    let old = plane.state();
    let (new, named) = plane.draft(&old, |state, context| {
        draft::draft(document, options, state, context).map_err(ApplyError::Problems)
    })?;
    let mut plan = conclude(&old, &new, named);
    for progress in &mut plan.apis {
        // An id that was made up for the draft is not the one that it will get.
        let id = progress.id.take();
        let is_chosen = |id: &String| {
            old.apis.contains(id) || document.apis.iter().any(|api| api.id.as_ref() == Some(id))
        };
        progress.id = id.filter(is_chosen);
    }
    Ok(plan)
}

/// Makes everything as `document` says: by one write, after which it is live.
///
/// A second call changes nothing and does not write. Secrets that are `****` stay as they are stored.
///
/// # Errors
/// [`ApplyError`]: nothing has changed then.
///
/// # Cancel safety
/// When the future is dropped, it has either happened completely or not at all.
pub async fn apply(
    plane: &ControlPlane,
    document: &Document,
    options: Options,
) -> Result<Applied, ApplyError> {
    plane
        .write_and_compare(
            |state, context| draft::draft(document, options, state, context).map_err(ApplyError::Problems),
            conclude,
        )
        .await
}

fn conclude(old: &State, new: &State, named: draft::Named) -> Plan {
    let compared = steps::compare(old, new, &named.keys);
    let apis = new.apis.iter().filter(|api| named.names_api(&api.api.api_id));
    let apis = apis
        .map(|api| Progress {
            api: api.api.name.clone(),
            id: Some(api.api.api_id.clone()),
            before: provisioning::of(old, &api.api.api_id),
            after: provisioning::of(new, &api.api.api_id),
        })
        .collect();
    Plan {
        steps: compared.steps,
        unchanged: compared.unchanged,
        left_alone: compared.left_alone,
        apis,
        warnings: named.warnings,
    }
}

/// Everything that is there, as a document.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Export {
    /// What [`apply`] takes.
    pub document: Document,
    /// What the document cannot say, and how far each API is; comments in [`Self::to_toml`].
    pub notes: Vec<String>,
}

impl Export {
    /// TOML, in the same order each time. The notes come first, as comments.
    ///
    /// # Errors
    /// A value that TOML does not have; the operations of the API take none.
    pub fn to_toml(&self) -> Result<String, ExportError> {
        let mut text = String::new();
        for note in &self.notes {
            let note: String = note.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            text.push_str(&format!("# {note}\n"));
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&toml::to_string_pretty(&self.document).map_err(ExportError)?);
        Ok(text)
    }
}

/// Why there is no text of an export.
#[derive(Debug, thiserror::Error)]
#[error("write the definitions as TOML")]
pub struct ExportError(#[source] toml::ser::Error);

/// Everything that `plane` holds: APIs, domain names and VPC links in the order of their creation, what is below them
/// in the order of its names.
pub fn export(plane: &ControlPlane, secrets: Secrets) -> Export {
    let state = plane.state();
    let mut notes = Vec::new();
    for api in state.apis.iter() {
        let (id, name) = (&api.api.api_id, &api.api.name);
        notes.push(format!("API {name} ({id}): {}", provisioning::of(&state, id)));
        let used: Vec<&str> = api.stages.iter().filter_map(|s| s.deployment_id.as_deref()).collect();
        let n_old = api.deployments.iter().filter(|d| !used.contains(&d.deployment_id.as_str())).count();
        if n_old > 0 {
            notes.push(format!("API {name} ({id}): {n_old} deployments that no stage serves are left out"));
        }
        for stage in api.stages.iter() {
            let (is_current, _) = form::deployment(stage, api);
            if stage.deployment_id.is_some() && !is_current {
                let stage = &stage.stage_name;
                notes.push(format!(
                    "API {name} ({id}): stage {stage} serves an earlier deployment, which is left out; this is the API as it is now"
                ));
            }
        }
    }
    let mut domains = Vec::new();
    for domain in state.domains.iter() {
        let mut shown = form::domain(&domain.domain);
        shown.mappings = domain.mappings.iter().map(|m| form::mapping(m, &state)).collect();
        shown.mappings.sort_by(|a, b| a.key.cmp(&b.key));
        if form::has_more_mutual_tls(&domain.domain) {
            notes.push(format!("domain name {}: members of its trust store are left out", shown.name));
        }
        domains.push(shown);
    }
    let document = Document {
        vpc_links: state.vpc_links.iter().map(|link| form::vpc_link(link)).collect(),
        apis: state.apis.iter().map(|api| form::api(api, secrets)).collect(),
        domains,
    };
    Export { document, notes }
}
