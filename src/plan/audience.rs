//! Whom a ServiceAccount's token may be for. A token for the API server's own audiences would be an API credential
//! in a stranger's hands.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

use super::Failure;
use crate::api::Reason;

/// The audiences that the API server itself takes, and its issuer, by a token that it gave without being asked for
/// an audience.
///
/// # Errors
/// A sentence, where the token is no JWT; it does not quote it.
pub fn of_the_cluster(token: &str) -> Result<BTreeSet<String>, &'static str> {
    #[derive(Deserialize)]
    struct Claims {
        iss: String,
        aud: Audience,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    let wrong = "the API server's token is no JWT with an issuer and audiences";
    let payload = token.split('.').nth(1).ok_or(wrong)?;
    let bytes = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).map_err(|_| wrong)?;
    let claims: Claims = serde_json::from_slice(&bytes).map_err(|_| wrong)?;
    let audiences = match claims.aud {
        Audience::One(one) => vec![one],
        Audience::Many(many) => many,
    };
    Ok(audiences.into_iter().chain([claims.iss]).collect())
}

/// Refuses audiences that are the cluster's own.
///
/// # Errors
/// `InvalidSpec`, naming the audience.
pub fn check(wanted: &[String], cluster: &BTreeSet<String>) -> Result<(), Failure> {
    let same = |a: &str, b: &str| a.trim_end_matches('/') == b.trim_end_matches('/');
    match wanted.iter().find(|w| w.trim().is_empty() || cluster.iter().any(|c| same(c, w))) {
        None if !wanted.is_empty() => Ok(()),
        None => {
            let message = "spec.auth.jwt.serviceAccountRef.audiences needs an entry, such as conjur";
            Err(Failure::stalled(Reason::InvalidSpec, message))
        }
        Some(own) => Err(Failure::stalled(
            Reason::InvalidSpec,
            format!(
                "spec.auth.jwt.serviceAccountRef.audiences: '{own}' is an audience of this cluster's API server, so that the \
                 token would let Conjur in there; use one of Conjur's own, such as conjur"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> String {
        format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn the_clusters_own_audiences_are_refused() {
        let cluster = of_the_cluster(&token(r#"{"iss":"https://issuer/","aud":["https://api"]}"#)).unwrap();
        let check =
            |list: &[&str]| check(&list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>(), &cluster);
        assert!(check(&["conjur"]).is_ok());
        for refused in [&["https://api"][..], &["conjur", "https://issuer"], &["https://api/"], &[], &[" "]] {
            assert!(check(refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn what_is_no_token_is_told_without_quoting_it() {
        for bad in ["", "hunter2", "a.hunter2.c", &token("{}"), &token(r#"{"iss":1}"#)] {
            assert!(!of_the_cluster(bad).unwrap_err().contains("hunter2"));
        }
        assert!(of_the_cluster(&token(r#"{"iss":"i","aud":"one"}"#)).unwrap().contains("one"));
    }
}
