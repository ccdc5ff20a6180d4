//! CRDs without their rules, as an older version of them, or objects from before them, would let an object through.

use anyhow::Result;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::Value;
use std::time::Duration;
use testbed::wait_for;

const RULES: [&str; 12] = [
    "x-kubernetes-validations",
    "maxLength",
    "minLength",
    "maxItems",
    "minItems",
    "maxProperties",
    "minProperties",
    "maximum",
    "minimum",
    "pattern",
    "format",
    "enum",
];

/// Takes every rule out of the CRDs of the operator's group; types and required fields stay.
pub async fn crds(client: &Client) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in api.list(&ListParams::default()).await? {
        let name = crd.name_any();
        if crd.spec.group != "conjur-operator.io" {
            continue;
        }
        wait_for("the CRD is taken", Duration::from_secs(30), async || {
            let mut now = serde_json::to_value(api.get(&name).await.ok()?).ok()?;
            loosen(now.pointer_mut("/spec/versions/0/schema/openAPIV3Schema")?, true);
            let now: CustomResourceDefinition = serde_json::from_value(now).ok()?;
            api.replace(&name, &PostParams::default(), &now).await.ok()
        })
        .await?;
    }
    Ok(())
}

/// `schema` says whether this is a schema; else it is a map of them, in which a rule's name is a field's.
fn loosen(value: &mut Value, schema: bool) {
    match value {
        Value::Object(fields) => {
            if schema {
                fields.retain(|name, _| !RULES.contains(&name.as_str()));
            }
            for (name, value) in fields {
                loosen(value, !schema || name != "properties");
            }
        }
        Value::Array(all) => all.iter_mut().for_each(|value| loosen(value, schema)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_go_and_fields_of_their_names_stay() {
        let mut schema = json!({
            "type": "object", "x-kubernetes-validations": [{}], "required": ["pattern"],
            "properties": { "pattern": { "type": "string", "maxLength": 3 },
                            "list": { "type": "array", "maxItems": 1, "items": { "type": "string", "enum": ["a"] } } },
        });
        loosen(&mut schema, true);
        let expected = json!({
            "type": "object", "required": ["pattern"],
            "properties": { "pattern": { "type": "string" }, "list": { "type": "array", "items": { "type": "string" } } },
        });
        assert_eq!(schema, expected);
    }
}
