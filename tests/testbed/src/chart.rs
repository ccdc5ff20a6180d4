//! The chart, installed by Helm.

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use std::time::Duration;

use crate::{ControlPlane, Result, programs, repository, wait_for};

const GROUP: &str = "conjur-operator.io";

/// The folder of the chart.
pub fn chart_folder() -> std::path::PathBuf {
    repository().join("charts/conjur-operator")
}

/// How to install the chart.
#[derive(Debug, Clone)]
pub struct Chart {
    /// The release's name.
    pub release: String,
    /// Its namespace, made where it does not exist.
    pub namespace: String,
    /// Values on top of the chart's own.
    pub values: Value,
}

impl Default for Chart {
    /// The release `conjur-operator` in the namespace `conjur-system`, with no value set.
    fn default() -> Self {
        Self {
            release: "conjur-operator".to_owned(),
            namespace: "conjur-system".to_owned(),
            values: json!({}),
        }
    }
}

/// A chart that is installed.
#[derive(Debug, Clone)]
pub struct Release {
    /// The release's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The `ServiceAccount` under which the operator is to run.
    pub service_account: String,
}

impl Release {
    /// The operator's name for the API server and its audit log.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.service_account)
    }
}

impl ControlPlane {
    /// `helm upgrade --install` of `charts/conjur-operator`, and waits until the API server serves the CRDs; where there
    /// is a node, until the operator's Pods are ready, too.
    pub async fn install_chart(&self, chart: &Chart) -> Result<Release> {
        let folder = chart_folder().display().to_string();
        let mut args = vec!["upgrade", "--install", &chart.release, &folder];
        args.extend(["--namespace", &chart.namespace, "--create-namespace", "--values", "-"]);
        if self.runs_pods() {
            args.extend(["--wait", "--timeout", "120s"]);
        }
        self.run(&programs::helm().await?, &args, &chart.values.to_string()).await?;
        self.wait_for_crds().await?;
        self.forget_discovery()?;
        let service_account = self.service_account_of(chart).await?;
        Ok(Release { name: chart.release.clone(), namespace: chart.namespace.clone(), service_account })
    }

    /// Runs helm with all rights and gives what it prints.
    pub async fn helm(&self, args: &[&str]) -> Result<String> {
        self.run(&programs::helm().await?, args, "").await
    }

    /// Established is not enough: discovery, by which kubectl finds kinds and categories, comes a little later.
    async fn wait_for_crds(&self) -> Result<()> {
        let client = self.client().await?;
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        wait_for("the CRDs are served", Duration::from_secs(30), async || {
            let installed = crds.list(&ListParams::default()).await.ok()?;
            let discovery = client.list_api_groups_aggregated().await.ok()?;
            let group = discovery.items.iter().find(|group| {
                group.metadata.as_ref().and_then(|metadata| metadata.name.as_deref()) == Some(GROUP)
            })?;
            let served: Vec<&str> = group
                .versions
                .iter()
                .flat_map(|version| &version.resources)
                .filter_map(|resource| resource.resource.as_deref())
                .collect();
            let mut ours = installed.iter().filter(|crd| crd.spec.group == GROUP);
            ours.all(|crd| is_established(crd) && served.contains(&crd.spec.names.plural.as_str()))
                .then_some(())
        })
        .await
    }

    async fn service_account_of(&self, chart: &Chart) -> Result<String> {
        if let Some(name) = chart.values.pointer("/serviceAccount/name").and_then(Value::as_str) {
            return Ok(name.to_owned());
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, &chart.namespace);
        let selector =
            format!("app.kubernetes.io/instance={},app.kubernetes.io/component!=hook", chart.release);
        let found = accounts
            .list(&ListParams::default().labels(&selector))
            .await
            .context("listing ServiceAccounts")?;
        let mut names = found.iter().map(kube::ResourceExt::name_any);
        match (names.next(), names.next()) {
            (Some(name), None) => Ok(name),
            _ => bail!("the release {} has {} ServiceAccounts, not one", chart.release, found.items.len()),
        }
    }
}

fn is_established(crd: &CustomResourceDefinition) -> bool {
    let conditions = crd.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Established" && one.status == "True"))
}
