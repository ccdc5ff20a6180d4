//! JSON Web Tokens that others signed.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// A token that is well-formed; nothing is checked yet.
pub(crate) struct Jwt {
    header: Map<String, Value>,
    pub(crate) claims: Map<String, Value>,
    /// What the signature is of.
    signed: String,
    signature: Vec<u8>,
}

impl Jwt {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let object = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
        Some(Self {
            header: object(header)?,
            claims: object(claims)?,
            signed: signed.to_owned(),
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }

    /// Whether one of `keys`, the list of a JWKS, signed it: the one with its `kid` (recording 587).
    pub(crate) fn is_signed_by(&self, keys: &Value) -> bool {
        let text = |name: &str| self.header.get(name).and_then(Value::as_str);
        let (Some(algorithm), Some(id)) = (text("alg"), text("kid")) else { return false };
        keys.as_array().into_iter().flatten().any(|key| {
            key["kid"] == id
                && key.get("alg").is_none_or(|wanted| wanted == algorithm)
                && key.get("use").is_none_or(|purpose| purpose == "sig")
                && self.verify(algorithm, key) == Some(true)
        })
    }

    /// None where the key is no good for the algorithm.
    fn verify(&self, algorithm: &str, key: &Value) -> Option<bool> {
        let part = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str()?).ok();
        let message = self.signed.as_bytes();
        match (algorithm, key["kty"].as_str()?) {
            ("RS256", "RSA") => {
                let key = RsaPublicKeyComponents { n: part("n")?, e: part("e")? };
                Some(key.verify(&RSA_PKCS1_2048_8192_SHA256, message, &self.signature).is_ok())
            }
            ("ES256", "EC") if key["crv"] == "P-256" => {
                // An uncompressed point.
                let point = [vec![4], part("x")?, part("y")?].concat();
                let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
                Some(key.verify(message, &self.signature).is_ok())
            }
            _ => None,
        }
    }

    /// The claim at a path of names.
    pub(crate) fn claim(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.claims.get(*first)?, |value, name| value.get(name))
    }
}

/// `kubernetes.io/namespace` is the claim `namespace` within `kubernetes.io`.
pub(crate) fn path_of(claim: &str) -> Vec<&str> {
    claim.split('/').collect()
}
