//! Objects as the API server hands them over.

use std::time::Instant;

use conjur_operator::api::{
    ClusterConjurConnection, ConjurConnection, ConjurPolicy, ConjurSecret, GoDuration,
    connection::{AccessRule, Settings},
};
use conjur_operator::seams::Slots;
use conjur_operator::seams::Sources;
use conjur_operator::seams::access::{self, Consumer};
use conjur_operator::seams::{LeaseRecord, Seen, decide};
use conjur_operator::seams::{check, references};
use k8s_openapi::api::coordination::v1::Lease;
use serde::de::DeserializeOwned;

use super::{Read, word};

fn decoded<K: DeserializeOwned>(input: &[u8]) -> Option<K> {
    serde_json::from_slice(input).ok()
}

/// Specs of every kind, and what is made of them before anything is asked for.
pub fn specs() -> Read {
    Box::new(|input| {
        let mut said = String::new();
        if let Some(object) = decoded::<ConjurSecret>(input) {
            let spec = &object.spec;
            said += if references::of_secret(spec).is_ok() { "" } else { "leads away " };
            said += match Sources::of(spec.entries(), spec.sources()) {
                Ok(sources) => {
                    let (named, finds) = (sources.named().count(), sources.finds().count());
                    if named > finds { "named" } else { "found" }
                }
                Err(_) => "refused",
            };
            let slots = Slots::new(spec.interval(), "uid", 16);
            let now = "2026-01-01T00:00:00Z".parse().unwrap_or_default();
            said += if slots.next_in(now) <= spec.interval() { " soon" } else { " later" };
        }
        if let Some(object) = decoded::<ConjurPolicy>(input) {
            said += if references::of_policy(&object.spec).is_ok() { "" } else { " leads away" };
            said += if object.spec.drift_check().is_some() { " drift" } else { " policy" };
        }
        if let Some(object) = decoded::<ConjurConnection>(input) {
            let settings = Settings::from(&object.spec);
            said += if settings.token_refresh_interval.is_zero() { " zero" } else { " connection" };
            said += &checked(&settings, None);
        }
        if let Some(object) = decoded::<ClusterConjurConnection>(input) {
            let labels = std::collections::BTreeMap::from([("team".to_owned(), "pay".to_owned())]);
            let who = Consumer { namespace: "billing", labels: &labels };
            let rules = object.spec.access.as_deref().unwrap_or_default();
            said += &checked(&Settings::from(&object.spec), Some(rules));
            said += &access::check_use(rules, who, "shared")
                .map_or_else(|refused| word(&refused.message), |()| " used".to_owned());
        }
        said
    })
}

/// What a connection's settings come to before anything is asked for by them: also where they lead.
fn checked(settings: &Settings, rules: Option<&[AccessRule]>) -> String {
    let read = check(settings, rules);
    assert!(
        read.is_err() || references::of_connection(settings, rules).is_ok(),
        "what leads elsewhere passes the check of a connection"
    );
    read.map_or_else(|failure| word(&failure.message), |()| " sound".to_owned())
}

/// Durations as Go writes them.
pub fn durations() -> Read {
    Box::new(|input| {
        let text = String::from_utf8_lossy(input);
        GoDuration::parse(&text).map_or_else(
            |_| "refused".to_owned(),
            |read| if read.get().is_zero() { "0" } else { "1" }.to_owned(),
        )
    })
}

/// Leases, and what follows from them.
pub fn leases() -> Read {
    Box::new(|input| {
        let Some(lease) = decoded::<Lease>(input) else { return "no Lease".to_owned() };
        let (record, mut seen, now) = (LeaseRecord::of(&lease), Seen::default(), Instant::now());
        seen.note(Some(&record), now);
        word(&format!("{:?}", decide(Some(&record), &seen, "me", now)))
    })
}
