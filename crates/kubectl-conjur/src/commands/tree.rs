//! `tree`: from a variable to the objects that use it, their Secrets, and the workloads that mount those; and back.

mod workloads;

use std::collections::BTreeSet;

use serde::Serialize;

use self::workloads::MountingWorkload;
use crate::{
    Ended, Error,
    cli::{Form, TreeArgs},
    cluster::{Cluster, Kind},
    links::{self, Direction, Link},
    show::{Shown, Tone, toned},
};

/// A line of the tree, and what hangs below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct TreeItem {
    /// As people write it: `cjs/db`.
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    /// In a few words, how it belongs to what it hangs below.
    #[serde(skip_serializing_if = "String::is_empty")]
    how: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ready: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    children: Vec<TreeItem>,
}

impl TreeItem {
    fn new(name: impl Into<String>, how: impl Into<String>) -> Self {
        Self { name: name.into(), namespace: None, how: how.into(), ready: None, children: Vec::new() }
    }

    fn of(link: &Link, how: impl Into<String>) -> Self {
        Self {
            namespace: Some(link.namespace.clone()),
            ready: Some(link.ready),
            ..Self::new(link.object.clone(), how)
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Of {
    Variable(String),
    Secret(String),
    /// An object of this operator, as people write it.
    Object(String),
    /// Kind in lower case, and name.
    Workload(String, String),
}

impl Of {
    fn parse(text: &str) -> Self {
        match text.split_once('/') {
            Some(("secret" | "secrets", name)) if !name.contains('/') => Self::Secret(name.to_owned()),
            Some((kind, name)) if workloads::is_kind(kind) && !name.contains('/') => {
                Self::Workload(workloads::singular(kind), name.to_owned())
            }
            Some((kind, name)) if !name.contains('/') && Kind::of(kind).is_some() => {
                Self::Object(format!("{}/{name}", Kind::of(kind).map_or("", Kind::short)))
            }
            _ => Self::Variable(text.to_owned()),
        }
    }
}

pub async fn run(cluster: &Cluster, args: &TreeArgs, form: Option<Form>) -> Result<Ended, Error> {
    let of = Of::parse(&args.of);
    let namespace = (!args.all_namespaces).then_some(cluster.namespace.as_str());
    let kinds = [Kind::Secret, Kind::Policy, Kind::Push, Kind::Host];
    let objects = cluster.list(&kinds, namespace).await?;
    let links: Vec<Link> = objects.iter().filter_map(links::of).collect();
    let (workloads, unseen) = workloads::list(cluster, namespace).await;
    let root = grow(&of, &args.of, &links, &workloads);
    let mut text = drawn(&root, args.all_namespaces);
    if root.children.is_empty() {
        text += "Nothing that conjur-operator keeps uses it here; -A looks in all namespaces.\n";
    }
    for what in &unseen {
        text += &format!("Not seen: {what}.\n");
    }
    let mut names = Vec::new();
    names_of(&root, &mut names);
    let data = serde_json::to_value(&root).map_err(|error| Error::new(error.to_string()))?;
    Shown { text, data, names }.print(form)?;
    Ok(if root.children.is_empty() { Ended::Differs } else { Ended::Well })
}

fn grow(of: &Of, text: &str, links: &[Link], workloads: &[MountingWorkload]) -> TreeItem {
    let mut root = TreeItem::new(text, "");
    match of {
        Of::Variable(id) => {
            for link in links {
                if let Some(how) = link.uses(id) {
                    let mut node = TreeItem::of(link, how);
                    node.children.extend(secret_below(link, workloads));
                    root.children.push(node);
                }
            }
        }
        Of::Secret(name) => {
            root.children = writers(name, None, links);
            let mounts = workloads.iter().filter_map(|workload| mount(workload, name, None));
            root.children.extend(mounts);
        }
        Of::Object(name) => {
            for link in links.iter().filter(|link| &link.object == name) {
                root.children.extend(link.variables.iter().map(|(id, how)| TreeItem::new(id, how)));
                root.children.extend(link.finds.iter().map(|find| TreeItem::new(find.to_string(), "")));
                root.children.extend(secret_below(link, workloads));
            }
        }
        Of::Workload(kind, name) => {
            for workload in workloads.iter().filter(|one| &one.kind == kind && &one.name == name) {
                let secrets: BTreeSet<_> = workload.mounts.iter().map(|(secret, _)| secret).collect();
                for secret in secrets {
                    let mut node = TreeItem::new(format!("secret/{secret}"), workload.how(secret));
                    node.namespace = Some(workload.namespace.clone());
                    node.children = writers(secret, Some(&workload.namespace), links);
                    root.children.push(node);
                }
            }
        }
    }
    root
}

/// The Secret of an object that reads, with who mounts it.
fn secret_below(link: &Link, workloads: &[MountingWorkload]) -> Option<TreeItem> {
    let secret = link.secret.as_ref()?;
    let mut node = TreeItem::new(format!("secret/{secret}"), "");
    node.namespace = Some(link.namespace.clone());
    if link.way == Direction::Out {
        "the source".clone_into(&mut node.how);
        return Some(node);
    }
    node.children = workloads.iter().filter_map(|w| mount(w, secret, Some(&link.namespace))).collect();
    Some(node)
}

fn mount(workload: &MountingWorkload, secret: &str, namespace: Option<&str>) -> Option<TreeItem> {
    let here = namespace.is_none_or(|namespace| namespace == workload.namespace);
    let mounts = here && workload.mounts.iter().any(|(name, _)| name == secret);
    mounts.then(|| TreeItem {
        namespace: Some(workload.namespace.clone()),
        ..TreeItem::new(format!("{}/{}", workload.kind, workload.name), workload.how(secret))
    })
}

/// The objects that write a Secret, or push it, with their variables.
fn writers(secret: &str, namespace: Option<&str>, links: &[Link]) -> Vec<TreeItem> {
    let of_it = links.iter().filter(|link| {
        link.secret.as_deref() == Some(secret)
            && namespace.is_none_or(|namespace| namespace == link.namespace)
    });
    of_it
        .map(|link| {
            let mut node =
                TreeItem::of(link, if link.way == Direction::Out { "pushes it" } else { "writes it" });
            node.children = link.variables.iter().map(|(id, how)| TreeItem::new(id, how)).collect();
            node.children.extend(link.finds.iter().map(|find| TreeItem::new(find.to_string(), "")));
            node
        })
        .collect()
}

fn names_of(node: &TreeItem, names: &mut Vec<String>) {
    names.extend(node.children.iter().map(|child| child.name.clone()));
    node.children.iter().for_each(|child| names_of(child, names));
}

fn drawn(root: &TreeItem, namespaces: bool) -> String {
    let mut text = format!("{}\n", root.name);
    draw(root, "", namespaces, None, &mut text);
    text
}

fn draw(node: &TreeItem, indent: &str, namespaces: bool, above: Option<&str>, text: &mut String) {
    for (at, child) in node.children.iter().enumerate() {
        let last = at + 1 == node.children.len();
        let (branch, more) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        *text += indent;
        *text += branch;
        if namespaces && let Some(namespace) = child.namespace.as_deref().filter(|it| above != Some(it)) {
            *text += &toned(Tone::Faint, &format!("{namespace} "));
        }
        *text += &child.name;
        if let Some(ready) = child.ready {
            let (tone, word) = if ready { (Tone::Good, "Ready") } else { (Tone::Bad, "not Ready") };
            *text += &format!(" {}", toned(tone, word));
        }
        if !child.how.is_empty() {
            *text += &format!("  {}", toned(Tone::Faint, &child.how));
        }
        text.push('\n');
        let above = child.namespace.as_deref().or(above);
        draw(child, &format!("{indent}{more}"), namespaces, above, text);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::Seen;

    fn seen(kind: Kind, name: &str, spec: &serde_json::Value, status: &serde_json::Value) -> Seen {
        let object =
            json!({ "metadata": { "name": name, "namespace": "billing" }, "spec": spec, "status": status });
        Seen { kind, object: serde_json::from_value(object).unwrap() }
    }

    fn all() -> (Vec<Link>, Vec<MountingWorkload>) {
        let ready =
            json!({ "conditions": [{ "type": "Ready", "status": "True" }], "target": { "name": "db" } });
        let objects = [
            seen(
                Kind::Secret,
                "db",
                &json!({ "data": [{ "key": "password", "variable": "apps/db/password" }] }),
                &ready,
            ),
            seen(
                Kind::Secret,
                "found",
                &json!({ "dataFrom": [{ "find": { "prefix": "apps/", "pattern": "password$" } }] }),
                &json!({}),
            ),
            seen(
                Kind::Push,
                "keys",
                &json!({ "source": { "secretRef": { "name": "generated" } }, "prefix": "apps/db/", "data": [
                    { "key": "p", "variable": "password" }] }),
                &json!({}),
            ),
        ];
        let web = MountingWorkload {
            kind: "deployment".into(),
            namespace: "billing".into(),
            name: "web".into(),
            mounts: vec![("db".into(), "env PASSWORD".into()), ("other".into(), "volume v".into())],
        };
        (objects.iter().filter_map(links::of).collect(), vec![web])
    }

    fn text(of: &str) -> String {
        let (links, workloads) = all();
        let drawn = drawn(&grow(&Of::parse(of), of, &links, &workloads), false);
        anstream::adapter::strip_str(&drawn).to_string()
    }

    #[test]
    fn a_variable_leads_to_its_secrets_and_who_mounts_them() {
        assert_eq!(
            text("apps/db/password"),
            "apps/db/password\n\
             ├─ cjs/db Ready  as key password\n\
             │  └─ secret/db\n\
             │     └─ deployment/web  env PASSWORD\n\
             ├─ cjs/found not Ready  may, by find with prefix apps/ and pattern password$\n\
             │  └─ secret/found\n\
             └─ cjpush/keys not Ready  pushes it\n   \
                └─ secret/generated  the source\n"
        );
        assert_eq!(text("apps/db/user"), "apps/db/user\n");
    }

    #[test]
    fn a_secret_and_a_workload_lead_back_to_variables() {
        assert_eq!(
            text("secret/db"),
            "secret/db\n├─ cjs/db Ready  writes it\n│  └─ apps/db/password  as key password\n└─ deployment/web  env PASSWORD\n"
        );
        assert_eq!(
            text("deploy/web"),
            "deploy/web\n├─ secret/db  env PASSWORD\n│  └─ cjs/db Ready  writes it\n│     └─ apps/db/password  as key password\n\
             └─ secret/other  volume v\n"
        );
    }

    #[test]
    fn an_object_leads_both_ways() {
        assert_eq!(
            text("conjursecret/db"),
            "conjursecret/db\n├─ apps/db/password  as key password\n└─ secret/db\n   └─ deployment/web  env PASSWORD\n"
        );
    }

    #[test]
    fn an_id_with_slashes_is_a_variable() {
        assert_eq!(Of::parse("secret/db/password"), Of::Variable("secret/db/password".into()));
        assert_eq!(Of::parse("deploy/web"), Of::Workload("deployment".into(), "web".into()));
        assert_eq!(Of::parse("secret/db"), Of::Secret("db".into()));
    }
}
