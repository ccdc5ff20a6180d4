//! API keys and access tokens.

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use rand::RngCore as _;
use serde_json::{Value, json};

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A new API key, of the length and letters of a real one.
pub(crate) fn new_api_key() -> String {
    let mut random = [0_u8; 54];
    rand::rng().fill_bytes(&mut random);
    random.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()
}

pub(crate) fn sha256_hex(data: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, data))
}

/// Signs access tokens and knows its own.
pub(crate) struct Signer {
    key: hmac::Key,
    id: String,
}

/// What a valid token says.
#[derive(Clone, Debug)]
pub(crate) struct Claims {
    pub(crate) login: String,
    pub(crate) issued_at: i64,
}

/// Why a token was not taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Not base64 of JSON (recording 300, 301).
    Malformed,
    /// Not signed by this server, or expired; both get the same text (recording 302, 304).
    Invalid,
    /// JSON, but no object: the real server breaks (recording 303).
    Broken,
}

impl Signer {
    pub(crate) fn new() -> Self {
        let mut secret = [0_u8; 32];
        rand::rng().fill_bytes(&mut secret);
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &secret), id: sha256_hex(&secret) }
    }

    /// A token for `login`, valid for `lifetime` seconds from `now`.
    pub(crate) fn issue(&self, login: &str, now: Timestamp, lifetime: i64) -> Value {
        let issued_at = now.as_second();
        let protected = json!({"alg": "conjur.org/slosilo/v2", "kid": self.id}).to_string();
        let payload = json!({"iat": issued_at, "sub": login, "exp": issued_at + lifetime}).to_string();
        let (protected, payload) = (URL_SAFE.encode(protected), URL_SAFE.encode(payload));
        let mut nonce = [0_u8; 32];
        rand::rng().fill_bytes(&mut nonce);
        let signature = URL_SAFE.encode(self.sign(&nonce, &protected, &payload));
        json!({"protected": protected, "payload": payload, "signature": signature})
    }

    /// Reads the token of an `Authorization` header: base64, either alphabet, padded or not
    /// (recording 308, 309).
    pub(crate) fn verify(&self, encoded: &str, now: Timestamp) -> Result<Claims, Refusal> {
        let token = decode(encoded).ok_or(Refusal::Malformed)?;
        let token: Value = serde_json::from_slice(&token).map_err(|_| Refusal::Malformed)?;
        let token = token.as_object().ok_or(Refusal::Broken)?;
        let part = |name: &str| token.get(name).and_then(Value::as_str).ok_or(Refusal::Invalid);
        let (protected, payload) = (part("protected")?, part("payload")?);
        let signature = URL_SAFE.decode(part("signature")?).map_err(|_| Refusal::Invalid)?;
        let nonce = signature.get(..32).ok_or(Refusal::Invalid)?;
        if self.sign(nonce, protected, payload) != signature {
            return Err(Refusal::Invalid);
        }
        let payload = URL_SAFE.decode(payload).map_err(|_| Refusal::Invalid)?;
        let payload: Value = serde_json::from_slice(&payload).map_err(|_| Refusal::Invalid)?;
        let (Some(login), Some(issued_at), Some(expires)) =
            (payload["sub"].as_str(), payload["iat"].as_i64(), payload["exp"].as_i64())
        else {
            return Err(Refusal::Invalid);
        };
        if now.as_second() >= expires {
            return Err(Refusal::Invalid);
        }
        Ok(Claims { login: login.to_owned(), issued_at })
    }

    /// As long as a real signature, so that a header is as long as a real one.
    fn sign(&self, nonce: &[u8], protected: &str, payload: &str) -> Vec<u8> {
        let tag = hmac::sign(&self.key, &[nonce, protected.as_bytes(), b".", payload.as_bytes()].concat());
        let mut signature = nonce.to_vec();
        for _ in 0..8 {
            signature.extend_from_slice(tag.as_ref());
        }
        signature
    }
}

fn decode(encoded: &str) -> Option<Vec<u8>> {
    [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD]
        .into_iter()
        .find_map(|engine| engine.decode(encoded).ok())
}
