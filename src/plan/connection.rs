//! Whether a connection's settings can be. The schema says the same; an object may be older than the schema, or the CRD
//! than the operator.

pub mod access;
pub mod audience;
pub mod health;
pub mod ingredients;

use std::time::Duration;

use super::{Failure, references};
use crate::{
    api::{
        GoDuration, Reason,
        connection::{AccessRule, LimitsSpec, Settings},
    },
    limits,
};

/// Refuses settings that can't be, before anything is asked for by them.
///
/// # Errors
/// `InvalidSpec`, naming the field.
pub fn check(settings: &Settings, access: Option<&[AccessRule]>) -> Result<(), Failure> {
    references::of_connection(settings, access)?;
    let auth = &settings.auth;
    let ways =
        [auth.api_key.is_some(), auth.password.is_some(), auth.jwt.is_some(), auth.certificate.is_some()];
    if ways.iter().filter(|given| **given).count() != 1 {
        return Err(invalid("spec.auth: set exactly one of apiKey, password, jwt and certificate".into()));
    }
    if auth.api_key.as_ref().is_some_and(|key| key.login.is_some() == key.login_secret_ref.is_some()) {
        return Err(invalid("spec.auth.apiKey: set exactly one of login and loginSecretRef".into()));
    }
    if settings.tls.ca_bundle.is_some() && settings.tls.ca_bundle_from.is_some() {
        return Err(invalid("spec.tls: set caBundle or caBundleFrom, not both".into()));
    }
    duration("spec.tokenRefreshInterval", settings.token_refresh_interval, limits::TOKEN_REFRESH)?;
    bounds(&settings.limits)
}

fn bounds(spec: &LimitsSpec) -> Result<(), Failure> {
    for (field, given, between) in [
        ("timeout", &spec.timeout, limits::TIMEOUT),
        ("policyTimeout", &spec.policy_timeout, limits::POLICY_TIMEOUT),
    ] {
        if let Some(given) = given.as_ref().map(GoDuration::get) {
            duration(&format!("spec.limits.{field}"), given, between)?;
        }
    }
    for (field, given, (least, most)) in [
        ("maxConnections", spec.max_connections.map(u32::from), limits::MAX_CONNECTIONS),
        ("requestsPerSecond", spec.requests_per_second, limits::REQUESTS_PER_SECOND),
        ("batchSize", spec.batch_size.map(u32::from), limits::BATCH_SIZE),
        ("batchBytes", spec.batch_bytes.map(u32::from), limits::BATCH_BYTES),
    ] {
        if given.is_some_and(|given| !(least..=most).contains(&given)) {
            return Err(invalid(format!("spec.limits.{field} is {least} to {most}")));
        }
    }
    Ok(())
}

fn duration(field: &str, given: Duration, (least, most): (Duration, Duration)) -> Result<(), Failure> {
    if (least..=most).contains(&given) {
        return Ok(());
    }
    Err(invalid(format!("{field} is {} s to {} s", least.as_secs(), most.as_secs())))
}

fn invalid(message: String) -> Failure {
    Failure::stalled(Reason::InvalidSpec, message)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::ConjurConnectionSpec;

    fn of(more: Value) -> Result<(), Failure> {
        let auth = json!({ "password": { "login": "a", "passwordSecretRef": { "name": "n", "key": "k" } } });
        let mut spec = json!({ "url": "https://h", "account": "demo", "auth": auth });
        let Value::Object(more) = more else { panic!("{more}") };
        spec.as_object_mut().unwrap().extend(more);
        let spec: ConjurConnectionSpec = serde_json::from_value(spec).unwrap();
        check(&Settings::from(&spec), None)
    }

    #[test]
    fn every_duration_and_number_has_its_bounds_also_past_the_schema() {
        assert_eq!(of(json!({})), Ok(()));
        for (field, good, bad) in [
            ("timeout", json!(["1s", "60s"]), json!(["0s", "999ms", "61s", "100000h"])),
            ("policyTimeout", json!(["1s", "14m"]), json!(["0s", "14m1s", "9000h"])),
            ("maxConnections", json!([1, 64]), json!([0, 65, 65535])),
            ("requestsPerSecond", json!([1, 10_000]), json!([0, 10_001, u32::MAX])),
            ("batchSize", json!([1, 1_000]), json!([0, 1_001])),
            ("batchBytes", json!([256, 10_240]), json!([0, 255, 10_241])),
        ] {
            for good in good.as_array().unwrap() {
                assert_eq!(of(json!({ "limits": { field: good } })), Ok(()), "{field} {good}");
            }
            for bad in bad.as_array().unwrap() {
                let message = of(json!({ "limits": { field: bad } })).unwrap_err().message;
                assert!(message.contains(field), "{field} {bad}: {message}");
            }
        }
        assert_eq!(of(json!({ "tokenRefreshInterval": "10s" })), Ok(()));
        for bad in ["0s", "9s", "61m", "100000h"] {
            assert!(of(json!({ "tokenRefreshInterval": bad })).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_field_of_limits_is_looked_at() {
        let schema = serde_json::to_value(schemars::schema_for!(LimitsSpec)).unwrap();
        let mut fields: Vec<_> =
            schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        fields.sort_unstable();
        let known =
            ["batchBytes", "batchSize", "maxConnections", "policyTimeout", "requestsPerSecond", "timeout"];
        assert_eq!(fields, known, "bound it in `bounds`, in limits.rs, and in the test above");
    }

    #[test]
    fn one_way_to_log_in_is_what_there_is_also_past_the_schema() {
        let key = json!({ "name": "n", "key": "k" });
        for auth in [
            json!({}),
            json!({ "password": { "login": "a", "passwordSecretRef": key }, "apiKey": { "login": "a", "apiKeySecretRef": key } }),
            json!({ "apiKey": { "apiKeySecretRef": key } }),
            json!({ "apiKey": { "login": "a", "loginSecretRef": key, "apiKeySecretRef": key } }),
        ] {
            let message = of(json!({ "auth": auth })).unwrap_err().message;
            assert!(message.contains("exactly one of"), "{message}");
        }
        let both = json!({ "caBundle": "x", "caBundleFrom": { "kind": "Secret", "name": "n", "key": "k" } });
        assert!(of(json!({ "tls": both })).is_err());
    }
}
