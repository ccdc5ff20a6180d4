//! `rotate`: the API key of a ConjurHost, now.

use conjur_operator_api::ROTATE_NOW_ANNOTATION;
use serde_json::json;

use super::waiting::{annotate, new_text, until_handled};
use crate::{
    Ended, Error,
    cli::{Form, RotateArgs},
    cluster::{Cluster, Kind, Reference, Seen},
    show::Shown,
};

pub async fn run(cluster: &Cluster, args: &RotateArgs, form: Option<Form>) -> Result<Ended, Error> {
    let name = match Reference::parse(&args.host)? {
        Reference::Name(name) | Reference::Object(Kind::Host, name) => name,
        Reference::Kind(_) | Reference::Object(..) => {
            return Err(Error::new(format!("{}: name a ConjurHost, as in cjh/<name>", args.host)));
        }
    };
    let seen = cluster.get(Kind::Host, &name).await?;
    let none = || Error::new(format!("namespace {} has no ConjurHost {name}", cluster.namespace));
    let seen = seen.ok_or_else(none)?;
    if let Some(why) = why_not(&seen) {
        return Err(Error::new(format!("{}: {why}", seen.short_name())));
    }
    let text = new_text();
    annotate(cluster, &seen, ROTATE_NOW_ANNOTATION, &text).await?;
    let mut now = None;
    if !args.no_wait {
        now = until_handled(cluster, &seen, "lastHandledRotateNow", &text, args.timeout).await?;
    }
    let (told, ended) = match (&now, args.no_wait) {
        (Some(now), _) => {
            let secret = now.status()["target"]["name"].as_str().unwrap_or_default();
            (format!("rotated; Secret {secret} holds the new key"), Ended::Well)
        }
        (None, true) => ("asked".to_owned(), Ended::Well),
        (None, false) => (
            format!(
                "not rotated within {:?}; kubectl conjur explain {} says why",
                args.timeout,
                seen.short_name()
            ),
            Ended::Differs,
        ),
    };
    let data = json!({ "object": seen.full_name(), "namespace": seen.namespace(), "rotated": now.is_some() });
    let text = format!("{} {told}\n", seen.short_name());
    Shown { text, data, names: vec![seen.full_name()] }.print(form)?;
    Ok(ended)
}

/// What would keep the operator from rotating, whoever asks.
fn why_not(seen: &Seen) -> Option<&'static str> {
    if seen.spec()["apiKey"] == false {
        return Some("spec.apiKey is false, so that it has no key");
    }
    (seen.spec()["suspend"] == true).then_some("it is suspended; kubectl conjur resume lets it go on")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_rotated_is_told_at_once() {
        let with = |spec: serde_json::Value| Seen {
            kind: Kind::Host,
            object: serde_json::from_value(json!({ "metadata": {}, "spec": spec })).unwrap(),
        };
        assert!(why_not(&with(json!({ "apiKey": false }))).is_some_and(|why| why.contains("apiKey")));
        assert!(why_not(&with(json!({ "suspend": true }))).is_some_and(|why| why.contains("resume")));
        assert_eq!(why_not(&with(json!({ "id": "a/b" }))), None);
    }
}
