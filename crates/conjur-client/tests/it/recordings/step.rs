//! One recorded exchange.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

pub struct Step {
    pub seq: u32,
    pub name: String,
    /// Whose token it was.
    pub role: Option<String>,
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    pub status: u16,
    pub answered: BTreeMap<String, String>,
    pub answer: Vec<u8>,
    /// Whether the answer was cut and can't be put together again.
    pub cut: bool,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path: String = self.path.chars().take(100).collect();
        write!(f, "recording {} ({}; {} {path} → {})", self.seq, self.name, self.method, self.status)
    }
}

impl Step {
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.answer).ok()
    }

    pub fn is_conjur_error(&self) -> bool {
        self.json().is_some_and(|body| body["error"].is_object())
    }
}

pub fn all() -> Vec<Step> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/recordings");
    let mut steps = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        steps.extend(text.lines().map(|line| read(&serde_json::from_str(line).unwrap())));
    }
    steps.sort_by_key(|step: &Step| step.seq);
    assert_eq!(steps.len(), 808, "steps found");
    steps
}

fn read(line: &Value) -> Step {
    let (request, response) = (&line["request"], &line["response"]);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (answer, cut) = content(response);
    Step {
        seq: line["seq"].as_u64().unwrap().try_into().unwrap(),
        name: text(&line["step"]).unwrap(),
        role: text(&line["role"]),
        method: text(&request["method"]).unwrap(),
        path: path(request),
        headers: headers(&request["headers"]),
        body: content(request).0,
        status: response["status"].as_u64().unwrap().try_into().unwrap(),
        answered: headers(&response["headers"]),
        answer,
        cut,
    }
}

fn headers(value: &Value) -> BTreeMap<String, String> {
    let headers = value.as_object().unwrap().iter();
    headers.map(|(name, value)| (name.to_lowercase(), value.as_str().unwrap().to_owned())).collect()
}

/// A body, and whether it was cut. What repeats itself is filled up to its length.
fn content(message: &Value) -> (Vec<u8>, bool) {
    if let Some(encoded) = message["body_base64"].as_str() {
        return (STANDARD.decode(encoded).unwrap(), false);
    }
    let kept = message["body_head"].as_str().or(message["body"].as_str()).unwrap_or_default();
    let cut = message["cut_from"].is_number() || message["truncated"] == true;
    if !cut {
        return (kept.as_bytes().to_vec(), false);
    }
    let length = message["len"].as_u64().unwrap().try_into().unwrap();
    let repeats = kept.starts_with("zzz") || kept.starts_with("0123") || kept.starts_with("xxx");
    if !repeats {
        return (kept.as_bytes().to_vec(), true);
    }
    let whole = &kept.as_bytes()[..kept.len() - kept.len() % 16];
    (whole.iter().copied().cycle().take(length).collect(), false)
}

/// A path that was cut is a list of ids that counts on, or repeats its last one, or its last character.
fn path(request: &Value) -> String {
    let kept = request["path"].as_str().unwrap();
    let Some(length) = request["path_cut_from"].as_u64().map(|length| usize::try_from(length).unwrap())
    else {
        return kept.to_owned();
    };
    let Some((head, ids)) = kept.split_once("variable_ids=") else {
        let last = kept.chars().last().unwrap();
        return kept.chars().chain(std::iter::repeat(last)).take(length).collect();
    };
    let ids: Vec<&str> = ids.split(',').collect();
    let stem = ids[0].strip_suffix("0000").filter(|_| ids[0] != ids[1]);
    let mut whole = format!("{head}variable_ids=");
    for number in 0.. {
        match stem {
            Some(stem) => write!(whole, "{stem}{number:04}").unwrap(),
            None => whole.push_str(ids[0]),
        }
        if whole.len() >= length {
            break;
        }
        whole.push(',');
    }
    assert!(whole.starts_with(kept), "{kept:.80}… goes on otherwise");
    whole
}
