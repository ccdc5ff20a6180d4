//! `docs/connections.md`: each way to log in, authn-jwt by the page alone, and a connection for the whole cluster.

use std::collections::BTreeSet;

use conjur_client::{Client, Config, Credentials, sensitive::Sensitive};
use conjur_dev::Options;
use testbed::pki::Authority;

use super::super::{Bench, login::service_account, test};
use super::{
    paths, schema, tells_every_field,
    walk::{Step, Walk, flat, section, steps},
    without_example,
};

const PAGE: &str = include_str!("../../../../docs/connections.md");

/// A certificate as the page writes it.
const PLACEHOLDER: &str = "-----BEGIN CERTIFICATE-----\n      MIIB…\n      -----END CERTIFICATE-----\n";

/// The page for the namespace of a test, which is the tenant, and has what is the operator's, too.
fn page(bench: &Bench) -> String {
    PAGE.replace("conjur-system", &bench.namespace).replace("billing", &bench.namespace)
}

/// Makes the ConfigMap with Conjur's authority.
async fn authority(walk: &Walk) {
    let namespace = &walk.bench.namespace;
    let command =
        format!("kubectl create configmap conjur-ca -n {namespace} --from-file ca.crt=conjur-ca.pem");
    walk.shell(&command).await.unwrap();
}

/// The authenticators `k8s`, which takes the host from the connection, and `prod`.
const AUTHENTICATORS: &str = "- !policy
  id: conjur/authn-jwt/k8s
  body:
    - !webservice
    - !variable public-keys
    - !variable issuer
    - !variable audience
- !policy
  id: conjur/authn-cert/prod
  body:
    - !webservice
    - !variable ca-cert
";

/// What administrators and people have done before the first example.
async fn prepare(walk: &mut Walk, clients: &Authority) {
    walk.bench.root(AUTHENTICATORS).await;
    assert!(
        walk.bench.conjur.set_variable("conjur/authn-cert/prod/ca-cert", clients.certificate().as_bytes())
    );
    for step in steps(flat(section(PAGE, "authn-jwt, step by step"))) {
        let settings = ["public-keys ", "issuer ", "audience "];
        match &step {
            Step::Command(command) if settings.iter().any(|name| command.contains(name)) => {
                walk.step(&step).await;
            }
            _ => {}
        }
    }
    let namespace = walk.bench.namespace.clone();
    let identity = clients.issue_client(&namespace).unwrap();
    let folder = walk.folder.path();
    std::fs::write(folder.join(format!("{namespace}.crt")), &identity.certificate).unwrap();
    std::fs::write(folder.join(format!("{namespace}.key")), &identity.key).unwrap();
    walk.bench.keep_secret(identity.key);
    service_account(&walk.bench, "conjur").await;
    authority(walk).await;
}

/// Gives alice a password.
async fn password(walk: &Walk) -> String {
    let conjur = &walk.bench.conjur;
    let mut config = Config::new(conjur.url().parse().unwrap(), "myorg", Credentials::Anonymous);
    config.ca_bundle = Some(std::fs::read(walk.folder.path().join("conjur-ca.pem")).unwrap());
    let key = Sensitive::new(conjur.api_key_of("alice").unwrap());
    let password = format!("Aa-Alice-12-{}", walk.bench.namespace);
    walk.bench.keep_secret(password.clone());
    let given = Sensitive::new(password.clone());
    Client::new(config).unwrap().change_password("alice", &key, &given).await.unwrap();
    password
}

#[test]
fn every_example_of_a_connection_becomes_what_the_page_says() {
    test(|bench| async move {
        let clients = Authority::new("clients").unwrap();
        let authenticators = ["authn-jwt/k8s", "authn-cert/prod"].map(str::to_owned).to_vec();
        let options = Options { authenticators, ..Options::default() };
        let mut walk = Walk::begin_with(&bench, &bench.namespace, options).await;
        prepare(&mut walk, &clients).await;
        let trusted = std::fs::read_to_string(walk.folder.path().join("conjur-ca.pem")).unwrap();
        let trusted = trusted.trim_end().replace('\n', "\n      ") + "\n";
        let page = page(&bench);
        assert!(page.contains(PLACEHOLDER));
        let page = page.replace(PLACEHOLDER, &trusted);
        let (mut applied, mut ran) = (0, 0);
        for heading in
            ["Ways to log in", "Other settings", "One direction only", "Where a connection may lead"]
        {
            for step in steps(flat(section(&page, heading))) {
                match &step {
                    Step::Policy(policy) => walk.load(policy).await,
                    Step::Command(command) if command.contains(" alice ") => walk.key = password(&walk).await,
                    _ => {}
                }
                walk.step(&step).await;
                applied += usize::from(matches!(step, Step::Manifest(_)));
                ran += usize::from(matches!(step, Step::Command(_)));
            }
        }
        assert!(applied > 8 && ran > 3, "{applied} manifests, {ran} commands");
        walk.bench.conjur.stop().await;
    });
}

#[test]
fn authn_jwt_is_set_up_by_the_page_alone_and_serves_the_whole_cluster() {
    test(|bench| async move {
        let mut walk = Walk::begin_with(&bench, &bench.namespace, Options::default()).await;
        authority(&walk).await;
        let page = page(&bench);
        let (mut applied, mut ran) = (0, 0);
        for heading in ["authn-jwt, step by step", "For the whole cluster"] {
            for step in steps(flat(section(&page, heading))) {
                if let Step::Policy(policy) = &step {
                    walk.load(policy).await;
                }
                walk.step(&step).await;
                applied += usize::from(matches!(step, Step::Manifest(_)));
                ran += usize::from(matches!(step, Step::Command(_)));
            }
        }
        assert!(applied > 6 && ran > 10, "{applied} manifests, {ran} commands");
        let me = format!("myorg:host:apps/k8s/system:serviceaccount:{0}:conjur", bench.namespace);
        let permits = permits(&walk);
        assert!(permits.contains(&(me, "execute".to_owned())), "{permits:?}");
        walk.shell("kubectl delete clusterconjurconnection conjur payments").await.unwrap();
        walk.bench.conjur.stop().await;
    });
}

/// Who may do what with the variable that the tenant made.
fn permits(walk: &Walk) -> Vec<(String, String)> {
    let id = format!("apps/{}/db/password", walk.bench.namespace);
    walk.bench.conjur.permits("variable", &id).into_iter().map(|p| (p.role, p.privilege)).collect()
}

#[test]
fn every_field_of_a_connection_is_on_the_page_and_in_an_example() {
    for kind in ["ConjurConnection", "ClusterConjurConnection"] {
        tells_every_field(kind, PAGE, "docs/connections.md");
    }
    let page = flat(PAGE);
    let mut missing = without_example("ConjurConnection", page);
    // Of a ConjurConnection the API server refuses them.
    missing.retain(|field| !field.ends_with(".namespace"));
    assert!(missing.is_empty(), "docs/connections.md has no example for {missing:?}");
    let mut missing = without_example("ClusterConjurConnection", page);
    for reference in ["tls.caBundleFrom.namespace", "auth.jwt.serviceAccountRef.namespace"] {
        assert!(!missing.contains(reference), "docs/connections.md has no example for {reference}");
    }
    // What both have stands in the examples of the other kind.
    let mut of_both = BTreeSet::new();
    paths(&schema("ConjurConnection")["spec"], "", &mut of_both);
    missing.retain(|field| !of_both.contains(field));
    assert!(missing.is_empty(), "docs/connections.md has no example for {missing:?}");
}
