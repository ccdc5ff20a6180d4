//! The Pods of the chart's hooks, run as processes: no kubelet is here, and Helm waits for them.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, PodSpec};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::{ControlPlane, Result};

/// How often is looked for Pods.
const LOOK: Duration = Duration::from_millis(200);

/// What a hook's Pod did.
#[derive(Debug, Clone)]
pub struct HookRun {
    /// The ServiceAccount that it ran as.
    pub service_account: String,
    /// Its arguments, as the chart gives them.
    pub args: Vec<String>,
    /// Whether it succeeded.
    pub success: bool,
    /// All that it said.
    pub output: String,
}

impl ControlPlane {
    /// Does `work`, like a `helm upgrade`, and meanwhile runs each Pod of a hook as a process of `binary`: with the Pod's
    /// arguments and files, and the rights of its ServiceAccount. What that came to is written into the Pod's status, as a
    /// kubelet does.
    ///
    /// # Errors
    /// Where a Pod can't be run; that it failed is none.
    pub async fn with_hooks<T>(
        &self,
        binary: &Path,
        work: impl Future<Output = T>,
    ) -> Result<(T, Vec<HookRun>)> {
        let mut runs = Vec::new();
        let outcome = {
            let hooks = async {
                loop {
                    if let Err(error) = self.run_pending(binary, &mut runs).await {
                        return error;
                    }
                    tokio::time::sleep(LOOK).await;
                }
            };
            tokio::select! {
                outcome = work => Ok(outcome),
                error = hooks => Err(error),
            }
        };
        Ok((outcome?, runs))
    }

    async fn run_pending(&self, binary: &Path, runs: &mut Vec<HookRun>) -> Result<()> {
        let client = self.client().await?;
        let params =
            ListParams::default().labels("app.kubernetes.io/component=hook").fields("status.phase=Pending");
        for pod in Api::<Pod>::all(client.clone()).list(&params).await?.items {
            let namespace = pod.namespace().unwrap_or_default();
            let spec = pod.spec.clone().context("a Pod without a spec")?;
            let run = self.run_hook(binary, &namespace, &spec).await?;
            let phase = if run.success { "Succeeded" } else { "Failed" };
            let status = Patch::Merge(json!({ "status": { "phase": phase } }));
            let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
            pods.patch_status(&pod.name_any(), &PatchParams::default(), &status).await?;
            runs.push(run);
        }
        Ok(())
    }

    async fn run_hook(&self, binary: &Path, namespace: &str, spec: &PodSpec) -> Result<HookRun> {
        let service_account = spec.service_account_name.clone().context("no ServiceAccount")?;
        let token = self.service_account_token(namespace, &service_account).await?;
        let folder = tempfile::tempdir_in(self.folder().path())?;
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, self.kubeconfig_for(&token))?;
        let container = spec.containers.first().context("no container")?;
        let args = container.args.clone().unwrap_or_default();
        let mut given = args.clone();
        for mount in container.volume_mounts.iter().flatten() {
            let mut volumes = spec.volumes.iter().flatten();
            let volume = volumes.find(|volume| volume.name == mount.name).context("no volume")?;
            let name = volume.config_map.as_ref().map(|from| from.name.clone()).context("no ConfigMap")?;
            let maps: Api<ConfigMap> = Api::namespaced(self.client().await?, namespace);
            for (key, text) in maps.get(&name).await?.data.unwrap_or_default() {
                std::fs::write(folder.path().join(key), text)?;
            }
            let here = folder.path().display().to_string();
            given = given.iter().map(|arg| arg.replace(&mount.mount_path, &here)).collect();
        }
        let mut command = tokio::process::Command::new(binary);
        command.args(&given).env_clear().env("KUBECONFIG", &kubeconfig).kill_on_drop(true);
        let output = command.output().await.with_context(|| format!("running {}", binary.display()))?;
        let said = [output.stdout, output.stderr].concat();
        Ok(HookRun {
            service_account,
            args,
            success: output.status.success(),
            output: String::from_utf8_lossy(&said).into_owned(),
        })
    }
}
