//! What a server answers to pushes and hosts: canaries in errors, in answers that are none, and in those that are.

use super::{Canaries, server::Case, usual::answer};

/// What is asked for, by objects of which ways, and what is said beside [`NO_ANSWERS`].
type Asked = (&'static str, &'static [&'static str], &'static [(u16, &'static str)]);

/// A case, the ways of the objects that meet it, and what it says.
pub type WayCase = (String, &'static [&'static str], Case);

const NO_ANSWERS: [(u16, &str); 6] = [
    (401, "%"),
    (404, r#"{"error":{"code":"not_found","message":"%","target":"%"}}"#),
    (422, r#"{"error":{"code":"%","message":"%","details":[{"code":"%","target":"%","message":"%"}]}}"#),
    (500, "<html>%</html>"),
    (200, "%"),
    (200, r#"{"%":"%"}"#),
];

const ASKED: [Asked; 13] = [
    ("POST /secrets", &["fill"], &[(201, r#""%""#)]),
    (
        "GET /resources/demo/variable?",
        &["fill"],
        &[
            (
                200,
                r#"[{"id":"demo:variable:apps/declared","owner":"%","created_at":"%","annotations":[
                    {"name":"conjur-operator.io/owner","value":"%"},{"name":"%","value":"%"}],"secrets":[{"version":7}]}]"#,
            ),
            (
                200,
                r#"[{"id":"demo:variable:apps/declared","owner":"o","created_at":"t","annotations":[
                    {"name":"conjur-operator.io/owner","value":"%/%/ConjurPush/%"},{"name":"conjur-operator.io/adopt","value":"%"}]}]"#,
            ),
            (
                200,
                r#"[{"id":"demo:variable:apps/declared","owner":"o","created_at":"t","secrets":[{"version":"%"}]}]"#,
            ),
        ],
    ),
    (
        "GET /resources/demo/variable/",
        &["make"],
        &[(
            200,
            r#"{"id":"%","owner":"%","created_at":"%","policy":"demo:policy:%","annotations":[
                {"name":"conjur-operator.io/owner","value":"%/%/ConjurPush/%"}],"secrets":[{"version":3}]}"#,
        )],
    ),
    (
        "POST /policies",
        &["make", "branch"],
        &[
            (200, "%"),
            (200, r#"{"%":"%"}"#),
            (
                201,
                r#"{"created_roles":{"demo:host:apps/made":{"id":"demo:host:apps/made","api_key":"%"}},"version":"%"}"#,
            ),
            (201, r#"{"created_roles":{"%":{"id":"%","api_key":"%"}},"version":1}"#),
            (201, r#"{"created_roles":{"demo:host:apps/made":{"id":"demo:host:apps/made","api_key":"%""#),
        ],
    ),
    (
        "GET /resources/demo/host/",
        &["existing"],
        &[
            (
                200,
                r#"{"id":"%","owner":"%","created_at":"%","policy":"demo:policy:%","annotations":[
                    {"name":"conjur-operator.io/owner","value":"%"},{"name":"%","value":"%"}],"restricted_to":["%"]}"#,
            ),
            (
                200,
                r#"{"id":"demo:host:apps/old","owner":"o","created_at":"t","annotations":[
                    {"name":"conjur-operator.io/owner","value":"%/%/ConjurHost/%"},{"name":"conjur-operator.io/adopt","value":"%"}]}"#,
            ),
        ],
    ),
    (
        "GET /resources/demo/host_factory/",
        &["factory"],
        &[
            (
                200,
                r#"{"id":"%","owner":"%","tokens":[{"token":"%","expiration":"2099-01-01T00:00:00Z","cidr":["%"]}],
                    "layers":["demo:layer:%"]}"#,
            ),
            (200, r#"{"id":"%","owner":"%","tokens":[{"token":"%","expiration":"%"}],"layers":["%"]}"#),
        ],
    ),
    (
        "POST /host_factory_tokens",
        &["factory"],
        &[
            (200, r#"[{"token":"%\u0001","expiration":"2099-01-01T00:00:00Z"}]"#),
            (200, r#"[{"token":"%","expiration":"%"}]"#),
            (200, r#"[{"token":["%"],"expiration":"2099-01-01T00:00:00Z"}]"#),
        ],
    ),
    (
        "POST /host_factories",
        &["factory", "token"],
        &[
            (
                201,
                r#"{"id":"demo:host:%","owner":"%","created_at":"%","api_key":"%","annotations":[
                    {"name":"conjur-operator.io/owner","value":"%/%/ConjurHost/%"},{"name":"%","value":"%"}]}"#,
            ),
            (201, r#"{"id":"%","owner":"%","created_at":"%","api_key":"%"}"#),
            (201, r#"{"id":"demo:host:apps/new","owner":"o","created_at":"t","api_key":["%"]}"#),
            (201, r#"{"id":"demo:host:apps/new","owner":"o","created_at":"t","api_key":"%"#),
        ],
    ),
    ("DELETE /host_factory_tokens", &["factory"], &[(202, "%")]),
    ("PUT /authn", &["existing"], &[(200, "% %"), (200, "<%>"), (200, "{%"), (202, "%")]),
    (
        "GET /roles",
        &["adopt"],
        &[
            (200, r#"[{"role":"%","member":"%"}]"#),
            (200, r#"[{"role":"demo:layer:%","member":"demo:host:%"}]"#),
        ],
    ),
    (
        "GET /resources/demo/policy/apps$",
        &["branch"],
        &[
            (
                200,
                r#"{"policy_versions":[{"version":1,"policy_sha256":"%","role":"%","created_at":"%","finished_at":"%"}]}"#,
            ),
            (200, r#"{"policy_versions":[{"version":"%","policy_text":"%"}]}"#),
        ],
    ),
    ("check=true", &["make", "branch"], &[]),
];

/// All of them, each with a canary of its own.
pub fn cases(canaries: &mut Canaries) -> Vec<WayCase> {
    let mut cases = Vec::new();
    for (which, (asked, ways, said)) in ASKED.into_iter().enumerate() {
        // What a server says of a document that is no secret may be told; the keys in its answers may not.
        let none: &[(u16, &str)] = if asked == "POST /policies" { &[] } else { &NO_ANSWERS };
        for (at, (status, body)) in none.iter().chain(said).enumerate() {
            let canary = canaries.put(format!("{asked} answered with {status} {body:?}"));
            let said = answer(*status, "", &body.replace('%', &canary));
            cases.push((format!("k{which}-{at}"), ways, vec![(asked, said)]));
        }
    }
    cases
}
