//! What the release workflow does with images and the chart, done with a registry on loopback: pushed, pulled, signed with a
//! throw-away key, verified, installed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod archive;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use operator_image::Image;
use serde_json::Value;
use testbed::{
    ControlPlane, cosign, crane, helm,
    process::{Folder, Process, Program, free_port},
    repository,
};

use archive::{archive, digest};

/// A registry, a folder in the place of `target`, and a key, for one test.
struct Publisher {
    registry: String,
    version: String,
    folder: Folder,
    crane: PathBuf,
    cosign: PathBuf,
    helm: PathBuf,
    _process: Process,
}

impl Publisher {
    async fn start() -> Self {
        let (folder, port) = (Folder::new().unwrap(), free_port().unwrap());
        let (crane, cosign, helm) = (crane().await.unwrap(), cosign().await.unwrap(), helm().await.unwrap());
        let registry = format!("127.0.0.1:{port}");
        let process = Process::start(
            &folder,
            &Program {
                name: "registry".into(),
                path: crane.clone(),
                args: ["registry", "serve", "--address", &registry].map(str::to_owned).into(),
                env: Vec::new(),
                last_signal: "KILL",
            },
        )
        .unwrap();
        let listens = || async { tokio::net::TcpStream::connect(&registry).await.is_ok() };
        process.ready(Duration::from_secs(30), listens).await.unwrap();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { registry, version, folder, crane, cosign, helm, _process: process }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command in the repository, with a home of its own: the credentials and caches of this machine stay out of it.
    fn run(&self, program: &Path, args: &[&str], env: &[(&str, &str)]) -> Output {
        let mut command = Command::new(program);
        command.args(args).current_dir(repository());
        command.env("HOME", self.path("home")).env("RELEASE_OUT", self.folder.path());
        command.env("IMAGE", format!("{}/conjur-operator", self.registry));
        command.env("CHARTS", format!("{}/charts", self.registry));
        for (name, path) in [("CRANE", &self.crane), ("COSIGN", &self.cosign), ("HELM", &self.helm)] {
            command.env(name, path);
        }
        // `make` finds Helm by the script, whose cache is that of the user.
        command.env("CONJUR_OPERATOR_CACHE", self.helm.ancestors().nth(2).unwrap());
        command.env("COSIGN_PASSWORD", "throw-away").envs(env.iter().copied()).output().unwrap()
    }

    /// The output of one that must succeed.
    fn done(&self, program: impl AsRef<Path>, args: &[&str], env: &[(&str, &str)]) -> String {
        let output = self.run(program.as_ref(), args, env);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{} {args:?}:\n{out}{err}", program.as_ref().display());
        out.into_owned()
    }

    fn make(&self, targets: &[&str], env: &[(&str, &str)]) -> String {
        self.done("make", &[&["--silent"], targets].concat(), env)
    }

    /// What a script of `release/` says where it refuses something.
    fn refused(&self, script: &str, args: &[&str], env: &[(&str, &str)]) -> String {
        let output = self.run(&repository().join("release").join(script), args, env);
        assert!(!output.status.success(), "{script} {args:?} was not refused");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// The archive of an image as `make image` leaves it, with its SBOM, and the digest of its manifest.
    fn image(&self, arch: &str, content: &str) -> String {
        fs::create_dir_all(self.path("image")).unwrap();
        let name = format!("image/conjur-operator-{}-{arch}", self.version);
        let path = self.path(&format!("{name}.oci.tar"));
        // As `make image` writes it, where it can.
        let digest = if arch == operator_image::architecture() {
            let program = self.path("program");
            fs::write(&program, content).unwrap();
            Image::of_file(&program, "localhost/conjur-operator:test").unwrap().write(&path).unwrap()
        } else {
            archive(&path, arch, content)
        };
        let sbom = r#"{"bomFormat":"CycloneDX","specVersion":"1.5","version":1,"components":[]}"#;
        fs::write(self.path(&format!("{name}.cdx.json")), sbom).unwrap();
        digest
    }

    /// A pair of keys; the private and the public one.
    fn keys(&self, name: &str) -> (String, String) {
        let prefix = self.path(name).display().to_string();
        self.done(&self.cosign, &["generate-key-pair", "--output-key-prefix", &prefix], &[]);
        (format!("{prefix}.key"), format!("{prefix}.pub"))
    }

    /// The references of what was pushed, by name.
    fn pushed(&self) -> BTreeMap<String, String> {
        let files = fs::read_dir(self.path("release/pushed")).unwrap();
        let text: String =
            files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect::<Vec<_>>().concat();
        let lines = text.lines().map(|line| line.split_once(' ').unwrap());
        lines.map(|(what, reference)| (what.to_owned(), reference.to_owned())).collect()
    }
}

fn digest_of(reference: &str) -> &str {
    reference.split_once('@').unwrap().1
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_is_what_was_built_and_has_the_same_digest_twice() {
    let release = Publisher::start().await;
    let built = [("amd64", release.image("amd64", "one")), ("arm64", release.image("arm64", "two"))];
    release.make(&["image-push", "chart-push"], &[]);
    let pushed = release.pushed();
    assert_eq!(pushed.keys().map(String::as_str).collect::<Vec<_>>(), ["amd64", "arm64", "chart", "index"]);
    for (arch, digest) in &built {
        assert_eq!(digest_of(&pushed[*arch]), digest, "{arch}");
    }

    // The index is what its digest says, and leads each architecture to its image.
    let index = release.done(&release.crane, &["manifest", &pushed["index"]], &[]);
    assert_eq!(digest(index.as_bytes()), digest_of(&pushed["index"]));
    let tag = format!("{}/conjur-operator:{}", release.registry, release.version);
    assert_eq!(release.done(&release.crane, &["digest", &tag], &[]).trim(), digest_of(&pushed["index"]));
    let index: Value = serde_json::from_str(&index).unwrap();
    assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json");
    let listed: Vec<_> = index["manifests"].as_array().unwrap().iter().collect();
    assert_eq!(listed.len(), 2);
    for ((arch, digest), listed) in built.iter().zip(listed) {
        let platform = serde_json::json!({ "os": "linux", "architecture": arch });
        assert_eq!((&listed["platform"], listed["digest"].as_str()), (&platform, Some(digest.as_str())));
        // Pulled for that platform, it is the image that was built, blob by blob.
        let to = release.path(&format!("pulled-{arch}")).display().to_string();
        let platform = format!("linux/{arch}");
        release.done(
            &release.crane,
            &["pull", "--format=oci", "--platform", &platform, &pushed["index"], &to],
            &[],
        );
        let blob =
            |digest: &str| fs::read(Path::new(&to).join("blobs").join(digest.replace(':', "/"))).unwrap();
        let manifest: Value = serde_json::from_slice(&blob(digest)).unwrap();
        let layer = manifest["layers"][0]["digest"].as_str().unwrap();
        assert_eq!(archive::digest(&blob(layer)), layer);
    }

    // The chart comes back byte for byte, and installs from there.
    let (chart, to) = (format!("oci://{}/charts/conjur-operator", release.registry), release.path("pulled"));
    fs::create_dir(&to).unwrap();
    let args = ["pull", &chart, "--version", &release.version, "--plain-http", "--destination"];
    release.done(&release.helm, &[&args[..], &[to.to_str().unwrap()]].concat(), &[]);
    let file = format!("conjur-operator-{}.tgz", release.version);
    let packed = fs::read(release.path("release").join(&file)).unwrap();
    assert!(packed == fs::read(to.join(&file)).unwrap(), "the chart that was pulled is another");

    release.make(&["image-push"], &[]);
    assert_eq!(release.pushed(), pushed);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_hold_what_its_name_says_is_not_pushed() {
    let release = Publisher::start().await;
    release.image("amd64", "one");
    let repository = format!("{}/conjur-operator", release.registry);
    let archive = |name: &str| release.path(&format!("image/{name}.oci.tar")).display().to_string();
    let good = archive(&format!("conjur-operator-{}-amd64", release.version));
    let (wrong, other) = (
        archive(&format!("conjur-operator-{}-arm64", release.version)),
        archive("conjur-operator-9.9.9-amd64"),
    );
    fs::copy(&good, &wrong).unwrap();
    fs::copy(&good, &other).unwrap();
    let told = release.refused("push-image.sh", &[&repository, &release.version, &good, &wrong], &[]);
    assert!(told.contains("holds an image for amd64"), "{told}");
    let told = release.refused("push-image.sh", &[&repository, &release.version, &other], &[]);
    assert!(told.contains("is not named"), "{told}");
    // Neither became the version.
    let tag = format!("{repository}:{}", release.version);
    assert!(!release.run(&release.crane, &["digest", &tag], &[]).status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_stays_as_it_is() {
    let release = Publisher::start().await;
    release.image("amd64", "one");
    release.make(&["image-push", "chart-push"], &[]);
    let pushed = release.pushed();
    // By this name the registry is one as any other.
    let named = release.registry.replace("127.0.0.1", "localhost");
    let (images, charts) = (format!("{named}/conjur-operator"), format!("{named}/charts"));
    let image = format!("image/conjur-operator-{}-amd64.oci.tar", release.version);
    let image = release.path(&image).display().to_string();
    let chart = release.path(&format!("release/conjur-operator-{}.tgz", release.version));
    let chart = chart.display().to_string();

    let told =
        release.done(repository().join("release/push-image.sh"), &[&images, &release.version, &image], &[]);
    assert!(told.contains(digest_of(&pushed["index"])), "{told}");
    let told = release.done(repository().join("release/push-chart.sh"), &[&charts, &chart], &[]);
    assert!(told.contains(digest_of(&pushed["chart"])), "{told}");

    release.image("amd64", "another");
    let told = release.refused("push-image.sh", &[&images, &release.version, &image], &[]);
    assert!(told.contains("is published already"), "{told}");
    let unpacked = release.path("unpacked");
    fs::create_dir(&unpacked).unwrap();
    release.done("tar", &["-xzf", &chart, "-C", unpacked.to_str().unwrap()], &[]);
    fs::write(unpacked.join("conjur-operator/more"), "more").unwrap();
    let source = unpacked.join("conjur-operator").display().to_string();
    release.done(&release.helm, &["package", &source, "--destination", unpacked.to_str().unwrap()], &[]);
    let other = unpacked.join(format!("conjur-operator-{}.tgz", release.version)).display().to_string();
    let told = release.refused("push-chart.sh", &[&charts, &other], &[]);
    assert!(told.contains("is published already"), "{told}");
    for (what, tag) in [("index", &images), ("chart", &format!("{charts}/conjur-operator"))] {
        let stands = release.done(&release.crane, &["digest", &format!("{tag}:{}", release.version)], &[]);
        assert_eq!(stands.trim(), digest_of(&pushed[what]), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_signed_is_verified_and_nothing_else() {
    let release = Publisher::start().await;
    release.image("amd64", "one");
    release.make(&["image-push", "chart-push"], &[]);
    let pushed = release.pushed();
    let (key, public) = release.keys("release");
    let by = [("COSIGN_KEY", key.as_str()), ("COSIGN_PUBLIC_KEY", public.as_str())];
    for reference in pushed.values() {
        let told = release.refused("verify.sh", &[reference], &by);
        assert!(told.contains("no signatures found"), "{told}");
    }
    release.make(&["sign"], &by);
    let told = release.make(&["verify"], &by);
    assert_eq!(told.lines().filter(|line| line.ends_with("is signed")).count(), pushed.len(), "{told}");

    // By another key; by a tag, which may be moved; what has no SBOM.
    let (_, stranger) = release.keys("stranger");
    release.refused("verify.sh", &[&pushed["index"]], &[("COSIGN_PUBLIC_KEY", &stranger)]);
    let tag = format!("{}/conjur-operator:{}", release.registry, release.version);
    for script in ["sign.sh", "verify.sh"] {
        let told = release.refused(script, &[&tag], &by);
        assert!(told.contains("names no digest"), "{told}");
    }
    release.refused("verify.sh", &[&pushed["index"], "sbom"], &by);

    // Another image under the same tag, to which the signature of the good one is moved.
    release.image("amd64", "something else");
    release.make(&["image-push"], &[]);
    let tampered = release.pushed();
    assert_ne!(tampered["amd64"], pushed["amd64"]);
    release.refused("verify.sh", &[&tampered["amd64"]], &by);
    let signature = |of: &str| of.replace("@sha256:", ":sha256-");
    release.done(
        &release.crane,
        &["copy", &signature(&pushed["amd64"]), &signature(&tampered["amd64"])],
        &[],
    );
    release.refused("verify.sh", &[&tampered["amd64"]], &by);
    release.refused("verify.sh", &[&tampered["amd64"], "sbom"], &by);
    release.done(repository().join("release/verify.sh"), &[&pushed["amd64"], "sbom"], &by);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chart_installs_from_a_registry() {
    let release = Publisher::start().await;
    release.make(&["chart-push"], &[]);
    let cluster = ControlPlane::start().await.unwrap();
    let chart = format!("oci://{}/charts/conjur-operator", release.registry);
    let args = ["install", "conjur-operator", &chart, "--version", &release.version, "--plain-http"];
    let args = [&args[..], &["--namespace", "conjur-system", "--create-namespace"]].concat();
    cluster.helm(&args).await.unwrap();
    let image = "jsonpath={.spec.template.spec.containers[0].image}";
    let deployment = ["get", "deployment", "conjur-operator", "--namespace", "conjur-system", "-o", image];
    let image = cluster.kubectl(&deployment).await.unwrap();
    assert!(image.ends_with(&format!("conjur-operator:{}", release.version)), "{image}");
    cluster.stop().await.unwrap();
}
