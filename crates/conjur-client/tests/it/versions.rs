//! Servers of other versions, and with other clocks.

use std::collections::BTreeMap;

use conjur_client::{Capability, Credentials, Error, LoadMode, PolicyBranch, Support};
use conjur_dev::{Kind, Options, Server};
use jiff::{SignedDuration, Timestamp};

use super::{Target, secret};

const ALICE: &str = "- !user\n  id: alice\n  public_keys: [ ssh-ed25519 AAAAC3 alice@desk ]\n";

async fn server() -> Server {
    let server = Server::start(Options::default()).await.unwrap();
    server.load_root(ALICE).await.unwrap();
    server
}

#[tokio::test]
async fn a_server_without_public_keys_is_named_by_its_version_or_by_its_answer() {
    let server = server().await;
    let ask = || Target::of(&server).client(Credentials::Anonymous);
    for (version, named) in [(Some("1.27.0"), "(version 1.27.0)"), (None, "(which doesn't say its version)")]
    {
        server.set_version(Some("1.24.0"));
        let known = ask();
        assert_eq!(known.supports(Capability::PublicKeys).await.unwrap(), Support::Has);
        assert_eq!(known.public_keys("user", "alice").await.unwrap(), ["ssh-ed25519 AAAAC3 alice@desk"]);
        server.set_version(version);
        // Who knew an older server goes by the answer, as does who knows nothing.
        for client in [&known, &ask()] {
            let error = client.public_keys("user", "alice").await.expect_err("there are none");
            assert!(matches!(error, Error::Unsupported { what: Capability::PublicKeys, .. }), "{error:?}");
            assert!(!error.is_connection(), "{error:?}");
            let said = error.to_string();
            assert!(said.contains(&server.url()) && said.contains(named), "{said}");
            assert!(said.contains("has no public keys: they were removed in 1.27"), "{said}");
        }
    }
    server.set_version(Some("1.27.0"));
    let client = ask();
    assert_eq!(client.supports(Capability::PublicKeys).await.unwrap(), Support::Lacks);
    server.clear_requests();
    client.public_keys("user", "alice").await.expect_err("there are none");
    assert!(server.counts().is_empty(), "the version was known: {:?}", server.counts());
    // A kind that the server has no route for is another thing.
    server.set_version(Some("1.26.0"));
    let error = ask().public_keys("group", "alice").await.expect_err("no such route");
    assert!(!matches!(error, Error::Unsupported { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_may_load_a_dry_run_gets_none() {
    let server = server().await;
    let (client, root) = (Target::of(&server).admin(), PolicyBranch::new("root").unwrap());
    for version in [Some("1.21.0"), None] {
        server.set_version(version);
        let run = client.dry_run_policy(&root, LoadMode::Append, b"- !host made\n").await;
        let error = run.expect_err("no dry run");
        assert!(matches!(error, Error::Unsupported { what: Capability::DryRun, .. }), "{error:?}");
        assert!(error.to_string().contains("they came with 1.21.1"), "{error}");
        assert_eq!(client.supports(Capability::EqualValueIsNoVersion).await.unwrap(), Support::Unsaid);
    }
    assert!(server.count(Kind::DryRun) == 0 && server.loads("root") == 1 && !server.exists("host", "made"));
    server.set_version(Some("1.24.0"));
    client.dry_run_policy(&root, LoadMode::Append, b"- !host made\n").await.unwrap();
    assert_eq!(client.supports(Capability::EqualValueIsNoVersion).await.unwrap(), Support::Has);
}

#[tokio::test]
async fn a_server_that_wants_another_version_of_the_api_says_which() {
    let server = server().await;
    let client = Target::of(&server).admin();
    server.set_contract(Some("2.1"));
    for error in [
        client.whoami().await.expect_err("426"),
        Target::of(&server)
            .client(Credentials::Anonymous)
            .public_keys("user", "alice")
            .await
            .expect_err("426"),
    ] {
        assert!(
            matches!(&error, Error::ContractVersion { wanted: Some(wanted), .. } if wanted == "2.1"),
            "{error:?}"
        );
        let said = error.to_string();
        assert!(said.contains(&server.url()) && said.contains("wants version 2.1 of the API"), "{said}");
    }
    // What can't be a version stands nowhere.
    server.set_contract(Some("hunter2 is the password"));
    let error = Target::of(&server).admin().whoami().await.expect_err("426");
    assert!(matches!(&error, Error::ContractVersion { wanted: None, .. }), "{error:?}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
    server.set_contract(None);
    Target::of(&server).admin().whoami().await.unwrap();
}

#[tokio::test]
async fn the_servers_time_is_by_its_own_clock_and_so_is_the_end_of_a_token() {
    let server = server().await;
    server.load_root("- !host-factory factory\n").await.unwrap();
    let client = Target::of(&server).admin();
    for ahead in [-3600, 3600] {
        server.set_clock_offset(ahead);
        let date = Target::of(&server).admin().server_date().await.unwrap();
        let off = date.duration_since(Timestamp::now()) - SignedDuration::from_secs(ahead);
        assert!(off.abs() < SignedDuration::from_secs(30), "{off}");
    }
    server.set_clock_offset(-3600);
    let expiration = client.server_date().await.unwrap() + SignedDuration::from_secs(120);
    let made = client.create_host_factory_tokens("factory", expiration, &[], 1).await.unwrap();
    assert_eq!(
        (made[0].expiration, server.factory_tokens("factory")[0].expiration),
        (expiration, expiration)
    );
    let (token, none) = (secret(made[0].token.expose()), BTreeMap::new());
    client.create_host(&token, "one", &none).await.unwrap();
    // Two minutes later it is over; shown it is all the same.
    server.set_clock_offset(-3600 + 121);
    let over = client.create_host(&token, "two", &none).await.expect_err("it is over");
    assert!(matches!(over, Error::Unauthenticated { .. }) && !server.exists("host", "two"), "{over:?}");
    server.set_clock_offset(0);
    let shown = Target::of(&server).admin().show_host_factory("factory").await.unwrap().unwrap();
    assert!(shown.tokens.len() == 1 && shown.tokens[0].expiration < Timestamp::now(), "{shown:?}");
}
