//! What the server holds in memory: roles, resources, memberships, permissions, values and keys.
//!
//! Ids are full ids everywhere: `account:kind:identifier`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

pub(crate) mod access;
pub(crate) mod keys;
pub(crate) mod ranges;

/// Versions of a value that are kept (recording 292–297).
const KEPT_VERSIONS: usize = 20;

/// Kinds whose records are roles as well as resources.
const ROLE_KINDS: [&str; 6] = ["user", "host", "group", "layer", "policy", "host_factory"];

#[derive(Clone, Debug)]
pub(crate) struct Role {
    pub(crate) created_at: Timestamp,
    /// The policy whose load made it; none for what bootstrap or a host factory made.
    pub(crate) policy: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Annotation {
    pub(crate) value: String,
    pub(crate) policy: Option<String>,
}

#[derive(Clone)]
pub(crate) struct Resource {
    pub(crate) created_at: Timestamp,
    pub(crate) owner: String,
    pub(crate) policy: Option<String>,
    /// By `(role, privilege)`, with the policy that granted it.
    pub(crate) permissions: BTreeMap<(String, String), Option<String>>,
    pub(crate) annotations: BTreeMap<String, Annotation>,
    pub(crate) value: Versions,
    /// Of a host factory: the layers its hosts join.
    pub(crate) layers: BTreeSet<String>,
}

/// The values of a variable, oldest first.
#[derive(Clone, Default)]
pub(crate) struct Versions {
    last: u64,
    kept: VecDeque<(u64, Bytes)>,
}

impl Versions {
    /// Adds a version unless the value is the newest one's (recording 151, 156).
    pub(crate) fn set(&mut self, value: Bytes) {
        if self.latest() == Some(&value) {
            return;
        }
        self.last += 1;
        self.kept.push_back((self.last, value));
        while self.kept.len() > KEPT_VERSIONS {
            self.kept.pop_front();
        }
    }

    pub(crate) fn latest(&self) -> Option<&Bytes> {
        self.kept.back().map(|(_, value)| value)
    }

    pub(crate) fn at(&self, version: u64) -> Option<&Bytes> {
        self.kept.iter().find(|(number, _)| *number == version).map(|(_, value)| value)
    }

    pub(crate) fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        self.kept.iter().map(|(number, _)| *number)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Membership {
    pub(crate) admin_option: bool,
    pub(crate) ownership: bool,
    pub(crate) policy: Option<String>,
}

#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) api_key: String,
    /// How many times the key was replaced since the role was made.
    pub(crate) generation: u64,
    pub(crate) rotated_at: Timestamp,
    pub(crate) password: Option<String>,
    pub(crate) restricted_to: Vec<String>,
}

/// One load of a policy branch.
#[derive(Clone, Debug)]
pub struct PolicyVersion {
    /// Counted per branch, from 1.
    pub version: u64,
    /// When the load began; the `created_at` of what it made (recordings 701–703).
    pub created_at: Timestamp,
    /// When it was committed.
    pub finished_at: Timestamp,
    /// The document as it was sent.
    pub text: String,
    /// SHA-256 of the document, in hexadecimal.
    pub sha256: String,
    /// Full id of the role that loaded it.
    pub role: String,
    /// Where the request came from.
    pub client_ip: String,
}

#[derive(Clone, Debug)]
pub(crate) struct FactoryToken {
    pub(crate) text: String,
    pub(crate) factory: String,
    pub(crate) expiration: Timestamp,
    pub(crate) cidr: Vec<String>,
}

#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) account: String,
    pub(crate) roles: BTreeMap<String, Role>,
    pub(crate) resources: BTreeMap<String, Resource>,
    /// By `(member, role)`, so that a role's own roles are one range.
    pub(crate) memberships: BTreeMap<(String, String), Membership>,
    pub(crate) credentials: BTreeMap<String, Credentials>,
    /// Shared: a load copies the model, and the texts are megabytes.
    pub(crate) policy_versions: BTreeMap<String, Vec<Arc<PolicyVersion>>>,
    /// In the order they were made.
    pub(crate) factory_tokens: Vec<FactoryToken>,
    /// Authenticators that were enabled by request (recording 596): `authn-jwt/k8s`.
    pub(crate) enabled: BTreeSet<String>,
}

impl Model {
    /// An account with its `admin` user and its empty `root` policy.
    pub(crate) fn new(account: &str, admin_key: String, now: Timestamp) -> Self {
        let mut model = Self {
            account: account.to_owned(),
            roles: BTreeMap::new(),
            resources: BTreeMap::new(),
            memberships: BTreeMap::new(),
            credentials: BTreeMap::new(),
            policy_versions: BTreeMap::new(),
            factory_tokens: Vec::new(),
            enabled: BTreeSet::new(),
        };
        let admin = model.id("user", "admin");
        model.add_record(&admin, &admin, None, now);
        model.credentials.insert(admin.clone(), Credentials::new(admin_key, now));
        let root = model.id("policy", "root");
        model.resources.insert(root, Resource::new(&admin, None, now));
        model
    }

    pub(crate) fn id(&self, kind: &str, identifier: &str) -> String {
        format!("{}:{kind}:{identifier}", self.account)
    }

    /// Makes the resource and, for a kind that is one, the role with its owner's membership.
    pub(crate) fn add_record(&mut self, id: &str, owner: &str, policy: Option<&str>, now: Timestamp) {
        let policy = policy.map(str::to_owned);
        if ROLE_KINDS.contains(&kind_of(id)) {
            self.roles.insert(id.to_owned(), Role { created_at: now, policy: policy.clone() });
            self.own(id, owner, policy.clone());
        }
        self.resources.insert(id.to_owned(), Resource::new(owner, policy, now));
    }

    /// Makes `owner` the only owner among the members of the role `id`.
    pub(crate) fn own(&mut self, id: &str, owner: &str, policy: Option<String>) {
        self.memberships.retain(|(_, role), membership| role != id || !membership.ownership);
        let membership = Membership { admin_option: true, ownership: true, policy };
        self.memberships.insert((owner.to_owned(), id.to_owned()), membership);
    }

    /// Makes `member` a member of `role`, unless it is one; a member that owns the role stays its owner.
    pub(crate) fn grant(&mut self, role: &str, member: &str, policy: Option<String>) {
        self.memberships.entry((member.to_owned(), role.to_owned())).or_insert(Membership {
            admin_option: false,
            ownership: false,
            policy,
        });
    }

    /// Removes a record and all that hangs on it: what it owns and what its loads made.
    pub(crate) fn delete(&mut self, id: &str) {
        let mut doomed = vec![id.to_owned()];
        while let Some(id) = doomed.pop() {
            self.roles.remove(&id);
            self.resources.remove(&id);
            self.credentials.remove(&id);
            self.policy_versions.remove(&id);
            self.factory_tokens.retain(|token| token.factory != id);
            self.memberships.retain(|(member, role), _| *member != id && *role != id);
            for resource in self.resources.values_mut() {
                resource.permissions.retain(|(role, _), _| *role != id);
                resource.layers.remove(&id);
            }
            let hanging = self.resources.iter().filter(|(_, resource)| {
                resource.owner == id || resource.policy.as_deref() == Some(id.as_str())
            });
            doomed.extend(hanging.map(|(id, _)| id.clone()));
        }
    }
}

impl Resource {
    pub(crate) fn new(owner: &str, policy: Option<String>, now: Timestamp) -> Self {
        Self {
            created_at: now,
            owner: owner.to_owned(),
            policy,
            permissions: BTreeMap::new(),
            annotations: BTreeMap::new(),
            value: Versions::default(),
            layers: BTreeSet::new(),
        }
    }
}

impl Credentials {
    pub(crate) fn new(api_key: String, now: Timestamp) -> Self {
        Self { api_key, generation: 0, rotated_at: now, password: None, restricted_to: Vec::new() }
    }

    pub(crate) fn rotate(&mut self, api_key: String, now: Timestamp) {
        self.api_key = api_key;
        self.generation += 1;
        self.rotated_at = now;
    }
}

/// The kind in a full id.
pub(crate) fn kind_of(id: &str) -> &str {
    id.split(':').nth(1).unwrap_or_default()
}

/// The identifier in a full id.
pub(crate) fn identifier_of(id: &str) -> &str {
    id.splitn(3, ':').nth(2).unwrap_or_default()
}

/// The role that logs in as `login`: `host/app/web` is a host, anything else a user.
pub(crate) fn role_of_login(account: &str, login: &str) -> String {
    match login.split_once('/') {
        Some((kind, identifier)) => format!("{account}:{kind}:{identifier}"),
        None => format!("{account}:user:{login}"),
    }
}

/// A time as the server writes it.
pub(crate) fn written(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3f+00:00").to_string()
}
