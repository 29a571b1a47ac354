//! Errors of HTTP: a status and one sentence, as JSON.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use millpond_engine::transform::AdminError;
use serde_json::json;

/// A refused or failed request.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    message: String,
}

impl Problem {
    /// A status, and what happened and what to do.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// The engine is gone: the node stops.
    pub fn stopping() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the node is stopping")
    }

    /// The request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
}

impl From<AdminError> for Problem {
    fn from(error: AdminError) -> Self {
        let status = match &error {
            AdminError::UnknownTransform(_) => StatusCode::NOT_FOUND,
            AdminError::InvalidSpec(_) => StatusCode::BAD_REQUEST,
            AdminError::TooMany(_)
            | AdminError::TooManyPackages(_)
            | AdminError::NoPrevious(_)
            | AdminError::NoCanary(_)
            | AdminError::OldPackage { .. }
            | AdminError::Superseded { .. } => StatusCode::CONFLICT,
        };
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.message }))).into_response()
    }
}
