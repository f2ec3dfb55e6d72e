//! What a refused operation answers: one type from validation to the wire.

use http::StatusCode;
use serde_json::{Value, json};
use tidegate_core::diagnosis::Diagnosis;
use tidegate_core::journal::Facts;
use tidegate_core::port::StoreError;

/// A refused operation as a client of the API sees it.
///
/// `error_type` goes into `x-amzn-ErrorType`, where the SDKs read the code from; `message` into the body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error_type}: {message}")]
pub struct ApiError {
    /// 400, 403, 404, 409, 429, 500 or 503.
    pub status: StatusCode,
    /// `BadRequestException`, `NotFoundException`, ...
    pub error_type: String,
    /// Safe to show.
    pub message: String,
    /// Id of the diagnosis catalogue for the body, where AWS has no words for it.
    pub diagnosis: Option<&'static str>,
    /// For the operator's journal; the caller's answer is as if it were not there.
    pub because: Option<Box<Because>>,
}

/// Why an operation was refused, as the journal keeps it. Replies of [`crate::RestApi::handle`] carry it as an extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Because {
    /// The cause.
    pub diagnosis: Diagnosis,
    /// What proves it: names and times, no values of secrets.
    pub facts: Facts,
}

impl ApiError {
    fn new(status: StatusCode, error_type: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            error_type: error_type.to_owned(),
            message: message.into(),
            diagnosis: None,
            because: None,
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequestException", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFoundException", message)
    }

    /// `Invalid {resource} identifier specified {id}`.
    pub(crate) fn unknown(resource: &str, id: &str) -> Self {
        Self::not_found(format!("Invalid {resource} identifier specified {id}"))
    }

    pub(crate) fn unknown_stage() -> Self {
        Self::not_found("Invalid stage identifier specified")
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "ConflictException", message)
    }

    /// Something of this name is there already.
    pub(crate) fn exists(name: &str, created: Option<&str>, message: impl Into<String>) -> Self {
        let mut facts = Facts::none().with("detail", format!("{name} exists"));
        facts.add_some("createdAt", created);
        Self::conflict(message).because(Diagnosis::PROVISION_CONFLICT, facts)
    }

    pub(crate) fn too_many(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException", message)
    }

    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerErrorException", "Internal server error")
    }

    pub(crate) fn because(mut self, diagnosis: Diagnosis, facts: Facts) -> Self {
        self.because = Some(Box::new(Because { diagnosis, facts }));
        self
    }

    /// What the journal is told.
    pub(crate) fn reason(&self) -> Option<Because> {
        let told = || Some(Because { diagnosis: Diagnosis::find(self.diagnosis?)?, facts: Facts::none() });
        self.because.as_deref().cloned().or_else(told)
    }

    pub(crate) fn with_diagnosis(mut self, diagnosis: &'static str) -> Self {
        self.diagnosis = Some(diagnosis);
        self
    }

    /// The JSON body of the reply: `{"message": ...}`, with `diagnosis` where there is one.
    pub fn body(&self) -> Value {
        match self.diagnosis {
            Some(diagnosis) => json!({"message": self.message, "diagnosis": diagnosis}),
            None => json!({"message": self.message}),
        }
    }
}

impl From<&StoreError> for ApiError {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Busy => Self::too_many("Too many changes are waiting to be stored").because(
                Diagnosis::PROVISION_THROTTLED,
                Facts::none().with("detail", "the queue of changes is full"),
            ),
            StoreError::Unavailable { .. } | StoreError::TooNew { .. } => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceUnavailableException",
                "The change could not be stored and has not been made",
            )
            .with_diagnosis("store.unavailable"),
        }
    }
}

/// Why a caller was not let in, as [`crate::Authenticate`] reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthFailure {
    /// Usually 403.
    pub status: StatusCode,
    /// For `x-amzn-ErrorType`, for example `MissingAuthenticationTokenException`.
    pub error_type: String,
    /// Safe to show.
    pub message: String,
    /// For the operator's journal.
    pub because: Option<Box<Because>>,
}

impl From<AuthFailure> for ApiError {
    fn from(failure: AuthFailure) -> Self {
        Self {
            status: failure.status,
            error_type: failure.error_type,
            message: failure.message,
            diagnosis: None,
            because: failure.because,
        }
    }
}
