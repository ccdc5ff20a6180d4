//! Replies and the shapes of errors.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Value, json};

use super::request::Request;
use crate::model::{identifier_of, keys, kind_of};

/// A reply before it goes out.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
    /// Whom it lets in, where it is an access token.
    pub(crate) login: Option<String>,
}

impl Reply {
    /// No body and no content type: what the web server itself refuses, and 204.
    pub(crate) fn bare(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new(), login: None }
    }

    /// Empty, from a controller: 201, 401, 403.
    pub(crate) fn refused(status: u16) -> Self {
        Self::bare(status).with("content-type", "text/html")
    }

    /// Empty, from the framework: unknown routes and crashes.
    pub(crate) fn html(status: u16) -> Self {
        Self::bare(status).with("content-type", "text/html; charset=utf-8")
    }

    pub(crate) fn plain(status: u16, text: &str) -> Self {
        Self { body: Bytes::copy_from_slice(text.as_bytes()), ..Self::bare(status) }
            .with("content-type", "text/plain")
    }

    pub(crate) fn content(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::bare(status) }.with("content-type", content_type)
    }

    /// JSON, with the characters escaped that the real server escapes (recording 345).
    pub(crate) fn json(status: u16, value: &Value) -> Self {
        let text = value.to_string().replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e");
        Self::content(status, "application/json; charset=utf-8", text)
    }

    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::json(status, &json!({"error": {"code": code, "message": message}}))
    }

    /// 404 of a record that is missing or invisible.
    pub(crate) fn not_found(id: &str) -> Self {
        let details = json!({"code": "not_found", "target": "id", "message": id});
        let error = json!({
            "code": "not_found",
            "message": not_found_message(id),
            "target": kind_of(id),
            "details": details,
        });
        Self::json(404, &json!({"error": error}))
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Adds the `ETag` that every 200 and 201 with a body has, and answers 304 to one that still holds
    /// (recording 226).
    pub(crate) fn with_conditional(mut self, request: &Request) -> Self {
        if !matches!(self.status, 200 | 201) || self.body.is_empty() {
            return self;
        }
        let etag = format!("W/\"{}\"", &keys::sha256_hex(&self.body)[..32]);
        if self.status == 200 && request.header("if-none-match") == Some(etag.as_str()) {
            self.status = 304;
            self.body = Bytes::new();
            self.headers.retain(|(name, _)| *name != "content-type");
        }
        self.with("etag", etag)
    }

    pub(crate) fn into_response(self) -> Response {
        let mut builder = Response::builder().status(self.status);
        for (name, value) in &self.headers {
            builder = builder.header(*name, value);
        }
        builder.body(Body::from(self.body)).unwrap_or_default()
    }
}

/// `Variable 'app/x' not found in account 'demo'`.
pub(crate) fn not_found_message(id: &str) -> String {
    let (account, kind) = (id.split(':').next().unwrap_or_default(), kind_of(id));
    let capital = kind.get(..1).unwrap_or_default().to_uppercase();
    let rest = kind.get(1..).unwrap_or_default();
    format!("{capital}{rest} '{}' not found in account '{account}'", identifier_of(id))
}
