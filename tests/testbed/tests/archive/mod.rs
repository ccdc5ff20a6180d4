//! A small image as an OCI archive.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

/// The digest of some bytes, as `sha256:…`.
pub fn digest(bytes: &[u8]) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    format!("sha256:{}", hex::encode(hash.as_ref()))
}

/// Writes an image with one file as an OCI archive, and gives the digest of its manifest.
pub fn archive(path: &Path, arch: &str, content: &str) -> String {
    let layout = PathBuf::from(format!("{}.layout", path.display()));
    let _ = fs::remove_dir_all(&layout);
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    let blob = |bytes: &[u8], media: &str| -> Value {
        let digest = digest(bytes);
        fs::write(layout.join("blobs").join(digest.replace(':', "/")), bytes).unwrap();
        json!({ "mediaType": media, "digest": digest, "size": bytes.len() })
    };
    let json_blob = |value: &Value, kind: &str| {
        blob(value.to_string().as_bytes(), &format!("application/vnd.oci.image.{kind}.v1+json"))
    };
    let file = layout.join("hello");
    fs::write(&file, content).unwrap();
    let layer = blob(&tar(&layout, &["--mtime=@0", "hello"]), "application/vnd.oci.image.layer.v1.tar");
    fs::remove_file(file).unwrap();
    let root = json!({ "type": "layers", "diff_ids": [layer["digest"]] });
    let config = json!({ "architecture": arch, "os": "linux", "config": {}, "rootfs": root });
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": manifest, "config": json_blob(&config, "config"), "layers": [layer],
    });
    let manifest = json_blob(&manifest, "manifest");
    let digest = manifest["digest"].as_str().unwrap().to_owned();
    let index = "application/vnd.oci.image.index.v1+json";
    let index = json!({ "schemaVersion": 2, "mediaType": index, "manifests": [manifest] });
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(path, tar(&layout, &["."])).unwrap();
    fs::remove_dir_all(layout).unwrap();
    digest
}

/// What `tar` makes of files of a folder.
fn tar(folder: &Path, args: &[&str]) -> Vec<u8> {
    let output = Command::new("tar").arg("-C").arg(folder).args(["-cf", "-"]).args(args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}
