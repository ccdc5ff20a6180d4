//! Whom tokens of ServiceAccounts may be for.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use crate::{
    cluster::{self, Cluster},
    limits,
    plan::connection::audience,
};

/// Whom tokens of ServiceAccounts may be for.
pub struct Audiences {
    /// Whom connections of namespaces may ask for.
    pub allowed: Vec<String>,
    /// The cluster's own, which no one may ask for, and when they were asked for.
    own: tokio::sync::Mutex<Option<(Instant, Arc<BTreeSet<String>>)>>,
}

impl Audiences {
    /// Those that connections of namespaces may ask for.
    pub fn new(allowed: Vec<String>) -> Self {
        Self { allowed, own: tokio::sync::Mutex::default() }
    }

    /// The cluster's own, which no one may ask for.
    ///
    /// # Errors
    /// The API server's.
    pub async fn get(
        &self,
        cluster: &Cluster,
        namespace: &str,
        account: &str,
    ) -> Result<Arc<BTreeSet<String>>, cluster::Error> {
        let mut own = self.own.lock().await;
        if let Some((at, known)) = &*own
            && at.elapsed() < limits::OWN_AUDIENCES_AGAIN
        {
            return Ok(known.clone());
        }
        // Without audiences, the token is for the API server's own. It is looked at, and goes nowhere.
        let token = cluster.request_token(namespace, account, &[]).await?;
        let found = audience::of_the_cluster(token.expose());
        let found = Arc::new(found.map_err(|why| cluster::Error::Failed(why.to_owned()))?);
        *own = Some((Instant::now(), found.clone()));
        Ok(found)
    }
}
