//! `dataFrom`: several keys each.

use serde_json::{Value, json};

use super::data::{self, Data};
use crate::migrate::{
    fields::Fields,
    note::Notes,
    regular::{self, KeyOrigin},
};

/// Reads `dataFrom`.
pub fn sources(spec: &Fields, data: &mut Data, notes: &mut Notes) {
    let items = spec.items("dataFrom");
    let count = items.len();
    for item in items {
        data::source(&item, notes);
        let made = if let Some(extract) = item.inner("extract") {
            extracted(&item, &extract, data, notes)
        } else if let Some(find) = item.inner("find") {
            data.finds = true;
            Some(found(&item, &find, data, notes))
        } else {
            // A generator was noted.
            item.irrelevant(&["rewrite"]);
            None
        };
        data.sources.extend(made);
        item.rest(notes);
    }
    if count > 1 || count == 1 && !data.entries.is_empty() {
        let what = "where two sources give one key, the last counted; here extract and data are refused then (InvalidSpec), \
                    and what is found is left out beside them";
        notes.info("spec.dataFrom", what, "Rename one of such keys with rewrite");
    }
}

fn extracted(item: &Fields, extract: &Fields, data: &mut Data, notes: &mut Notes) -> Option<Value> {
    let reference = data::reference(extract, notes)?;
    data::refuse_decoding(extract, notes);
    data.reads.extend(reference["variable"].as_str().map(str::to_owned));
    let mut made = json!({ "extract": reference });
    let rules = regular::rewrite(&item.items("rewrite"), KeyOrigin::Fields, notes).rules;
    let converts = converts(item, extract, notes);
    put(&mut made, rules, converts);
    extract.rest(notes);
    Some(made)
}

/// Whether what a key can't have becomes `_`: only where nothing is rewritten.
fn converts(item: &Fields, of: &Fields, notes: &mut Notes) -> bool {
    let strategy = of.text("conversionStrategy").unwrap_or("Default");
    if !item.list("rewrite").is_empty() {
        return false;
    }
    if strategy != "Default" {
        let what = format!(
            "the strategy {strategy} writes what a key can't have in a way that no rewrite here makes"
        );
        notes.blocks(
            of.path("conversionStrategy"),
            what,
            "Rename the keys with rewrite, or name them in data",
        );
    }
    true
}

fn put(made: &mut Value, mut rules: Vec<Value>, converts: bool) {
    if converts {
        rules.push(json!({ "pattern": "[^-._a-zA-Z0-9]", "replacement": "_" }));
    }
    if !rules.is_empty() {
        made["rewrite"] = json!(rules);
    }
}

fn found(item: &Fields, find: &Fields, data: &mut Data, notes: &mut Notes) -> Value {
    let mut criteria = json!({});
    let name = find.inner("name");
    let regexp = name.as_ref().and_then(|name| name.text("regexp"));
    let tags = find.map("tags");
    if let Some(regexp) = regexp {
        let at = name.as_ref().map(|name| name.path("regexp")).unwrap_or_default();
        match regular::check(regexp) {
            Ok(()) => criteria["pattern"] = json!(regexp),
            Err(why) => {
                notes.blocks(at, format!("the expression can't be said here: {why}"), "Write another");
            }
        }
    }
    if !tags.is_empty() {
        criteria["annotations"] = tags.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    }
    if regexp.is_some() && !tags.is_empty() {
        let what = "both count; External Secrets Operator before 2.9 looked at name alone";
        notes.info(find.at(), what, "");
    }
    if criteria == json!({}) {
        criteria["pattern"] = json!(".");
        notes.info(
            find.at(),
            "without name and tags it finds every variable that the identity sees",
            "Narrow it with prefix",
        );
    }
    if let Some(path) = find.text("path") {
        let what =
            format!("External Secrets Operator does not look at it for Conjur (here {path}): it is left out");
        notes.info(find.path("path"), what, "Write prefix to have what is found begin with it");
    }
    data::refuse_decoding(find, notes);
    find.irrelevant(&["metadataPolicy"]);
    if find.text("nullBytePolicy").is_some_and(|policy| policy != "Ignore") {
        notes.differs(find.path("nullBytePolicy"), "values with a NUL byte are written as they are", "");
    }
    let converts = converts(item, find, notes);
    let rewrite = regular::rewrite(&item.items("rewrite"), KeyOrigin::Ids, notes);
    let mut made = json!({ "find": criteria });
    if rewrite.last_segment {
        made["keyFrom"] = json!("LastSegment");
    }
    if let Some(prefix) = rewrite.prefix {
        made["find"]["prefix"] = json!(prefix);
    }
    put(&mut made, rewrite.rules, converts);
    let prefix = regexp.and_then(regular::literal_prefix).filter(|prefix| prefix.contains('/'));
    data.reads.insert(prefix.map_or_else(
        || "**".to_owned(),
        |prefix| format!("{}/**", prefix.rsplit_once('/').map_or(prefix.as_str(), |(branch, _)| branch)),
    ));
    if let Some(name) = &name {
        name.rest(notes);
    }
    find.rest(notes);
    made
}
