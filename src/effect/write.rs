//! One write of a Secret that keeps keys or an inventory, told from others' writes in the watch ([`super::own_writes`]).

use kube::ResourceExt;

use crate::{
    cluster, conjur::Lane, controllers::Context, metrics::SecretWrite, plan::secret::SecretRead, runtime::Key,
};

/// What came of a write.
pub struct OwnWrite {
    /// Whether it was written; an error may have been, too.
    pub result: Result<(), cluster::Error>,
    /// Another's change was shown meanwhile.
    pub others: bool,
}

/// Creates a Secret, or replaces the one that `stands`, as it was looked at. `copy`: what is kept of it, which gets the uid and
/// version that it was written as.
pub async fn write(secret: SecretRead, copy: &mut SecretRead, stands: bool, ctx: &Context) -> OwnWrite {
    let at = Key { namespace: secret.namespace().unwrap_or_default(), name: secret.name_any() };
    let writing = ctx.key_writes.begin(&at);
    let (written, how) = if stands {
        (ctx.cluster.replace_secret(secret, Lane::Foreground).await, SecretWrite::Update)
    } else {
        (ctx.cluster.create_secret(secret, Lane::Foreground).await, SecretWrite::Create)
    };
    let others = writing.end(written.as_ref().ok().map(|w| w.resource_version.as_str()));
    let result = written.map(|written| {
        ctx.metrics.secret_written(how);
        (copy.metadata.uid, copy.metadata.resource_version) =
            (Some(written.uid), Some(written.resource_version));
    });
    OwnWrite { result, others }
}
