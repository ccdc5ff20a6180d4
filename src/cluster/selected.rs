//! The Secrets that a label selector names.

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::LabelSelector};
use kube::{
    Api,
    api::ListParams,
    core::{ParseExpressionError, PartialObjectMeta, Selector},
};

use super::{Cluster, Error, call};
use crate::limits::META_PAGE;

impl Cluster {
    /// Metadata of the Secrets of a namespace that a selector names, of which at most `most` are kept: one more where there are more.
    ///
    /// # Errors
    /// `Invalid` for a selector that can't be; the API server's.
    pub async fn list_selected(
        &self,
        namespace: &str,
        selector: &LabelSelector,
        most: usize,
    ) -> Result<Vec<PartialObjectMeta<Secret>>, Error> {
        let what = format!("list Secrets of namespace {namespace} by their labels");
        let labels = Selector::try_from(selector.clone()).map_err(|error: ParseExpressionError| {
            Error::Invalid(format!("spec.source.selector can't be used: {error}"))
        })?;
        let api = Api::<Secret>::namespaced(self.client.clone(), namespace);
        let mut params = ListParams::default().labels_from(&labels).limit(META_PAGE);
        let mut found = Vec::new();
        loop {
            let _permit = self.read_permit(Some(namespace)).await;
            let page = call(&what, api.list_metadata(&params)).await?;
            found.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty() && found.len() <= most) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
        found.truncate(most + 1);
        Ok(found)
    }
}
