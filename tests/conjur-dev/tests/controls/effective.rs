//! The effective policy beyond the recordings: it loads again, and makes the same.

use conjur_dev::{Options, Server};
use serde_json::Value;

use crate::wire::{self, Response};
use crate::{request, token};

const POLICY: &str = r#"
- !group ops
- !policy
  id: app
  owner: !group ops
  annotations:
    truth: "yes"
    number: "12"
    date: "2026-11-22"
    empty: ""
    colon: "a: b"
    dash: "- a"
    comment: "a #b"
    quote: "it's"
    lines: "one\ntwo"
    path: /app
    "true": key
  body:
  - !variable "sp ace"
  - !variable "true"
  - !variable
    id: typed
    kind: password
    mime_type: text/plain
  - !host
    id: web
    restricted_to: [ 10.0.0.0/8, "2001:db8::/32" ]
  - !layer web
  - !host-factory
    id: hf
    layers: [ !layer web ]
  - !grant
    role: !layer web
    member: !host web
  - !user joe
  - !policy
    id: inner
    body:
    - !webservice
    - !variable v
  - !permit
    role: !layer web
    privileges: [ read, execute ]
    resources: [ !variable "sp ace", !variable inner/v ]
"#;

async fn effective(server: &Server, path: &str, content_type: Option<&str>) -> Response {
    let token = token(server).await;
    let mut request = request(&token, "GET", &format!("/policies/demo/policy/{path}"), "");
    request.headers.extend(content_type.map(|kind| ("content-type".to_owned(), kind.to_owned())));
    wire::send(server.address(), &request).await
}

async fn start(policy: &str) -> Server {
    let server = Server::start(Options::default()).await.unwrap();
    server.load_root(policy).await.unwrap();
    server
}

#[tokio::test]
async fn the_effective_policy_loads_again_and_is_the_same_then() {
    let server = start(POLICY).await;
    let yaml = effective(&server, "root", None).await;
    assert_eq!(yaml.header("content-type"), Some("application/x-yaml; charset=utf-8"));
    let yaml = String::from_utf8(yaml.body).unwrap();
    let again = start(&yaml).await;
    assert_eq!(String::from_utf8(effective(&again, "root", None).await.body).unwrap(), yaml);
    for (kind, id) in [("variable", "app/true"), ("user", "joe@app"), ("webservice", "app/inner")] {
        assert!(again.exists(kind, id), "{kind} {id} is missing after\n{yaml}");
    }
    let json = Some("application/json");
    let (first, second) = (effective(&server, "app", json).await, effective(&again, "app", json).await);
    assert_eq!((first.status, &first.body), (200, &second.body));
    let shown: Value = serde_json::from_slice(&first.body).unwrap();
    let annotations = &shown[0]["policy"]["annotations"];
    assert_eq!((&annotations["lines"], &annotations["truth"]), (&"one\ntwo".into(), &"yes".into()));
    assert_eq!((&annotations["empty"], &annotations["true"]), (&"".into(), &"key".into()));
}

#[tokio::test]
async fn depth_leaves_out_what_is_deeper() {
    let server = start(POLICY).await;
    let shown = |body: Vec<u8>| String::from_utf8(body).unwrap();
    assert!(shown(effective(&server, "app", None).await.body).contains("!variable v\n"));
    let shallow = shown(effective(&server, "app?depth=1", None).await.body);
    assert!(
        shallow.contains("!policy\n    id: inner\n    body: []") && !shallow.contains("!variable v\n"),
        "{shallow}"
    );
    for query in ["depth=65", "depth=-1", "limit=100001"] {
        assert_eq!(effective(&server, &format!("app?{query}"), None).await.status, 400, "{query}");
    }
}
