//! Where the programs of Kubernetes are: the script that finds or builds them says it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail};

use crate::Result;

/// The folder of the repository.
pub fn repository() -> &'static Path {
    // tests/testbed, two below the top.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// The folder with etcd, kube-apiserver, kube-controller-manager and kubectl: of the version that
/// `CONJUR_OPERATOR_KUBERNETES` says, `oldest` or `newest`, and else of the one that most tests run on.
pub(crate) async fn control_plane() -> Result<PathBuf> {
    let version = std::env::var("CONJUR_OPERATOR_KUBERNETES").unwrap_or_default();
    let mut args = vec!["control-plane"];
    args.extend(Some(version.as_str()).filter(|version| !version.is_empty()));
    find(&args).await
}

/// The folder of what a node needs: `bin` with the programs of Kubernetes, `usr` with containerd, runc and network
/// plugins, and the program `pause`.
pub(crate) async fn node() -> Result<PathBuf> {
    find(&["node"]).await
}

/// The helm program.
pub async fn helm() -> Result<PathBuf> {
    Ok(find(&["helm"]).await?.join("helm"))
}

/// Asks Prometheus' own check whether a file of rules is right; how many rules it has.
///
/// # Errors
/// What is wrong, rule by rule.
pub async fn check_rules(file: &Path) -> Result<usize> {
    let program = find(&["rule-check"]).await?.join("rule-check");
    let output = tokio::process::Command::new(&program).arg(file).output().await;
    let output = output.with_context(|| format!("running {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{}{said}", String::from_utf8_lossy(&output.stderr));
    }
    let count = said.split_whitespace().next().context("the check of rules says nothing")?;
    Ok(count.parse()?)
}

/// The program crane, which pushes and pulls images and can be a registry.
pub async fn crane() -> Result<PathBuf> {
    Ok(find(&["crane"]).await?.join("crane"))
}

/// The program cosign, which signs images.
pub async fn cosign() -> Result<PathBuf> {
    Ok(find(&["cosign"]).await?.join("cosign"))
}

/// A folder with the CRDs of External Secrets Operator.
///
/// # Errors
/// That they can't be fetched.
pub async fn external_secrets_crds() -> Result<PathBuf> {
    find(&["external-secrets"]).await
}

async fn find(args: &[&str]) -> Result<PathBuf> {
    let script = repository().join("tests/control-plane/build.sh");
    let output = tokio::process::Command::new(&script)
        .args(args)
        .stderr(Stdio::inherit())
        .stdin(Stdio::null())
        .output()
        .await
        .with_context(|| format!("running {}", script.display()))?;
    if !output.status.success() {
        bail!("`{} {}` failed; what it says is above", script.display(), args.join(" "));
    }
    let folder = String::from_utf8(output.stdout).context("reading the folder's name")?;
    Ok(PathBuf::from(folder.trim_end()))
}
