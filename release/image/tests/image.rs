//! The image, read as a container engine reads it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::Command;

use aws_lc_rs::digest::{SHA256, digest};
use flate2::read::GzDecoder;
use jiff::Timestamp;
use operator_image::{Image, Rootfs, bill_of_materials};
use serde_json::Value;

/// Any program with shared libraries will do.
fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_operator-image").into()
}

/// The operator as it is released, where `make test` has built it.
fn release() -> Option<PathBuf> {
    std::env::var_os("CONJUR_OPERATOR_RELEASE").map(PathBuf::from)
}

fn files(archive: &[u8]) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut archive = tar::Archive::new(archive);
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, 0));
        let (mode, path) = (header.mode().unwrap(), entry.path().unwrap().display().to_string());
        let mut content = vec![];
        entry.read_to_end(&mut content).unwrap();
        files.insert(path, (mode, content));
    }
    files
}

fn image(created: i64) -> Image {
    let mut image = Image::of_operator(&program(), "registry.example/conjur-operator:1.2.3").unwrap();
    image.created = Timestamp::from_second(created).unwrap();
    image.labels.insert("org.opencontainers.image.version".to_owned(), "1.2.3".to_owned());
    image
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, created| {
        let path = folder.path().join(name);
        let digest = image(created).write(&path).unwrap();
        (digest, std::fs::read(path).unwrap())
    };
    let (one, two, later) =
        (write("one", 1_700_000_000), write("two", 1_700_000_000), write("later", 1_700_000_001));
    assert!(one == two, "{} and {}", one.0, two.0);
    assert_ne!(one.0, later.0);
}

#[test]
fn each_blob_is_what_its_descriptor_says_and_the_config_says_how_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.tar");
    let written = image(1_700_000_000).write(&path).unwrap();
    let files = files(&std::fs::read(path).unwrap());
    assert_eq!(files["oci-layout"].1, br#"{"imageLayoutVersion":"1.0.0"}"#);
    let blob = |descriptor: &Value| {
        let name = descriptor["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
        let content = files[&name].1.clone();
        assert_eq!(format!("blobs/sha256/{}", hex::encode(digest(&SHA256, &content))), name);
        assert_eq!(descriptor["size"].as_u64().unwrap(), content.len() as u64);
        content
    };
    let index: Value = serde_json::from_slice(&files["index.json"].1).unwrap();
    let of_manifest = &index["manifests"][0];
    assert_eq!(of_manifest["digest"].as_str().unwrap(), written);
    assert_eq!(
        of_manifest["annotations"]["io.containerd.image.name"],
        "registry.example/conjur-operator:1.2.3"
    );
    let manifest: Value = serde_json::from_slice(&blob(of_manifest)).unwrap();
    let config: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/conjur-operator"]));
    assert_eq!(config["config"]["Labels"]["org.opencontainers.image.version"], "1.2.3");
    assert_eq!(config["created"], "2023-11-14T22:13:20Z");
    let mut layer = vec![];
    GzDecoder::new(&blob(&manifest["layers"][0])[..]).read_to_end(&mut layer).unwrap();
    let unpacked = format!("sha256:{}", hex::encode(digest(&SHA256, &layer)));
    assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!([unpacked]));
}

#[test]
fn it_holds_the_program_and_what_that_needs_and_no_shell() {
    let rootfs = Rootfs::of_program(&program(), "conjur-operator").unwrap();
    let mut left: Vec<&str> = rootfs.paths().collect();
    let library = |path: &&str| path.contains(".so");
    assert!(left.iter().any(|path| path.contains("libc.so")), "{left:?}");
    left.retain(|path| !library(path));
    assert_eq!(
        left,
        [
            "conjur-operator",
            "etc/group",
            "etc/nsswitch.conf",
            "etc/passwd",
            "etc/ssl/certs/ca-certificates.crt"
        ]
    );
}

/// What can be seen of the released program alone.
#[test]
fn the_release_runs_alone_and_says_what_it_is_made_of_and_not_where() {
    let Some(program) = release() else { return };
    let rootfs = Rootfs::of_program(&program, "conjur-operator").unwrap();
    let bom = bill_of_materials(&program, &rootfs.libraries).unwrap();
    let components = bom["components"].as_array().unwrap();
    let names: Vec<&str> = components.iter().map(|one| one["name"].as_str().unwrap()).collect();
    for expected in ["kube", "rustls", "aws-lc-rs"] {
        assert!(names.contains(&expected), "{expected} is missing in {names:?}");
    }
    let refs: Vec<&str> = components.iter().map(|one| one["bom-ref"].as_str().unwrap()).collect();
    let mut unique = refs.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), refs.len(), "no two components have the same reference");

    let bytes = std::fs::read(&program).unwrap();
    for place in [
        std::env::var("HOME").unwrap() + "/.cargo",
        env!("CARGO_MANIFEST_DIR").replace("/release/image", "/src"),
    ] {
        let found = bytes.windows(place.len()).any(|window| window == place.as_bytes());
        assert!(!found, "{} tells of {place}", program.display());
    }
    run_alone(&rootfs);
}

/// In a root that has nothing but the image's files. Only root may choose one.
fn run_alone(rootfs: &Rootfs) {
    let folder = tempfile::tempdir().unwrap();
    rootfs.write(folder.path()).unwrap();
    let mut chroot = Command::new("/usr/sbin/chroot");
    chroot.arg("--userspec=65532:65532").arg(folder.path()).args(["/conjur-operator", "--version"]);
    let output = chroot.env_clear().output().unwrap();
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if complained.contains("Operation not permitted") {
        // Not root, so not seen here.
        return;
    }
    assert_eq!(said.trim(), format!("conjur-operator {}", env!("CARGO_PKG_VERSION")), "{complained}");
}
