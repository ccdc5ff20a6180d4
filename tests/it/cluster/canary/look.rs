//! Where somebody without rights on Secrets may look, and in which forms a value is recognized.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use serde_json::Value;

use super::super::Bench;

/// So many signs of a canary in a row are enough to be recognized.
const WINDOW: usize = 8;
/// Of digits alone it takes more, for uids and hashes are full of them.
const HEX_WINDOW: usize = 20;

/// Looks for all of them in the log, Events, conditions, statuses, metadata and metrics, and in what was there `before`.
pub async fn for_them(bench: &Bench, canaries: &[(String, String)], before: Vec<(String, String)>) {
    let mut places: Vec<(String, String)> = Vec::new();
    places.push(("the log".into(), std::fs::read_to_string(&bench.world.log).unwrap()));
    let metrics = reqwest::get(format!("http://{}/metrics", bench.world.metrics)).await.unwrap();
    places.push(("/metrics".into(), metrics.text().await.unwrap()));
    places.extend(before);
    for kind in [
        "events.events.k8s.io",
        "conjursecrets",
        "conjurpolicies",
        "conjurpushes",
        "conjurhosts",
        "conjurconnections",
        "clusterconjurconnections",
        "secrets",
        "configmaps",
    ] {
        let text = bench.kubectl(&["get", kind, "-o", "json"]).await;
        let all: Value = serde_json::from_str(&text).unwrap();
        for mut object in all["items"].as_array().unwrap().clone() {
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let fields = object.as_object_mut().unwrap();
            // What the canaries were put into.
            for own in ["data", "spec"] {
                fields.remove(own);
            }
            places.push((format!("{kind} {name}"), object.to_string()));
        }
    }
    let found = seen(&places, canaries);
    assert!(found.is_empty(), "{} canaries were seen:\n{}", found.len(), found.join("\n"));
    let log = &places[0].1;
    assert!(!log.contains("panicked at"), "the operator panicked");
}

/// The forms of a canary that would give it away.
fn forms(canary: &str) -> Vec<String> {
    // Base64 depends on what stands before: three ways, without what the neighbours have a part in.
    let coded = (0..3).map(|before| {
        let text = STANDARD_NO_PAD.encode([&b"xxx"[..before], canary.as_bytes()].concat());
        text[4..text.len() - 3].to_owned()
    });
    coded.chain([canary.to_owned(), canary.chars().rev().collect(), canary.to_uppercase()]).collect()
}

fn windows(text: &str, width: usize) -> impl Iterator<Item = &str> {
    (0..(text.len() + 1).saturating_sub(width)).filter_map(move |at| text.get(at..at + width))
}

/// Each canary that a place gives away, once, with both places.
fn seen(places: &[(String, String)], canaries: &[(String, String)]) -> Vec<String> {
    let mut parts: HashMap<String, usize> = HashMap::new();
    for (at, (_, canary)) in canaries.iter().enumerate() {
        for form in forms(canary) {
            parts.extend(windows(&form, WINDOW).map(|part| (part.to_owned(), at)));
        }
        let digits = hex::encode(canary);
        parts.extend(windows(&digits, HEX_WINDOW).map(|part| (part.to_owned(), at)));
    }
    let mut found: HashMap<usize, String> = HashMap::new();
    for (place, text) in places {
        for width in [WINDOW, HEX_WINDOW] {
            for (start, part) in windows(text, width).enumerate() {
                let Some(at) = parts.get(part) else { continue };
                found.entry(*at).or_insert_with(|| {
                    let around: String = text.chars().skip(start.saturating_sub(160)).take(340).collect();
                    format!("{} in {place}: …{}…", canaries[*at].0, around.replace('\n', " "))
                });
            }
        }
    }
    let mut found: Vec<String> = found.into_values().collect();
    found.sort();
    found
}

#[test]
fn every_form_of_a_canary_is_recognized() {
    let canaries = [("a".to_owned(), "abcdefghijkmnpqrstuvwxyz".to_owned())];
    let look = |text: &str| seen(&[("x".to_owned(), text.to_owned())], &canaries).len();
    for text in ["…defghijk…", "zyxwvuts", "ABCDEFGH", "user%3Dabcdefgh", "6768696a6b6d6e70717273"] {
        assert_eq!(look(text), 1, "{text}");
    }
    for before in ["", "a", "ab", "abc"] {
        let coded = STANDARD_NO_PAD.encode(format!("{before}{}", canaries[0].1));
        assert_eq!(look(&coded), 1, "{coded}");
    }
    assert_eq!(look("nothing of abcdefg, and 616263646566"), 0);
}
