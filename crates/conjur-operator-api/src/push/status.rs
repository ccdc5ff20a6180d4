//! What is known of a ConjurPush.

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::PushPermit;
use crate::condition::conditioned;

/// What is known of a ConjurPush.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConjurPushStatus {
    /// The generation that was last looked at to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready always; Reconciling and Stalled only while true.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
    /// When a value was last pushed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_push_time: Option<Time>,
    /// The text of the annotation `conjur-operator.io/sync-now` that was handled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_handled_sync_now: Option<String>,
    /// The variables that are this object's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variables: Option<Vec<PushedVariable>>,
    /// How many they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variable_count: Option<i32>,
    /// How many variables were left alone by `updatePolicy: IfNotExists`, for they hold a value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<i32>,
    /// The Secrets, as they were last pushed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sources: Option<Vec<PushedSource>>,
    /// Where the variables are, and what they were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied: Option<AppliedPush>,
    /// A hash over the connection, as it was when last handled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_inputs: Option<String>,
}

conditioned!(ConjurPushStatus);

/// A variable of an object.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PushedVariable {
    /// Its id, below the account.
    pub id: String,
    /// Whether this object made it.
    pub created: bool,
    /// The number of the version that was pushed, or `announced` where its first value may be on its way.
    pub version: PushedVersion,
    /// When the variable was made in Conjur, in milliseconds since 1970, which tells one that was made anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made: Option<String>,
}

/// The number of a version, or that a first one was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushedVersion {
    /// Its first value may be on its way.
    Announced,
    /// The number of the version after the operator's last write, or before it where the value was the same.
    Number(u32),
}

const ANNOUNCED: &str = "announced";

impl Serialize for PushedVersion {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Announced => to.serialize_str(ANNOUNCED),
            Self::Number(number) => to.serialize_u32(*number),
        }
    }
}

impl<'de> Deserialize<'de> for PushedVersion {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(u32),
            Text(String),
        }
        match Either::deserialize(from)? {
            Either::Number(number) => Ok(Self::Number(number)),
            Either::Text(text) if text == ANNOUNCED => Ok(Self::Announced),
            Either::Text(_) => Err(serde::de::Error::custom("a version is a number, or `announced`")),
        }
    }
}

impl JsonSchema for PushedVersion {
    fn schema_name() -> Cow<'static, str> {
        "PushedVersion".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "x-kubernetes-int-or-string": true })
    }
}

/// A Secret that was pushed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PushedSource {
    /// Its name.
    pub name: String,
    /// Its resource version.
    pub resource_version: String,
}

/// Where variables are, and what they were given.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AppliedPush {
    /// A hash over the address and account of the server.
    pub server: String,
    /// The branch that they were made in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Their annotations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Who was permitted what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permit: Option<Vec<PushPermit>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_number_or_the_word() {
        for (text, version) in [("3", PushedVersion::Number(3)), ("\"announced\"", PushedVersion::Announced)]
        {
            assert_eq!(serde_json::from_str::<PushedVersion>(text).unwrap(), version);
            assert_eq!(serde_json::to_string(&version).unwrap(), text);
        }
        for text in ["\"3\"", "-1", "true", "\"\""] {
            assert!(serde_json::from_str::<PushedVersion>(text).is_err(), "{text}");
        }
    }
}
