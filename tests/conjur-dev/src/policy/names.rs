//! How ids in a document become full ids.

use super::Refused;
use super::document::Reference;

/// Where a statement stands: the identifier of the policy around it, none at the root.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) account: String,
    pub(super) namespace: Option<String>,
}

impl Place {
    /// The full id of `id`, as a definition or a reference: relative ones are below the policy, users get
    /// `@` and its path in dashes (recording 66), none is the policy's own (recording 56).
    pub(super) fn full(&self, kind: &str, id: Option<&str>) -> Result<String, Refused> {
        let identifier = match (id, self.namespace.as_deref()) {
            (None, None) => {
                let message = format!("{kind} has no id, and no namespace is available to populate it");
                return Err(Refused::invalid(message));
            }
            (None, Some(namespace)) => namespace.to_owned(),
            (Some(id), namespace) => match (id.strip_prefix('/'), namespace) {
                (Some(absolute), _) => absolute.to_owned(),
                (None, None) => id.to_owned(),
                (None, Some(namespace)) if kind == "user" => {
                    format!("{id}@{}", namespace.replace('/', "-"))
                }
                (None, Some(namespace)) => without_parents(&format!("{namespace}/{id}"))?,
            },
        };
        Ok(format!("{}:{kind}:{identifier}", self.account))
    }

    pub(super) fn resolve(&self, reference: &Reference) -> Result<String, Refused> {
        self.full(reference.kind, reference.id.as_deref())
    }

    /// The place inside the policy with the full id `policy`.
    pub(super) fn inside(&self, policy: &str) -> Self {
        let namespace = crate::model::identifier_of(policy).to_owned();
        Self { account: self.account.clone(), namespace: Some(namespace) }
    }
}

/// Takes `..` out of a path.
fn without_parents(path: &str) -> Result<String, Refused> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        if part != ".." {
            parts.push(part);
        } else if parts.pop().is_none() {
            return Err(Refused::invalid(format!("Invalid relative reference: {path}")));
        }
    }
    Ok(parts.join("/"))
}
