//! What is written down of a hand-over, in a ConfigMap beside the Secret: it goes on after a crash by this, and back.
//!
//! A record is made only where there is none, and changed and removed only as it was read: of two runs at once the one that
//! wrote last goes on, and the other learns of it before its next effect.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{DeleteParams, ListParams, ObjectMeta, Preconditions},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::names::bounded;
use crate::{
    Error,
    cluster::{Cluster, api_error},
    commands::waiting::posting,
};

/// On what is made for a hand-over alone: `true` on a record, and what else it is.
pub const LABEL: &str = "conjur-operator.io/migration";
const KEY: &str = "hand-over.json";

/// How far a hand-over is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// It is written down, and nothing else was done.
    Announced,
    /// The ConjurSecret made the same data elsewhere.
    Compared,
    /// It is done.
    Done,
}

/// A hand-over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HandOver {
    pub stage: Stage,
    /// The run that is on it.
    #[serde(default)]
    pub run: String,
    /// `--undo` was begun: there is no way but back.
    #[serde(default)]
    pub giving_back: bool,
    /// The Secret, which stays the same object.
    pub secret: String,
    pub secret_uid: String,
    /// Manifests, as they are applied or made again.
    pub external_secret: Value,
    /// The ExternalSecret that was compared; one of another uid was made since. Empty where it is not known.
    #[serde(default)]
    pub external_secret_uid: String,
    pub conjur_secret: Value,
    /// The ConjurSecret that was made.
    #[serde(default)]
    pub conjur_secret_uid: Option<String>,
}

impl HandOver {
    pub fn conjur_secret_name(&self) -> &str {
        self.conjur_secret["metadata"]["name"].as_str().unwrap_or_default()
    }

    pub fn external_secret_name(&self) -> &str {
        self.external_secret["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// Whether this may be written over another: what was reached stays reached, and who goes back goes on going back.
    fn may_follow(&self, other: &Self) -> bool {
        self.stage >= other.stage
            && self.giving_back >= other.giving_back
            && (other.stage < Stage::Done || self.conjur_secret == other.conjur_secret)
    }
}

/// A hand-over as it is written down.
#[derive(Debug, Clone)]
pub struct Record {
    pub one: HandOver,
    name: String,
    uid: Option<String>,
    version: Option<String>,
}

/// All that are written down, and the names of ConfigMaps that hold none.
#[derive(Debug, Default)]
pub struct Records {
    pub all: Vec<Record>,
    pub unread: Vec<String>,
}

fn api(cluster: &Cluster) -> Api<ConfigMap> {
    Api::namespaced(cluster.client.clone(), &cluster.namespace)
}

fn name_of(secret: &str) -> String {
    bounded("conjur-migration.", secret, "")
}

/// A text that no other run has.
fn new_run() -> String {
    format!("{} {}", Timestamp::now(), std::process::id())
}

fn taken(secret: &str) -> Error {
    Error::new(format!(
        "another run is on the hand-over of Secret {secret}; see how that ends, then run this again"
    ))
}

impl Record {
    fn of(map: ConfigMap) -> Result<Self, String> {
        let name = map.metadata.name.unwrap_or_default();
        let text = map.data.unwrap_or_default().remove(KEY).unwrap_or_default();
        let one = serde_json::from_str(&text).map_err(|error| {
            format!(
                "ConfigMap {name} holds no hand-over ({error}); restore it, or delete it if its Secret is well"
            )
        })?;
        Ok(Self { one, name, uid: map.metadata.uid, version: map.metadata.resource_version })
    }

    fn map(&self, one: &HandOver) -> Result<ConfigMap, Error> {
        let text = serde_json::to_string(one).map_err(|error| Error::new(error.to_string()))?;
        let metadata = ObjectMeta {
            name: Some(self.name.clone()),
            uid: self.uid.clone(),
            resource_version: self.version.clone(),
            labels: Some(BTreeMap::from([(LABEL.to_owned(), "true".to_owned())])),
            ..ObjectMeta::default()
        };
        let data = Some(BTreeMap::from([(KEY.to_owned(), text)]));
        Ok(ConfigMap { metadata, data, ..ConfigMap::default() })
    }

    /// Writes a new one down.
    ///
    /// # Errors
    /// That there is one already; the API server's.
    pub async fn create(cluster: &Cluster, one: HandOver) -> Result<Self, Error> {
        let one = HandOver { run: new_run(), ..one };
        let mut record = Self { name: name_of(&one.secret), uid: None, version: None, one };
        let map = record.map(&record.one)?;
        match api(cluster).create(&posting(), &map).await {
            Ok(made) => {
                record.uid = made.metadata.uid;
                record.version = made.metadata.resource_version;
                Ok(record)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Err(taken(&record.one.secret)),
            Err(error) => Err(api_error(&format!("make ConfigMap {}", record.name), &error)),
        }
    }

    /// Writes how it is now, over what was read.
    ///
    /// # Errors
    /// That another run wrote meanwhile; the API server's.
    pub async fn write(&mut self, cluster: &Cluster, one: HandOver) -> Result<(), Error> {
        if !one.may_follow(&self.one) {
            return Err(Error::new(format!(
                "ConfigMap {} says that the hand-over is further than this",
                self.name
            )));
        }
        match api(cluster).replace(&self.name, &posting(), &self.map(&one)?).await {
            Ok(written) => {
                self.version = written.metadata.resource_version;
                self.one = one;
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => {
                Err(taken(&self.one.secret))
            }
            Err(error) => Err(api_error(&format!("write ConfigMap {}", self.name), &error)),
        }
    }

    /// Makes this run the one that is on it.
    ///
    /// # Errors
    /// As [`Record::write`].
    pub async fn claim(&mut self, cluster: &Cluster, giving_back: bool) -> Result<(), Error> {
        let giving_back = giving_back || self.one.giving_back;
        let one = HandOver { run: new_run(), giving_back, ..self.one.clone() };
        self.write(cluster, one).await
    }

    /// Sees that this run is still the one that is on it, before an effect.
    ///
    /// # Errors
    /// That another run wrote meanwhile; the API server's.
    pub async fn is_ours(&self, cluster: &Cluster) -> Result<(), Error> {
        let found = api(cluster).get_metadata_opt(&self.name).await;
        let found = found.map_err(|error| api_error(&format!("read ConfigMap {}", self.name), &error))?;
        let version = found.and_then(|found| found.metadata.resource_version);
        if version == self.version { Ok(()) } else { Err(taken(&self.one.secret)) }
    }

    /// Removes it, as it was read.
    ///
    /// # Errors
    /// That another run wrote meanwhile; the API server's.
    pub async fn remove(self, cluster: &Cluster) -> Result<(), Error> {
        let preconditions = Some(Preconditions { uid: self.uid, resource_version: self.version });
        let params = DeleteParams { preconditions, ..DeleteParams::default() };
        match api(cluster).delete(&self.name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Err(taken(&self.one.secret)),
            Err(error) => Err(api_error(&format!("delete ConfigMap {}", self.name), &error)),
        }
    }
}

/// All that are written down in the namespace.
///
/// # Errors
/// The API server's.
pub async fn all(cluster: &Cluster) -> Result<Records, Error> {
    let found = api(cluster).list(&ListParams::default().labels(&format!("{LABEL}=true"))).await;
    let found = found.map_err(|error| api_error("list the ConfigMaps of hand-overs", &error))?;
    let mut records = Records::default();
    for map in found.items {
        match Record::of(map) {
            Ok(record) => records.all.push(record),
            Err(why) => records.unread.push(why),
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// As an earlier version wrote it.
    fn one(stage: &str) -> HandOver {
        let text = json!({
            "stage": stage, "secret": "db", "secretUid": "1", "externalSecret": {}, "conjurSecret": { "metadata": { "name": "db" } },
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn a_record_is_never_replaced_by_an_earlier_stage() {
        let [announced, compared, done] = ["Announced", "Compared", "Done"].map(one);
        for (now, before, may) in [
            (&compared, &announced, true),
            (&compared, &compared, true),
            (&done, &compared, true),
            (&announced, &compared, false),
            (&announced, &done, false),
            (&compared, &done, false),
        ] {
            assert_eq!(now.may_follow(before), may, "{now:?} over {before:?}");
        }
        let back = HandOver { giving_back: true, ..done.clone() };
        assert!(back.may_follow(&done) && !done.may_follow(&back));
        let other = HandOver { conjur_secret: json!({}), ..done.clone() };
        assert!(!other.may_follow(&done), "what is done is not replaced by another hand-over");
    }

    #[test]
    fn a_config_map_that_holds_no_hand_over_is_named() {
        let map = |data: &str| ConfigMap {
            metadata: ObjectMeta { name: Some("conjur-migration.db".into()), ..ObjectMeta::default() },
            data: Some(BTreeMap::from([(KEY.to_owned(), data.to_owned())])),
            ..ConfigMap::default()
        };
        assert!(Record::of(map("{")).unwrap_err().contains("ConfigMap conjur-migration.db"));
        let text = serde_json::to_string(&one("Done")).unwrap();
        assert_eq!(Record::of(map(&text)).unwrap().one, one("Done"));
    }
}
