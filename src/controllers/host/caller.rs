//! A ConjurHost, as the effect sees it: what is asked for, what is refused, and where things are written.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{ResourceExt, runtime::events::EventType};

use super::{
    claims, identities,
    notes::RefusedKey,
    seen::{ObservedHost, not_found},
    target::HostSecret,
};
use crate::{
    api::{
        CREATED_ANNOTATION, ConjurHost, ConjurHostStatus, ConnectionKind, OWNER_ANNOTATION, Reason,
        SourceKind,
        host::{Enrolment, PendingHost, PendingStep},
    },
    conjur::{Lane, PolicyBranch, Resource},
    controllers::{
        Context,
        connection::{access, pool::ReadyConnection},
        policy,
    },
    effect::{
        branch_locks::Loader,
        host::{HostCaller, HostEntry},
    },
    plan::{
        Failure,
        connection::access::Verb,
        host::{
            document::{self, HostAttributes, HostDocument},
            owner::{HostOwnership, KIND},
            step::{AttributeLoad, Attributes, EnrolmentWay, HostRecord, HostRequest, Maker, TargetLook},
        },
        policy::branch_claims::BranchPlace,
        record_owner::RecordOwner,
    },
    runtime::{Key, report},
    sensitive::Sensitive,
};

/// The annotation by which servers know a host without an API key.
const API_KEY_ANNOTATION: &str = "authn/api-key";

/// A ConjurHost, as the effect sees it.
pub struct Host<'a> {
    pub object: &'a ConjurHost,
    pub seen: &'a ObservedHost,
    pub through: &'a ReadyConnection,
    /// The uid of the cluster.
    pub cluster: &'a str,
    /// How the owner annotation names the object.
    pub mine: &'a [String],
    pub secret: HostSecret<'a>,
    pub status: &'a mut ConjurHostStatus,
    pub ctx: &'a Context,
    /// What was announced when the run began.
    pub found: Option<PendingHost>,
    /// This run announced something.
    pub has_announced: bool,
    /// Annotations that left the spec and stay in Conjur.
    pub left: Vec<String>,
}

/// The document that makes the host, where it is made by policy.
///
/// # Errors
/// `InvalidSpec` where the id does not lie below the branch.
pub fn bare(
    object: &ConjurHost,
    enrolment: &Enrolment<'_>,
    account: &str,
) -> Result<Option<HostDocument>, Failure> {
    let Enrolment::Branch(branch) = enrolment else { return Ok(None) };
    let uid = object.uid().unwrap_or_default();
    let text =
        document::bare(branch, &object.spec.id, &uid, account).ok_or_else(|| outside(object, branch))?;
    Ok(Some(HostDocument { branch: (*branch).to_owned(), text }))
}

fn outside(object: &ConjurHost, branch: &str) -> Failure {
    let message = format!(
        "spec.id {} does not lie below branch {branch}, or spec.memberOf names what is no layer or group",
        object.spec.id
    );
    Failure::stalled(Reason::InvalidSpec, message)
}

/// The annotations that a factory gives the host.
pub fn enrolment_annotations(object: &ConjurHost, mine: &[String]) -> BTreeMap<String, String> {
    let mut annotations = object.spec.annotations.clone().unwrap_or_default();
    annotations.insert(CREATED_ANNOTATION.to_owned(), "true".to_owned());
    annotations.extend(mine.first().map(|mine| (OWNER_ANNOTATION.to_owned(), mine.clone())));
    annotations
}

/// What the spec asks for.
pub fn request(
    object: &ConjurHost,
    seen: &ObservedHost,
    through: &ReadyConnection,
    enrolment: &Enrolment<'_>,
    document: String,
) -> HostRequest {
    let spec = &object.spec;
    let loader = crate::conjur::RoleId::from_login(&through.account, &through.identity);
    HostRequest {
        server: seen.server.clone(),
        loader: loader.map(|role| role.to_string()).unwrap_or_default(),
        way: way(enrolment),
        keeps_key: spec.keeps_key(),
        adopts: spec.adopts(),
        document,
        wanted: Attributes {
            annotations: spec.annotations.clone().unwrap_or_default(),
            restricted_to: spec.restricted_to.clone().unwrap_or_default(),
            member_of: spec.memberships().iter().cloned().collect(),
        },
        rotation: seen.rotation.clone(),
        tries: seen.tries,
    }
}

/// How the host is enrolled, as decisions know it.
pub fn way(enrolment: &Enrolment<'_>) -> EnrolmentWay {
    match enrolment {
        Enrolment::Branch(branch) => EnrolmentWay::Branch((*branch).to_owned()),
        Enrolment::Factory(factory) => EnrolmentWay::Factory((*factory).to_owned()),
        Enrolment::Token(_) => EnrolmentWay::Token,
        Enrolment::Existing => EnrolmentWay::Existing,
    }
}

/// The branches that the spec has documents loaded into.
pub fn branches(object: &ConjurHost) -> BTreeSet<&str> {
    let Some(Enrolment::Branch(branch)) = object.spec.enrolment() else { return BTreeSet::new() };
    let of_grants =
        object.spec.memberships().iter().filter_map(|role| document::branch_of_grant(role, branch));
    std::iter::once(branch).chain(of_grants).collect()
}

/// Whether documents are loaded by what is announced, in place of what stood before: also where an announcement of a key goes on,
/// which a load adds to.
pub fn announces_load(pending: &PendingHost, before: Option<&PendingHost>) -> bool {
    let goes_on = |before: &PendingHost| {
        (before.step, before.at, before.number) == (pending.step, pending.at, pending.number)
    };
    matches!(pending.step, PendingStep::Make | PendingStep::Load) || before.is_some_and(goes_on)
}

/// Whether nothing was announced or recorded since: by a replica that leads now, while this one goes on.
fn stands_as_known(known: &ConjurHostStatus, stands: &ConjurHostStatus) -> bool {
    (&known.pending, &known.applied) == (&stands.pending, &stands.applied)
}

impl Host<'_> {
    /// Whether the ConjurHost of this cluster that an owner annotation names is gone: then it names none.
    fn is_gone(&self, owner: &RecordOwner) -> bool {
        let key = Key { namespace: owner.namespace.clone(), name: owner.name.clone() };
        owner.cluster == self.cluster
            && owner.kind == KIND
            && self.ctx.kinds.hosts.is_gone(&key, &self.ctx.scope)
    }

    async fn edit(&mut self, edit: impl Fn(&mut ConjurHostStatus) + Send + Sync) -> Result<(), Failure> {
        // That the object is gone is for the next look.
        report::write_guarded(self.object, self.status, edit, stands_as_known, Lane::Foreground, self.ctx)
            .await?;
        Ok(())
    }

    /// Writes what is announced, unless it would be refused: then nothing of it stands in the status.
    async fn announce(&mut self, pending: &PendingHost) -> Result<(), Failure> {
        if announces_load(pending, self.status.pending.as_ref()) {
            for branch in branches(self.object) {
                self.check_branch(branch)?;
            }
        }
        self.refuse_again(pending).await?;
        self.note_announced(Some(pending));
        self.has_announced = true;
        let pending = pending.clone();
        let edit = move |status: &mut ConjurHostStatus| status.pending = Some(pending.clone());
        let (object, status, ctx) = (self.object, &mut *self.status, self.ctx);
        Ok(report::announce_guarded(object, status, edit, stands_as_known, Lane::Foreground, ctx).await?)
    }

    /// Those who log in with the key wait for the new one.
    fn note_announced(&self, pending: Option<&PendingHost>) {
        let rotates =
            pending.is_some_and(|pending| pending.step != PendingStep::Load || pending.until.is_some());
        self.ctx.host_notes.announced(&self.seen.key, self.object.uid(), rotates);
    }

    fn record(&self, status: &mut ConjurHostStatus, record: &HostRecord) {
        status.id = Some(format!("{}:host:{}", self.through.account, self.object.spec.id));
        status.applied = Some(record.applied.clone());
        status.pending.clone_from(&record.pending);
        if record.created.is_some() {
            status.created = record.created;
        }
        if let Some((at, asked)) = &record.rotated {
            status.last_rotation_time = Timestamp::from_second(*at).ok().map(Time);
            if asked.is_some() {
                status.last_handled_rotate_now.clone_from(asked);
            }
        }
        if !self.object.spec.keeps_key() {
            (status.target, status.last_rotation_time, status.next_rotation_time) = (None, None, None);
        }
    }
}

impl HostCaller for Host<'_> {
    fn way(&self) -> EnrolmentWay {
        self.object.spec.enrolment().as_ref().map(way).unwrap_or_default()
    }

    fn check_access(&self) -> Result<(), Failure> {
        claims::check(self.seen, self.object, self.ctx)?;
        identities::refuse_own(self.through, self.object)
    }

    fn check_rules(&self) -> Result<(), Failure> {
        let named = access::named(&self.object.spec.connection_ref, &self.seen.key, self.ctx)?;
        claims::check_access(&named, self.object, &self.seen.key, self.ctx)
    }

    fn check_branch(&self, branch: &str) -> Result<(), Failure> {
        let named = access::named(&self.object.spec.connection_ref, &self.seen.key, self.ctx)?;
        named.check_access(Verb::Load, &[branch], &self.seen.key, self.ctx)?;
        let settings = &named.facts.settings;
        let place = BranchPlace::new(&settings.url, &settings.account, branch);
        policy::may_add_to(&place, self.ctx)
    }

    fn loader(&self, branch: &PolicyBranch) -> Loader {
        let settings = self.seen.named.as_ref().map(|named| &named.facts.settings);
        let (url, account) =
            settings.map_or(("", ""), |settings| (settings.url.as_str(), settings.account.as_str()));
        Loader {
            place: BranchPlace::new(url, account, branch.as_str()),
            identity: self.through.identity.to_string(),
        }
    }

    fn maker(&self, resource: &Resource) -> Maker {
        let is_cluster = self.through.connection.kind == ConnectionKind::ClusterConjurConnection;
        let ownership = HostOwnership {
            mine: self.mine,
            is_former_believed: !is_cluster,
            is_gone: &|owner| self.is_gone(owner),
            takes_marked: self.object.spec.adopts() && !is_cluster,
        };
        let annotations: Vec<(&str, &str)> =
            resource.annotations.iter().map(|a| (a.name.as_str(), a.value.as_str())).collect();
        ownership.maker(&annotations)
    }

    async fn given_token(&self) -> Result<Sensitive<String>, Failure> {
        let Some(Enrolment::Token(from)) = self.object.spec.enrolment() else {
            return Err(not_found("spec.via names no token of a host factory".to_owned()));
        };
        let namespace = &self.seen.key.namespace;
        let what = format!("key '{}' of Secret {namespace}/{}", from.key, from.name);
        let read = self
            .ctx
            .cluster
            .read_keys(SourceKind::Secret, namespace, &from.name, [from.key.as_str()])
            .await?;
        let found = read.and_then(|mut read| read.keys.remove(&from.key));
        let bytes = found.ok_or_else(|| {
            not_found(format!(
                "{what}, where a host factory's token is to be, does not exist; put one there, or correct \
                 spec.via.hostFactoryTokenSecretRef"
            ))
        })?;
        access::credential(&what, &bytes)
    }

    async fn look_at_target(&mut self) -> Result<TargetLook, Failure> {
        let former = self.status.target.as_ref().map(|target| target.name.clone());
        self.secret.read(former.as_deref(), self.ctx).await
    }

    async fn check_room(&mut self) -> Result<(), Failure> {
        self.secret.check_room(self.ctx).await
    }

    async fn does_stored_key_work(&mut self) -> Result<bool, Failure> {
        // A refused key stays refused: it is not sent again at whatever wakes the object.
        let tried = self.secret.stored_hash().map(|key| RefusedKey {
            uid: self.object.uid(),
            server: self.seen.server.clone(),
            key,
            slot: self.seen.rotation.since,
        });
        let notes = &self.ctx.host_notes;
        if !self.seen.sync_now && tried.as_ref().is_some_and(|t| notes.is_key_refused(&self.seen.key, t)) {
            return Ok(false);
        }
        let works = self.secret.does_key_work(self.through, self.ctx).await?;
        notes.note_refused_key(&self.seen.key, tried.filter(|_| !works));
        Ok(works)
    }

    async fn store(&mut self, key: &Sensitive<String>, number: i64) -> Result<(), Failure> {
        self.secret.store(key, number, self.through, self.ctx).await?;
        let note = format!("the API key of host/{} was made anew, and stored", self.object.spec.id);
        if self.status.applied.is_some() {
            self.ctx.events.publish(self.object, EventType::Normal, Reason::KeyRotated, "Rotate", note);
        }
        Ok(())
    }

    async fn delete_secret(&mut self) -> Result<(), Failure> {
        self.secret.delete(self.ctx).await
    }

    async fn write(&mut self, entry: HostEntry<'_>) -> Result<(), Failure> {
        match entry {
            HostEntry::Pending(None) => {
                self.edit(|status| status.pending = None).await?;
                self.note_announced(None);
                Ok(())
            }
            HostEntry::Pending(Some(pending))
                if self.has_announced && self.found.as_ref() == Some(pending) =>
            {
                // It is taken back to what stood there.
                let pending = pending.clone();
                self.edit(move |status| status.pending = Some(pending.clone())).await?;
                self.note_announced(self.found.as_ref());
                Ok(())
            }
            HostEntry::Pending(Some(pending)) => self.announce(pending).await,
            HostEntry::Recorded(record) => {
                let mut recorded = self.ctx.statuses.draft(self.object);
                self.record(&mut recorded, record);
                let written = self.secret.written();
                let edit = move |status: &mut ConjurHostStatus| {
                    (status.id, status.applied) = (recorded.id.clone(), recorded.applied.clone());
                    (status.pending, status.created) = (recorded.pending.clone(), recorded.created);
                    status.last_rotation_time.clone_from(&recorded.last_rotation_time);
                    status.next_rotation_time.clone_from(&recorded.next_rotation_time);
                    status.last_handled_rotate_now.clone_from(&recorded.last_handled_rotate_now);
                    status.target.clone_from(&recorded.target);
                    if let Some((target, revision)) = &written {
                        status.target = Some(target.clone());
                        status.revision.clone_from(revision);
                    }
                };
                self.edit(edit).await?;
                self.note_announced(record.pending.as_ref());
                Ok(())
            }
        }
    }

    fn documents(&self, change: &AttributeLoad) -> Result<Vec<HostDocument>, Failure> {
        let spec = &self.object.spec;
        let Some(Enrolment::Branch(branch)) = spec.enrolment() else { return Ok(Vec::new()) };
        let applied = self.status.applied.as_ref();
        let mut annotations = spec.annotations.clone().unwrap_or_default();
        annotations.extend(self.mine.first().map(|mine| (OWNER_ANNOTATION.to_owned(), mine.clone())));
        // A host that is taken over may carry what an object that is gone wrote: it was not made by this one.
        annotations.insert(CREATED_ANNOTATION.to_owned(), change.created.to_string());
        if !spec.keeps_key() {
            annotations.insert(API_KEY_ANNOTATION.to_owned(), "false".to_owned());
        } else if !change.created || applied.is_some_and(|applied| applied.api_key == Some(false)) {
            annotations.insert(API_KEY_ANNOTATION.to_owned(), "true".to_owned());
        }
        let none: &[String] = &[];
        let was_restricted = applied.is_some_and(|applied| applied.restricted_to.is_some());
        let restricted_to = spec.restricted_to.as_deref().or(was_restricted.then_some(none));
        let wanted = HostAttributes {
            annotations,
            restricted_to,
            grants: change.grants.iter().map(String::as_str).collect(),
            revokes: change.revokes.iter().map(String::as_str).collect(),
        };
        document::attributes(branch, &spec.id, &wanted, &self.through.account)
            .ok_or_else(|| outside(self.object, branch))
    }

    fn note_loaded(&mut self) {
        let before = self.status.applied.as_ref().and_then(|applied| applied.annotations.clone());
        let now = self.object.spec.annotations.clone().unwrap_or_default();
        let left = before.into_iter().flatten().map(|(name, _)| name).filter(|name| !now.contains_key(name));
        self.left = left.collect();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_branches_that_a_host_is_loaded_into_are_known_before_anything_is_announced() {
        let of = |more: serde_json::Value| {
            let mut spec = json!({ "connectionRef": { "name": "c" }, "id": "apps/billing/web" });
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let object = json!({ "metadata": { "namespace": "n", "name": "web" }, "spec": spec });
            let object: ConjurHost = serde_json::from_value(object).unwrap();
            branches(&object).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(of(json!({})), ["apps/billing"]);
        let member_of = json!(["layer/apps/billing/a", "group/conjur/authn-jwt/dev/apps", "group/all"]);
        let all = ["apps/billing", "conjur/authn-jwt/dev", "root"];
        assert_eq!(of(json!({ "memberOf": member_of })), all);
        assert_eq!(of(json!({ "via": { "branch": "apps" } })), ["apps"]);
        assert!(of(json!({ "via": { "hostFactory": { "id": "apps/f" } } })).is_empty());
    }

    #[test]
    fn a_rotation_is_announced_without_a_look_at_branches_and_a_load_not() {
        let pending = |step, at| PendingHost {
            step,
            at,
            number: 1,
            server: "s".to_owned(),
            until: None,
            asked: None,
            load: None,
            token: None,
            grants: None,
        };
        let rotation = pending(PendingStep::Rotate, 5);
        assert!(!announces_load(&rotation, None));
        assert!(!announces_load(&rotation, Some(&pending(PendingStep::Rotate, 4))));
        assert!(announces_load(&rotation, Some(&rotation)), "the load beside a rotation that goes on");
        assert!(announces_load(&pending(PendingStep::Make, 5), None));
        assert!(announces_load(&pending(PendingStep::Load, 5), Some(&rotation)));
    }
}
