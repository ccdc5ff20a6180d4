//! The Secrets of a ConjurPush, and what is pushed of them.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::seen::ObservedPush;
use crate::{
    api::{ConjurPush, Reason, push::PushedSource},
    controllers::Context,
    heavy::Whose,
    limits::{PUSHED_BYTES, REGEX_OBJECT_BYTES, SELECTED_SECRETS},
    memory_budget::{SecretRoom, room_for_secret},
    metrics::Kind,
    plan::{
        Failure, LOOK_AGAIN,
        push::{
            entries::{PlannedPush, SourceKeys, ValueFrom, entries},
            source::{merged, refusal},
        },
        secret::{SecretRead, sources::Data, template::Text},
    },
    runtime::failure::no_room,
    sensitive::Sensitive,
};

/// Secrets of one object that are read at once.
const SECRETS_AT_ONCE: usize = 4;

/// The Secrets, as they were read.
#[derive(Default)]
pub struct ReadSources {
    /// Without their metadata.
    pub secrets: Vec<SecretRead>,
    /// Why each is not pushed; none where it is.
    left_out: Vec<Option<String>>,
    /// Their names and versions.
    pub versions: Vec<PushedSource>,
    /// They were found by a selector.
    pub is_selected: bool,
}

/// What there is to push.
#[derive(Default)]
pub struct Values {
    /// By the id of the variable.
    pub by_id: BTreeMap<String, PushValue>,
    /// Ids of all variables that the spec names.
    pub named: BTreeSet<String>,
    /// What can't be pushed, and why.
    pub problems: Vec<Failure>,
    /// Secrets of the selector that are left out, in words.
    pub left_out: Vec<String>,
    /// The numbers of Secrets of which a value can't be pushed for a reason that may pass without another version of them.
    pub dropped: BTreeSet<usize>,
}

/// One value.
pub struct PushValue {
    pub value: Sensitive<Vec<u8>>,
    /// The number of its Secret.
    pub source: usize,
}

/// Reads the Secrets.
///
/// # Errors
/// `SourceNotFound`; `InvalidSpec` where they are too many or too large; the API server's.
pub async fn read(seen: &ObservedPush<'_>, ctx: &Context) -> Result<ReadSources, Failure> {
    let (source, namespace) = (&seen.object.spec.source, &seen.key.namespace);
    let names = match (&source.secret_ref, &source.selector) {
        (Some(secret), _) => vec![secret.name.clone()],
        (None, Some(selector)) => {
            if let Some(selected) = ctx.inputs.selected(&seen.key) {
                selected.into_iter().map(|(name, _)| name).collect()
            } else {
                let found = ctx.cluster.list_selected(namespace, selector, SELECTED_SECRETS).await?;
                found.into_iter().filter_map(|found| found.metadata.name).collect()
            }
        }
        (None, None) => Vec::new(),
    };
    if names.len() > SELECTED_SECRETS {
        let message = format!(
            "spec.source.selector names more than {SELECTED_SECRETS} Secrets; divide them among several objects"
        );
        return Err(Failure::stalled(Reason::InvalidSpec, message));
    }
    let mut read = ReadSources { is_selected: source.secret_ref.is_none(), ..ReadSources::default() };
    let mut length = 0;
    let mut reads = stream::iter(names).map(|name| read_one(name, namespace, ctx)).buffered(SECRETS_AT_ONCE);
    while let Some(answer) = reads.next().await {
        let (name, room, secret) = answer?;
        let data = secret.iter().flat_map(|secret| secret.data.iter().flatten());
        let bytes = data.map(|(key, value)| key.len() + value.0.len()).sum::<usize>();
        room.keep(bytes);
        let secret =
            secret.filter(|secret| read.is_selected || secret.data.iter().flatten().next().is_some());
        let Some(secret) = secret else {
            if read.is_selected {
                // It went since it was looked at.
                continue;
            }
            let message = format!(
                "Secret {namespace}/{name}, which spec.source.secretRef names, does not exist or is empty; create it, or correct \
                 the name. Nothing is removed from Conjur meanwhile"
            );
            return Err(Failure::waiting(Reason::SourceNotFound, LOOK_AGAIN, message));
        };
        length += bytes;
        if length > PUSHED_BYTES {
            let message = format!(
                "the Secrets hold more than {} MiB together; divide them among several objects",
                PUSHED_BYTES >> 20
            );
            return Err(Failure::stalled(Reason::SecretTooLarge, message));
        }
        let resource_version = secret.metadata.resource_version.clone().unwrap_or_default();
        let why = refusal(&secret).or_else(|| refused_key(&secret, seen.object));
        read.versions.push(PushedSource { name, resource_version });
        read.left_out.push(why);
        let mut secret = secret;
        // Others may have put a quarter of a megabyte there.
        secret.metadata = ObjectMeta::default();
        read.secrets.push(secret);
    }
    Ok(read)
}

/// Reads one, with room for it.
async fn read_one(
    name: String,
    namespace: &str,
    ctx: &Context,
) -> Result<(String, SecretRoom, Option<SecretRead>), Failure> {
    // Before it is read: thousands may read at once, a megabyte each.
    let room = room_for_secret(namespace).await.ok_or_else(|| no_room("what the Secret holds"))?;
    let secret = ctx.cluster.read_secret(namespace, &name).await?;
    Ok((name, room, secret))
}

impl ReadSources {
    /// What there is to push of them.
    ///
    /// # Errors
    /// `InvalidSpec`, where nothing of it can be.
    pub async fn values(&self, object: &ConjurPush, ctx: &Context) -> Result<Values, Failure> {
        let spec = &object.spec;
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        let mut left_out = Vec::new();
        let mut keys = Vec::new();
        for ((secret, version), why) in self.secrets.iter().zip(&self.versions).zip(&self.left_out) {
            if let Some(why) = why.as_ref() {
                let message = format!("Secret {namespace}/{} is not pushed: {why}", version.name);
                if !self.is_selected {
                    return Err(Failure::stalled(Reason::InvalidSpec, message));
                }
                left_out.push(message);
            }
            let names = secret.data.iter().flatten().map(|(key, _)| key.as_str()).collect();
            keys.push(SourceKeys { name: &version.name, keys: names, is_left_out: why.is_some() });
        }
        let bytes = if spec.rewrite.is_some() { REGEX_OBJECT_BYTES } else { 0 };
        let plan =
            ctx.heavy.run(namespace, bytes, || entries(spec, namespace, &keys, self.is_selected)).await?;
        for (at, key) in &plan.lacking {
            left_out.push(format!(
                "Secret {namespace}/{} is not pushed: it has no key '{key}', which spec.data names",
                keys[*at].name
            ));
        }
        self.filled(object, plan, left_out, ctx).await
    }

    async fn filled(
        &self,
        object: &ConjurPush,
        plan: PlannedPush,
        left_out: Vec<String>,
        ctx: &Context,
    ) -> Result<Values, Failure> {
        let mut values = Values {
            named: plan.named,
            problems: plan.problems,
            dropped: plan.dropped,
            left_out,
            ..Values::default()
        };
        let mut rendered = self.rendered(object, &plan.values, &mut values.problems, ctx).await;
        for (id, planned) in plan.values {
            let data = self.secrets[planned.source].data.iter().flatten();
            let value = match planned.from {
                ValueFrom::Key(at) => {
                    data.into_iter().nth(at).map(|(_, value)| Sensitive::new(value.0.clone()))
                }
                ValueFrom::Template(_) => rendered.remove(&id),
            };
            let Some(value) = value else {
                values.dropped.insert(planned.source);
                continue;
            };
            if value.expose().iter().all(u8::is_ascii_whitespace) {
                let name = &self.versions[planned.source].name;
                let what = match planned.from {
                    ValueFrom::Key(at) => {
                        let keys = self.secrets[planned.source].data.iter().flatten();
                        let key = keys.into_iter().nth(at).map_or("", |(key, _)| key.as_str());
                        format!("key '{key}' of Secret {name}")
                    }
                    ValueFrom::Template(at) => {
                        format!("what spec.data[{at}].template makes of Secret {name}")
                    }
                };
                let message = format!(
                    "{what} is empty or only white space, which Conjur takes for no value of variable {id}"
                );
                values.problems.push(Failure::stalled(Reason::EmptyValue, message));
                continue;
            }
            values.by_id.insert(id, PushValue { value, source: planned.source });
        }
        Ok(values)
    }

    /// What templates make of each Secret, by the id of the variable. Those of one Secret fail together.
    async fn rendered(
        &self,
        object: &ConjurPush,
        planned: &BTreeMap<String, crate::plan::push::entries::PlannedValue>,
        problems: &mut Vec<Failure>,
        ctx: &Context,
    ) -> BTreeMap<String, Sensitive<Vec<u8>>> {
        let mut by_source: BTreeMap<usize, Vec<(&String, usize)>> = BTreeMap::new();
        for (id, value) in planned {
            if let ValueFrom::Template(at) = value.from {
                by_source.entry(value.source).or_default().push((id, at));
            }
        }
        let versions: Vec<String> = self.versions.iter().map(|v| v.resource_version.clone()).collect();
        let whose = Whose::of(Kind::Push.as_str(), &object.metadata, &versions);
        let mut made = BTreeMap::new();
        for (source, wanted) in by_source {
            let text = |at: usize| object.spec.entries().get(at).and_then(|entry| entry.template.as_deref());
            let named: BTreeMap<String, &String> =
                wanted.iter().map(|(id, at)| (format!("spec.data[{at}].template"), *id)).collect();
            let texts: Vec<Text> = wanted
                .iter()
                .map(|(_, at)| {
                    Text::inline(&format!("spec.data[{at}].template"), text(*at).unwrap_or_default())
                })
                .collect();
            let data = self.secrets[source].data.iter().flatten();
            let data: Data =
                data.map(|(key, value)| (key.clone(), Sensitive::new(value.0.clone()))).collect();
            match ctx.heavy.render_templates(&whose, &texts, &data).await {
                Ok(rendered) => made.extend(
                    rendered
                        .into_iter()
                        .filter_map(|(key, value)| Some(((*named.get(&key)?).clone(), value))),
                ),
                Err(failure) => problems.push(Failure {
                    message: format!("Secret {}: {}", self.versions[source].name, failure.message),
                    ..failure
                }),
            }
        }
        made
    }
}

/// Why a Secret is not pushed for a key that a ConjurSecret merges into it; none where none of the wanted ones is such a key.
fn refused_key(secret: &SecretRead, object: &ConjurPush) -> Option<String> {
    let merged = merged(secret);
    let (data, entries) = (&object.spec.data, object.spec.entries());
    let reads_all = data.is_none() || entries.iter().any(|entry| entry.template.is_some());
    let wanted = |key: &&&str| reads_all || entries.iter().any(|entry| entry.key.as_deref() == Some(**key));
    let key = merged.iter().find(wanted)?;
    Some(format!(
        "a ConjurSecret merges the key '{key}' into it from what Conjur holds, and pushing that back would go in a circle; name \
         other keys in spec.data, or another Secret"
    ))
}
