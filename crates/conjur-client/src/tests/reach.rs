//! Where a request goes, whatever stands in the fields that it is made of.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use super::*;
use crate::roles::Members;

/// What would lead elsewhere if it were not one segment, or were resolved on the way.
const HOSTILE: [&str; 22] = [
    "..",
    ".",
    "%2e%2e",
    ".%2E",
    "%252e%252e",
    "../..",
    "../../x",
    "a/../../../x",
    "/x",
    "//other/x",
    "a//b",
    "a/",
    "\\..\\x",
    "a?b=c",
    "a#b",
    "a&b=c",
    "a;b",
    "a b",
    "a\r\nHost: other",
    "a\tb",
    "é/\u{2025}",
    "http://other/x",
];

/// The decoded segments of the requests that came since `before`, the logins left out.
async fn paths(server: &MockServer, before: usize) -> Vec<Vec<String>> {
    let all = server.received_requests().await.unwrap();
    let decoded = |segment: &str| percent_decode_str(segment).decode_utf8().unwrap().into_owned();
    let paths = all[before..].iter().map(|request| {
        assert_eq!(request.url.fragment(), None);
        request.url.path_segments().unwrap().map(decoded).collect::<Vec<_>>()
    });
    paths.filter(|path| path.last().is_some_and(|last| last != "authenticate")).collect()
}

#[tokio::test]
async fn every_request_stays_below_its_route_whatever_its_fields_hold() {
    let server = server().await;
    // Where there were none, the version would be asked for.
    mount(&server, "GET", "^/base/path/public_keys/demo/", |_: &Request| {
        ResponseTemplate::new(200).set_body_raw("\n", "text/plain")
    })
    .await;
    let client = client(config(&format!("{}/base/path/", server.uri())));
    let secret = |text: &str| Sensitive::new(text.to_owned());
    for bad in HOSTILE {
        let role = RoleId { account: bad.to_owned(), kind: bad.to_owned(), id: bad.to_owned() };
        let (all, none) =
            (Members { kind: Some(bad.into()), search: Some(bad.into()), page: None }, BTreeMap::new());
        let listing = Listing {
            kind: Some(bad.into()),
            search: Some(bad.into()),
            owner: Some(role.clone()),
            acting_as: Some(role.clone()),
        };
        let mut before = server.received_requests().await.unwrap().len();
        // The call, and the segments of the one request that it may make; `client` and `bad` are in scope.
        macro_rules! makes {
            ($call:expr, $($segment:expr),+) => {{
                drop($call.await);
                let expected = ["base", "path", $($segment),+];
                for path in paths(&server, before).await {
                    assert_eq!(path, expected, "{} with {bad:?}", stringify!($call));
                }
                before = server.received_requests().await.unwrap().len();
            }};
        }
        makes!(client.show_resource(bad, "x"), "resources", "demo", bad, "x");
        makes!(client.show_resource("host", bad), "resources", "demo", "host", bad);
        makes!(client.check_permission(bad, bad, bad, Some(&role)), "resources", "demo", bad, bad);
        makes!(client.permitted_roles("host", bad, bad), "resources", "demo", "host", bad);
        makes!(client.list(&listing, pages::Page::FIRST), "resources", "demo", bad);
        makes!(client.count_resources(&listing), "resources", "demo", bad);
        makes!(
            client.list_variables(Some(bad), Priority::Foreground, Freshness::Remembered),
            "resources",
            "demo",
            "variable"
        );
        makes!(client.show_role(bad, "x"), "roles", "demo", bad, "x");
        makes!(client.show_role("user", bad), "roles", "demo", "user", bad);
        makes!(client.role_members("group", bad, &all), "roles", "demo", "group", bad);
        makes!(client.role_memberships("group", bad, &all), "roles", "demo", "group", bad);
        makes!(client.all_role_memberships("group", bad), "roles", "demo", "group", bad);
        makes!(client.public_keys(bad, "x"), "public_keys", "demo", bad, "x");
        makes!(client.public_keys("user", bad), "public_keys", "demo", "user", bad);
        makes!(client.fetch_secret(bad, "x", None), "secrets", "demo", bad, "x");
        makes!(client.fetch_secret("variable", bad, Some(3)), "secrets", "demo", "variable", bad);
        makes!(client.set_secret(bad, bad, b"v"), "secrets", "demo", bad, bad);
        makes!(client.show_host_factory(bad), "resources", "demo", "host_factory", bad);
        makes!(client.owns_host_factory(bad), "resources", "demo", "host_factory", bad);
        makes!(client.login(bad, &secret("p")), "authn", "demo", "login");
        let (key, refresh) = (secret("p"), Priority::Refresh);
        makes!(client.is_api_key_valid(&role, &key, refresh), "authn", bad, "login");
        makes!(client.change_password(bad, &secret("p"), &secret("q")), "authn", "demo", "password");
        makes!(client.rotate_own_api_key(bad, &secret("p")), "authn", "demo", "api_key");
        makes!(client.rotate_api_key(&role), "authn", "demo", "api_key");
        makes!(client.revoke_host_factory_token(&secret(bad)), "host_factory_tokens", bad);
        makes!(client.create_host(&secret("t"), bad, &none), "host_factories", "hosts");
        if let Ok(branch) = PolicyBranch::new(bad) {
            makes!(client.load_policy(&branch, LoadMode::Update, b"[]"), "policies", "demo", "policy", bad);
            makes!(client.effective_policy(&branch), "policies", "demo", "policy", bad);
            makes!(client.policy_versions(&branch), "resources", "demo", "policy", bad);
            makes!(client.owns_branch(&branch), "resources", "demo", "policy", bad);
        }
        if let Ok(id) = VariableId::new(bad) {
            let value = Sensitive::new(b"v".to_vec());
            makes!(client.set_variable(&id, value, Priority::Refresh), "secrets", "demo", "variable", bad);
            let wanted = [Wanted { id, version: Some(2) }];
            makes!(
                client.fetch_variables(&wanted, Priority::Foreground, Freshness::Remembered),
                "secrets",
                "demo",
                "variable",
                bad
            );
        }
        let _ = before;
    }
}

#[tokio::test]
async fn every_login_stays_below_its_route_whatever_its_fields_hold() {
    let server = server().await;
    let source = || Arc::new(|| std::future::ready(Ok(Sensitive::new("jwt".to_owned()))));
    let base = format!("{}/base/path", server.uri());
    let mut sent = 0;
    for bad in HOSTILE {
        let mut configs = Vec::new();
        let jwt = |service: &str, host: Option<&str>| Credentials::Jwt {
            service_id: service.to_owned(),
            host_id: host.map(str::to_owned),
            source: source(),
        };
        let key =
            |login: &str| Credentials::ApiKey { login: login.to_owned(), api_key: KEY.to_owned().into() };
        for (account, credentials, expected) in [
            (bad, key("alice"), vec!["authn", bad, "alice"]),
            ("demo", key(bad), vec!["authn", "demo", bad]),
            ("demo", key(&format!("host/{bad}")), vec!["authn", "demo", "host/…"]),
            ("demo", jwt(bad, None), vec!["authn-jwt", bad, "demo"]),
            (bad, jwt("s", None), vec!["authn-jwt", "s", bad]),
            ("demo", jwt("s", Some(bad)), vec!["authn-jwt", "s", "demo", "host/…"]),
        ] {
            let config = Config::new(base.parse().unwrap(), account, credentials);
            configs.push((config, expected));
        }
        for (config, expected) in configs {
            let before = server.received_requests().await.unwrap().len();
            let Ok(client) = Client::new(config) else { continue };
            drop(client.whoami().await);
            let all = server.received_requests().await.unwrap();
            let login = &all[before];
            let segments: Vec<_> = login.url.path_segments().unwrap().collect();
            let decoded = segments.iter().map(|s| percent_decode_str(s).decode_utf8().unwrap().into_owned());
            let host = format!("host/{bad}");
            let expected =
                expected.into_iter().map(|part| if part == "host/…" { host.as_str() } else { part });
            let expected: Vec<_> =
                ["base", "path"].into_iter().chain(expected).chain(["authenticate"]).collect();
            assert_eq!(decoded.collect::<Vec<_>>(), expected, "{bad:?}");
            sent += 1;
        }
    }
    assert!(sent > 0, "all were refused");
}

#[test]
fn a_login_that_is_not_shown_is_in_no_message() {
    for login in [
        "",
        "hunter2\n",
        "hunter2/x",
        "demo:host:hunter2",
        "other:user:hunter2",
        "host/hunter2//x",
        "host/../hunter2",
        "-----BEGIN PRIVATE KEY-----\nhunter2",
        "hunter2=/+",
        "/hunter2",
    ] {
        let credentials = Credentials::ApiKey { login: login.to_owned(), api_key: KEY.to_owned().into() };
        let mut config = Config::new("http://127.0.0.1:1/".parse().unwrap(), "demo", credentials);
        config.shown_login = Some("key login of Secret billing/conjur".to_owned());
        assert!(!format!("{config:?}").contains("hunter2"));
        let message = error_of(Client::new(config)).to_string();
        assert!(
            message.starts_with("key login of Secret billing/conjur ") && !message.contains("hunter2"),
            "{message}"
        );
    }
}

#[test]
fn a_login_of_another_form_is_told_with_the_right_one() {
    for (login, expected) in [
        ("apps/billing", "does not start with host/"),
        ("demo:host:apps/billing", "is a full id"),
        ("demo:user:alice", "is a full id"),
        ("other:host:x", "is a full id"),
        ("host/", "segment"),
        ("host//x", "segment"),
        ("alice\n", "line break"),
    ] {
        let credentials = Credentials::ApiKey { login: login.to_owned(), api_key: KEY.to_owned().into() };
        let config = Config::new("http://127.0.0.1:1/".parse().unwrap(), "demo", credentials);
        let message = error_of(Client::new(config)).to_string();
        assert!(message.contains(expected) && message.contains(&format!("{login:?}")), "{message}");
    }
    for login in ["alice", "alice@apps", "host/apps/web", "user/alice", "host/apps/web:1", "host/demo"] {
        let credentials = Credentials::ApiKey { login: login.to_owned(), api_key: KEY.to_owned().into() };
        assert!(
            Client::new(Config::new("http://127.0.0.1:1/".parse().unwrap(), "demo", credentials)).is_ok(),
            "{login}"
        );
    }
}

#[tokio::test]
async fn a_refused_login_that_is_not_shown_is_named_by_where_it_lies() {
    let server = MockServer::start().await;
    let answer = |_: &Request| {
        ResponseTemplate::new(401).set_body_raw(
            r#"{"error":{"code":"unauthorized","message":"CONJ00007E hunter2 is not defined in Conjur: hunter2"}}"#,
            "application/json",
        )
    };
    mount(&server, "POST", "/authenticate$", answer).await;
    let credentials = Credentials::ApiKey { login: "hunter2".to_owned(), api_key: KEY.to_owned().into() };
    let mut config = Config::new(server.uri().parse().unwrap(), "demo", credentials);
    config.shown_login = Some("key login of Secret billing/conjur".to_owned());
    let client = client(config);
    for error in [error_of(client.whoami().await), error_of(client.show_role("user", "x").await)] {
        let message = format!("{error} {error:?} {client:?}");
        assert!(
            message.contains("key login of Secret billing/conjur") && !message.contains("hunter2"),
            "{message}"
        );
    }
}
