//! The document: inline, or read from ConfigMaps and Secrets, which are watched by their metadata and read again only
//! when their versions changed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    sync::Arc,
};

use futures::FutureExt;
use kube::{Api, ResourceExt};

use super::{compact, documents::KnownDocument, seen::ObservedPolicy};
use crate::{
    api::{ConjurPolicy, KeySource, Reason, SourceKind, policy::LoadMode},
    controllers::{
        Context,
        dependencies::{Dependency, Dependent, version},
    },
    heavy::Whose,
    limits::DOCUMENT_BYTES,
    plan::{
        Failure, LOOK_AGAIN,
        effect::inventory::secret_name,
        hash,
        policy::{
            document::Document,
            document_text::{Part, PolicyText},
            secret_keys::{default_keys_name, role_keys},
        },
    },
    runtime::{
        Key, Object,
        failure::{read_in_room, turn_to_read},
    },
};

/// What is read, as messages say it.
const WHAT: &str = "the text of the document";

/// A document's hash, and its text where it had to be read.
pub struct HashedDocument {
    /// Hex SHA-256.
    pub hash: String,
    /// None where nothing changed since it was last read.
    pub text: Option<PolicyText>,
}

/// A document, read and checked.
pub struct Content {
    /// Its text.
    pub text: PolicyText,
    /// What it would make.
    pub document: Document,
}

fn user(key: &Key) -> Dependent {
    Dependent::Object(ConjurPolicy::KIND, key.clone())
}

/// Forgets the document of an object that is gone.
pub fn forget(key: &Key, ctx: &Context) {
    ctx.inputs.want(&user(key), &[]);
    ctx.policy_notes.documents.forget(key);
}

/// What the document lies in.
fn inputs_of(object: &ConjurPolicy, key: &Key) -> Vec<Dependency> {
    let sources = object.spec.document_from.iter().flatten();
    sources.map(|source| Dependency::bundle(source.kind, &key.namespace, &source.name)).collect()
}

/// What wakes an object: what its document lies in, and its own Secrets where one of that name stands in the way. That has
/// none of the operator's labels, so that only a watch of its own tells when it goes or may be adopted.
fn watched(object: &ConjurPolicy, key: &Key, failure: Option<&Failure>) -> Vec<Dependency> {
    let mut watched = inputs_of(object, key);
    if failure.is_some_and(|failure| failure.reason == Reason::ForeignSecret) {
        let named = object.spec.created_roles.iter().map(|created| created.secret_name.clone());
        for name in named.chain([default_keys_name(&key.name), secret_name(&key.name)]) {
            let secret = Dependency::secret(&key.namespace, &name);
            if !watched.contains(&secret) {
                watched.push(secret);
            }
        }
    }
    watched
}

/// Watches from now on what may change what was said of an object.
pub fn watch(object: &ConjurPolicy, failure: Option<&Failure>, ctx: &Context) {
    let key = Key::of(object);
    if ctx.inputs.want(&user(&key), &watched(object, &key, failure)) {
        // It may have changed after it was looked at.
        ctx.kinds.policies.wake(key);
    }
}

/// Finds out the hash of the document, and reads it only where it may have changed.
///
/// # Errors
/// As [`read`].
pub async fn look(object: &ConjurPolicy, ctx: &Context) -> Result<HashedDocument, Failure> {
    let key = Key::of(object);
    let sources = object.spec.document_from.as_deref().unwrap_or_default();
    let watched = inputs_of(object, &key);
    ctx.inputs.want_also(&user(&key), &watched);
    if sources.is_empty() {
        ctx.policy_notes.documents.forget(&key);
        return match compact::left_out(object) {
            Some(hash) => Ok(HashedDocument { hash: hash.to_owned(), text: None }),
            None => read(object, ctx).await,
        };
    }
    let known = ctx.policy_notes.documents.with(|all| all.get(&key).cloned());
    if let Some(known) = known.filter(|k| k.sources == sources) {
        // Where the watch has not shown it yet, its first news wakes the object.
        let changed = watched.iter().zip(known.versions).any(|(input, read)| {
            let shown = ctx.inputs.versions(std::slice::from_ref(input));
            // What can't be watched may have changed each time.
            shown.map_or(ctx.inputs.cannot_be_watched(input), |shown| shown != [read])
        });
        if !changed {
            return Ok(HashedDocument { hash: known.hash, text: None });
        }
    }
    read(object, ctx).await
}

/// Reads the document.
///
/// # Errors
/// `DocumentNotFound`, naming what is missing; `PolicyInvalid` where it is too large or not UTF-8; the API server's.
pub async fn read(object: &ConjurPolicy, ctx: &Context) -> Result<HashedDocument, Failure> {
    let key = Key::of(object);
    let Some(sources) = &object.spec.document_from else {
        let text = read_in_room(&key.namespace, WHAT, || read_inline(object, ctx).boxed()).await?;
        let hash = hash::document_hash(text.as_str().as_bytes());
        return Ok(HashedDocument { hash, text: Some(text) });
    };
    ctx.policy_notes.documents.forget(&key);
    let namespace = key.namespace.clone();
    let read = || read_sources(sources, &namespace, ctx).boxed();
    let (text, versions) = read_in_room(&namespace, WHAT, read).await?;
    let hash = hash::document_hash(text.as_str().as_bytes());
    let known = KnownDocument { sources: sources.clone(), versions, hash: hash.clone() };
    ctx.policy_notes.documents.with(|all| all.insert(key, known));
    Ok(HashedDocument { hash, text: Some(text) })
}

async fn read_inline(object: &ConjurPolicy, ctx: &Context) -> Result<(PolicyText, usize), Failure> {
    let whole = match compact::left_out(object) {
        Some(_) => {
            let _turn = turn_to_read(&object.namespace().unwrap_or_default(), WHAT).await?;
            read_whole(object, ctx).await?
        }
        None => None,
    };
    let document = whole.as_ref().unwrap_or(object).spec.document.as_deref().unwrap_or_default();
    Ok((PolicyText::inline(document), document.len()))
}

/// Reads each ConfigMap and Secret once, however many of its keys are named, and no more than a document may have. Gives
/// the versions, by source.
async fn read_sources(
    sources: &[KeySource],
    namespace: &str,
    ctx: &Context,
) -> Result<((PolicyText, Vec<String>), usize), Failure> {
    let _turn = turn_to_read(namespace, WHAT).await?;
    let mut read = HashMap::new();
    let (mut parts, mut versions) = (Vec::with_capacity(sources.len()), Vec::with_capacity(sources.len()));
    let mut length = 0;
    for (index, source) in sources.iter().enumerate() {
        let at = (source.kind, source.name.as_str());
        let bundle = match read.entry(at) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let same = sources.iter().filter(|other| (other.kind, other.name.as_str()) == at);
                let keys: BTreeSet<_> = same.map(|other| other.key.as_str()).collect();
                let bundle = ctx.cluster.read_keys(source.kind, namespace, &source.name, keys).await?;
                let bundle = bundle.ok_or_else(|| missing(index, source, namespace, "does not exist"))?;
                let kept = bundle.keys.into_iter().map(|(key, bytes)| (key, Arc::new(bytes)));
                new.insert((version(&bundle.metadata), kept.collect::<BTreeMap<_, _>>()))
            }
        };
        let (version, keys) = &*bundle;
        let bytes = keys
            .get(&source.key)
            .ok_or_else(|| missing(index, source, namespace, &format!("has no key '{}'", source.key)))?;
        length += bytes.expose().len();
        versions.push(version.clone());
        parts.push(Part {
            what: what(source),
            secret: source.kind == SourceKind::Secret,
            bytes: bytes.clone(),
        });
        if length > DOCUMENT_BYTES {
            // What follows makes it no better; what is joined of it says so.
            break;
        }
    }
    let text = PolicyText::join(&parts)?;
    Ok(((text, versions), length))
}

/// The object with its document, which the store has not; none where it is gone, or another meanwhile: that one is looked
/// at by itself.
async fn read_whole(object: &ConjurPolicy, ctx: &Context) -> Result<Option<ConjurPolicy>, Failure> {
    let namespace = object.namespace().unwrap_or_default();
    let api = Api::<ConjurPolicy>::namespaced(ctx.cluster.client(), &namespace);
    let found = ctx.cluster.read(&api, &object.name_any()).await?;
    Ok(found.filter(|found| found.metadata.uid == object.metadata.uid))
}

fn what(source: &KeySource) -> String {
    format!("{:?} {}, key {}", source.kind, source.name, source.key)
}

fn missing(index: usize, source: &KeySource, namespace: &str, what: &str) -> Failure {
    let message = format!(
        "spec.documentFrom[{index}]: {:?} {namespace}/{} {what}; create it, or correct the reference. This continues when it exists",
        source.kind, source.name
    );
    Failure::waiting(Reason::DocumentNotFound, LOOK_AGAIN, message)
}

impl ObservedPolicy<'_> {
    /// The document, read (again, where only its hash is known) and parsed.
    ///
    /// # Errors
    /// `PolicyInvalid`, with the place; those of [`read`]. A source that changed meanwhile wakes the object, and this fails.
    pub async fn content(&self, text: Option<PolicyText>, ctx: &Context) -> Result<Content, Failure> {
        let text = if let Some(text) = text {
            text
        } else {
            let read = read(self.object, ctx).await?;
            if read.hash != self.hash {
                let message = "the document changed while it was read; it is looked at again";
                return Err(Failure::transient(Reason::ApiServerError, message));
            }
            read.text.unwrap_or_else(|| PolicyText::inline(""))
        };
        let account = &self.named.facts.settings.account;
        let whose =
            Whose::of(ConjurPolicy::KIND.as_str(), &self.object.metadata, std::slice::from_ref(&self.hash));
        let read = ctx.heavy.read_document(&whose, text.as_str(), self.branch.as_str(), account).await?;
        let document = read.map_err(|e| {
            let message = format!("{}: {}", text.at(e.line, Some(e.column)), e.message);
            Failure::stalled(Reason::PolicyInvalid, message)
        })?;
        let content = Content { text, document };
        content.check_mode(self.object)?;
        Ok(content)
    }
}

impl Content {
    fn check_mode(&self, object: &ConjurPolicy) -> Result<(), Failure> {
        let (LoadMode::Append, Some(first)) = (object.mode(), self.document.deletions.first()) else {
            return Ok(());
        };
        let message = format!(
            "{}: Conjur refuses !delete, !deny and !revoke in mode Append; use mode Update or Replace",
            self.text.at(first.line, None)
        );
        Err(Failure::stalled(Reason::PolicyInvalid, message))
    }

    /// What of the hosts and users that it makes can be told without asking Conjur.
    ///
    /// # Errors
    /// `CreatedRolesRequired`, `NotBranchOwner`, `PolicyInvalid`, with the line.
    pub fn check_roles(&self, object: &ConjurPolicy) -> Result<(), Failure> {
        for role in &self.document.roles {
            let at = self.text.at(role.line, None);
            // What a Secret says is not quoted.
            let secret = self.text.is_secret();
            let made = if secret { "a host or user" } else { role.id.as_str() };
            if object.spec.created_roles.is_none() {
                let message = format!(
                    "{at}: this makes {made}, and Conjur gives its API key only once. Say where the keys go: \
                     spec.createdRoles: {{secretName: <name of a new Secret>}}"
                );
                return Err(Failure::stalled(Reason::CreatedRolesRequired, message));
            }
            role_keys(&role.id).map_err(|e| {
                let why = if secret {
                    "the id of a host or user can't be the key of a Secret".to_owned()
                } else {
                    e.to_string()
                };
                Failure::stalled(Reason::PolicyInvalid, format!("{at}: {why}"))
            })?;
            if role.owner_outside_branch {
                let message = format!(
                    "{at}: {made} would be owned from outside the branch ({}), so that its key could never be recovered here. \
                     Leave out that owner, or load it where its owner lives",
                    match role.owner.as_deref() {
                        Some(_) if secret => "by the owner given there",
                        Some(owner) => owner,
                        None => "by an enclosing policy's owner",
                    },
                );
                return Err(Failure::stalled(Reason::NotBranchOwner, message));
            }
        }
        Ok(())
    }
}
