//! What a test may look at, and what was not recorded of what it looks at.

use std::collections::BTreeSet;

use conjur_dev::{Edge, Kind, Permit};
use jiff::{SignedDuration, Timestamp};

use crate::{ask, request, start, token, wire};

const DOCUMENT: &str = "
- !layer web
- !host-factory
  id: hf
  layers: [ !layer web ]
- !host
  id: h
  restricted_to: [ 127.0.0.1, 10.0.0.0/8 ]
  annotations: { team: ai }
- !grant
  role: !layer web
  member: !host h
- !permit
  role: !host h
  privileges: [ read, update ]
  resource: !variable password
";

const APP: &str = "/policies/demo/policy/app";

fn edge(member: &str, policy: Option<&str>) -> Edge {
    Edge {
        role: "demo:layer:app/web".to_owned(),
        member: format!("demo:host:{member}"),
        ownership: false,
        policy: policy.map(str::to_owned),
    }
}

#[tokio::test]
async fn records_show_what_documents_gave_them_and_took_away() {
    let (server, token) = start().await;
    assert_eq!(ask(&server, &token, "POST", APP, DOCUMENT).await.unwrap().status, 201);
    assert_eq!(server.restricted_to("host/app/h"), ["127.0.0.1/32", "10.0.0.0/8"]);
    assert_eq!(
        server.annotations("host", "app/h").into_iter().collect::<Vec<_>>(),
        [("team".into(), "ai".into())]
    );
    assert_eq!(server.owner("host", "app/h").as_deref(), Some("demo:policy:app"));
    let by_app = Some("demo:policy:app");
    assert_eq!(server.memberships("host", "app/h"), BTreeSet::from([edge("app/h", by_app)]));
    let permit = |privilege: &str| Permit {
        role: "demo:host:app/h".to_owned(),
        privilege: privilege.to_owned(),
        policy: by_app.map(str::to_owned),
    };
    assert_eq!(
        server.permits("variable", "app/password"),
        BTreeSet::from([permit("read"), permit("update")])
    );
    assert_eq!((server.loads("app"), server.loads("root")), (1, 1));

    let takes = "- !revoke {role: !layer web, member: !host h}\n- !deny {role: !host h, privileges: [read], resource: !variable password}\n";
    assert_eq!(ask(&server, &token, "PATCH", APP, takes).await.unwrap().status, 201);
    assert!(server.memberships("host", "app/h").is_empty());
    assert_eq!(server.permits("variable", "app/password"), BTreeSet::from([permit("update")]));
    assert_eq!(server.all_loads().into_iter().collect::<Vec<_>>(), [("app".into(), 2), ("root".into(), 1)]);
    let refused =
        ask(&server, &token, "POST", APP, "- !host {id: x, restricted_to: [nonsense]}\n").await.unwrap();
    assert!(refused.status == 422 && server.loads("app") == 2, "{}", refused.status);
    assert!(server.shown("host", "app/x").is_none() && server.all("layer") == ["demo:layer:app/web"]);
}

#[tokio::test]
async fn a_factorys_hosts_and_tokens_come_and_go() {
    let (server, admin) = start().await;
    assert_eq!(ask(&server, &admin, "POST", APP, DOCUMENT).await.unwrap().status, 201);
    let expiration = Timestamp::now() + SignedDuration::from_secs(120);
    let path = format!(
        "/host_factory_tokens?host_factory=demo:host_factory:app/hf&cidr[]=127.0.0.1&expiration={}",
        expiration.strftime("%Y-%m-%dT%H:%M:%SZ")
    );
    assert_eq!(ask(&server, &admin, "POST", &path, "").await.unwrap().status, 200);
    let made = server.factory_tokens("app/hf");
    assert_eq!(made[0].cidr, ["127.0.0.1/32"]);
    assert_eq!(made[0].expiration.as_second(), expiration.as_second());

    let enrol = |query: &str| {
        let sent = request(&made[0].text, "POST", &format!("/host_factories/hosts?{query}"), "");
        let address = server.address();
        async move { wire::send(address, &sent).await }
    };
    assert_eq!(enrol("id=app/f&annotations[team]=ai").await.status, 201);
    assert_eq!(server.memberships("host", "app/f"), BTreeSet::from([edge("app/f", None)]));
    let first = server.api_key_of("host/app/f");
    assert_eq!(enrol("id=app/f&annotations[team]=others").await.status, 201);
    assert_eq!(server.annotations("host", "app/f")["team"], "ai", "they stay");
    assert!(server.api_key_of("host/app/f") != first && server.key_generation("host/app/f") == Some(1));
    assert_eq!(enrol("id=app/h").await.status, 403);
    assert_eq!(server.count(Kind::Enrol), 3);
    assert_eq!(server.requests_of(Kind::MakeTokens).len(), 1);

    let deleted = "- !delete\n  record: !host f\n";
    assert_eq!(ask(&server, &admin, "PATCH", APP, deleted).await.unwrap().status, 201);
    assert!(!server.exists("host", "app/f"));
    // Its own clock decides.
    server.set_clock_offset(121);
    assert_eq!(enrol("id=app/g").await.status, 401);
    let late = token(&server).await;
    let revoke = format!("/host_factory_tokens/{}", made[0].text);
    assert_eq!(ask(&server, &late, "DELETE", &revoke, "").await.unwrap().status, 204);
    assert!(server.factory_tokens("app/hf").is_empty());
    assert_eq!(server.count(Kind::RevokeToken), 1);
}

#[tokio::test]
async fn the_date_of_answers_is_the_servers_own() {
    let (server, admin) = start().await;
    server.set_clock_offset(-86_400);
    let answer = ask(&server, &admin, "GET", "/", "").await.unwrap();
    let date = jiff::fmt::rfc2822::parse(answer.header("date").unwrap()).unwrap().timestamp();
    let behind = Timestamp::now().duration_since(date).as_secs() - 86_400;
    assert!(behind.abs() < 30, "{behind}");
    assert_eq!(answer.headers.iter().filter(|(name, _)| name == "date").count(), 1);
    server.set_contract(Some("2"));
    assert_eq!(ask(&server, &admin, "GET", "/", "").await.unwrap().status, 426);
}
