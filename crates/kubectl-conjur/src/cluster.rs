//! The cluster of the kubeconfig: objects of all kinds, by reference.

use std::collections::BTreeMap;

use anstream::eprintln;
use conjur_operator_api::{
    ClusterConjurConnection, ConjurConnection, ConjurHost, ConjurPolicy, ConjurPush, ConjurSecret,
};
use futures::future::join_all;
use kube::{
    Api, Client, Config, Resource,
    api::{DynamicObject, ListParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::ApiResource,
};
use serde_json::Value;

use crate::{Error, cli::ClusterArgs};

/// The kinds of the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Connection,
    ClusterConnection,
    Secret,
    Policy,
    Push,
    Host,
}

impl Kind {
    pub const ALL: [Kind; 6] =
        [Kind::ClusterConnection, Kind::Connection, Kind::Secret, Kind::Policy, Kind::Push, Kind::Host];

    pub fn resource(self) -> ApiResource {
        fn of<K: Resource<DynamicType = ()>>() -> ApiResource {
            ApiResource::erase::<K>(&())
        }
        match self {
            Kind::Connection => of::<ConjurConnection>(),
            Kind::ClusterConnection => of::<ClusterConjurConnection>(),
            Kind::Secret => of::<ConjurSecret>(),
            Kind::Policy => of::<ConjurPolicy>(),
            Kind::Push => of::<ConjurPush>(),
            Kind::Host => of::<ConjurHost>(),
        }
    }

    pub fn name(self) -> String {
        self.resource().kind
    }

    /// The short name, by which people type it.
    pub fn short(self) -> &'static str {
        match self {
            Kind::Connection => "cjc",
            Kind::ClusterConnection => "ccjc",
            Kind::Secret => "cjs",
            Kind::Policy => "cjp",
            Kind::Push => "cjpush",
            Kind::Host => "cjh",
        }
    }

    pub fn is_connection(self) -> bool {
        matches!(self, Kind::Connection | Kind::ClusterConnection)
    }

    /// The kind that kubectl would take the text for: short name, singular or plural, with or without the group.
    pub fn of(text: &str) -> Option<Self> {
        let text = text.to_lowercase();
        let text = text.strip_suffix(".conjur-operator.io").unwrap_or(&text);
        Self::ALL.into_iter().find(|kind| {
            let resource = kind.resource();
            text == kind.short() || text == resource.plural || text == resource.kind.to_lowercase()
        })
    }
}

/// What a person wrote for an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    Kind(Kind),
    Object(Kind, String),
    /// Of whatever kind.
    Name(String),
}

impl Reference {
    /// # Errors
    /// What is no kind.
    pub fn parse(text: &str) -> Result<Self, Error> {
        match text.split_once('/') {
            Some((kind, name)) => match Kind::of(kind) {
                Some(kind) if !name.is_empty() => Ok(Self::Object(kind, name.to_owned())),
                _ => Err(Error::new(format!("{text}: write <kind>/<name>, with a kind of {}", kinds()))),
            },
            None => Ok(Kind::of(text).map_or_else(|| Self::Name(text.to_owned()), Self::Kind)),
        }
    }
}

/// The kinds as a person may type them.
pub fn kinds() -> String {
    Kind::ALL.map(|kind| format!("{} ({})", kind.resource().kind.to_lowercase(), kind.short())).join(", ")
}

/// An object as it is in the cluster.
#[derive(Debug, Clone)]
pub struct Seen {
    pub kind: Kind,
    pub object: DynamicObject,
}

impl Seen {
    pub fn name(&self) -> &str {
        self.object.metadata.name.as_deref().unwrap_or_default()
    }

    /// Empty for what is in none.
    pub fn namespace(&self) -> &str {
        self.object.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// As kubectl writes it: `conjursecret.conjur-operator.io/db`.
    pub fn full_name(&self) -> String {
        format!("{}.conjur-operator.io/{}", self.kind.resource().kind.to_lowercase(), self.name())
    }

    /// As people write it: `cjs/db`.
    pub fn short_name(&self) -> String {
        format!("{}/{}", self.kind.short(), self.name())
    }

    /// A command of this plugin about the object, to be copied.
    pub fn command(&self, verb: &str) -> String {
        match self.namespace() {
            "" => format!("kubectl conjur {verb} {}", self.short_name()),
            namespace => format!("kubectl conjur {verb} -n {namespace} {}", self.short_name()),
        }
    }

    pub fn spec(&self) -> &Value {
        &self.object.data["spec"]
    }

    pub fn status(&self) -> &Value {
        &self.object.data["status"]
    }

    pub fn annotations(&self) -> BTreeMap<String, String> {
        self.object.metadata.annotations.clone().unwrap_or_default()
    }

    /// The condition of this type: its status, reason and message.
    pub fn condition(&self, type_: &str) -> Option<(&str, &str, &str)> {
        let all = self.status()["conditions"].as_array()?;
        let one = all.iter().find(|condition| condition["type"] == type_)?;
        let text = |field: &str| one[field].as_str().unwrap_or_default();
        Some((text("status"), text("reason"), text("message")))
    }

    /// Whether it is as its newest spec asks, by what the operator has said.
    pub fn is_ready(&self) -> bool {
        let observed = self.status()["observedGeneration"].as_i64();
        self.condition("Ready").is_some_and(|(status, ..)| status == "True")
            && observed == self.object.metadata.generation
    }

    /// The connection that it uses.
    pub fn connection(&self) -> Option<(Kind, &str)> {
        connection_of(self.spec())
    }

    /// The whole object, without what only the API server needs.
    pub fn plain(&self) -> Value {
        let mut object = self.object.clone();
        object.metadata.managed_fields = None;
        serde_json::to_value(object).unwrap_or_default()
    }
}

/// The connection that a spec names.
pub fn connection_of(spec: &Value) -> Option<(Kind, &str)> {
    let named = &spec["connectionRef"];
    let kind = match named["kind"].as_str() {
        Some("ClusterConjurConnection") => Kind::ClusterConnection,
        _ => Kind::Connection,
    };
    Some((kind, named["name"].as_str()?))
}

/// The cluster, and the namespace that is meant.
#[derive(Clone)]
pub struct Cluster {
    pub client: Client,
    pub namespace: String,
}

impl Cluster {
    /// # Errors
    /// What is wrong with the kubeconfig.
    pub async fn of(args: &ClusterArgs) -> Result<Self, Error> {
        let mut config = config(args).await?;
        if let Some(user) = &args.as_user {
            config.auth_info.impersonate = Some(user.clone());
        }
        if !args.as_groups.is_empty() {
            config.auth_info.impersonate_groups = Some(args.as_groups.clone());
        }
        let namespace = args.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config)
            .map_err(|error| Error::new(format!("the kubeconfig can't be used: {error}")))?;
        Ok(Self { client, namespace })
    }

    /// Objects of a kind, of the namespace; of all where there is none.
    pub fn api(&self, kind: Kind, namespace: Option<&str>) -> Api<DynamicObject> {
        let resource = kind.resource();
        match namespace.filter(|_| kind != Kind::ClusterConnection) {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// All objects of some kinds, in the order of [`Kind::ALL`], by name. Kinds that the user may not see, or that are not there, are
    /// told and left out.
    ///
    /// # Errors
    /// The API server's; where none of the kinds can be seen, too.
    pub async fn list(&self, kinds: &[Kind], namespace: Option<&str>) -> Result<Vec<Seen>, Error> {
        let (all, unseen) = self.list_seen(kinds, namespace).await?;
        for what in unseen {
            eprintln!("Not seen: {what}");
        }
        Ok(all)
    }

    /// The same, with a sentence for each kind that is left out.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub async fn list_seen(
        &self,
        kinds: &[Kind],
        namespace: Option<&str>,
    ) -> Result<(Vec<Seen>, Vec<String>), Error> {
        let each = kinds.iter().map(|kind| async {
            let found = self.api(*kind, namespace).list(&ListParams::default()).await;
            (*kind, found)
        });
        let (mut all, mut unseen) = (Vec::new(), Vec::new());
        for (kind, found) in join_all(each).await {
            let what = format!("list {}", kind.resource().plural);
            match found {
                Ok(found) => all.extend(found.items.into_iter().map(|object| Seen { kind, object })),
                Err(error) if is_out_of_sight(&error) => unseen.push(api_error(&what, &error).to_string()),
                Err(error) => return Err(api_error(&what, &error)),
            }
        }
        if unseen.len() == kinds.len() {
            return Err(Error::new(unseen.remove(0)));
        }
        all.sort_by_key(|seen| (seen.kind, seen.namespace().to_owned(), seen.name().to_owned()));
        Ok((all, unseen))
    }

    /// The object of a kind and name; none where there is none.
    ///
    /// # Errors
    /// The API server's.
    pub async fn get(&self, kind: Kind, name: &str) -> Result<Option<Seen>, Error> {
        let found = self.api(kind, Some(&self.namespace)).get_opt(name).await;
        let found = found.map_err(|error| api_error(&format!("read {}/{name}", kind.short()), &error))?;
        Ok(found.map(|object| Seen { kind, object }))
    }

    /// The one object that is meant.
    ///
    /// # Errors
    /// That there is none, or that there are more; the API server's.
    pub async fn find(&self, text: &str) -> Result<Seen, Error> {
        let (kinds, name) = match Reference::parse(text)? {
            Reference::Object(kind, name) => (vec![kind], name),
            Reference::Name(name) => (Kind::ALL.to_vec(), name),
            Reference::Kind(kind) => {
                return Err(Error::new(format!(
                    "{text} is a kind: name an object, as in {}/<name>",
                    kind.short()
                )));
            }
        };
        let (mut found, mut unseen) = (Vec::new(), Vec::new());
        for each in join_all(kinds.iter().map(|kind| self.get(*kind, &name))).await {
            match each {
                Ok(each) => found.extend(each),
                Err(error) => unseen.push(error),
            }
        }
        if found.is_empty()
            && let Some(error) = unseen.pop()
        {
            return Err(error);
        }
        match (found.pop(), found.len()) {
            (Some(one), 0) => Ok(one),
            (Some(last), _) => {
                let all: Vec<_> = found.iter().chain([&last]).map(Seen::short_name).collect();
                Err(Error::new(format!("{name} may be {}: write the one that is meant", all.join(" or "))))
            }
            (None, _) => Err(Error::new(format!(
                "namespace {} has no {text}; kubectl conjur get -A lists what there is",
                self.namespace
            ))),
        }
    }
}

async fn config(args: &ClusterArgs) -> Result<Config, Error> {
    let wrong = |error: &dyn std::fmt::Display| Error::new(format!("the kubeconfig can't be read: {error}"));
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    if let Some(path) = &args.kubeconfig {
        let kubeconfig = Kubeconfig::read_from(path).map_err(|error| wrong(&error))?;
        return Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| wrong(&error));
    }
    if args.context.is_some() {
        return Config::from_kubeconfig(&options).await.map_err(|error| wrong(&error));
    }
    Config::infer().await.map_err(|error| wrong(&error))
}

/// Whether a kind is not there, or not for the user to see.
fn is_out_of_sight(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 403 | 404))
}

/// What the API server refused, and what that means.
pub fn api_error(what: &str, error: &kube::Error) -> Error {
    match error {
        kube::Error::Api(status) if status.is_not_found() && status.reason != "NotFound" => Error::new(
            format!("cannot {what}: the cluster has no such kind; is conjur-operator installed there?"),
        ),
        kube::Error::Api(status)
            if status.code == 404 && status.message.contains("could not find the requested resource") =>
        {
            Error::new(format!(
                "cannot {what}: the cluster has no such kind; is conjur-operator installed there?"
            ))
        }
        kube::Error::Api(status) => Error::new(format!("cannot {what}: {}", status.message)),
        error => Error::new(format!("cannot {what}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_what_kubectl_would_take() {
        let object = |kind, name: &str| Reference::Object(kind, name.to_owned());
        for (text, expected) in [
            ("cjs/db", object(Kind::Secret, "db")),
            ("ConjurSecret/db", object(Kind::Secret, "db")),
            ("conjurpolicies.conjur-operator.io/p", object(Kind::Policy, "p")),
            ("ccjc/shared", object(Kind::ClusterConnection, "shared")),
            ("cjpush", Reference::Kind(Kind::Push)),
            ("conjurhosts", Reference::Kind(Kind::Host)),
            ("db", Reference::Name("db".to_owned())),
        ] {
            assert_eq!(Reference::parse(text).unwrap(), expected, "{text}");
        }
        for text in ["secret/db", "cjs/", "/db"] {
            let error = Reference::parse(text).unwrap_err().to_string();
            assert!(error.contains("conjursecret (cjs)"), "{error}");
        }
    }
}
