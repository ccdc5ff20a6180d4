//! A server that says canaries: in bodies, of every status, and in heads.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::Canaries;

/// What a case answers: to requests whose method and path hold the first text, the second as a whole.
type Case = Vec<(&'static str, String)>;

pub struct Server {
    url: String,
    cases: Arc<BTreeMap<String, Case>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer with a body, and a line of its head.
fn answer(status: u16, line: &str, body: &str) -> String {
    let line = if line.is_empty() { String::new() } else { format!("{line}\r\n") };
    format!("HTTP/1.1 {status} X\r\n{line}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn token(subject: &str) -> String {
    let payload = URL_SAFE.encode(format!(r#"{{"iat":1,"exp":481,"sub":"{subject}"}}"#));
    answer(200, "", &format!(r#"{{"protected":"e30=","payload":"{payload}","signature":"c2ln"}}"#))
}

/// Errors as Conjur and as proxies make them, and answers that are no answers.
const BODIES: [(u16, &str); 15] = [
    (200, r#"{"version":"%"}"#),
    (401, "%"),
    (403, r#"{"error":{"code":"forbidden","message":"%"}}"#),
    (
        404,
        r#"{"error":{"code":"not_found","message":"%","target":"%","details":{"code":"%","target":"%","message":"%"}}}"#,
    ),
    (
        404,
        r#"{"error":{"code":"not_found","message":"CONJ00076E Variable demo:variable:% is empty or not found."}}"#,
    ),
    (409, r#"{"error":{"code":"policy_conflict","message":"%"}}"#),
    (
        422,
        r#"{"error":{"code":"validation_failed","message":"%","details":[{"code":"%","target":"%","message":"%"}]}}"#,
    ),
    (500, "<html>%</html>"),
    (502, "%"),
    (200, "%"),
    (200, r#"{"%":"%"}"#),
    (200, r#"["%""#),
    (200, r#"[{"id":"%","owner":"%","created_at":"%","annotations":[{"name":"%","value":"%"}]}]"#),
    (
        200,
        r#"[{"id":"demo:variable:apps/x","owner":"o","created_at":"t","annotations":[{"name":"n","value":"%"}],"secrets":"%"}]"#,
    ),
    (201, r#"{"created_roles":{"demo:host:apps/h":{"id":"demo:host:apps/h","api_key":"%"}},"version":"%"}"#),
];

/// What is asked for: the version, the login, who one is, values, lists, keys.
const ASKED: [&str; 6] = [VERSION, "/authenticate", "/whoami", "/secrets", "/resources", "/public_keys"];
/// The root alone, and not whatever is got.
const VERSION: &str = "GET /";

const LINES: [&str; 7] = [
    "Location: http://%.example/%",
    "Retry-After: %",
    "WWW-Authenticate: %",
    "Content-Type: %/%",
    "Server: %",
    "Content-Encoding: %",
    "Set-Cookie: %=%",
];

impl Server {
    pub async fn start(canaries: &mut Canaries) -> Self {
        let mut cases: BTreeMap<String, Case> = BTreeMap::new();
        for (what, asked) in ASKED.into_iter().enumerate() {
            for (at, (status, body)) in BODIES.into_iter().enumerate() {
                let canary = canaries.put(format!("{asked} answered with {status} {body:?}"));
                cases.insert(
                    format!("b{what}-{at}"),
                    vec![(asked, answer(status, "", &body.replace('%', &canary)))],
                );
            }
        }
        for (at, line) in LINES.into_iter().enumerate() {
            let canary = canaries.put(format!("a head with {line:?}"));
            let status = if line.starts_with("Location") { 307 } else { 503 };
            let said = answer(status, &line.replace('%', &canary), "");
            cases.insert(format!("h{at}"), vec![("/secrets", said.clone()), ("/resources", said)]);
        }
        // Loads of a document that all may read: what the server says of the document may be told, its keys may not.
        let key = canaries.put("the API key in an answer to a load that is cut off");
        let cut = format!(
            r#"{{"created_roles":{{"demo:host:apps/h":{{"id":"demo:host:apps/h","api_key":"{key}"}}"#
        );
        cases.insert("load".into(), vec![("POST", answer(201, "", &cut)), ("PATCH", answer(201, "", &cut))]);
        // A token says who it is for; as long as whoami does not, nothing else does.
        let subject = canaries.put("the subject of a token");
        cases.insert(
            "subject".into(),
            vec![("/authenticate", token(&subject)), ("/whoami", answer(500, "", ""))],
        );
        let cases = Arc::new(cases);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let known = Arc::clone(&cases);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let cases = Arc::clone(&known);
                tokio::spawn(async move { serve(stream, &cases).await });
            }
        });
        Self { url, cases, task }
    }

    pub fn cases(&self) -> Vec<String> {
        self.cases.keys().cloned().collect()
    }

    pub fn url(&self, case: &str) -> String {
        format!("{}/{case}", self.url)
    }
}

async fn serve(stream: TcpStream, cases: &BTreeMap<String, Case>) -> Option<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let (mut first, mut length) = (String::new(), 0);
    read.read_line(&mut first).await.ok()?;
    loop {
        let mut line = String::new();
        read.read_line(&mut line).await.ok()?;
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    read.read_exact(&mut vec![0; length]).await.ok()?;
    let (method, path) = first.split_once(" /")?;
    let (case, path) = path.split_once('/').unwrap_or((path, ""));
    let asked = format!("{method} /{}", path.split_whitespace().next().unwrap_or_default());
    let case = cases.get(case.split_whitespace().next().unwrap_or_default());
    let is_it = |text: &str| if text == VERSION { asked == text } else { asked.contains(text) };
    let said = case.into_iter().flatten().find(|(text, _)| is_it(text)).map(|(_, said)| said.clone());
    let said = said.unwrap_or_else(|| usual(&asked));
    write.write_all(said.as_bytes()).await.ok()
}

fn usual(asked: &str) -> String {
    match asked {
        _ if asked.contains("/authenticate") => token("host/apps/app"),
        _ if asked.contains("/whoami") => answer(200, "", r#"{"account":"demo","username":"host/apps/app"}"#),
        _ if asked.contains("check=true") => answer(204, "", ""),
        _ if asked.contains("/resources") => answer(200, "", "[]"),
        VERSION => answer(200, "", r#"{"version":"1.24.0"}"#),
        _ => answer(404, "", ""),
    }
}
