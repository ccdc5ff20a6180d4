//! Refuses an uninstall that would lose objects or leave some that nothing can let go.

use kube::{Client, ResourceExt as _};

use super::{HookError, all, finalized};
use crate::{
    cli::UninstallCheckArgs,
    plan::install::{
        HookScope,
        uninstall::{LeftObject, obstacles},
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
        let found = kind.metadata(client, &scope).await?.unwrap_or_default();
        objects.extend(found.iter().map(|object| LeftObject {
            name: kind.name(object),
            deleting: object.metadata.deletion_timestamp.is_some(),
            finalizers: object.finalizers().to_vec(),
        }));
    }
    match obstacles(&objects, args.crds_go) {
        None => Ok("nothing would be lost or left hanging".to_owned()),
        Some(text) if args.force => Ok(format!("uninstall.force is true; {text}")),
        Some(text) => Err(HookError::Refused(format!("the uninstall is refused: {text}\n{WAY_OUT}"))),
    }
}
