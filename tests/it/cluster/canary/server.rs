//! A server that says canaries: in bodies, of every status, and in heads.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::{
    Canaries,
    usual::{VERSION, answer, token, usual},
};

/// What a case answers: to requests whose method and path hold the first text, or are it where it ends with `$`, the second
/// as a whole.
pub type Case = Vec<(&'static str, String)>;

/// What is answered to whom.
struct Answers {
    cases: BTreeMap<String, Case>,
    /// Where no case says another thing.
    key: String,
    /// The cases that were asked for what they say.
    said: Mutex<BTreeSet<String>>,
}

pub struct Server {
    url: String,
    answers: Arc<Answers>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
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

const LINES: [&str; 7] = [
    "Location: http://%.example/%",
    "Retry-After: %",
    "WWW-Authenticate: %",
    "Content-Type: %/%",
    "Server: %",
    "Content-Encoding: %",
    "Set-Cookie: %=%",
];

/// Answers to what a ConjurSecret, a policy and a connection ask for.
pub fn cases(canaries: &mut Canaries) -> BTreeMap<String, Case> {
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
    let cut =
        format!(r#"{{"created_roles":{{"demo:host:apps/h":{{"id":"demo:host:apps/h","api_key":"{key}"}}"#);
    cases.insert(
        "load".into(),
        vec![("POST /policies", answer(201, "", &cut)), ("PATCH /policies", answer(201, "", &cut))],
    );
    // A token says who it is for; as long as whoami does not, nothing else does.
    let subject = canaries.put("the subject of a token");
    cases
        .insert("subject".into(), vec![("/authenticate", token(&subject)), ("/whoami", answer(500, "", ""))]);
    cases
}

impl Server {
    /// With these cases, each below a path of its own name, and a key for whoever asks for one.
    pub async fn start(cases: BTreeMap<String, Case>, key: String) -> Self {
        let answers = Arc::new(Answers { cases, key, said: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let known = Arc::clone(&answers);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answers = Arc::clone(&known);
                tokio::spawn(async move { serve(stream, &answers).await });
            }
        });
        Self { url, answers, task }
    }

    pub fn cases(&self) -> Vec<String> {
        self.answers.cases.keys().cloned().collect()
    }

    /// Those of some cases that were not asked for what they say.
    pub fn unsaid(&self, of: &[String]) -> Vec<String> {
        let said = self.answers.said.lock().unwrap();
        of.iter().filter(|case| !said.contains(*case)).cloned().collect()
    }

    pub fn url(&self, case: &str) -> String {
        format!("{}/{case}", self.url)
    }
}

async fn serve(stream: TcpStream, answers: &Answers) -> Option<()> {
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
    let mut words = first.split_whitespace();
    let (method, target) = (words.next()?, words.next()?.trim_start_matches('/'));
    let (case, path) = target.split_once('/').unwrap_or((target, ""));
    let asked = format!("{method} /{path}");
    let is_it = |text: &str| text.strip_suffix('$').map_or_else(|| asked.contains(text), |it| asked == it);
    let of_case = answers.cases.get(case).into_iter().flatten().find(|(text, _)| is_it(text));
    if of_case.is_some() {
        answers.said.lock().unwrap().insert(case.to_owned());
    }
    let said = of_case.map_or_else(|| usual(&asked, &answers.key), |(_, said)| said.clone());
    write.write_all(said.as_bytes()).await.ok()
}
