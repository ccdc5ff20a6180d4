//! The bill of materials, in the form of CycloneDX 1.5: the crates that are written into the program, and the libraries that
//! the image has beside it. <https://cyclonedx.org/docs/1.5/json/>

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use auditable_info::audit_info_from_file;
use auditable_serde::{DependencyKind, Package, Source};
use serde_json::{Value, json};

/// What `program` is made of, and `libraries` beside it. Build-time crates are left out: nothing of them is in the program.
///
/// # Errors
/// A program that was not built by `cargo auditable`.
pub fn bill_of_materials(program: &Path, libraries: &[PathBuf]) -> Result<Value> {
    let info = audit_info_from_file(program, auditable_info::Limits::default()).with_context(|| {
        format!("{} does not say what it is made of: build it with `make image`", program.display())
    })?;
    let runtime = |package: &Package| matches!(package.kind, DependencyKind::Runtime);
    let root = info
        .packages
        .iter()
        .find(|package| package.root)
        .context("the program names no package of its own")?;
    let mut components: Vec<Value> = info
        .packages
        .iter()
        .filter(|package| runtime(package) && !package.root)
        .map(crate_component)
        .collect();
    let mut dependencies: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in info.packages.iter().filter(|package| runtime(package)) {
        let on = package
            .dependencies
            .iter()
            .filter_map(|index| info.packages.get(*index))
            .filter(|one| runtime(one));
        dependencies.insert(purl(package), on.map(purl).collect());
    }
    let mut of_distribution: Vec<Value> =
        libraries.iter().map(|library| library_component(library)).collect();
    of_distribution.sort_by_key(|component| component["bom-ref"].to_string());
    of_distribution.dedup();
    let on = of_distribution.iter().filter_map(|component| component["bom-ref"].as_str().map(str::to_owned));
    dependencies.entry(purl(root)).or_default().extend(on);
    components.extend(of_distribution);
    let dependencies: Vec<Value> =
        dependencies.into_iter().map(|(of, on)| json!({"ref": of, "dependsOn": on})).collect();
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {
            "type": "application", "bom-ref": purl(root), "name": root.name, "version": root.version.to_string(),
            "purl": purl(root),
        }},
        "components": components,
        "dependencies": dependencies,
    }))
}

fn crate_component(package: &Package) -> Value {
    json!({
        "type": "library", "bom-ref": purl(package), "name": package.name, "version": package.version.to_string(),
        "purl": purl(package),
    })
}

/// <https://github.com/package-url/purl-spec>; what is in no registry is told apart by where it is from.
fn purl(package: &Package) -> String {
    let version = package.version.to_string().replace('+', "%2B");
    let plain = format!("pkg:cargo/{}@{version}", package.name);
    match &package.source {
        Source::CratesIo => plain,
        Source::Local => format!("{plain}?vcs_url=local"),
        _ => format!("{plain}?vcs_url=other"),
    }
}

fn library_component(library: &Path) -> Value {
    let Some((name, version)) = debian_package(library) else {
        let name = library.display().to_string();
        return json!({"type": "file", "bom-ref": name, "name": name});
    };
    let purl = format!("pkg:deb/debian/{name}@{}", version.replace('+', "%2B"));
    json!({"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl})
}

/// The package that a file is from, and its version, where this machine is a Debian or one of its kind.
fn debian_package(file: &Path) -> Option<(String, String)> {
    // What is in /lib is recorded below /usr/lib, or the other way round.
    let real = std::fs::canonicalize(file).ok()?;
    let short = real.strip_prefix("/usr").map(|path| Path::new("/").join(path)).ok();
    let paths = [Some(real.as_path()), short.as_deref(), Some(file)];
    let owner = paths.into_iter().flatten().find_map(owner)?;
    let version = run("dpkg-query", &["--showformat=${Version}", "--show", &owner])?;
    Some((owner.split(':').next()?.to_owned(), version))
}

fn owner(file: &Path) -> Option<String> {
    let said = run("dpkg", &["--search", file.to_str()?])?;
    // `libc6:amd64: /lib/x86_64-linux-gnu/libc.so.6`
    said.lines().next()?.split_once(": ").map(|(package, _)| package.to_owned())
}

fn run(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
