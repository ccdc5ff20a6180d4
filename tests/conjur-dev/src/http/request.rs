//! A request, with its path as it came.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rustls::pki_types::CertificateDer;

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Still percent-encoded.
    pub(crate) path: String,
    pub(crate) raw_query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) client_ip: IpAddr,
    pub(crate) http2: bool,
    pub(crate) connection: u64,
    /// Of the TLS connection; the caller's own comes first.
    pub(crate) certificates: Arc<[CertificateDer<'static>]>,
}

impl Request {
    /// The method that routes are looked up by: HEAD is a GET without its body (recording 224).
    pub(crate) fn method(&self) -> &str {
        if self.method == "HEAD" { "GET" } else { &self.method }
    }

    /// The decoded segments; empty ones don't count (recordings 256, 257). None where they are no UTF-8
    /// (recording 254).
    pub(crate) fn segments(&self) -> Option<Vec<String>> {
        let raw = self.path.split('/').filter(|segment| !segment.is_empty());
        raw.map(|segment| String::from_utf8(percent_decode(segment)).ok()).collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The first value of a query parameter; one without `=` is empty.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        form_values(&self.raw_query).find(|(known, _)| known == name).map(|(_, value)| value)
    }

    pub(crate) fn has_query(&self, name: &str) -> bool {
        self.query(name).is_some()
    }

    /// The query's parameters, then those of the body: a form, unless it says JSON.
    pub(crate) fn parameters(&self) -> Vec<(String, String)> {
        let mut parameters: Vec<_> = form_values(&self.raw_query).collect();
        let json = self.header("content-type").is_some_and(|kind| kind.starts_with("application/json"));
        if json {
            let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
            for (name, value) in body.as_object().into_iter().flatten() {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                parameters.push((name.clone(), text));
            }
        } else {
            parameters.extend(form_values(&String::from_utf8_lossy(&self.body)));
        }
        parameters
    }

    /// The first value of a parameter in the body, which is read as a form whatever it says it is
    /// (recordings 591, 592).
    pub(crate) fn form(&self, name: &str) -> Option<String> {
        let body = String::from_utf8_lossy(&self.body);
        form_values(&body).find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// What stands in `Token token="…"`.
    pub(crate) fn token(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Token token=\"")?.strip_suffix('"')
    }

    /// Login and secret of `Authorization: Basic`.
    pub(crate) fn basic(&self) -> Option<(String, String)> {
        let encoded = self.header("authorization")?.strip_prefix("Basic ")?;
        let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
        decoded.split_once(':').map(|(login, secret)| (login.to_owned(), secret.to_owned()))
    }

    /// Whether `Accept-Encoding` is `base64` and nothing else (recordings 631, 632).
    pub(crate) fn wants_only_base64(&self) -> bool {
        self.header("accept-encoding").is_some_and(|value| value.eq_ignore_ascii_case("base64"))
    }

    /// Whether `base64` is among the encodings, which is enough for a token (recording 24).
    pub(crate) fn wants_base64(&self) -> bool {
        self.header("accept-encoding").is_some_and(|value| value.to_ascii_lowercase().contains("base64"))
    }
}

/// Names and values of a query or form: `+` is a space, a name without `=` has an empty value.
fn form_values(text: &str) -> impl Iterator<Item = (String, String)> + use<'_> {
    text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (form_decode(name), form_decode(value))
    })
}

fn form_decode(text: &str) -> String {
    String::from_utf8_lossy(&percent_decode(&text.replace('+', " "))).into_owned()
}

/// Decodes like Ruby: `%` before what is no number is a NUL (recording 253).
fn percent_decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        if let (b'%', Some(digits)) = (byte, bytes.get(at + 1..at + 3)) {
            let mut value = [0];
            let _no_number = hex::decode_to_slice(digits, &mut value);
            decoded.push(value[0]);
            at += 3;
        } else {
            decoded.push(byte);
            at += 1;
        }
    }
    decoded
}
