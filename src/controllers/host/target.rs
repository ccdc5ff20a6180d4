//! The Secret that keeps a host's key. It is the only copy: it has no owner reference, is never deleted to be made anew, and
//! what it holds of another host or server is not overwritten.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::ByteString;
use kube::ResourceExt;

use super::seen::ObservedHost;
use crate::{
    api::{
        ADOPT_ANNOTATION, ConjurHost, KEY_NUMBER_ANNOTATION, REVISION_ANNOTATION, Reason, SERVER_ANNOTATION,
        connection::BundleRef, secret::WrittenTarget,
    },
    cluster,
    conjur::{Lane, RoleId},
    controllers::{
        Context,
        connection::{access::BoundConnection, pool::ReadyConnection, view::ConnectionView},
        template::Templates,
    },
    effect::write::{OwnWrite, write},
    heavy::Whose,
    metrics::SecretWrite,
    plan::{
        Failure, hash,
        host::step::TargetLook,
        secret::{
            Action, Desired, Owner, SecretRead, check_type, decide, is_written_for, mark, no_longer_asked,
            refuse_unless_ours, rollout::Lineage,
        },
    },
    runtime::{
        Key,
        current::{NamesInLine, say},
    },
    sensitive::Sensitive,
};

/// Where the login lies in the Secret, usable by a connection as it is.
const LOGIN: &str = "login";
/// And the key.
const API_KEY: &str = "api-key";
const OPAQUE: &str = "Opaque";
/// A key in hand must reach the Secret: writes are repeated this often, with growing pauses. After that it is owed, and the
/// next run makes another.
const STORE_TRIES: u32 = 8;
/// Stands for a key where it is tried whether one can be stored. Keys of Conjur have 50 to 60 of these characters, of whatever
/// number: this number is none that Base64 has, with padding or without, so that a template which takes only some keys takes
/// not this one.
const SOME_KEY: &str = "1a9k2zq0m4x7c3v8b5n6t1r2y3u4w5e6p7s8d9f0g1h2j3k4l5a6q7w8z";

/// The Secret, as it was last read or written.
pub struct HostSecret<'a> {
    object: &'a ConjurHost,
    owner: &'a Owner,
    name: &'a str,
    server: &'a str,
    role: RoleId,
    url: String,
    ca: String,
    templates: Templates,
    whose: Whose,
    secret: Option<SecretRead>,
    /// The key of the Secret that the object had before another was named, and its number.
    moved: Option<(Sensitive<String>, Option<i64>)>,
    /// The revision that the status tells of.
    revision: Option<String>,
    written: Option<(WrittenTarget, Option<String>)>,
}

/// What the Secret came to be.
pub struct HostWritten {
    /// The Secret.
    pub target: WrittenTarget,
    /// The revision of its data, where one is asked for.
    pub revision: Option<String>,
    /// It was not as it should be, though its key was there.
    pub repaired: bool,
}

/// The CA bundle of a connection, for templates; empty with the system's roots.
///
/// # Errors
/// `CredentialsNotFound`, `InvalidSpec`; the API server's.
pub async fn ca_bundle(
    facts: &ConnectionView,
    object: &ConjurHost,
    ctx: &Context,
) -> Result<String, Failure> {
    let tls = &facts.settings.tls;
    if object.spec.target().template.is_none() {
        return Ok(String::new());
    }
    if let Some(bundle) = &tls.ca_bundle {
        return Ok(bundle.to_string());
    }
    let Some(from) = &tls.ca_bundle_from else { return Ok(String::new()) };
    let namespace = facts.namespace_of(from.namespace.as_deref());
    let what = bundle_as_told(facts, from);
    let read = ctx.cluster.read_keys(from.kind, namespace, &from.name, [from.key.as_str()]).await?;
    let found = read.and_then(|mut read| read.keys.remove(&from.key));
    let bytes = found.ok_or_else(|| super::seen::not_found(format!("{what} does not exist")))?;
    String::from_utf8(bytes.expose().clone())
        .map_err(|_| Failure::stalled(Reason::InvalidSpec, format!("{what} is not text")))
}

/// Where the CA bundle of a connection lies, as those who use it may know: of a cluster's connection only its administrator does.
fn bundle_as_told(facts: &ConnectionView, from: &BundleRef) -> String {
    if facts.access.is_some() {
        return format!("the CA bundle that {} names in spec.tls.caBundleFrom", facts.id);
    }
    let namespace = facts.namespace_of(from.namespace.as_deref());
    format!("key '{}' of {:?} {namespace}/{}, the connection's CA bundle,", from.key, from.kind, from.name)
}

impl<'a> HostSecret<'a> {
    /// Nothing is known of it yet.
    pub fn new(
        object: &'a ConjurHost,
        seen: &'a ObservedHost,
        through: &ReadyConnection,
        named: &BoundConnection,
        (templates, whose): (Templates, Whose),
        ca: String,
    ) -> Self {
        let role = RoleId {
            account: through.account.to_string(),
            kind: "host".to_owned(),
            id: object.spec.id.clone(),
        };
        Self {
            object,
            owner: &seen.owner,
            name: &seen.target_name,
            server: &seen.server,
            role,
            url: named.facts.settings.url.clone(),
            ca,
            templates,
            whose,
            secret: None,
            moved: None,
            revision: object.status.as_ref().and_then(|status| status.revision.clone()),
            written: None,
        }
    }

    fn what(&self) -> String {
        format!("Secret {}/{}", self.owner.namespace, self.name)
    }

    /// Reads it. `former`: the name of the Secret that was written last.
    ///
    /// # Errors
    /// `ForeignSecret` where it is another's, or immutable; `InvalidSpec` where it keeps the key of another server or host.
    pub async fn read(&mut self, former: Option<&str>, ctx: &Context) -> Result<TargetLook, Failure> {
        self.read_again(ctx).await?;
        let mut look = self.secret.as_ref().map(|secret| self.look(secret)).unwrap_or_default();
        if let Some(former) = former.filter(|former| !look.key && *former != self.name)
            && let Some(secret) = ctx.cluster.read_secret(&self.owner.namespace, former).await?
            && is_written_for(&secret.metadata, self.owner)
            && annotation(&secret, SERVER_ANNOTATION) == Some(self.server)
        {
            let there = self.look(&secret);
            self.moved = there.key.then(|| (text(&secret, API_KEY), there.number));
            look = if there.key { there } else { look };
        }
        Ok(look)
    }

    async fn read_again(&mut self, ctx: &Context) -> Result<(), Failure> {
        self.secret = None;
        let Some(secret) = ctx.cluster.read_secret(&self.owner.namespace, self.name).await? else {
            return Ok(());
        };
        let what = self.what();
        refuse_unless_ours(&secret.metadata, self.owner, &what)?;
        if secret.immutable == Some(true) {
            let message = format!(
                "{what} is immutable, so that no key could be stored in it; delete it or name another"
            );
            return Err(Failure::stalled(Reason::ForeignSecret, message));
        }
        if annotation(&secret, SERVER_ANNOTATION).is_some_and(|server| server != self.server) {
            let message = format!(
                "{what} keeps a key of another server or account, where it may still work: give another name in spec.target.name, or \
                 delete that Secret"
            );
            return Err(Failure::stalled(Reason::InvalidSpec, message));
        }
        let holds_another = !text(&secret, API_KEY).expose().is_empty() && !self.is_ours(&secret);
        if holds_another
            && is_written_for(&secret.metadata, self.owner)
            && annotation(&secret, SERVER_ANNOTATION).is_some()
        {
            let message = format!(
                "{what} keeps the key of another host, which an earlier object of this name had: give another name in \
                 spec.target.name, or delete that Secret"
            );
            return Err(Failure::stalled(Reason::InvalidSpec, message));
        }
        self.secret = Some(secret);
        Ok(())
    }

    /// Whether the login in it is the host's.
    fn is_ours(&self, secret: &SecretRead) -> bool {
        text(secret, LOGIN).expose().trim_end_matches(['\r', '\n']) == self.role.login()
    }

    fn look(&self, secret: &SecretRead) -> TargetLook {
        TargetLook {
            key: self.is_ours(secret) && !text(secret, API_KEY).expose().is_empty(),
            number: annotation(secret, KEY_NUMBER_ANNOTATION).and_then(|number| number.parse().ok()),
        }
    }

    /// The stored key and its number.
    fn stored(&self) -> Option<(Sensitive<String>, Option<i64>)> {
        let here = self.secret.as_ref().filter(|secret| self.look(secret).key);
        let here = here.map(|secret| (text(secret, API_KEY), self.look(secret).number));
        here.or_else(|| self.moved.clone())
    }

    /// The Secret with a key, as it should be.
    async fn desired(
        &self,
        key: &Sensitive<String>,
        number: Option<i64>,
        ctx: &Context,
    ) -> Result<Desired, Failure> {
        let bytes = |text: &str| Sensitive::new(text.as_bytes().to_vec());
        if let Some(taken) = self.templates.keys().find(|key| [LOGIN, API_KEY].contains(key)) {
            let message = format!(
                "spec.target.template makes the key '{taken}', which always holds the host's own; give it another key or targetKey"
            );
            return Err(Failure::stalled(Reason::InvalidSpec, message));
        }
        let login = self.role.login();
        let mut data = BTreeMap::new();
        if self.templates.keys().next().is_some() {
            let values = [
                ("login", login.as_str()),
                ("api_key", key.expose()),
                ("account", &self.role.account),
                ("url", &self.url),
                ("ca", &self.ca),
            ];
            let values = values.into_iter().map(|(name, value)| (name.to_owned(), bytes(value))).collect();
            data = self.templates.render(&self.whose, values, ctx).await?;
        }
        data.insert(LOGIN.to_owned(), bytes(&login));
        data.insert(API_KEY.to_owned(), bytes(key.expose()));
        let desired = self.with(data, number);
        check_type(&desired.type_, &desired.data, self.object.spec.target().template.is_some())?;
        desired.check_size()?;
        let standing = self.secret.as_ref().and_then(|secret| secret.type_.as_deref());
        if standing.is_some_and(|standing| standing != desired.type_) {
            let message = format!(
                "{} has another type, and is the only copy of the key, so that it is not deleted to be made anew: give another name in \
                 spec.target.name, or set spec.target.type back",
                self.what()
            );
            return Err(Failure::stalled(Reason::InvalidSpec, message));
        }
        Ok(desired)
    }

    /// The same where the Secret can't be as the spec says: a key in hand is stored all the same, and what the templates made
    /// before stays.
    fn plain(&self, key: &Sensitive<String>, number: i64) -> Desired {
        let bytes = |text: &str| Sensitive::new(text.as_bytes().to_vec());
        let standing = self.secret.as_ref().and_then(|secret| secret.data.as_ref());
        let data = with_key(standing, bytes(&self.role.login()), bytes(key.expose()));
        let type_ = self.secret.as_ref().and_then(|secret| secret.type_.clone());
        Desired { type_: type_.unwrap_or_else(|| OPAQUE.to_owned()), ..self.with(data, Some(number)) }
    }

    fn with(&self, data: BTreeMap<String, Sensitive<Vec<u8>>>, number: Option<i64>) -> Desired {
        let spec = self.object.spec.target();
        let mut annotations = spec.annotations.unwrap_or_default();
        annotations.insert(SERVER_ANNOTATION.to_owned(), self.server.to_owned());
        annotations.extend(number.map(|number| (KEY_NUMBER_ANNOTATION.to_owned(), number.to_string())));
        Desired {
            name: self.name.to_owned(),
            type_: spec.type_.unwrap_or_else(|| OPAQUE.to_owned()),
            labels: spec.labels.unwrap_or_default(),
            annotations,
            // Gone with the object, the key would be lost.
            owned: false,
            revision_key: (!self.object.spec.rollouts().is_empty()).then(|| REVISION_ANNOTATION.to_owned()),
            data,
            ..Desired::default()
        }
    }

    /// What is written: what others put on the Secret stays.
    fn to_write(&self, desired: &Desired) -> (SecretRead, Option<String>) {
        let standing = self.secret.as_ref().map(|secret| &secret.metadata);
        let drop = no_longer_asked(standing.and_then(|meta| meta.managed_fields.as_deref()), desired);
        let mut secret = desired.to_secret(self.owner, standing, &drop);
        let revision = self.next_revision(desired);
        mark(&mut secret, desired.revision_key.as_deref(), revision.as_deref());
        (secret, revision)
    }

    fn next_revision(&self, desired: &Desired) -> Option<String> {
        let key = desired.revision_key.as_ref()?;
        let lineage = Lineage::of(&self.owner.uid);
        let on_secret = self.secret.as_ref().and_then(|secret| annotation(secret, key));
        let differs = self.secret.as_ref().is_none_or(|secret| !desired.is_data_of(secret));
        Some(lineage.next(lineage.standing([on_secret, None, self.revision.as_deref()]), differs))
    }

    /// Whether the API server would take the Secret with another key.
    ///
    /// # Errors
    /// Why it would not.
    pub async fn check_room(&self, ctx: &Context) -> Result<(), Failure> {
        let placeholder = Sensitive::new(SOME_KEY.to_owned());
        let desired = self.desired(&placeholder, Some(i64::MAX), ctx).await?;
        let (secret, _) = self.to_write(&desired);
        let tried = if self.secret.is_some() {
            ctx.cluster.try_replace_secret(secret).await
        } else {
            ctx.cluster.try_create_secret(secret).await
        };
        Ok(tried?)
    }

    /// A hash over login and stored key, by which one that was tried is known again.
    pub fn stored_hash(&self) -> Option<String> {
        let (key, _) = self.stored()?;
        Some(hash::hash([self.role.to_string().as_str(), key.expose().as_str()]))
    }

    /// Whether Conjur takes the stored key.
    ///
    /// # Errors
    /// That it can't be found out.
    pub async fn does_key_work(&self, through: &ReadyConnection, ctx: &Context) -> Result<bool, Failure> {
        let Some((key, _)) = self.stored() else { return Ok(false) };
        self.works(&key, through, ctx).await
    }

    async fn works(
        &self,
        key: &Sensitive<String>,
        through: &ReadyConnection,
        ctx: &Context,
    ) -> Result<bool, Failure> {
        let tried = through.client.is_api_key_valid(&self.role, key, Lane::Refresh).await;
        tried.map_err(|error| match error {
            // Of something in front of the server, which says nothing of the connection.
            crate::conjur::Error::Unauthenticated { message } => {
                Failure::transient(Reason::ConjurUnavailable, message)
            }
            error => ctx.clients.failure(through, error),
        })
    }

    /// Puts a key into the Secret, with its number. It is nowhere else: where the Secret can't be as the spec says, for the
    /// templates don't take this key, say, it is stored without them. What is wrong [`ensure`](Self::ensure) says. Where another
    /// replica stored a later key meanwhile, it takes the place of that one only if it works.
    ///
    /// # Errors
    /// Refusals; the API server's, after several tries; that a later key was stored.
    pub async fn store(
        &mut self,
        key: &Sensitive<String>,
        number: i64,
        through: &ReadyConnection,
        ctx: &Context,
    ) -> Result<(), Failure> {
        let (mut tries, mut refused) = (0, false);
        loop {
            let asked = if refused { None } else { self.desired(key, Some(number), ctx).await.ok() };
            let is_plain = asked.is_none();
            let desired = asked.unwrap_or_else(|| self.plain(key, number));
            match self.write(&desired, ctx).await {
                Ok(()) => {
                    self.moved = None;
                    return Ok(());
                }
                Err(cluster::Error::Invalid(_) | cluster::Error::Forbidden(_)) if !is_plain => refused = true,
                Err(error @ (cluster::Error::Invalid(_) | cluster::Error::Forbidden(_))) => {
                    return Err(error.into());
                }
                Err(error) if tries == STORE_TRIES => return Err(error.into()),
                Err(error) => {
                    if tries == 0 {
                        say!(WARN, "cannot write the Secret with the key; retrying: {error}");
                    }
                    tokio::time::sleep(Duration::from_millis(100 << tries)).await;
                    tries += 1;
                    match self.read_again(ctx).await {
                        // It is another's now: the key is owed.
                        Err(failure) if failure.reason != Reason::ApiServerError => return Err(failure),
                        _ => {}
                    }
                    let stored = self.secret.as_ref().and_then(|secret| self.look(secret).number);
                    if stored > Some(number) && !self.works(key, through, ctx).await? {
                        let message = format!(
                            "another replica of the operator stored a later key in {}; it is looked at again",
                            self.what()
                        );
                        return Err(Failure::transient(Reason::ApiServerError, message));
                    }
                }
            }
        }
    }

    async fn write(&mut self, desired: &Desired, ctx: &Context) -> Result<(), cluster::Error> {
        let (secret, revision) = self.to_write(desired);
        let mut copy = secret.clone();
        let OwnWrite { result, others } = write(secret, &mut copy, self.secret.is_some(), ctx).await;
        if others {
            ctx.kinds.wake_owner(self.owner);
        }
        result?;
        let keys = copy.data.as_ref().into_iter().flatten().map(|(key, _)| key);
        say!(INFO, secret = copy.name_any(), keys = %NamesInLine(keys, ","), "wrote a Secret");
        self.written = Some((written_target(&copy), revision));
        self.secret = Some(copy);
        Ok(())
    }

    /// What this run wrote last.
    pub fn written(&self) -> Option<(WrittenTarget, Option<String>)> {
        self.written.clone()
    }

    /// Makes all of the Secret but its key what it should be.
    ///
    /// # Errors
    /// Refusals; the API server's.
    pub async fn ensure(&mut self, ctx: &Context) -> Result<HostWritten, Failure> {
        let Some((key, number)) = self.stored() else {
            let message = format!("{} has no key any more", self.what());
            return Err(Failure::transient(Reason::KeyNotStored, message));
        };
        let desired = self.desired(&key, number, ctx).await?;
        let action = decide(&desired, self.secret.as_deref(), self.owner, &ctx.fingerprints)?;
        let has_revision = desired.revision_key.as_ref().is_none_or(|key| {
            let on_secret = self.secret.as_ref().and_then(|secret| annotation(secret, key));
            on_secret == self.next_revision(&desired).as_deref()
        });
        if action != Action::Unchanged || !has_revision {
            let stood = self.secret.is_some();
            self.write(&desired, ctx).await?;
            let (target, revision) =
                self.written.clone().unwrap_or_else(|| (written_target(&SecretRead::default()), None));
            return Ok(HostWritten { target, revision, repaired: stood });
        }
        let target = written_target(self.secret.as_ref().unwrap_or(&SecretRead::default()));
        Ok(HostWritten { target, revision: self.next_revision(&desired), repaired: false })
    }

    /// Deletes it, whose key is dead; one that was adopted stays.
    ///
    /// # Errors
    /// The API server's.
    pub async fn delete(&mut self, ctx: &Context) -> Result<(), Failure> {
        let Some(secret) = &self.secret else { return Ok(()) };
        delete_unless_adopted(secret, self.owner, ctx).await?;
        (self.secret, self.moved, self.written) = (None, None, None);
        Ok(())
    }
}

/// Deletes a Secret with a dead key. One that was adopted, and one that is another's, stays.
///
/// # Errors
/// The API server's.
pub async fn delete_unless_adopted(secret: &SecretRead, owner: &Owner, ctx: &Context) -> Result<(), Failure> {
    if secret.annotations().contains_key(ADOPT_ANNOTATION) || !is_written_for(&secret.metadata, owner) {
        return Ok(());
    }
    let at = Key { namespace: owner.namespace.clone(), name: secret.name_any() };
    let writing = ctx.key_writes.begin(&at);
    let deleted = ctx.cluster.delete_secret(secret, Lane::Foreground).await;
    drop(writing);
    deleted?;
    ctx.metrics.secret_written(SecretWrite::Delete);
    say!(INFO, secret = at.name, "deleted a Secret, whose key is dead");
    Ok(())
}

/// What stands in a Secret, with another login and key.
fn with_key(
    standing: Option<&BTreeMap<String, ByteString>>,
    login: Sensitive<Vec<u8>>,
    key: Sensitive<Vec<u8>>,
) -> BTreeMap<String, Sensitive<Vec<u8>>> {
    let kept = standing.into_iter().flatten();
    let mut data: BTreeMap<_, _> =
        kept.map(|(name, value)| (name.clone(), Sensitive::new(value.0.clone()))).collect();
    data.insert(LOGIN.to_owned(), login);
    data.insert(API_KEY.to_owned(), key);
    data
}

fn written_target(secret: &SecretRead) -> WrittenTarget {
    WrittenTarget {
        name: secret.name_any(),
        uid: secret.uid().unwrap_or_default(),
        resource_version: secret.resource_version().unwrap_or_default(),
    }
}

fn annotation<'s>(secret: &'s SecretRead, name: &str) -> Option<&'s str> {
    secret.annotations().get(name).map(String::as_str)
}

/// A text of the Secret; empty where there is none.
fn text(secret: &SecretRead, key: &str) -> Sensitive<String> {
    let bytes = secret.data.as_ref().and_then(|data| data.get(key));
    let text = bytes.and_then(|bytes| std::str::from_utf8(&bytes.0).ok()).unwrap_or_default();
    Sensitive::new(text.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_stored_beside_what_the_templates_made_before() {
        let bytes = |text: &str| Sensitive::new(text.as_bytes().to_vec());
        let text = |data: &BTreeMap<String, Sensitive<Vec<u8>>>, name: &str| {
            data.get(name).map(|value| String::from_utf8(value.expose().clone()).unwrap())
        };
        let standing = [("login", "host/a"), ("api-key", "old"), ("url", "https://h")];
        let standing = standing.map(|(name, value)| (name.to_owned(), ByteString(value.into()))).into();
        let data = with_key(Some(&standing), bytes("host/b"), bytes("new"));
        assert_eq!(data.len(), 3);
        assert_eq!(text(&data, "login").as_deref(), Some("host/b"));
        assert_eq!(text(&data, "api-key").as_deref(), Some("new"));
        assert_eq!(text(&data, "url").as_deref(), Some("https://h"));
        assert_eq!(with_key(None, bytes("host/b"), bytes("new")).len(), 2);
    }

    #[test]
    fn what_stands_for_a_key_is_no_base64() {
        assert!((50..=60).contains(&SOME_KEY.len()));
        assert_eq!(SOME_KEY.len() % 4, 1, "{}", SOME_KEY.len());
    }
}
