//! What the operator is granted, and what of it it used, by the roles in the cluster and the audit log of the API server.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use kube::{Api, Client, ResourceExt, api::ListParams};
use serde_json::json;
use testbed::{ApiRequest, Release};

use super::{Bench, apart, everything, login::with, setup::put};

/// What may be granted and is not seen in an ordinary run.
const UNSEEN: [(&str, &str); 5] = [
    // The API server asks for it itself, for owner references that block their owner's deletion.
    ("conjursecrets/finalizers", "update"),
    ("conjurpolicies/finalizers", "update"),
    // Long specs, for which there is no room in memory, are read when their object has its turn.
    ("conjurconnections", "get"),
    ("clusterconjurconnections", "get"),
    ("conjursecrets", "get"),
];

/// A verb of a resource, in a namespace, or in the whole cluster where the text is empty.
type Right = (String, String, String);

/// All that the roles in the cluster grant to the operator.
pub async fn granted(client: &Client, release: &Release) -> BTreeSet<Right> {
    let is_ours = |subjects: &Option<Vec<Subject>>| {
        subjects.iter().flatten().any(|s| {
            s.name == release.service_account && s.namespace.as_deref() == Some(release.namespace.as_str())
        })
    };
    let mut all = BTreeSet::new();
    let everything = ListParams::default();
    let cluster_rules = async |of: &RoleRef| {
        Api::<ClusterRole>::all(client.clone()).get(&of.name).await.unwrap().rules.unwrap_or_default()
    };
    for binding in Api::<ClusterRoleBinding>::all(client.clone()).list(&everything).await.unwrap() {
        if is_ours(&binding.subjects) {
            let rules = cluster_rules(&binding.role_ref).await;
            all.extend(rules.iter().flat_map(|rule| rights("", rule)));
        }
    }
    for binding in Api::<RoleBinding>::all(client.clone()).list(&everything).await.unwrap() {
        if is_ours(&binding.subjects) {
            let namespace = binding.namespace().unwrap();
            let rules = match binding.role_ref.kind.as_str() {
                "Role" => {
                    let roles = Api::<Role>::namespaced(client.clone(), &namespace);
                    roles.get(&binding.role_ref.name).await.unwrap().rules.unwrap_or_default()
                }
                _ => cluster_rules(&binding.role_ref).await,
            };
            all.extend(rules.iter().flat_map(|rule| rights(&namespace, rule)));
        }
    }
    all
}

fn rights(namespace: &str, rule: &PolicyRule) -> Vec<Right> {
    let resources = rule.resources.iter().flatten();
    let pairs = resources.flat_map(|resource| rule.verbs.iter().map(move |verb| (resource, verb)));
    pairs.map(|(resource, verb)| (namespace.to_owned(), resource.clone(), verb.clone())).collect()
}

fn resource(request: &ApiRequest) -> String {
    match request.subresource.as_str() {
        "" => request.resource.clone(),
        subresource => format!("{}/{subresource}", request.resource),
    }
}

/// The requests of the operator for resources, since the audit log had so many.
pub fn requests(bench: &Bench, before: usize) -> Vec<ApiRequest> {
    let all = bench.world.plane.api_requests_by(&bench.world.release.user()).unwrap();
    all.into_iter().skip(before).filter(|request| !request.resource.is_empty()).collect()
}

/// Nothing was refused for want of a right, and no verb is granted that was not used.
pub async fn are_what_was_used(bench: &Bench, before: usize) {
    let all = requests(bench, before);
    let refused: Vec<_> = all.iter().filter(|request| request.code == 403).map(|r| &r.uri).collect();
    assert!(refused.is_empty(), "refused: {refused:#?}");
    let granted = granted(&bench.client, &bench.world.release).await;
    assert!(granted.len() > 20, "the roles are not found: {granted:?}");
    let is_used = |(namespace, right, verb): &Right| {
        all.iter().any(|request| {
            (namespace.is_empty() || request.namespace == *namespace)
                && resource(request) == *right
                && request.verb == *verb
        })
    };
    let unused: Vec<_> = granted
        .iter()
        .filter(|right| !is_used(right) && !UNSEEN.contains(&(right.1.as_str(), right.2.as_str())))
        // An Event about a ClusterConjurConnection seldom comes again.
        .filter(|(namespace, right, verb)| {
            (namespace.as_str(), right.as_str(), verb.as_str()) != ("default", "events", "patch")
        })
        .collect();
    assert!(unused.is_empty(), "granted, and not used: {unused:#?}");
}

#[test]
fn everything_in_one_namespace_uses_each_right_of_the_chart() {
    apart(|bench, _operator| async move {
        let options = conjur_dev::Options {
            authenticators: vec!["authn-jwt/k8s".to_owned()],
            ..conjur_dev::Options::default()
        };
        let bench = with(&bench, options).await;
        bench.may_delete();
        everything::in_conjur(&bench).await;
        let login = format!("host/{}-ops", bench.namespace);
        let key = bench.conjur.api_key_of(&login).unwrap();
        bench.put_secret("conjur-login", &[("api-key", &key)]).await;
        put(&bench, &everything::connection_as(&bench, &login)).await;
        everything::make(&bench, &json!({ "name": "conjur" })).await;
        let secret = json!({ "namespace": bench.namespace, "name": "conjur-login", "key": "api-key" });
        let auth = json!({ "apiKey": { "login": login, "apiKeySecretRef": secret } });
        let shared = super::access::shared(&bench, &auth, &json!([])).await;
        everything::change(&bench).await;
        everything::remove(&bench).await;
        are_what_was_used(&bench, 0).await;
        super::access::end(&bench, &shared).await;
    });
}
