//! Refuses an uninstall that would lose objects or leave some that nothing can let go.

use kube::{Client, ResourceExt as _, api::DynamicObject, core::PartialObjectMeta};

use super::{HookError, all, finalized};
use crate::{
    cli::UninstallCheckArgs,
    plan::install::{
        HookScope,
        uninstall::{LeftObject, obstacles, own_finalizers},
    },
};

const WAY_OUT: &str = "When that is done, run helm uninstall again. To upgrade the release first, bring it back: helm rollback RELEASE REVISION, \
                       with the last revision of helm history. To uninstall all the same: helm uninstall with --no-hooks";

pub async fn run(client: &Client, args: UninstallCheckArgs) -> Result<String, HookError> {
    let scope = if args.crds_go {
        HookScope { namespaces: vec![], cluster_connections: true }
    } else {
        HookScope::from(args.scope)
    };
    let mut objects = Vec::new();
    for kind in if args.crds_go { all(&scope) } else { finalized() } {
        // Where a kind is not served there is nothing of it.
        let found = kind.metadata(client, &scope, |object: PartialObjectMeta<DynamicObject>| {
            let left = LeftObject {
                name: kind.name(&object),
                deleting: object.metadata.deletion_timestamp.is_some(),
                finalizers: own_finalizers(object.finalizers()),
            };
            (args.crds_go || left.hangs()).then_some(left)
        });
        objects.extend(found.await?.unwrap_or_default());
    }
    match obstacles(&objects, args.crds_go) {
        None => Ok("nothing would be lost or left hanging".to_owned()),
        Some(text) => Err(HookError::Refused(format!("the uninstall is refused: {text}\n{WAY_OUT}"))),
    }
}
