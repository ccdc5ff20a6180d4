//! What a spec refers to, and how much, looked at before anything is asked for by it. The schema says the same; an object
//! may be older than the schema, or the CRD than the operator.

use std::time::Duration;

use super::Failure;
use crate::api::{
    ConjurHostSpec, ConjurPolicySpec, ConjurPushSpec, ConjurSecretSpec, ConnectionRef, KeySource, Reason,
    connection::{AccessRule, Settings},
    names,
};

/// A key is rotated at most this often.
const SHORTEST_ROTATION: Duration = Duration::from_secs(3600);

/// Refuses a reference to what can't be a name or key, and more of them than the schema takes.
///
/// # Errors
/// `InvalidSpec`, naming the field.
pub fn of_secret(spec: &ConjurSecretSpec) -> Result<(), Failure> {
    connection(&spec.connection_ref)?;
    let target = spec.target.as_ref();
    let template = target.and_then(|target| target.template.as_ref());
    let from = template.and_then(|template| template.data_from.as_deref()).unwrap_or_default();
    at_most("spec.data", spec.entries().len(), 256)?;
    at_most("spec.dataFrom", spec.sources().len(), 32)?;
    at_most("spec.rolloutRestart", spec.rollouts().len(), 16)?;
    at_most("spec.target.template.dataFrom", from.len(), 16)?;
    if let Some(target) = target.and_then(|target| target.name.as_deref()) {
        name("spec.target.name", target)?;
    }
    for (at, from) in from.iter().enumerate() {
        source(&format!("spec.target.template.dataFrom[{at}]"), &from.source)?;
    }
    for (at, workload) in spec.rollouts().iter().enumerate() {
        name(&format!("spec.rolloutRestart[{at}].name"), &workload.name)?;
    }
    Ok(())
}

/// The same, of a policy.
///
/// # Errors
/// `InvalidSpec`, naming the field.
pub fn of_policy(spec: &ConjurPolicySpec) -> Result<(), Failure> {
    connection(&spec.connection_ref)?;
    at_most("spec.documentFrom", spec.document_from.iter().flatten().count(), 64)?;
    for (at, from) in spec.document_from.iter().flatten().enumerate() {
        source(&format!("spec.documentFrom[{at}]"), from)?;
    }
    match &spec.created_roles {
        Some(roles) => name("spec.createdRoles.secretName", &roles.secret_name),
        None => Ok(()),
    }
}

/// The same, of a push.
///
/// # Errors
/// `InvalidSpec`, naming the field.
pub fn of_push(spec: &ConjurPushSpec) -> Result<(), Failure> {
    connection(&spec.connection_ref)?;
    at_most("spec.data", spec.entries().len(), 256)?;
    at_most("spec.rewrite", spec.rewrite.iter().flatten().count(), 16)?;
    if let Some(create) = &spec.create_variables {
        at_most("spec.createVariables.permit", create.permit.iter().flatten().count(), 16)?;
        at_most("spec.createVariables.annotations", create.annotations.iter().flatten().count(), 16)?;
    }
    match (&spec.source.secret_ref, &spec.source.selector) {
        (Some(secret), None) => name("spec.source.secretRef.name", &secret.name),
        (None, Some(_)) => Ok(()),
        _ => Err(invalid("spec.source: give exactly one of secretRef and selector".to_owned())),
    }
}

/// The same, of a host.
///
/// # Errors
/// `InvalidSpec`, naming the field.
pub fn of_host(spec: &ConjurHostSpec) -> Result<(), Failure> {
    connection(&spec.connection_ref)?;
    let target = spec.target.as_ref();
    let template = target.and_then(|target| target.template.as_ref());
    let from = template.and_then(|template| template.data_from.as_deref()).unwrap_or_default();
    at_most("spec.annotations", spec.annotations.iter().flatten().count(), 64)?;
    at_most("spec.restrictedTo", spec.restricted_to.iter().flatten().count(), 64)?;
    at_most("spec.memberOf", spec.memberships().len(), 64)?;
    at_most("spec.rolloutRestart", spec.rollouts().len(), 16)?;
    at_most("spec.target.template.dataFrom", from.len(), 16)?;
    if let Some(target) = target.and_then(|target| target.name.as_deref()) {
        name("spec.target.name", target)?;
    }
    for (at, from) in from.iter().enumerate() {
        source(&format!("spec.target.template.dataFrom[{at}]"), &from.source)?;
    }
    for (at, workload) in spec.rollouts().iter().enumerate() {
        name(&format!("spec.rolloutRestart[{at}].name"), &workload.name)?;
    }
    let token = spec.via.as_ref().and_then(|via| via.host_factory_token_secret_ref.as_ref());
    if let Some(token) = token {
        name("spec.via.hostFactoryTokenSecretRef.name", &token.name)?;
        key("spec.via.hostFactoryTokenSecretRef.key", &token.key)?;
    }
    way_of_host(spec)
}

/// What belongs together in the spec of a host, as the schema says it.
fn way_of_host(spec: &ConjurHostSpec) -> Result<(), Failure> {
    let takes_over = spec.via.as_ref().and_then(|via| {
        let token = via.host_factory_token_secret_ref.as_ref().map(|_| "spec.via.hostFactoryTokenSecretRef");
        token.or(via.existing.map(|_| "spec.via.existing"))
    });
    if let Some(field) = takes_over.filter(|_| !spec.adopts()) {
        return Err(invalid(format!(
            "{field} gives a host that exists a new key, and its old one dies; permit that with conflictPolicy: Adopt"
        )));
    }
    if spec.rotation_interval().is_some_and(|interval| interval < SHORTEST_ROTATION) {
        let message = "spec.rotation.interval: rotate at most every hour: write 1h or more, such as 720h";
        return Err(invalid(message.to_owned()));
    }
    let by_policy = spec.via.as_ref().is_none_or(|via| via.branch.is_some());
    if !spec.keeps_key() && !by_policy {
        let message =
            "spec.apiKey: false needs a host that is made by policy; only via: {branch: …} can do that";
        return Err(invalid(message.to_owned()));
    }
    if !by_policy && (spec.restricted_to.is_some() || spec.member_of.is_some()) {
        return Err(invalid(
            "spec.restrictedTo and spec.memberOf are loaded with the host as policy; they need via: {branch: …}"
                .to_owned(),
        ));
    }
    Ok(())
}

/// The same, of a connection. A ConjurConnection, which has no `access`, refers to its own namespace only; a
/// ClusterConjurConnection says the namespace of each Secret and ConfigMap.
///
/// # Errors
/// `InvalidSpec`, naming the field.
pub fn of_connection(settings: &Settings, access: Option<&[AccessRule]>) -> Result<(), Failure> {
    for reference in settings.references() {
        let field = reference.field;
        match (access, reference.namespace) {
            (None, Some(_)) => {
                return Err(invalid(format!(
                    "{field}.namespace: a ConjurConnection refers to its own namespace only; leave the namespace out, or \
                     make a ClusterConjurConnection"
                )));
            }
            (Some(_), None) if !reference.may_be_a_tenants => {
                return Err(invalid(format!(
                    "{field}.namespace is missing: a ClusterConjurConnection lies in no namespace"
                )));
            }
            (_, Some(namespace)) if !names::is_label(namespace) => {
                return Err(invalid(format!("{field}.namespace is not the name of a namespace")));
            }
            _ => {}
        }
        name(&format!("{field}.name"), reference.name)?;
        if let Some(given) = reference.key {
            key(&format!("{field}.key"), given)?;
        }
    }
    Ok(())
}

/// The bounds of the schema; a test compares them.
fn at_most(field: &str, count: usize, most: usize) -> Result<(), Failure> {
    if count <= most {
        return Ok(());
    }
    Err(invalid(format!("{field} has {count} entries, of at most {most}: divide them among several objects")))
}

fn connection(reference: &ConnectionRef) -> Result<(), Failure> {
    name("spec.connectionRef.name", &reference.name)
}

fn source(field: &str, from: &KeySource) -> Result<(), Failure> {
    name(&format!("{field}.name"), &from.name)?;
    key(&format!("{field}.key"), &from.key)
}

fn name(field: &str, text: &str) -> Result<(), Failure> {
    if names::is_name(text) {
        return Ok(());
    }
    Err(invalid(format!(
        "{field} is not a name: lower-case letters, digits, '-' and '.', with a letter or digit at both ends of each part"
    )))
}

fn key(field: &str, text: &str) -> Result<(), Failure> {
    if names::is_key(text) {
        return Ok(());
    }
    Err(invalid(format!(
        "{field} is not a key: letters, digits, '-', '_' and '.', and neither '.' nor with '..' at its beginning"
    )))
}

fn invalid(message: String) -> Failure {
    Failure::stalled(Reason::InvalidSpec, message)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::{ClusterConjurConnectionSpec, ConjurConnectionSpec};

    /// A connection of each way to log in, with every reference that there is, and where each stands.
    fn connections(namespace: Option<&str>, name: &str, key: &str) -> Vec<(Value, &'static str)> {
        let mut of_key = json!({ "name": name, "key": key });
        let mut of_name = json!({ "name": name });
        let mut account = json!({ "name": name, "audiences": ["conjur"] });
        let mut bundle = json!({ "kind": "Secret", "name": name, "key": key });
        if let Some(namespace) = namespace {
            for reference in [&mut of_key, &mut of_name, &mut account, &mut bundle] {
                reference["namespace"] = namespace.into();
            }
        }
        let good = if namespace.is_some() {
            json!({ "namespace": "ns", "name": "n", "key": "k" })
        } else {
            json!({ "name": "n", "key": "k" })
        };
        let password = || json!({ "password": { "login": "a", "passwordSecretRef": good } });
        let spec = |auth: Value, tls: Value| json!({ "url": "https://h", "account": "demo", "auth": auth, "tls": tls });
        vec![
            (
                spec(json!({ "apiKey": { "loginSecretRef": of_key, "apiKeySecretRef": good } }), json!({})),
                "spec.auth.apiKey.loginSecretRef",
            ),
            (
                spec(json!({ "apiKey": { "login": "a", "apiKeySecretRef": of_key } }), json!({})),
                "spec.auth.apiKey.apiKeySecretRef",
            ),
            (
                spec(json!({ "password": { "login": "a", "passwordSecretRef": of_key } }), json!({})),
                "spec.auth.password.passwordSecretRef",
            ),
            (
                spec(
                    json!({ "certificate": { "serviceID": "s", "certificateSecretRef": of_name } }),
                    json!({}),
                ),
                "spec.auth.certificate.certificateSecretRef",
            ),
            (
                spec(json!({ "jwt": { "serviceID": "s", "serviceAccountRef": account } }), json!({})),
                "spec.auth.jwt.serviceAccountRef",
            ),
            (spec(password(), json!({ "caBundleFrom": bundle })), "spec.tls.caBundleFrom"),
            (
                spec(password(), json!({ "clientCertificateSecretRef": of_name })),
                "spec.tls.clientCertificateSecretRef",
            ),
        ]
    }

    fn own(spec: &Value) -> Result<(), Failure> {
        let spec: ConjurConnectionSpec = serde_json::from_value(spec.clone()).unwrap();
        of_connection(&Settings::from(&spec), None)
    }

    fn cluster(spec: &Value) -> Result<(), Failure> {
        let spec: ClusterConjurConnectionSpec = serde_json::from_value(spec.clone()).unwrap();
        of_connection(&Settings::from(&spec), Some(&[]))
    }

    #[test]
    fn more_than_the_schema_takes_is_refused_at_its_bound() {
        use kube::CustomResourceExt;
        let most = |crd: &Value, path: &str| {
            let at = path.replace('.', "/properties/");
            let root = "/spec/versions/0/schema/openAPIV3Schema/properties/";
            let field = crd.pointer(&format!("{root}{at}")).unwrap();
            usize::try_from(field["maxItems"].as_u64().unwrap()).unwrap()
        };
        let crd = serde_json::to_value(crate::api::ConjurSecret::crd()).unwrap();
        let entry = json!({ "key": "k", "variable": "v" });
        let source = json!({ "extract": { "variable": "v" } });
        let workload = json!({ "kind": "Deployment", "name": "d" });
        let from = json!({ "kind": "ConfigMap", "name": "m", "key": "k" });
        for (field, item) in [
            ("spec.data", &entry),
            ("spec.dataFrom", &source),
            ("spec.rolloutRestart", &workload),
            ("spec.target.template.dataFrom", &from),
        ] {
            let with = |count: usize| {
                let mut object =
                    json!({ "spec": { "connectionRef": { "name": "c" }, "target": { "template": {} } } });
                let mut at = &mut object;
                for part in field.split('.') {
                    at = &mut at[part];
                }
                *at = vec![item.clone(); count].into();
                of_secret(&serde_json::from_value(object["spec"].take()).unwrap())
            };
            let most = most(&crd, field);
            assert_eq!(with(most), Ok(()), "{field}");
            assert!(with(most + 1).unwrap_err().message.starts_with(&format!("{field} has")), "{field}");
        }
        let crd = serde_json::to_value(crate::api::ConjurPolicy::crd()).unwrap();
        let with = |count: usize| {
            let spec = json!({ "connectionRef": { "name": "c" }, "branch": "b", "documentFrom": vec![from.clone(); count] });
            of_policy(&serde_json::from_value(spec).unwrap())
        };
        let most = most(&crd, "spec.documentFrom");
        assert_eq!(with(most), Ok(()));
        assert!(with(most + 1).unwrap_err().message.starts_with("spec.documentFrom has"));
    }

    #[test]
    fn a_host_that_the_schema_would_refuse_is_refused_though_it_is_older_than_the_schema() {
        let check = |more: Value| {
            let mut spec = json!({ "connectionRef": { "name": "c" }, "id": "apps/web" });
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            of_host(&serde_json::from_value(spec).unwrap()).map_err(|failure| failure.message)
        };
        let token = json!({ "hostFactoryTokenSecretRef": { "name": "t", "key": "token" } });
        for (more, field) in [
            (json!({ "via": token }), "spec.via.hostFactoryTokenSecretRef"),
            (json!({ "via": { "existing": {} } }), "spec.via.existing"),
            (json!({ "rotation": { "interval": "1s" } }), "spec.rotation.interval"),
            (json!({ "rotation": { "interval": "59m59s" } }), "spec.rotation.interval"),
            (json!({ "apiKey": false, "via": { "hostFactory": { "id": "apps/f" } } }), "spec.apiKey"),
            (json!({ "apiKey": false, "via": token, "conflictPolicy": "Adopt" }), "spec.apiKey"),
            (
                json!({ "memberOf": ["layer/a"], "via": { "hostFactory": { "id": "apps/f" } } }),
                "spec.restrictedTo",
            ),
        ] {
            let message = check(more.clone()).unwrap_err();
            assert!(message.starts_with(field), "{more}: {message}");
        }
        for more in [
            json!({}),
            json!({ "via": token, "conflictPolicy": "Adopt" }),
            json!({ "via": { "existing": {} }, "conflictPolicy": "Adopt" }),
            json!({ "rotation": { "interval": "1h" } }),
            json!({ "apiKey": false, "via": { "branch": "apps" }, "memberOf": ["layer/a"] }),
            json!({ "apiKey": false }),
        ] {
            assert_eq!(check(more.clone()), Ok(()), "{more}");
        }
    }

    #[test]
    fn no_reference_of_a_connection_leaves_its_namespace() {
        for (spec, field) in connections(None, "n", "k") {
            assert_eq!(own(&spec), Ok(()), "{field}");
            let all_but_tenants = cluster(&spec).is_err();
            assert_eq!(all_but_tenants, !field.ends_with("serviceAccountRef"), "{field}");
        }
        for namespace in ["kube-system", "own", "", "../x"] {
            for (spec, field) in connections(Some(namespace), "n", "k") {
                let message = own(&spec).unwrap_err().message;
                assert!(message.contains("namespace"), "{field}: {message}");
            }
        }
        for (spec, field) in connections(Some("ns"), "n", "k") {
            assert_eq!(cluster(&spec), Ok(()), "{field}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused_wherever_a_connection_refers_to_something() {
        for name in
            ["../../kube-system/secrets/x", "a/b", "", "A", ".", "a..b", "x,metadata.namespace=kube-system"]
        {
            for (spec, field) in connections(None, name, "k") {
                let message = own(&spec).unwrap_err().message;
                assert!(message.starts_with(field) && message.contains("is not a name"), "{message}");
            }
        }
        for (spec, field) in connections(None, "n", "../k") {
            if let Err(failure) = own(&spec) {
                assert!(
                    failure.message.starts_with(field) && failure.message.contains("is not a key"),
                    "{failure}"
                );
            } else {
                assert!(
                    ["certificateSecretRef", "serviceAccountRef", "clientCertificateSecretRef"]
                        .iter()
                        .any(|f| field.ends_with(f))
                );
            }
        }
        for namespace in ["a/b", "a.b", "", ".."] {
            for (spec, field) in connections(Some(namespace), "n", "k") {
                let message = cluster(&spec).unwrap_err().message;
                assert!(message.contains("is not the name of a namespace"), "{field}: {message}");
            }
        }
    }

    #[test]
    fn what_is_no_name_is_refused_wherever_a_secret_or_a_policy_refers_to_something() {
        let bad = "../../kube-system/secrets/x";
        let secret = |more: Value| {
            let mut spec =
                json!({ "connectionRef": { "name": "c" }, "data": [{ "key": "k", "variable": "v" }] });
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            of_secret(&serde_json::from_value(spec).unwrap())
        };
        assert_eq!(
            secret(
                json!({ "target": { "name": "a.b" }, "rolloutRestart": [{ "kind": "Deployment", "name": "d" }] })
            ),
            Ok(())
        );
        for (more, field) in [
            (json!({ "connectionRef": { "name": bad } }), "spec.connectionRef.name"),
            (json!({ "target": { "name": bad } }), "spec.target.name"),
            (
                json!({ "target": { "template": { "dataFrom": [{ "kind": "Secret", "name": bad, "key": "k" }] } } }),
                "spec.target.template.dataFrom[0].name",
            ),
            (
                json!({ "target": { "template": { "dataFrom": [{ "kind": "Secret", "name": "n", "key": "a/b" }] } } }),
                "spec.target.template.dataFrom[0].key",
            ),
            (
                json!({ "rolloutRestart": [{ "kind": "Deployment", "name": bad }] }),
                "spec.rolloutRestart[0].name",
            ),
        ] {
            let message = secret(more).unwrap_err().message;
            assert!(message.starts_with(field), "{message}");
        }
        let policy = |more: Value| {
            let mut spec = json!({ "connectionRef": { "name": "c" }, "branch": "b" });
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            of_policy(&serde_json::from_value(spec).unwrap())
        };
        assert_eq!(
            policy(json!({ "documentFrom": [{ "kind": "ConfigMap", "name": "n", "key": ".k" }] })),
            Ok(())
        );
        for (more, field) in [
            (json!({ "connectionRef": { "name": bad } }), "spec.connectionRef.name"),
            (
                json!({ "documentFrom": [{ "kind": "ConfigMap", "name": bad, "key": "k" }] }),
                "spec.documentFrom[0].name",
            ),
            (
                json!({ "documentFrom": [{ "kind": "ConfigMap", "name": "n", "key": "..k" }] }),
                "spec.documentFrom[0].key",
            ),
            (json!({ "createdRoles": { "secretName": bad } }), "spec.createdRoles.secretName"),
        ] {
            let message = policy(more).unwrap_err().message;
            assert!(message.starts_with(field), "{message}");
        }
    }
}
