//! Who may ask: one admin token, checked before anything else is looked at.

use super::ApiState;
use super::error::ApiError;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The admin token, kept as a hash so that comparing takes the same time for every guess.
#[derive(Debug, Clone)]
pub struct AdminToken([u8; 32]);

impl AdminToken {
    /// From the token's text.
    pub fn new(token: &str) -> Self {
        Self(*blake3::hash(token.as_bytes()).as_bytes())
    }

    fn matches(&self, presented: &str) -> bool {
        let presented = blake3::hash(presented.as_bytes());
        self.0.ct_eq(presented.as_bytes()).into()
    }
}

/// Lets a request through that needs no token or brings the right one.
pub(super) async fn check(
    State(state): State<Arc<ApiState>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let open = matches!(path, "/healthz" | "/readyz") || (path == "/metrics" && state.metrics_open);
    if open {
        return next.run(request).await;
    }
    let presented = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    match presented {
        Some(token) if state.token.matches(token) => next.run(request).await,
        Some(_) => ApiError::unauthorized("this token is not known here").into_response(),
        None => ApiError::unauthorized(
            "a token is needed: Authorization: Bearer …, the text of `admin-token` in the data directory",
        )
        .into_response(),
    }
}
