//! The recorded steps, with what was cut from them put back.

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
    pub response: Recorded,
}

pub struct Recorded {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    /// None where only its length was kept.
    pub body: Option<Vec<u8>>,
    /// How it begins, where it was cut.
    pub head: Vec<u8>,
    pub sha256: Option<String>,
    pub len: Option<usize>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path: String = self.path.chars().take(100).collect();
        write!(f, "{} ({}; {} {path})", self.seq, self.name, self.method)
    }
}

/// All steps of all files, in order.
pub fn read_all() -> Vec<Step> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recordings");
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
    Step {
        seq: line["seq"].as_u64().unwrap().try_into().unwrap(),
        name: text(&line["step"]).unwrap(),
        role: text(&line["role"]),
        method: text(&request["method"]).unwrap(),
        path: whole_path(request["path"].as_str().unwrap(), length(&request["path_cut_from"])),
        headers: headers(&request["headers"]),
        body: request_body(request),
        response: Recorded {
            status: response["status"].as_u64().unwrap().try_into().unwrap(),
            headers: headers(&response["headers"]),
            body: response_body(response),
            head: kept_body(response),
            sha256: text(&response["sha256"]),
            len: length(&response["len"]),
        },
    }
}

fn length(value: &Value) -> Option<usize> {
    value.as_u64().map(|length| length.try_into().unwrap())
}

fn headers(value: &Value) -> BTreeMap<String, String> {
    let headers = value.as_object().unwrap().iter();
    headers.map(|(name, value)| (name.to_lowercase(), value.as_str().unwrap().to_owned())).collect()
}

fn response_body(response: &Value) -> Option<Vec<u8>> {
    if response["cut_from"].is_number() || response["truncated"] == true {
        return None;
    }
    Some(kept_body(response))
}

fn kept_body(message: &Value) -> Vec<u8> {
    match (message["body_base64"].as_str(), message["body"].as_str()) {
        (Some(encoded), _) => STANDARD.decode(encoded).unwrap(),
        (None, text) => text.unwrap_or_default().as_bytes().to_vec(),
    }
}

fn request_body(request: &Value) -> Vec<u8> {
    if let Some(head) = request["body_head"].as_str() {
        let body = whole_body(head, length(&request["len"]).unwrap());
        assert_eq!(
            sha256(&body),
            request["sha256"].as_str().unwrap(),
            "the rest of {head:.40}… is guessed wrong"
        );
        return body;
    }
    match length(&request["cut_from"]) {
        Some(len) => whole_body(request["body"].as_str().unwrap(), len),
        None => kept_body(request),
    }
}

pub fn sha256(data: &[u8]) -> String {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, data)
        .as_ref()
        .iter()
        .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

/// Goes on as `head` begins, up to `len` bytes: numbered lines or parameters, or what it repeats.
fn whole_body(head: &str, len: usize) -> Vec<u8> {
    for (first, digits) in [("- !variable m/", 4), ("- !variable p/", 5)] {
        if head.starts_with(first) {
            return gather((0..len).map(|number| format!("{first}{number:0digits$}\n")), len);
        }
    }
    if head.starts_with("k0=v&") {
        return gather((0..len).map(|number| format!("k{number}=v&")), len);
    }
    let (period, end): (usize, &[u8]) = match () {
        () if head.starts_with("0123") => (16, b""),
        () if head.starts_with("- !variable big1") => (1, b"\n"),
        () if head.starts_with("- !variable\n") => (1, b"\"\n"),
        () => (1, b""),
    };
    let mut body = head.as_bytes()[..head.len() - head.len() % period].to_vec();
    let pattern = body[body.len() - period..].to_vec();
    body.extend(pattern.iter().cycle().take(len - body.len()));
    let at = len - end.len();
    body[at..].copy_from_slice(end);
    body
}

fn gather(pieces: impl Iterator<Item = String>, len: usize) -> Vec<u8> {
    let mut whole = Vec::with_capacity(len);
    for piece in pieces {
        whole.extend_from_slice(piece.as_bytes());
        if whole.len() >= len {
            break;
        }
    }
    whole.truncate(len);
    whole
}

/// A cut path: a list of ids goes on counting, or goes on with the same id; anything else with its last
/// character.
fn whole_path(kept: &str, len: Option<usize>) -> String {
    let Some(len) = len else { return kept.to_owned() };
    let Some((head, ids)) = kept.split_once("variable_ids=") else {
        let last = kept.chars().last().unwrap();
        return kept.chars().chain(std::iter::repeat(last)).take(len).collect();
    };
    let ids: Vec<&str> = ids.split(',').collect();
    let mut whole = format!("{head}variable_ids=");
    let stem = ids[0].strip_suffix("0000").filter(|_| ids[0] != ids[1]);
    for number in 0.. {
        if whole.len() >= len {
            break;
        }
        match stem {
            Some(stem) => write!(whole, "{stem}{number:04},").unwrap(),
            None => write!(whole, "{},", ids[0]).unwrap(),
        }
    }
    whole.truncate(len);
    assert!(whole.starts_with(kept), "{kept:.80}… goes on otherwise");
    whole
}
