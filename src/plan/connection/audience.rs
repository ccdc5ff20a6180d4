//! Whom a ServiceAccount's token may be for. A token for the API server's own audiences would be an API credential
//! in a stranger's hands.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

use crate::api::Reason;
use crate::plan::Failure;

const FIELD: &str = "spec.auth.jwt.serviceAccountRef.audiences";

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

/// Refuses audiences that the operator's administrator does not let the connections of namespaces ask for.
///
/// # Errors
/// `InvalidSpec`, naming the audience and what would allow it.
pub fn check_allowed(wanted: &[String], allowed: &[String]) -> Result<(), Failure> {
    match wanted.iter().find(|audience| !allowed.contains(audience)) {
        None => Ok(()),
        Some(other) => Err(Failure::stalled(
            Reason::InvalidSpec,
            format!(
                "{FIELD}: '{other}' is not an audience that connections of a namespace may ask for; use one that they may, such \
                 as {}. The operator's administrator can allow others with --allowed-audiences (allowedAudiences in the \
                 chart's values)",
                allowed.join(" or ")
            ),
        )),
    }
}

/// Refuses audiences that are the cluster's own.
///
/// # Errors
/// `InvalidSpec`, naming the audience.
pub fn check(wanted: &[String], cluster: &BTreeSet<String>) -> Result<(), Failure> {
    let same = |a: &str, b: &str| a.trim_end_matches('/') == b.trim_end_matches('/');
    match wanted.iter().find(|w| w.trim().is_empty() || cluster.iter().any(|c| same(c, w))) {
        None if !wanted.is_empty() => Ok(()),
        None => Err(Failure::stalled(Reason::InvalidSpec, format!("{FIELD} needs an entry, such as conjur"))),
        Some(own) => Err(Failure::stalled(
            Reason::InvalidSpec,
            format!(
                "{FIELD}: '{own}' is an audience of this cluster's API server, so that the \
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
    fn only_allowed_audiences_are_asked_for() {
        let texts = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let allowed = texts(&["conjur", "conjur-eu"]);
        for (wanted, expected) in [
            (&["conjur"][..], true),
            (&["conjur", "conjur-eu"], true),
            (&["sts.amazonaws.com"], false),
            (&["conjur", "sts.amazonaws.com"], false),
            (&["Conjur"], false),
            (&["conjur/"], false),
            (&["conjur "], false),
            (&["*"], false),
        ] {
            let answer = check_allowed(&texts(wanted), &allowed);
            assert_eq!(answer.is_ok(), expected, "{wanted:?}");
            if let Err(failure) = answer {
                assert!(
                    failure.message.contains("allowedAudiences")
                        && failure.message.contains("such as conjur or conjur-eu")
                );
            }
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
