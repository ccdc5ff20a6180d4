//! The operator's image from a program that was built here, under the name that the chart asks for.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use operator_image::Image;

use crate::process::Folder;
use crate::{Result, programs};

/// Makes an archive of it in `folder`, for [`crate::ControlPlane::start_with_node`]: as the image that `chart`, a folder or
/// an archive, asks for. The program loses its symbols: a debug build is then a quarter as large.
///
/// # Errors
/// A program that is not there, and a chart that renders no Deployment.
pub async fn operator_image(program: &Path, chart: &Path, folder: &Folder) -> Result<PathBuf> {
    let stripped = folder.path().join("conjur-operator");
    let status = Command::new("strip").arg("-o").arg(&stripped).arg(program).status();
    if !status.is_ok_and(|status| status.success()) {
        std::fs::copy(program, &stripped).with_context(|| format!("copying {}", program.display()))?;
    }
    let name = full_name(&chart_image(chart).await?);
    let archive = folder.path().join(format!("{}.tar", name.replace(['/', ':'], "-")));
    Image::of_operator(&stripped, &name)?.write(&archive)?;
    std::fs::remove_file(stripped)?;
    Ok(archive)
}

/// The image that a chart's Deployment has where no value is set.
async fn chart_image(chart: &Path) -> Result<String> {
    let mut helm = tokio::process::Command::new(programs::helm().await?);
    helm.args(["template", "conjur-operator"]).arg(chart).args(["--show-only", "templates/deployment.yaml"]);
    let output = helm.output().await.context("rendering the chart")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let image = text.lines().find_map(|line| line.trim().strip_prefix("image: "));
    Ok(image.context("the chart renders no image")?.trim_matches('"').to_owned())
}

/// As container engines write a name: a first part without a dot is a folder of the registry that they all assume.
fn full_name(name: &str) -> String {
    match name.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_container_engines_write_them() {
        for (name, full) in [
            ("conjur-operator:1", "docker.io/library/conjur-operator:1"),
            ("team/conjur-operator:1", "docker.io/team/conjur-operator:1"),
            ("registry.example/conjur-operator:1", "registry.example/conjur-operator:1"),
            ("localhost/pause:1", "localhost/pause:1"),
        ] {
            assert_eq!(full_name(name), full);
        }
    }
}
