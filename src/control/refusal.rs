//! Why a request was refused: what the client reads as `{"error": ".."}`.
//!
//! Invariant: each text is one line of the form `where: what; how to mend`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::limits::{API_HEAD_LEN_MAX, API_HEADERS_MAX};

/// Why a request was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No route has the path, or not with this method.
    #[error("{method} {path}: no such route; GET /v1/routes lists them")]
    Route {
        /// The method.
        method: String,
        /// The path.
        path: String,
    },
    /// The request's head is no HTTP.
    #[error("request: its head is no HTTP/1.1; begin for example with GET /v1/host HTTP/1.1")]
    Malformed,
    /// The request's head is too long.
    #[error(
        "request: its head is longer than {API_HEAD_LEN_MAX} bytes or has more than {API_HEADERS_MAX} fields; send less"
    )]
    Head,
    /// The request does not follow the route's form.
    #[error("{place}: {what}; {mend}")]
    Request {
        /// Where in the request.
        place: String,
        /// What is wrong.
        what: String,
        /// How to mend it.
        mend: String,
    },
    /// The body is longer than the route takes.
    #[error("body: longer than {max} bytes; send less at once")]
    Long {
        /// The limit in bytes.
        max: u64,
    },
    /// The body did not arrive in time.
    #[error("body: not complete after {ms} ms; send it faster")]
    Slow {
        /// The limit in milliseconds.
        ms: u64,
    },
    /// The peer of the socket may not command this host.
    #[error("api: user {uid} may not command this host; run as the user who started it, or as root")]
    Stranger {
        /// User id of the peer.
        uid: u32,
    },
    /// Too many connections.
    #[error("api: {max} connections are open already; close one and try again")]
    Crowded {
        /// The limit.
        max: usize,
    },
    /// The host has no such thing.
    #[error("{kind} {name}: the host has none of this name; {mend}")]
    Absent {
        /// What kind of thing.
        kind: &'static str,
        /// Its name.
        name: String,
        /// How to mend it.
        mend: &'static str,
    },
    /// What is asked for does not go with the state of the host.
    #[error("{place}: {what}; {mend}")]
    Conflict {
        /// Where.
        place: String,
        /// What is in the way.
        what: String,
        /// How to mend it.
        mend: String,
    },
    /// The guest (object, program, map operation) was refused; the text says where, what and how to mend.
    #[error("{text}")]
    Guest {
        /// The error of the floor below.
        text: String,
    },
    /// The host itself failed.
    #[error("{text}")]
    Host {
        /// The error of the floor below.
        text: String,
    },
}

impl Refusal {
    /// The HTTP status: 4xx where asking differently helps, 500 where the host failed.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Route { .. } | Self::Absent { .. } => StatusCode::NOT_FOUND,
            Self::Request { .. } | Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Head => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Long { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::Stranger { .. } => StatusCode::FORBIDDEN,
            Self::Crowded { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Conflict { .. } => StatusCode::CONFLICT,
            Self::Guest { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Host { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let text = serde_json::json!({ "error": self.to_string() });
        (self.status(), Json(text)).into_response()
    }
}
