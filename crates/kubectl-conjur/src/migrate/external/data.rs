//! `data`: one key each.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::migrate::{fields::Fields, note::Notes, property};

/// What goes into the Secret.
#[derive(Debug, Default)]
pub struct Data {
    /// `data` of the ConjurSecret.
    pub entries: Vec<Value>,
    /// `dataFrom` of the ConjurSecret.
    pub sources: Vec<Value>,
    /// Patterns of the ids that are read.
    pub reads: BTreeSet<String>,
    /// Where something is found: what that brings is not known.
    pub finds: bool,
}

impl Data {
    /// The keys of `data`.
    pub fn named(&self) -> BTreeSet<String> {
        self.entries.iter().filter_map(|entry| Some(entry["key"].as_str()?.to_owned())).collect()
    }

    /// All keys, where they are known.
    pub fn keys(&self) -> Option<BTreeSet<String>> {
        self.sources.is_empty().then(|| self.named())
    }
}

/// Reads `data`.
pub fn entries(spec: &Fields, notes: &mut Notes) -> Data {
    let mut data = Data::default();
    for item in spec.items("data") {
        let key = item.text("secretKey").unwrap_or_default().to_owned();
        source(&item, notes);
        let Some(remote) = item.inner("remoteRef") else {
            notes.blocks(item.path("remoteRef"), "it names no variable", "Name one");
            continue;
        };
        let Some(mut entry) = reference(&remote, notes) else { continue };
        if let Some(decode) = decode(&remote, notes) {
            entry["decode"] = json!(decode);
        }
        // It speaks of the keys that extract and find make.
        remote.irrelevant(&["conversionStrategy"]);
        remote.rest(notes);
        item.rest(notes);
        data.reads.extend(entry["variable"].as_str().map(str::to_owned));
        let mut made = json!({ "key": key });
        if let (Some(made), Some(entry)) = (made.as_object_mut(), entry.as_object_mut()) {
            made.append(entry);
        }
        if let Some(first) = data.entries.iter_mut().find(|entry| entry["key"] == key.as_str()) {
            let what = format!("the key {key} is named twice: the later counts, as it did");
            notes.info(item.path("secretKey"), what, "");
            *first = made;
        } else {
            data.entries.push(made);
        }
    }
    data
}

/// Where an item comes from: the store was looked at; generators there are none.
pub fn source(item: &Fields, notes: &mut Notes) {
    let Some(source) = item.inner("sourceRef") else { return };
    source.irrelevant(&["storeRef"]);
    if let Some(generator) = source.inner("generatorRef") {
        let kind = generator.text("kind").unwrap_or_default();
        let what = format!("the operator generates no values (generator {kind})");
        let todo = "Generate the value elsewhere and keep it in Conjur: a ConjurPush brings a Secret there";
        notes.blocks(generator.at(), what, todo);
    }
    source.rest(notes);
}

/// Variable and property of a `remoteRef` or an `extract`.
pub fn reference(remote: &Fields, notes: &mut Notes) -> Option<Value> {
    let id = id(remote.text("key").unwrap_or_default(), &remote.path("key"), notes)?;
    let mut made = json!({ "variable": id });
    if let Some(path) = remote.text("property") {
        let at = remote.path("property");
        match property::pointer(path) {
            Ok(pointer) => {
                made["property"] = json!(pointer);
                let what = "a field of JSON comes as it did where it is text, true or false, or a whole number; \
                            other numbers come as they stand in the JSON, lists and maps without white space, and null is an error";
                notes.info(&at, what, "");
            }
            Err(why) => {
                let what = format!("'{path}' has no counterpart: {why}");
                notes.blocks(
                    &at,
                    what,
                    "Write a JSON pointer into property, or take the value apart in a template",
                );
            }
        }
    }
    if let Some(version) = remote.text("version") {
        let what = format!(
            "External Secrets Operator gets the latest value from Conjur whatever it names (here {version}), and so does the operator"
        );
        notes.info(remote.path("version"), what, "Write version to have it pinned");
    }
    if remote.text("metadataPolicy").is_some_and(|policy| policy != "None") {
        notes.info(
            remote.path("metadataPolicy"),
            "External Secrets Operator gets no annotations from Conjur, and neither does the operator",
            "",
        );
    }
    if remote.text("nullBytePolicy").is_some_and(|policy| policy != "Ignore") {
        notes.differs(remote.path("nullBytePolicy"), "values with a NUL byte are written as they are", "");
    }
    Some(made)
}

/// An id below the account: a full one names the kind, too.
pub fn id<'a>(key: &'a str, field: &str, notes: &mut Notes) -> Option<&'a str> {
    let parts: Vec<_> = key.splitn(3, ':').collect();
    let id = match parts.as_slice() {
        [_, "variable", id] | ["variable", id] => {
            notes.info(field, format!("'{key}' is a full id; the account is the connection's"), "");
            id
        }
        [id] => id,
        _ => {
            let what = format!("'{key}' is no id of a variable");
            notes.blocks(field, what, "Write the id below the account, such as apps/billing/db/password");
            return None;
        }
    };
    if id.is_empty() {
        notes.blocks(field, "it names no variable", "Name one");
        return None;
    }
    Some(id)
}

fn decode(remote: &Fields, notes: &mut Notes) -> Option<&'static str> {
    match remote.text("decodingStrategy") {
        None | Some("None") => None,
        Some("Base64" | "Base64URL") => Some("Base64"),
        Some(other) => {
            let what =
                format!("the strategy {other} decodes what looks like base64, and leaves what does not");
            notes.blocks(
                remote.path("decodingStrategy"),
                what,
                "Say whether the value is base64: Base64 or None",
            );
            None
        }
    }
}

/// That nothing is decoded: only entries of `data` can be.
pub fn refuse_decoding(of: &Fields, notes: &mut Notes) {
    if let Some(strategy) = of.text("decodingStrategy").filter(|strategy| *strategy != "None") {
        let what = format!("dataFrom decodes nothing ({strategy})");
        notes.blocks(of.path("decodingStrategy"), what, "Name the keys in data, each with decode: Base64");
    }
}
