//! Sending the recorded requests, with this server's keys and tokens in place of the recorded ones.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use conjur_dev::{Hold, Options, Point, Server};
use serde_json::Value;

use crate::compare::{Learned, compare, translate};
use crate::recording::Step;
use crate::rename::Names;
use crate::wire::{self, Request, Response};

/// The key that `admin` had when the recordings were made.
const ADMIN_KEY: &str = "287g7j0adbr962nspe6m3g371jv3kp28byt71tgw3rjzf2t1va2t7v";

/// When the JWTs were used, a second after they were made; they were good for five minutes.
const JWT_HOUR: i64 = 1_795_311_487;

/// Loads of one branch that were sent at once.
const CONCURRENT: RangeInclusive<u32> = 137..=144;

pub struct Replay {
    server: Server,
    names: Names,
    learned: Learned,
    /// By role as it is recorded.
    tokens: HashMap<String, String>,
    /// The key each login got last, as it is recorded.
    keys: HashMap<String, String>,
}

type Outcome<'s> = (&'s Step, Result<(), String>);

impl Replay {
    pub async fn start(names: Names) -> Self {
        // This much was in the real server's environment (recording 6).
        let authenticators = vec![names.of("authn-jwt/demo")];
        let options = Options { account: names.account(), authenticators, ..Options::default() };
        let server = Server::start(options).await.unwrap();
        let learned = Learned::from([(ADMIN_KEY.to_owned(), server.admin_key())]);
        let keys = HashMap::from([("admin".to_owned(), ADMIN_KEY.to_owned())]);
        Self { server, names, learned, tokens: HashMap::new(), keys }
    }

    pub async fn run<'s>(&mut self, steps: &'s [Step]) -> Vec<Outcome<'s>> {
        let mut outcomes = Vec::new();
        for step in steps {
            self.catch_up(step.seq).await;
            if CONCURRENT.contains(&step.seq) {
                if step.seq == *CONCURRENT.start() {
                    outcomes.extend(self.run_concurrent(steps).await);
                }
                continue;
            }
            let response = self.send(step).await;
            outcomes.push((step, self.check(step, &response)));
        }
        outcomes
    }

    /// What happened on the real server between two steps and was not recorded.
    async fn catch_up(&mut self, seq: u32) {
        match seq {
            // 600 of the 1,000 variables had got their values (353 shows one, 415 how many there are).
            354 => {
                for number in 0..600 {
                    let id = format!("app/m/{number:04}");
                    let set =
                        self.server.set_variable(&self.names.of(&id), format!("value-{number}").as_bytes());
                    assert!(set, "no variable {id}");
                }
            }
            // The recorded JWTs are good by the clock of that hour only.
            576 => self.server.set_clock_offset(JWT_HOUR - now()),
            598 => self.server.set_clock_offset(0),
            // The root policy's version had gone from 9 to 14.
            696 => {
                for _ in 0..5 {
                    self.server.load_root("[]").await.unwrap();
                }
            }
            // What follows began on an account of its own.
            735 => *self = Self::start(self.names).await,
            // It had logged in before its key was rotated.
            783 => drop(self.token("host/push/app/h1").await),
            _ => {}
        }
    }

    /// Holds the first load that won, meanwhile sends those that lost, then the rest.
    async fn run_concurrent<'s>(&mut self, steps: &'s [Step]) -> Vec<Outcome<'s>> {
        let group = steps.iter().filter(|step| CONCURRENT.contains(&step.seq));
        let (mut won, lost): (Vec<&Step>, Vec<&Step>) = group.partition(|step| step.response.status == 201);
        won.sort_by_key(|step| step.response.body.clone());
        let hold =
            Hold { method: None, path: "/policies".to_owned(), at: Point::BeforeCommit, count: Some(1) };
        let hold = self.server.hold(hold);
        let request = self.request(won[0]).await;
        let address = self.server.address();
        let first = tokio::spawn(async move { wire::send(address, &request).await });
        self.server.held_changes().wait_for(|held| *held == 1).await.unwrap();
        let mut outcomes = Vec::new();
        for step in lost {
            let response = self.send(step).await;
            outcomes.push((step, self.check(step, &response)));
        }
        self.server.release(hold);
        let response = first.await.unwrap();
        outcomes.push((won[0], self.check(won[0], &response)));
        for step in &won[1..] {
            let response = self.send(step).await;
            outcomes.push((step, self.check(step, &response)));
        }
        outcomes
    }

    fn check(&mut self, step: &Step, response: &Response) -> Result<(), String> {
        let outcome = compare(step, response, self.names, &mut self.learned);
        self.remember(step, response);
        outcome
    }

    /// Keeps the token that a login was recorded to get, and the newest key of each.
    fn remember(&mut self, step: &Step, response: &Response) {
        if response.status >= 300 {
            return;
        }
        let recorded =
            String::from_utf8_lossy(step.response.body.as_deref().unwrap_or_default()).into_owned();
        if let Some(login) =
            step.path.strip_prefix("/authn/demo/").and_then(|rest| rest.strip_suffix("/authenticate"))
        {
            let login = login.replace("%2F", "/").replace("%2f", "/");
            let token = match response.header("content-encoding") {
                Some(_) => String::from_utf8_lossy(&response.body).into_owned(),
                None => STANDARD.encode(&response.body),
            };
            self.tokens.insert(login, token);
        } else if step.path.starts_with("/policies/") {
            for (role, key) in created_roles(&recorded) {
                self.keys.insert(login_of(&role), key);
            }
        } else if let Some(role) = step.path.strip_prefix("/authn/demo/api_key?role=") {
            let role = role.replace("%3A", ":").replace("%2F", "/");
            self.keys.insert(login_of(&role), recorded);
        }
    }

    async fn send(&mut self, step: &Step) -> Response {
        let request = self.request(step).await;
        wire::send(self.server.address(), &request).await
    }

    async fn request(&mut self, step: &Step) -> Request {
        let mut headers = Vec::new();
        for (name, value) in &step.headers {
            headers.push((name.clone(), self.header(step, name, value).await));
        }
        Request {
            method: step.method.clone(),
            path: self.translate(&step.path),
            headers,
            body: match std::str::from_utf8(&step.body) {
                Ok(text) => self.translate(text).into_bytes(),
                Err(_) => step.body.clone(),
            },
        }
    }

    async fn header(&mut self, step: &Step, name: &str, value: &str) -> String {
        if name != "authorization" {
            return self.learned.get(value).cloned().unwrap_or_else(|| value.to_owned());
        }
        if let Some(encoded) = value.strip_prefix("Basic ") {
            let plain = String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap();
            return format!("Basic {}", STANDARD.encode(self.translate(&plain)));
        }
        if !value.contains("<access-token>") {
            return self.translate(value);
        }
        let role = step.role.clone().unwrap();
        let token = self.token(&role).await;
        let token = match step.seq {
            304 => tampered(&token),
            308 => URL_SAFE.encode(STANDARD.decode(token).unwrap()),
            309 => STANDARD_NO_PAD.encode(STANDARD.decode(token).unwrap()),
            _ => token,
        };
        value.replace("<access-token>", &token)
    }

    /// The token that was recorded last for the role; for one that has none, a new one.
    async fn token(&mut self, role: &str) -> String {
        if let Some(token) = self.tokens.get(role) {
            return token.clone();
        }
        let path = format!("/authn/demo/{}/authenticate", role.replace('/', "%2F"));
        let request = Request {
            method: "POST".to_owned(),
            path: self.translate(&path),
            headers: vec![("accept-encoding".to_owned(), "base64".to_owned())],
            body: self.translate(&self.keys[role]).into_bytes(),
        };
        let response = wire::send(self.server.address(), &request).await;
        assert_eq!(response.status, 200, "a token for {role}");
        let token = String::from_utf8(response.body).unwrap();
        self.tokens.insert(role.to_owned(), token.clone());
        token
    }

    /// This server's names, keys and tokens instead of the recorded ones.
    fn translate(&self, text: &str) -> String {
        translate(&self.names.of(text), &self.learned)
    }
}

/// `host/app/web` of `host:app/web` and of `demo:host:app/web`.
fn login_of(role: &str) -> String {
    let role = role.strip_prefix("demo:").unwrap_or(role);
    role.strip_prefix("user:").map_or_else(|| role.replacen(':', "/", 1), str::to_owned)
}

/// The roles that a load made, with their keys.
fn created_roles(answer: &str) -> Vec<(String, String)> {
    let answer: Value = serde_json::from_str(answer).unwrap_or_default();
    let roles = answer["created_roles"].as_object().into_iter().flatten();
    roles.map(|(role, made)| (role.clone(), made["api_key"].as_str().unwrap().to_owned())).collect()
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_secs().try_into().unwrap()
}

/// The same token with one letter of its signature changed.
fn tampered(token: &str) -> String {
    let mut json = STANDARD.decode(token).unwrap();
    let at = json.windows(13).position(|window| window == b"\"signature\":\"").unwrap() + 40;
    json[at] = if json[at] == b'A' { b'B' } else { b'A' };
    STANDARD.encode(json)
}
