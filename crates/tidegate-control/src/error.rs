//! What a refused operation answers: one type from validation to the wire.

use http::StatusCode;
use serde_json::{Value, json};
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
    /// Id of the diagnosis catalogue, where one applies.
    pub diagnosis: Option<&'static str>,
}

impl ApiError {
    fn new(status: StatusCode, error_type: &str, message: impl Into<String>) -> Self {
        Self { status, error_type: error_type.to_owned(), message: message.into(), diagnosis: None }
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

    pub(crate) fn too_many(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException", message)
    }

    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerErrorException", "Internal server error")
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
            StoreError::Busy => Self::too_many("Too many changes are waiting to be stored"),
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
}

impl From<AuthFailure> for ApiError {
    fn from(failure: AuthFailure) -> Self {
        Self {
            status: failure.status,
            error_type: failure.error_type,
            message: failure.message,
            diagnosis: None,
        }
    }
}
