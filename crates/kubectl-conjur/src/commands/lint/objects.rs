//! What the operator would refuse of an object that the API server takes.

use conjur_operator::seams::{Sources, Text, check as check_connection, document, references, template};
use conjur_operator_api::{
    ClusterConjurConnectionSpec, ConjurConnectionSpec, ConjurHostSpec, ConjurPolicySpec, ConjurPushSpec,
    ConjurSecretSpec, connection::Settings,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::finding::{Found, Rule};

/// The account that ids of a document are read under; none of them is shown.
const ACCOUNT: &str = "account";

pub fn check(object: &Value) -> Vec<Found> {
    let spec = &object["spec"];
    match object["kind"].as_str() {
        Some("ConjurSecret") => with(spec, secret),
        Some("ConjurPolicy") => with(spec, policy),
        Some("ConjurPush") => with(spec, |spec: &ConjurPushSpec| {
            let mut found = failed(references::of_push(spec));
            let entries = spec.entries().iter().enumerate();
            let texts = entries.filter_map(|(at, entry)| {
                Some((format!("spec.data[{at}].template"), entry.template.as_deref()?))
            });
            found.extend(texts.filter_map(|(path, text)| template_of(&path, &path, text)));
            found
        }),
        Some("ConjurHost") => with(spec, |spec: &ConjurHostSpec| {
            let mut found = failed(references::of_host(spec));
            found.extend(templates(&serde_json::to_value(spec).unwrap_or_default()));
            found
        }),
        Some("ConjurConnection") => {
            with(spec, |spec: &ConjurConnectionSpec| failed(check_connection(&Settings::from(spec), None)))
        }
        Some("ClusterConjurConnection") => with(spec, |spec: &ClusterConjurConnectionSpec| {
            let rules = spec.access.clone().unwrap_or_default();
            failed(check_connection(&Settings::from(spec), Some(&rules)))
        }),
        _ => Vec::new(),
    }
}

fn with<S: DeserializeOwned>(spec: &Value, check: impl FnOnce(&S) -> Vec<Found>) -> Vec<Found> {
    match serde_json::from_value(spec.clone()) {
        Ok(spec) => check(&spec),
        Err(error) => vec![(Rule::Schema, "spec".to_owned(), None, error.to_string())],
    }
}

fn failed(result: Result<(), conjur_operator::seams::Failure>) -> Vec<Found> {
    result
        .err()
        .map(|failure| (Rule::Spec, field_of(&failure.message), None, failure.message))
        .into_iter()
        .collect()
}

/// The field that a message begins with, where it does.
fn field_of(message: &str) -> String {
    let first = message.split([':', ' ']).find(|word| word.starts_with("spec."));
    first.unwrap_or("spec").to_owned()
}

fn secret(spec: &ConjurSecretSpec) -> Vec<Found> {
    let mut found = failed(references::of_secret(spec));
    let sources = Sources::of(spec.entries(), spec.sources()).and_then(|sources| sources.check_patterns());
    found.extend(failed(sources));
    found.extend(templates(&serde_json::to_value(spec).unwrap_or_default()));
    found
}

/// Those of `target.template.data`.
fn templates(spec: &Value) -> Vec<Found> {
    let all = spec["target"]["template"]["data"].as_object().into_iter().flatten();
    let all = all.map(|(key, text)| (key, text.as_str().unwrap_or_default()));
    all.filter_map(|(key, text)| template_of(&format!("spec.target.template.data.{key}"), key, text))
        .collect()
}

fn template_of(path: &str, name: &str, text: &str) -> Option<Found> {
    let error = template::check([&Text::inline(name, text)]).err()?;
    Some((Rule::Template, path.to_owned(), None, error.to_string()))
}

fn policy(spec: &ConjurPolicySpec) -> Vec<Found> {
    let mut found = failed(references::of_policy(spec));
    if let Some(text) = &spec.document
        && let Some((line, message)) = policy_text(text, &spec.branch)
    {
        found.push((Rule::PolicyDocument, "spec.document".to_owned(), Some(line), message));
    }
    found
}

/// What is wrong with a policy document, and the line in it.
pub fn policy_text(text: &str, branch: &str) -> Option<(u32, String)> {
    let error = document::read(text, branch, ACCOUNT).err()?;
    Some((error.line, format!("line {}, column {}: {}", error.line, error.column, error.message)))
}
