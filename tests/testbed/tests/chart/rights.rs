//! Who may do what, by set of values.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testbed::ControlPlane;

use super::{objects, render};

/// What the roles of a template grant with some values: `group/resource [names]: verbs`, behind where.
async fn rights(cluster: &ControlPlane, values: &[&str], template: &str) -> BTreeSet<String> {
    let mut args = vec!["--show-only", template];
    for value in values {
        args.extend(["--set", value]);
    }
    let yaml = render(cluster, &json!({}), &args).await.unwrap();
    let roles = objects(cluster, &yaml).await;
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut found = BTreeSet::new();
    for role in roles {
        let namespace = role["metadata"]["namespace"].as_str().unwrap_or_default();
        for rule in role["rules"].as_array().into_iter().flatten() {
            let names = texts(&rule["resourceNames"]).join(" ");
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    let place = match role["kind"].as_str().unwrap() {
                        "Role" => format!("in {namespace}:"),
                        kind => kind.to_owned(),
                    };
                    let verbs = texts(&rule["verbs"]).join(" ");
                    found.insert(format!("{place} {group}/{resource} [{names}]: {verbs}"));
                }
            }
        }
    }
    found
}

/// What the operator needs where it works on the whole cluster.
fn everywhere() -> BTreeSet<String> {
    let ours = "ClusterRole conjur-operator.io";
    [
        "clusterconjurconnections []: get list watch",
        "conjurconnections []: get list watch",
        "conjursecrets []: get list watch",
        "conjurpolicies []: get list watch",
        "conjurpushes []: get list watch",
        "conjurhosts []: get list watch",
        "clusterconjurconnections/status []: patch",
        "conjurconnections/status []: patch",
        "conjursecrets/status []: patch",
        "conjurpolicies/status []: patch",
        "conjurpushes/status []: patch",
        "conjurhosts/status []: patch",
        "conjurpolicies []: patch",
        "conjurpushes []: patch",
        "conjurhosts []: patch",
        "conjursecrets/finalizers []: update",
        "conjurpolicies/finalizers []: update",
    ]
    .map(|right| format!("{ours}/{right}"))
    .into_iter()
    .chain(
        [
            "ClusterRole /secrets []: get list watch create update patch delete",
            "ClusterRole /configmaps []: get list watch",
            "ClusterRole /namespaces []: list watch",
            "ClusterRole apps/deployments []: patch",
            "ClusterRole apps/statefulsets []: patch",
            "ClusterRole apps/daemonsets []: patch",
            "ClusterRole events.k8s.io/events []: create patch",
            "ClusterRole discovery.k8s.io/endpointslices [kubernetes]: get",
            "in conjur-system: coordination.k8s.io/leases [conjur-operator]: get update",
            "in conjur-system: coordination.k8s.io/leases []: create",
        ]
        .map(str::to_owned),
    )
    .collect()
}

#[tokio::test]
async fn each_set_of_values_grants_what_it_needs_and_nothing_else() {
    let cluster = ControlPlane::start().await.unwrap();
    let expected = everywhere();
    let named = [
        "ClusterRole /serviceaccounts []: list watch",
        "ClusterRole /serviceaccounts/token [app web]: create",
    ];
    let all = [named[0], "ClusterRole /serviceaccounts/token []: create"];
    let by_name = "rbac.tokenRequest.serviceAccountNames={app,web}";
    // The values, what they add, and what they take away.
    for (values, more, less) in [
        (vec![], &[][..], ""),
        (vec![by_name], &named[..], ""),
        (vec!["rbac.tokenRequest.allServiceAccounts=true"], &all[..], ""),
        (vec![by_name, "rbac.tokenRequest.allServiceAccounts=true"], &all[..], ""),
        (vec![by_name, "rbac.tokenRequest.enabled=false"], &[][..], ""),
        (vec!["rolloutRestart.enabled=false"], &[][..], " apps/"),
        (vec!["leaderElection.enabled=false"], &[][..], "leases"),
    ] {
        let mut expected = expected.clone();
        expected.extend(more.iter().map(|right| (*right).to_owned()));
        expected.retain(|right| less.is_empty() || !right.contains(less));
        let found = rights(&cluster, &values, "templates/rbac.yaml").await;
        same(&found, &expected, &values);
    }
    cluster.stop().await.unwrap();
}

/// What differs between the two, as a failure.
fn same(found: &BTreeSet<String>, expected: &BTreeSet<String>, values: &[&str]) {
    let (too_much, missing): (Vec<_>, Vec<_>) =
        (found.difference(expected).collect(), expected.difference(found).collect());
    assert!(
        too_much.is_empty() && missing.is_empty(),
        "{values:?}\ntoo much: {too_much:#?}\nmissing: {missing:#?}"
    );
}

/// What is in no namespace, or in the API server's own.
fn of_the_cluster(right: &str) -> bool {
    ["/clusterconjurconnections", "/namespaces ", "/endpointslices "].iter().any(|word| right.contains(word))
}

#[tokio::test]
async fn with_named_namespaces_no_right_to_anything_in_others_is_left() {
    let cluster = ControlPlane::start().await.unwrap();
    let names = "rbac.tokenRequest.serviceAccountNames={app}";
    let token =
        ["ClusterRole /serviceaccounts []: list watch", "ClusterRole /serviceaccounts/token [app]: create"];
    let mut work: BTreeSet<String> =
        everywhere().into_iter().filter(|right| !of_the_cluster(right) && right.starts_with("Cl")).collect();
    work.extend(token.map(str::to_owned));
    let in_each = ["billing", "web"].iter().flat_map(|namespace| {
        work.iter().map(move |right| right.replacen("ClusterRole", &format!("in {namespace}:"), 1))
    });
    let mut expected: BTreeSet<String> = in_each.collect();
    expected.extend(everywhere().into_iter().filter(|right| right.contains("leases")));
    expected.insert("in default: discovery.k8s.io/endpointslices [kubernetes]: get".to_owned());

    // A namespace that is deleted takes the Role in it along; what is left there is still to be let go.
    expected.extend(
        ["conjurpolicies", "conjurpushes", "conjurhosts"]
            .map(|kind| format!("ClusterRole conjur-operator.io/{kind} []: get patch")),
    );

    // ClusterConjurConnections are read in the cluster, and told of by Events in `default`.
    let values = ["watchNamespaces={billing,web}", names];
    let mut with_cluster = expected.clone();
    with_cluster.extend(
        everywhere()
            .into_iter()
            .filter(|right| right.contains("/clusterconjurconnections") || right.contains("/namespaces ")),
    );
    with_cluster.insert("in default: events.k8s.io/events []: create patch".to_owned());
    same(&rights(&cluster, &values, "templates/rbac.yaml").await, &with_cluster, &values);

    // Without them, one Namespace by its name is all that is asked of the cluster.
    let values = ["watchNamespaces={billing,web}", names, "clusterConnections.enabled=false"];
    expected.insert("ClusterRole /namespaces [kube-system]: get".to_owned());
    same(&rights(&cluster, &values, "templates/rbac.yaml").await, &expected, &values);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn hooks_may_do_what_they_do_and_nothing_else() {
    let cluster = ControlPlane::start().await.unwrap();
    let (apply, uninstall, test) = (
        "templates/connections.yaml",
        "templates/uninstall-check.yaml",
        "templates/tests/install-check.yaml",
    );
    let connection = "connections[0].name=x,connections[0].namespace=a,connections[0].spec.account=b";
    let watch = "watchNamespaces={a}";
    let verbs = "list create patch delete";
    let kept = ["conjurpolicies", "conjurpushes", "conjurhosts"];
    let all = [&kept[..], &["conjursecrets", "conjurconnections", "clusterconjurconnections"]].concat();
    let may = |place: &str, kinds: &[&str], verbs: &str| -> Vec<String> {
        kinds.iter().map(|kind| format!("{place} conjur-operator.io/{kind} []: {verbs}")).collect()
    };
    let (cluster_role, in_a) = ("ClusterRole", "in a:");
    let connections = ["conjurconnections", "clusterconjurconnections"];
    for (template, values, expected) in [
        (apply, vec![connection], may(cluster_role, &connections, verbs)),
        (
            apply,
            vec![connection, watch],
            [may(in_a, &connections[..1], verbs), may(cluster_role, &connections[1..], verbs)].concat(),
        ),
        (
            apply,
            vec![connection, watch, "clusterConnections.enabled=false"],
            may(in_a, &connections[..1], verbs),
        ),
        (uninstall, vec![], may(cluster_role, &kept, "list")),
        (uninstall, vec![watch], may(in_a, &kept, "list")),
        (uninstall, vec![watch, "crds.keep=false"], may(cluster_role, &all, "list")),
        (test, vec![], may(cluster_role, &all, "list")),
        (test, vec![watch], [may(in_a, &all[..5], "list"), may(cluster_role, &all[5..], "list")].concat()),
    ] {
        let found = rights(&cluster, &values, template).await;
        same(&found, &expected.into_iter().collect(), &values);
    }
    cluster.stop().await.unwrap();
}
