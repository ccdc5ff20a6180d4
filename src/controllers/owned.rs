//! The Secrets that the operator writes to, by their label, metadata only: a change of one is looked at by whom it belongs to.

use std::{future::ready, sync::Arc};

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Client, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        reflector::store::Writer,
        watcher::{self, Event},
    },
};

use super::{
    Context,
    watches::{Unshown, WatchOptions, watch_parts},
};
use crate::{
    api::{MANAGED_LABEL, OWNER_ANNOTATION},
    limits::{META_PAGE, RIGHTS_PATIENCE},
    plan::scope::WatchScope,
    runtime::{Key, api_of_part, compact},
};

/// What the watch shows.
enum OwnedEvent {
    /// One was made or changed.
    Touched(Box<PartialObjectMeta<Secret>>),
    /// One was deleted.
    Gone(Box<PartialObjectMeta<Secret>>),
    /// All were listed anew, for the watch was broken: what was deleted meanwhile is not among them.
    ListedAgain,
}

/// Fills the store, and wakes whom a change concerns.
pub async fn watch(client: Client, writer: Writer<PartialObjectMeta<Secret>>, ctx: Arc<Context>) {
    let mut shown = std::pin::pin!(secrets(&client, &ctx.scope, writer));
    while let Some(shown) = shown.next().await {
        match shown {
            OwnedEvent::Touched(secret) => wake_owner(&secret, &ctx),
            OwnedEvent::Gone(secret) => {
                wake_owner(&secret, &ctx);
                ctx.key_writes.forget(&Key::of(secret.as_ref()));
            }
            OwnedEvent::ListedAgain => wake_all(&ctx),
        }
    }
}

fn secrets(
    client: &Client,
    scope: &WatchScope,
    writer: Writer<PartialObjectMeta<Secret>>,
) -> impl Stream<Item = OwnedEvent> + Send + use<> {
    let parts = scope.parts().into_iter().map(|part| {
        let api = api_of_part(client.clone(), &part);
        (part, api)
    });
    let options = WatchOptions {
        kind: "Secret",
        config: watcher::Config::default().labels(&format!("{MANAGED_LABEL}=true")).page_size(META_PAGE),
        unshown: Unshown::default(),
        // Without it no one knows what is the operator's.
        waits_for_rights: true,
        patience: RIGHTS_PATIENCE,
    };
    let mut listed = false;
    let compact = |secret: &mut PartialObjectMeta<Secret>| compact::secret(&mut secret.metadata);
    watch_parts(parts.collect(), writer.as_reader(), options, compact).reflect(writer).filter_map(
        move |result| {
            ready(match result {
                Ok(Event::Apply(o) | Event::InitApply(o)) => Some(OwnedEvent::Touched(Box::new(o))),
                Ok(Event::Delete(o)) => Some(OwnedEvent::Gone(Box::new(o))),
                // The first list is of a start, where every object has its turn anyway.
                Ok(Event::InitDone) => {
                    std::mem::replace(&mut listed, true).then_some(OwnedEvent::ListedAgain)
                }
                Ok(Event::Init) | Err(_) => None,
            })
        },
    )
}

/// Wakes all objects that write Secrets; those whose Secret is as it was find nothing due.
fn wake_all(ctx: &Context) {
    for kind in ctx.kinds.all().filter(|kind| kind.writes_secrets()) {
        kind.wake_spread(kind.keys());
    }
}

/// Wakes whom a Secret belongs to, by its controller reference, else by the operator's annotation, and those that merge into it.
fn wake_owner(secret: &PartialObjectMeta<Secret>, ctx: &Context) {
    let controller = secret.owner_references().iter().find(|o| o.controller == Some(true));
    let annotated = secret.annotations().get(OWNER_ANNOTATION).and_then(|text| text.split_once('/'));
    let owner = controller.map(|c| (c.kind.as_str(), c.name.as_str())).or(annotated);
    ctx.kinds.all().for_each(|kind| kind.secret_changed(secret, owner, ctx));
}
