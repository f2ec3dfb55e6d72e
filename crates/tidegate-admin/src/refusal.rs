//! What is answered when nothing is done.

use http::StatusCode;
use serde_json::{Value, json};
use tidegate_control::declarative::Problem;
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::port::StoreError;

/// A refusal: `{"message": ..., "id": ..., "problems": [...]?}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    /// Diagnosis id.
    pub(crate) id: &'static str,
    pub(crate) problems: Vec<Problem>,
    /// Seconds.
    pub(crate) retry_after: Option<u64>,
    /// Methods of the path, for 405.
    pub(crate) allow: Option<String>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, diagnosis: Diagnosis, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            id: diagnosis.as_str(),
            problems: Vec::new(),
            retry_after: None,
            allow: None,
        }
    }

    /// 400.
    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Diagnosis::ADMIN_MALFORMED, message)
    }

    /// 400 with everything that is wrong.
    pub(crate) fn problems(message: &str, problems: Vec<Problem>) -> Self {
        Self { problems, ..Self::malformed(message) }
    }

    /// 400 for one member or parameter.
    pub(crate) fn problem(path: &str, message: impl Into<String>) -> Self {
        let problem = Problem { path: path.to_owned(), message: message.into(), diagnosis: None };
        Self::problems("The request has a problem", vec![problem])
    }

    /// 404.
    pub(crate) fn not_found(diagnosis: Diagnosis, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, diagnosis, message)
    }

    /// 503.
    pub(crate) fn store(error: &StoreError) -> Self {
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        tracing::error!(%error, cause, diag = Diagnosis::STORE_UNAVAILABLE.as_str(), "an admin request failed");
        let mut refusal = Self::unavailable("The store does not answer");
        refusal.retry_after = matches!(error, StoreError::Busy).then_some(1);
        refusal
    }

    /// 503 because of the store.
    pub(crate) fn unavailable(message: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Diagnosis::STORE_UNAVAILABLE, message)
    }

    pub(crate) fn body(&self) -> Value {
        let mut body = json!({ "message": self.message, "id": self.id });
        if !self.problems.is_empty() {
            let problems = self.problems.iter().map(|problem| {
                let mut shown = json!({ "path": problem.path, "message": problem.message });
                if let Some(id) = &problem.diagnosis {
                    shown["id"] = id.as_str().into();
                }
                shown
            });
            body["problems"] = problems.collect();
        }
        body
    }
}
