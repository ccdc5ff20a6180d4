//! The binary, and its controls over HTTP.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::eventually;
use crate::wire::{self, Request};

/// Ends the process whatever becomes of the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _status = self.0.wait();
    }
}

async fn control(address: SocketAddr, method: &str, path: &str, body: Value) -> (u16, Value) {
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    let (method, path, body) = (method.to_owned(), format!("/_dev/{path}"), body.to_string().into_bytes());
    let response = wire::send(address, &Request { method, path, headers, body }).await;
    (response.status, serde_json::from_slice(&response.body).unwrap_or_default())
}

#[tokio::test]
async fn the_process_says_where_it_listens_obeys_its_controls_and_ends_on_sigterm() {
    let folder = std::env::temp_dir().join(format!("conjur-dev-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (policy, ready) = (folder.join("policy.yml"), folder.join("ready.json"));
    std::fs::write(&policy, "- !variable v\n- !host h\n").unwrap();
    let mut process = Running(
        Command::new(env!("CARGO_BIN_EXE_conjur-dev"))
            .args(["--account", "acme", "--authenticator", "authn-jwt/k8s", "--policy"])
            .arg(&policy)
            .arg("--ready-file")
            .arg(&ready)
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    eventually("the ready file is there", || ready.exists()).await;
    let said: Value = serde_json::from_str(&std::fs::read_to_string(&ready).unwrap()).unwrap();
    let address: SocketAddr = said["url"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
    assert_eq!(said["account"], "acme");

    let (_, admin) = control(address, "GET", "keys?login=admin", Value::Null).await;
    assert_eq!(admin["apiKey"], said["adminKey"]);
    assert_eq!(control(address, "PUT", "variables", json!({"id": "v", "value": "x"})).await.0, 200);
    assert_eq!(control(address, "GET", "variables?id=v", Value::Null).await.1["valueBase64"], "eA==");
    assert_eq!(control(address, "GET", "variables?id=nope", Value::Null).await.0, 404);
    let fill = json!({"prefix": "v", "text": "a", "bytes": 3});
    assert_eq!(control(address, "POST", "fill", fill).await.1["filled"], 1);
    assert_eq!(control(address, "GET", "variables?id=v", Value::Null).await.1["valueBase64"], "YSBh");
    assert_eq!(control(address, "GET", "counts", Value::Null).await, (200, json!({})));
    let (_, made) = control(address, "POST", "policies", json!({"document": "- !host late"})).await;
    assert!(made["acme:host:late"].is_string());
    let late = json!({"path": "/", "count": 1, "effect": {"status": {"status": 429, "retryAfter": 2}}});
    assert_eq!(control(address, "POST", "faults", late).await.0, 200);
    let plain = |path: &str| Request {
        method: "GET".to_owned(),
        path: path.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
    };
    assert_eq!(wire::send(address, &plain("/")).await.status, 429);
    assert_eq!(wire::send(address, &plain("/")).await.status, 200);
    let listed = wire::send(address, &plain("/authenticators")).await;
    assert!(String::from_utf8(listed.body).unwrap().contains("authn-jwt/k8s"));
    assert_eq!(control(address, "PUT", "clock", json!({"seconds": -7200})).await.0, 200);
    let hold = json!({"path": "/policies", "at": "beforeCommit"});
    assert_eq!(control(address, "POST", "hold", hold).await.1["id"], 1);
    assert_eq!(control(address, "GET", "held", Value::Null).await.1["waiting"], 0);
    assert_eq!(control(address, "POST", "release", json!({})).await.0, 200);
    let counts = &control(address, "GET", "requests", Value::Null).await.1["counts"];
    assert_eq!((&counts["version"], &counts["other"]), (&json!(2), &json!(1)));
    let (_, v) = control(address, "GET", "records?kind=variable&id=v", Value::Null).await;
    assert_eq!((&v["shown"]["id"], &v["versions"]), (&json!("acme:variable:v"), &json!(2)));
    let (_, late) = control(address, "GET", "records?kind=host&id=late", Value::Null).await;
    assert_eq!((&late["keyGeneration"], &late["versions"]), (&json!(0), &Value::Null));
    assert_eq!(control(address, "GET", "records?kind=host&id=nope", Value::Null).await.0, 404);
    assert_eq!(control(address, "GET", "loads", Value::Null).await.1, json!({"root": 2}));
    assert_eq!(control(address, "GET", "loads?branch=root", Value::Null).await.1[1]["text"], "- !host late");
    assert_eq!(control(address, "PUT", "version", json!({"version": "1.27.0"})).await.0, 200);
    assert_eq!(wire::send(address, &plain("/public_keys/acme/user/admin")).await.status, 401);
    assert_eq!(control(address, "PUT", "contract", json!({"version": "3"})).await.0, 200);
    let refused = wire::send(address, &plain("/whoami")).await;
    assert_eq!((refused.status, refused.header("upgrade")), (426, Some("3")));

    let killed = Command::new("kill").args(["-TERM", &process.0.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert!(process.0.wait().unwrap().success());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_client_ca_is_refused_without_https() {
    let process = Command::new(env!("CARGO_BIN_EXE_conjur-dev")).args(["--client-ca", "ca.pem"]).output();
    let process = process.unwrap();
    assert!(!process.status.success());
    assert!(String::from_utf8(process.stderr).unwrap().contains("--tls-cert"));
}
