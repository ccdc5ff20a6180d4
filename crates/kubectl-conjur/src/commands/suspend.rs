//! `suspend` and `resume`.

use serde_json::json;

use super::waiting::patch;
use crate::{
    Ended, Error,
    cli::Form,
    cluster::{Cluster, Seen},
    show::Shown,
};

pub async fn run(
    cluster: &Cluster,
    objects: &[String],
    suspend: bool,
    form: Option<Form>,
) -> Result<Ended, Error> {
    let mut found = Vec::new();
    for text in objects {
        let seen = cluster.find(text).await?;
        if seen.kind.is_connection() {
            return Err(Error::new(format!(
                "{} can't be suspended: suspend the objects that use it",
                seen.short_name()
            )));
        }
        found.push(seen);
    }
    let mut text = String::new();
    for seen in &found {
        // Left out is the default: nothing of it stays in the manifest.
        let value = if suspend { json!(true) } else { json!(null) };
        patch(cluster, seen, json!({ "spec": { "suspend": value } })).await?;
        text += &format!("{} {}\n", seen.short_name(), if suspend { "suspended" } else { "resumed" });
        if let Some(tool) = kept_by(seen) {
            text += &format!(
                "  {tool} applies it, and may set spec.suspend back: change it at its source, too.\n"
            );
        }
    }
    let data: Vec<_> = found
        .iter()
        .map(
            |seen| json!({ "object": seen.full_name(), "namespace": seen.namespace(), "suspended": suspend }),
        )
        .collect();
    Shown { text, data: data.into(), names: found.iter().map(Seen::full_name).collect() }.print(form)?;
    Ok(Ended::Well)
}

/// The GitOps tool that applies an object, by the marks that it leaves.
fn kept_by(seen: &Seen) -> Option<&'static str> {
    let labels = seen.object.metadata.labels.clone().unwrap_or_default();
    let annotations = seen.annotations();
    let has = |key: &str| labels.contains_key(key) || annotations.contains_key(key);
    if has("argocd.argoproj.io/instance") || has("argocd.argoproj.io/tracking-id") {
        return Some("Argo CD");
    }
    (has("kustomize.toolkit.fluxcd.io/name") || has("helm.toolkit.fluxcd.io/name")).then_some("Flux")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Kind;

    #[test]
    fn who_applies_an_object_is_told_by_its_marks() {
        let with = |metadata: serde_json::Value| Seen {
            kind: Kind::Secret,
            object: serde_json::from_value(json!({ "metadata": metadata })).unwrap(),
        };
        let mark = |key: &str| with(json!({ "annotations": { key: "x" } }));
        assert_eq!(kept_by(&mark("argocd.argoproj.io/tracking-id")), Some("Argo CD"));
        let flux = with(json!({ "labels": { "kustomize.toolkit.fluxcd.io/name": "apps" } }));
        assert_eq!((kept_by(&flux), kept_by(&with(json!({})))), (Some("Flux"), None));
    }
}
