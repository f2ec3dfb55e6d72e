//! Policies of stages: the part of a stage that API Gateway does not have.
//!
//! A policy lives and dies with its stage and is live at once, like the other settings of a stage. The data plane gets
//! the same pointer for as long as a policy does not change.

use std::collections::btree_map::Entry;
use std::sync::Arc;

use serde::Serialize;
use tidegate_auth::jwt::WeakSecret;
use tidegate_core::policy::{JwtKey, Policy, PolicyProblem};

use crate::declarative::Problem;
use crate::error::ApiError;
use crate::plane::ControlPlane;
use crate::state::State;

/// What became of a policy that was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyChange {
    /// The stage has another policy than before.
    pub is_changed: bool,
    /// What an operator should know; the policy is in use all the same.
    pub warnings: Vec<Problem>,
}

/// Why a policy was not taken. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It cannot be used: all reasons.
    #[error("the policy has {} problems", .problems.len())]
    Problems {
        /// At least one.
        problems: Vec<Problem>,
    },
    /// There is no such API, or no such stage.
    #[error("there is no stage {stage} of the API {api_id}")]
    NotFound {
        /// As asked for.
        api_id: String,
        /// As asked for.
        stage: String,
    },
    /// The store refuses.
    #[error("store the policy")]
    Store(#[source] ApiError),
}

/// [`PolicyError`] before it is known for whom.
#[derive(Debug)]
pub(crate) enum Refused {
    Problems(Vec<PolicyProblem>),
    Api(ApiError),
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl Refused {
    fn explain(self, api_id: &str, stage: &str) -> PolicyError {
        match self {
            Self::Problems(problems) => {
                PolicyError::Problems { problems: problems.into_iter().map(|p| problem("", p)).collect() }
            }
            Self::Api(error) if error.status == http::StatusCode::NOT_FOUND => {
                PolicyError::NotFound { api_id: api_id.to_owned(), stage: stage.to_owned() }
            }
            Self::Api(error) => PolicyError::Store(error),
        }
    }
}

/// A policy's problem as those of a document are; `path` is the stage's.
pub(crate) fn problem(path: &str, problem: PolicyProblem) -> Problem {
    let path = match path {
        "" => problem.path,
        path => format!("{path}.policy.{}", problem.path),
    };
    Problem { path, message: problem.message, diagnosis: Some(problem.id.to_owned()) }
}

/// Gives the stage `policy`; secrets that are `****` stay as they are stored. Answers warnings.
pub(crate) fn put(
    state: &mut State,
    api_id: &str,
    stage: &str,
    policy: &Policy,
) -> Result<Vec<PolicyProblem>, Refused> {
    let sequence = state.sequence();
    let api = state.api(api_id)?;
    if !api.stages.contains(stage) {
        return Err(ApiError::unknown_stage().into());
    }
    let stored = api.policies.get(stage).map(|(_, policy)| Arc::clone(policy));
    let policy = policy.merge_redacted(stored.as_deref().unwrap_or(&Policy::default()));
    let mut problems = policy.problems();
    problems.extend(weak_secrets(&policy));
    if problems.iter().any(|problem| problem.is_error) {
        return Err(Refused::Problems(problems.into_iter().filter(|problem| problem.is_error).collect()));
    }
    if stored.as_deref() != Some(&policy) {
        match state.api_mut(api_id)?.policies.entry(stage.to_owned()) {
            Entry::Occupied(mut place) => place.get_mut().1 = Arc::new(policy),
            Entry::Vacant(place) => {
                place.insert((sequence, Arc::new(policy)));
            }
        }
    }
    Ok(problems)
}

/// Secrets that the data plane would refuse: what the form of a secret does not show, such as a published sample. Short
/// ones are reported with the rest of the policy.
pub fn weak_secrets(policy: &Policy) -> Vec<PolicyProblem> {
    let Some(jwt) = policy.jwt.as_ref().filter(|jwt| !jwt.allow_weak_secret) else { return Vec::new() };
    let weak = |(idx, key): (usize, &JwtKey)| {
        let weakness = WeakSecret::find(key.secret.as_deref()?.as_bytes())?;
        let message = format!("{weakness}; jwt.allow_weak_secret takes it all the same");
        (weakness != WeakSecret::Short)
            .then(|| PolicyProblem::invalid(format!("jwt.keys[{idx}].secret"), message))
    };
    jwt.keys.iter().enumerate().filter_map(weak).collect()
}

impl ControlPlane {
    /// The policy of a stage, with its secrets; none when the stage has none or is not there.
    pub fn policy(&self, api_id: &str, stage: &str) -> Option<Arc<Policy>> {
        let state = self.state();
        let (_, policy) = state.apis.get(api_id)?.policies.get(stage)?;
        Some(Arc::clone(policy))
    }

    /// Gives a stage a policy in place of the one it has. It is live when this answers; secrets that are `****` stay
    /// as they are stored.
    ///
    /// # Errors
    /// [`PolicyError`]; nothing has changed then.
    ///
    /// # Cancel safety
    /// When the future is dropped, it has either happened completely or not at all.
    pub async fn put_policy(
        &self,
        api_id: &str,
        stage: &str,
        policy: Policy,
    ) -> Result<PolicyChange, PolicyError> {
        let pointer = |state: &State| {
            state.apis.get(api_id).and_then(|api| api.policies.get(stage)).map(|(_, p)| Arc::as_ptr(p).addr())
        };
        self.write_and_compare(
            |state, _| put(state, api_id, stage, &policy),
            |old, new, warnings| PolicyChange {
                is_changed: pointer(old) != pointer(new),
                warnings: warnings.into_iter().map(|p| problem("", p)).collect(),
            },
        )
        .await
        .map_err(|refused| refused.explain(api_id, stage))
    }

    /// Takes the policy of a stage away: from then on it is as API Gateway has stages. True when there was one.
    ///
    /// # Errors
    /// [`PolicyError::NotFound`] without such a stage, [`PolicyError::Store`].
    ///
    /// # Cancel safety
    /// When the future is dropped, it has either happened completely or not at all.
    pub async fn delete_policy(&self, api_id: &str, stage: &str) -> Result<bool, PolicyError> {
        self.write(|state, _| {
            let api = state.api_mut(api_id)?;
            api.stage_mut(stage)?;
            Ok(api.policies.remove(stage).is_some())
        })
        .await
        .map_err(|error| Refused::Api(error).explain(api_id, stage))
    }
}
