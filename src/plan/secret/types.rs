//! The keys that each type of Secret needs, as the API server checks them (`ValidateSecret`): checked here before
//! anything is written, so that the message can say what to write, and a Secret that works is not touched.

use std::collections::BTreeMap;

use crate::{
    api::{Reason, SYNC_NOW_ANNOTATION},
    plan::{Failure, LOOK_AGAIN},
    sensitive::Sensitive,
};

/// Types whose Secrets mint or grant credentials of the cluster.
const MINTING: [&str; 2] = ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"];

/// Whether Secrets of a type mint or grant credentials of the cluster.
pub fn mints(type_: &str) -> bool {
    MINTING.contains(&type_)
}

/// Refuses data that lacks what the type of its Secret needs.
///
/// # Errors
/// `InvalidSpec` for a missing key, or a type that mints credentials; `InvalidValue` for a key whose value can't be.
pub fn check_type(
    type_: &str,
    data: &BTreeMap<String, Sensitive<Vec<u8>>>,
    is_templated: bool,
) -> Result<(), Failure> {
    if mints(type_) {
        let message = format!(
            "spec.target.type: Secrets of the type {type_} mint or grant credentials of the cluster; use Opaque or another type"
        );
        return Err(Failure::stalled(Reason::InvalidSpec, message));
    }
    match type_ {
        "kubernetes.io/tls" => {
            need(type_, data, "tls.crt")?;
            need(type_, data, "tls.key")
        }
        "kubernetes.io/dockerconfigjson" => need_object(type_, data, ".dockerconfigjson", is_templated),
        "kubernetes.io/dockercfg" => need_object(type_, data, ".dockercfg", is_templated),
        "kubernetes.io/ssh-auth" => {
            need(type_, data, "ssh-privatekey")?;
            if data["ssh-privatekey"].expose().is_empty() {
                return Err(invalid(type_, "ssh-privatekey", "is empty", is_templated));
            }
            Ok(())
        }
        "kubernetes.io/basic-auth" if !data.contains_key("username") && !data.contains_key("password") => {
            Err(missing(type_, "username or password"))
        }
        _ => Ok(()),
    }
}

fn need(type_: &str, data: &BTreeMap<String, Sensitive<Vec<u8>>>, key: &str) -> Result<(), Failure> {
    if data.contains_key(key) { Ok(()) } else { Err(missing(type_, key)) }
}

/// The API server takes any JSON object.
fn need_object(
    type_: &str,
    data: &BTreeMap<String, Sensitive<Vec<u8>>>,
    key: &str,
    is_templated: bool,
) -> Result<(), Failure> {
    need(type_, data, key)?;
    let value = data[key].expose();
    // Only looked through, nothing of it is kept: the values hold passwords.
    let opens = value.trim_ascii_start().starts_with(b"{");
    if opens && serde_json::from_slice::<serde::de::IgnoredAny>(value).is_ok() {
        return Ok(());
    }
    Err(invalid(type_, key, "is not a JSON object", is_templated))
}

fn missing(type_: &str, key: &str) -> Failure {
    let message = format!(
        "a Secret of the type {type_} needs the key {key}: add an entry for it to spec, or leave spec.target.type out"
    );
    Failure::stalled(Reason::InvalidSpec, message)
}

fn invalid(type_: &str, key: &str, what: &str, is_templated: bool) -> Failure {
    if is_templated {
        let message = format!(
            "what the template of the key {key} makes {what}, as a Secret of the type {type_} needs it; correct the template: \
             a value that stands in JSON is written with tojson, without quotes around it. The Secret is not touched"
        );
        return Failure::stalled(Reason::TemplateInvalid, message);
    }
    let message = format!(
        "the value of the key {key} {what}, as a Secret of the type {type_} needs it; correct it in Conjur: it is looked \
         at again within 10 minutes, and at once with the annotation {SYNC_NOW_ANNOTATION}. The Secret is not touched"
    );
    Failure::waiting(Reason::InvalidValue, LOOK_AGAIN, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(type_: &str, data: &[(&str, &str)]) -> Result<(), (Reason, String)> {
        let data =
            data.iter().map(|(k, v)| ((*k).to_owned(), Sensitive::new(v.as_bytes().to_vec()))).collect();
        check_type(type_, &data, false).map_err(|f| (f.reason, f.message))
    }

    #[test]
    fn what_a_template_made_is_the_templates_fault() {
        for (type_, key, value) in [
            (
                "kubernetes.io/dockerconfigjson",
                ".dockerconfigjson",
                r#"{"auths": {"r": {"password": "hunter"2"}}}"#,
            ),
            ("kubernetes.io/dockercfg", ".dockercfg", "[]"),
            ("kubernetes.io/ssh-auth", "ssh-privatekey", ""),
        ] {
            let data = [(key.to_owned(), Sensitive::new(value.as_bytes().to_vec()))].into();
            let failure = check_type(type_, &data, true).unwrap_err();
            assert_eq!(failure.reason, Reason::TemplateInvalid);
            assert!(failure.message.contains("tojson") && !failure.message.contains("hunter"), "{failure}");
        }
    }

    #[test]
    fn each_type_is_taken_with_the_keys_it_needs() {
        for (type_, data) in [
            ("Opaque", &[("a", "1")][..]),
            ("example.com/anything", &[("a", "1")]),
            ("kubernetes.io/tls", &[("tls.crt", ""), ("tls.key", ""), ("ca.crt", "x")]),
            ("kubernetes.io/dockerconfigjson", &[(".dockerconfigjson", r#" {"auths": {}}"#)]),
            ("kubernetes.io/dockercfg", &[(".dockercfg", "{}")]),
            ("kubernetes.io/basic-auth", &[("username", "u")]),
            ("kubernetes.io/basic-auth", &[("password", "p")]),
            ("kubernetes.io/ssh-auth", &[("ssh-privatekey", "k")]),
        ] {
            assert_eq!(checked(type_, data), Ok(()), "{type_}");
        }
    }

    #[test]
    fn what_a_type_lacks_is_named_and_no_value_is() {
        for (type_, data, reason, named) in [
            ("kubernetes.io/tls", &[("tls.crt", "hunter2")][..], Reason::InvalidSpec, "tls.key"),
            ("kubernetes.io/tls", &[("tls.key", "hunter2")], Reason::InvalidSpec, "tls.crt"),
            ("kubernetes.io/dockerconfigjson", &[("a", "hunter2")], Reason::InvalidSpec, ".dockerconfigjson"),
            ("kubernetes.io/dockercfg", &[("a", "hunter2")], Reason::InvalidSpec, ".dockercfg"),
            ("kubernetes.io/basic-auth", &[("a", "hunter2")], Reason::InvalidSpec, "username or password"),
            ("kubernetes.io/ssh-auth", &[("a", "hunter2")], Reason::InvalidSpec, "ssh-privatekey"),
            (
                "kubernetes.io/ssh-auth",
                &[("ssh-privatekey", "")],
                Reason::InvalidValue,
                "ssh-privatekey is empty",
            ),
            (
                "kubernetes.io/dockerconfigjson",
                &[(".dockerconfigjson", "hunter2")],
                Reason::InvalidValue,
                ".dockerconfigjson is not",
            ),
            (
                "kubernetes.io/dockerconfigjson",
                &[(".dockerconfigjson", r#"["hunter2"]"#)],
                Reason::InvalidValue,
                "JSON object",
            ),
            (
                "kubernetes.io/dockercfg",
                &[(".dockercfg", r#"{"hunter2": "#)],
                Reason::InvalidValue,
                "JSON object",
            ),
        ] {
            let (told, message) = checked(type_, data).unwrap_err();
            assert_eq!(told, reason, "{type_}: {message}");
            assert!(message.contains(named) && message.contains(type_), "{message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn types_that_mint_credentials_are_refused() {
        for type_ in MINTING {
            assert_eq!(checked(type_, &[("a", "1")]).unwrap_err().0, Reason::InvalidSpec);
        }
    }
}
