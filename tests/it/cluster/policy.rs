//! ConjurPolicy on a real control plane.

mod answers;
mod api_faults;
mod branches;
mod crash;
mod created;
mod deletions;
mod directory;
mod document_from;
mod drift;
mod dry_run;
mod gitops;
mod kills;
mod large;
mod loads;
mod lost_keys;
mod many_kills;
mod owners;
mod pages;
mod refused;
mod removal;
mod replace;
mod replicas;
mod retries;
mod states;
mod tenants;
mod together;
mod twins;
mod ways;

use std::collections::BTreeMap;

use conjur_dev::{Effect, Fault, Hold, Kind, Point, When};
use conjur_operator::api::ConjurPolicy;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;

use super::{Bench, SOON};

/// The branch `billing`, which the host that the connection is may load and does not own.
async fn loaded_by_a_stranger(bench: &Bench) {
    bench
        .root(
            "- !host loader\n- !policy {id: billing}\n\
             - !permit {role: !host loader, privileges: [read, create, update], resource: !policy billing}\n",
        )
        .await;
    bench.connect("host/loader").await;
}

/// The branch `billing`, owned by the host that the connection is; in it a host that existed before.
async fn billing(bench: &Bench) {
    bench
        .root("- !host ops\n- !policy\n  id: billing\n  owner: !host ops\n  body:\n  - !host old\n  - !variable old\n")
        .await;
    bench.connect("host/ops").await;
}

/// The manifest of a ConjurPolicy for the branch `billing`; `more` are further lines of the spec.
fn policy(name: &str, more: &str, document: &str) -> String {
    let branch = if more.contains("branch:") { "" } else { "  branch: billing\n" };
    let more = more.lines().fold(String::new(), |all, line| all + "  " + line + "\n");
    format!(
        "apiVersion: conjur-operator.io/v1alpha1\nkind: ConjurPolicy\nmetadata: {{name: {name}}}\nspec:\n  connectionRef: \
         {{name: conjur}}\n{branch}{more}  document: {}\n",
        serde_json::to_string(document).unwrap()
    )
}

/// The same, where the document lies in these: kind, name and key.
fn policy_from(name: &str, more: &str, sources: &[(&str, &str, &str)]) -> String {
    let inline = policy(name, more, "");
    let from: Vec<String> = sources
        .iter()
        .map(|(kind, name, key)| format!("{{kind: {kind}, name: {name}, key: {key}}}"))
        .collect();
    inline.replace("  document: \"\"\n", &format!("  documentFrom: [{}]\n", from.join(", ")))
}

/// Makes a ConfigMap, or changes its data.
async fn put_config_map(bench: &Bench, name: &str, data: &[(&str, &str)]) {
    let data: BTreeMap<_, _> = data.iter().copied().collect();
    let map = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": data
    });
    bench.apply(&map.to_string()).await;
}

/// Lets the document that the policy has now delete.
async fn allow_deletions(bench: &Bench, name: &str, hash: &str) {
    let annotation = format!("conjur-operator.io/allow-deletions={hash}");
    bench.kubectl(&["annotate", "--overwrite", "conjurpolicy", name, &annotation]).await;
}

/// A document that makes these hosts.
fn hosts_document(hosts: &[String]) -> String {
    hosts.iter().fold("- !host old\n".to_owned(), |all, host| all + "- !host " + host + "\n")
}

/// The line of a spec that says where keys go.
fn keys_in(secret: &str) -> String {
    format!("createdRoles: {{secretName: {secret}}}")
}

/// How often the branch was loaded.
fn version(bench: &Bench, branch: &str) -> u64 {
    bench.conjur.policy_versions(branch).last().map_or(0, |v| v.version)
}

/// Waits until all that happened before has been looked at: an object that was made later is done.
async fn settled(bench: &Bench, name: &str) {
    bench.root(&format!("- !policy {{id: barrier-{name}, owner: !host ops}}\n")).await;
    bench.apply(&policy(name, &format!("branch: barrier-{name}"), "- !variable barrier\n")).await;
    bench.ready::<ConjurPolicy>(name).await;
}

/// The Secret's key names of a host in the branch `billing`.
fn names(host: &str) -> (String, String) {
    (format!("host.billing_2f{host}.login"), format!("host.billing_2f{host}.api-key"))
}

/// Asserts that the Secret holds the present key of each of the hosts of `billing`.
async fn keys_work(bench: &Bench, secret: &str, hosts: &[&str]) {
    let data = bench.data(secret).await.unwrap_or_else(|| panic!("no Secret {secret}"));
    assert!(!data.contains_key("pending.json"), "an announcement was left over");
    assert_hosts(bench, &data, hosts);
}

fn assert_hosts(bench: &Bench, data: &BTreeMap<String, String>, hosts: &[&str]) {
    for host in hosts {
        let (login_key, api_key) = names(host);
        let login = format!("host/billing/{host}");
        let key = bench.conjur.api_key_of(&login).unwrap_or_else(|| panic!("no host {login}"));
        bench.keep_secret(key.clone());
        assert_eq!(data.get(&login_key), Some(&login));
        assert!(data.get(&api_key) == Some(&key), "{login}: the stored key is missing or does not work");
    }
}

/// The host that existed before has the key that it had.
fn old_host_is_untouched(bench: &Bench) {
    assert_eq!(bench.conjur.key_generation("host/billing/old"), Some(0));
}

/// Holds one load of `billing`.
fn hold(bench: &Bench, at: Point) -> u64 {
    let path = "/policies/demo/policy/billing".to_owned();
    bench.conjur.hold(Hold { method: None, path, at, count: Some(1) })
}

/// Waits until so many loads are held.
async fn held(bench: &Bench, count: usize) {
    let mut changes = bench.conjur.held_changes();
    let reached = tokio::time::timeout(SOON, changes.wait_for(|held| *held == count)).await;
    reached.unwrap_or_else(|_| panic!("{count} loads should be held")).unwrap();
}

/// Whether an Event with this reason was told.
async fn told(bench: &Bench, reason: &str) -> bool {
    let all = bench.api::<Event>().list(&ListParams::default()).await.unwrap();
    all.items.iter().any(|event| event.reason.as_deref() == Some(reason))
}

/// A fault that strikes policy loads.
fn load_fault(count: u64, when: When, effect: Effect) -> Fault {
    Fault { method: None, path: "/policies/".into(), count: Some(count), when, effect }
}

/// How many loads the server saw, whatever it answered.
fn loads(bench: &Bench) -> usize {
    bench.conjur.count(Kind::Load)
}

fn status(object: &ConjurPolicy) -> conjur_operator::api::ConjurPolicyStatus {
    object.status.clone().unwrap()
}
