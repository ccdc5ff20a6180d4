//! What the server answers where a case says no canary: so much that whatever comes after it is asked for, too.

use base64::{Engine as _, engine::general_purpose::URL_SAFE};

/// The root alone, and not whatever is got.
pub const VERSION: &str = "GET /$";

const MISSING: &str = r#"{"error":{"code":"not_found","message":"missing"}}"#;
const POLICY: &str = r#"{"id":"demo:policy:apps","owner":"demo:user:admin","created_at":"2026-01-01T00:00:00Z","policy_versions":[
    {"version":1,"policy_sha256":"0","role":"demo:user:admin","created_at":"2026-01-01T00:00:00Z","finished_at":"2026-01-01T00:00:01Z"}]}"#;
const FACTORY: &str =
    r#"{"id":"demo:host_factory:apps/f","owner":"demo:host:apps/app","tokens":[],"layers":[]}"#;
const OLD_HOST: &str =
    r#"{"id":"demo:host:apps/old","owner":"demo:host:apps/app","created_at":"2026-01-01T00:00:00Z"}"#;
const VARIABLES: &str = r#"[{"id":"demo:variable:apps/declared","owner":"demo:host:apps/app","created_at":"2026-01-01T00:00:00Z"}]"#;

/// An answer with a body, and a line of its head.
pub fn answer(status: u16, line: &str, body: &str) -> String {
    let line = if line.is_empty() { String::new() } else { format!("{line}\r\n") };
    format!("HTTP/1.1 {status} X\r\n{line}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

pub fn token(subject: &str) -> String {
    let payload = URL_SAFE.encode(format!(r#"{{"iat":1,"exp":481,"sub":"{subject}"}}"#));
    answer(200, "", &format!(r#"{{"protected":"e30=","payload":"{payload}","signature":"c2ln"}}"#))
}

/// The answer to a method and path. `key`: the one that it gives whoever asks for any.
pub fn usual(asked: &str, key: &str) -> String {
    let json = |body: &str| answer(200, "", body);
    match asked {
        "GET /" => json(r#"{"version":"1.24.0"}"#),
        _ if asked.contains("/authenticate") => token("host/apps/app"),
        _ if asked.contains("/whoami") => json(r#"{"account":"demo","username":"host/apps/app"}"#),
        _ if asked.contains("check=true") => answer(204, "", ""),
        _ if asked.starts_with("PUT /authn") => json(key),
        _ if asked.starts_with("POST /secrets") => answer(201, "", ""),
        _ if asked.starts_with("POST /policies") => {
            let made = format!(r#""demo:host:apps/made":{{"id":"demo:host:apps/made","api_key":"{key}"}}"#);
            answer(201, "", &format!(r#"{{"created_roles":{{{made}}},"version":2}}"#))
        }
        _ if asked.starts_with("POST /host_factory_tokens") => {
            json(&format!(r#"[{{"token":"{key}","expiration":"2099-01-01T00:00:00Z"}}]"#))
        }
        _ if asked.starts_with("DELETE /host_factory_tokens") => answer(204, "", ""),
        _ if asked.starts_with("POST /host_factories") => {
            let made = r#""id":"demo:host:apps/new","owner":"demo:host_factory:apps/f","created_at":"t""#;
            answer(201, "", &format!(r#"{{{made},"api_key":"{key}"}}"#))
        }
        _ if asked.contains("/resources/demo/host_factory/") => json(FACTORY),
        _ if asked.contains("/resources/demo/policy/") => json(POLICY),
        _ if asked.contains("/resources/demo/host/apps%2Fold") => json(OLD_HOST),
        _ if asked.contains("/resources/demo/host/") || asked.contains("/resources/demo/variable/") => {
            answer(404, "", MISSING)
        }
        _ if asked.contains("/resources/demo/variable?") => json(VARIABLES),
        _ if asked.contains("/resources") || asked.contains("/roles") => json("[]"),
        _ => answer(404, "", ""),
    }
}
