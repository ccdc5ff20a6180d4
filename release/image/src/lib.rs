//! A container image from files of this machine, as an archive in the OCI image layout. The same input gives the same
//! bytes. The specification: <https://github.com/opencontainers/image-spec>.

mod rootfs;
mod sbom;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::Context as _;
use aws_lc_rs::digest::{SHA256, digest as hash};
use flate2::{Compression, GzBuilder};
use jiff::Timestamp;
use serde_json::{Value, json};

pub use anyhow::{Error, Result};
pub use rootfs::Rootfs;
pub use sbom::bill_of_materials;

/// Who the operator runs as, and its group: an account that no distribution uses.
const USER: &str = "65532:65532";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An image before it is written.
#[derive(Debug)]
pub struct Image {
    /// The one layer.
    pub rootfs: Rootfs,
    /// The name that a container engine gives it when it imports the archive: `localhost/conjur-operator:test`.
    pub name: String,
    /// The program that is run.
    pub entrypoint: String,
    /// Environment variables, `NAME=VALUE`.
    pub env: Vec<String>,
    /// Labels of the image, `org.opencontainers.image.…`.
    pub labels: BTreeMap<String, String>,
    /// When it was made; that of the commit, so that it is the same whenever it is made.
    pub created: Timestamp,
    /// How hard to compress; quickly for what never travels.
    pub compression: Compression,
}

impl Image {
    /// The operator's: its program, what that needs, and certificates.
    ///
    /// # Errors
    /// A file that is not there, and a library that is not found.
    pub fn of_operator(program: &Path, name: &str) -> Result<Self> {
        Ok(Self {
            rootfs: Rootfs::of_program(program, "conjur-operator")?,
            env: vec!["PATH=/".to_owned(), format!("SSL_CERT_FILE=/{}", rootfs::CERTIFICATES)],
            ..Self::with("/conjur-operator", name)
        })
    }

    /// One program that needs no library.
    ///
    /// # Errors
    /// A file that can't be read.
    pub fn of_file(program: &Path, name: &str) -> Result<Self> {
        let file = program
            .file_name()
            .and_then(|name| name.to_str())
            .context("a program's path ends with its name")?;
        let mut rootfs = Rootfs::default();
        rootfs.add_file(program, file, 0o755)?;
        Ok(Self { rootfs, ..Self::with(&format!("/{file}"), name) })
    }

    fn with(entrypoint: &str, name: &str) -> Self {
        Self {
            rootfs: Rootfs::default(),
            name: name.to_owned(),
            entrypoint: entrypoint.to_owned(),
            env: vec!["PATH=/".to_owned()],
            labels: BTreeMap::new(),
            created: Timestamp::UNIX_EPOCH,
            compression: Compression::none(),
        }
    }

    /// Writes the archive, and gives the digest of the image's manifest: `sha256:…`.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn write(&self, archive: &Path) -> Result<String> {
        let mut blobs = Blobs::default();
        let tar = self.rootfs.tar()?;
        let mut packed = GzBuilder::new().write(Vec::new(), self.compression);
        packed.write_all(&tar)?;
        let layer = blobs.add(packed.finish()?, LAYER);
        let config = json!({
            "created": self.created.to_string(),
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "User": USER,
                "Env": self.env,
                "Entrypoint": [self.entrypoint],
                "WorkingDir": "/",
                "Labels": self.labels,
            },
            "rootfs": {"type": "layers", "diff_ids": [digest(&tar)]},
            "history": [{"created": self.created.to_string(), "created_by": "operator-image"}],
        });
        let config = blobs.add(config.to_string().into_bytes(), CONFIG);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer],
            "annotations": self.labels,
        });
        let mut manifest = blobs.add(manifest.to_string().into_bytes(), MANIFEST);
        let of_manifest = manifest["digest"].as_str().unwrap_or_default().to_owned();
        manifest["platform"] = json!({"architecture": architecture(), "os": "linux"});
        manifest["annotations"] = json!({
            "io.containerd.image.name": self.name,
            "org.opencontainers.image.ref.name": self.name.rsplit_once(':').map_or("latest", |(_, tag)| tag),
        });
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]});

        let file =
            std::fs::File::create(archive).with_context(|| format!("writing {}", archive.display()))?;
        let mut out = tar::Builder::new(std::io::BufWriter::new(file));
        rootfs::append_file(&mut out, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
        rootfs::append_file(&mut out, "index.json", index.to_string().as_bytes(), 0o644)?;
        for (sha, content) in &blobs.0 {
            rootfs::append_file(&mut out, &format!("blobs/sha256/{sha}"), content, 0o644)?;
        }
        out.into_inner()?.flush()?;
        Ok(of_manifest)
    }
}

/// The architecture of what is built here, in the words of Go, which images use.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Contents by the SHA-256 of each.
#[derive(Default)]
struct Blobs(BTreeMap<String, Vec<u8>>);

impl Blobs {
    /// Adds one, and gives its descriptor.
    fn add(&mut self, content: Vec<u8>, media_type: &str) -> Value {
        let digest = digest(&content);
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": content.len()});
        self.0.insert(digest.trim_start_matches("sha256:").to_owned(), content);
        descriptor
    }
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex::encode(hash(&SHA256, content)))
}
