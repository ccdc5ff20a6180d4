//! A real node in namespaces of its own, where this machine lets it be: kubelet, containerd and Pods beside the control
//! plane, without Docker and without a registry. `node/outside.sh` and `node/inside.sh` are how.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Node as KubernetesNode;
use kube::api::Api;
use serde_json::json;

use crate::control_plane::{self, Backing, ControlPlane, Files};
use crate::pki::Authority;
use crate::process::{Folder, Process, Program};
use crate::{Result, programs};

/// All from 198.18.0.0/15, which is for tests: the link between this machine and the node, Pods and Services.
const HOST: &str = "198.18.53.1";
const NODE: &str = "198.18.53.2";
const PODS: &str = "198.18.54.0/24";
const SERVICES: &str = "198.18.55.0/24";
/// The Service `kubernetes`: the first address of [`SERVICES`].
const API: &str = "198.18.55.1";
const NAME: &str = "conjur-node";
/// Up to five minutes for another node to go, then ten seconds.
const START: Duration = Duration::from_secs(420);

/// The image that holds a Pod's namespaces, and does nothing: any container may run it.
pub const PAUSE_IMAGE: &str = "localhost/pause:1";

impl ControlPlane {
    /// What this machine lacks for a node, in a sentence; nothing where it can have one.
    pub async fn lacks_for_a_node() -> Option<String> {
        if let Err(error) = may_have_one() {
            return Some(format!("{error:#}"));
        }
        programs::node().await.err().map(|error| format!("{error:#}"))
    }

    /// Starts a control plane with a node that runs Pods, some ten seconds. `images` are OCI archives that the node has.
    /// Only one is up at a time on a machine; a second waits for the first to end.
    pub async fn start_with_node(images: &[PathBuf]) -> Result<Self> {
        may_have_one()?;
        let programs = programs::node().await?;
        let folder = Arc::new(Folder::new()?);
        let authority = Authority::new("testbed Kubernetes")?;
        let files = write_files(&folder, &authority)?;
        let kubeconfig =
            |token: &str| control_plane::kubeconfig(&url(), &authority.certificate(), token).to_string();
        folder.write("kubeconfig", kubeconfig(&files.admin_token))?;
        for (user, token) in &files.components {
            folder.write(&format!("{user}.kubeconfig"), kubeconfig(token))?;
        }
        for (name, args) in programs_args(&files) {
            folder.write(&format!("args/{name}"), args.join("\n"))?;
        }
        take_images(&folder, &programs, images)?;
        let status = std::process::Command::new("mkfifo").arg(folder.path().join("orders")).status();
        if !status.is_ok_and(|status| status.success()) {
            bail!("mkfifo failed in {}", folder.path().display());
        }
        let bin = std::fs::canonicalize(programs.join("bin")).context("the programs of a node")?;
        let process = Process::start(&folder, &program(&folder, &bin, &programs.join("usr")))?;
        let backing = Backing::Node(process);
        let cluster = Self::assemble(backing, folder, bin, url(), authority.certificate(), files.admin_token);
        cluster.until_ready().await?;
        Ok(cluster)
    }

    /// Whether Pods run here.
    pub fn runs_pods(&self) -> bool {
        matches!(self.backing, Backing::Node(_))
    }

    /// The address by which Pods reach programs of this machine.
    pub fn host_address(&self) -> &'static str {
        if self.runs_pods() { HOST } else { "127.0.0.1" }
    }

    /// Runs a program within the node: in its processes, mounts and network.
    pub async fn in_node(&self, command: &[&str]) -> Result<String> {
        let pid = std::fs::read_to_string(self.folder().path().join("node.pid")).context("no node is up")?;
        let mut args = vec!["--target", pid.trim(), "--pid", "--mount", "--net", "--cgroup"];
        args.extend(command);
        self.run(Path::new("nsenter"), &args, "").await
    }

    /// Tells the node's PID 1 to `stop` (as a crash would) or `start` one of its programs.
    pub(crate) fn order(&self, order: &str, program: &str) -> Result<()> {
        use std::io::Write as _;
        let pipe = self.folder().path().join("orders");
        let mut pipe =
            std::fs::OpenOptions::new().append(true).open(pipe).context("the node's pipe for orders")?;
        writeln!(pipe, "{order} {program}").context("ordering the node")
    }

    /// Ready, and without the taint that a node has until the controllers have seen that it is.
    async fn until_ready(&self) -> Result<()> {
        let Backing::Node(process) = &self.backing else { return Ok(()) };
        let nodes: Api<KubernetesNode> = Api::all(self.client().await?);
        let ready = async || {
            let node = tokio::time::timeout(Duration::from_secs(2), nodes.get(NAME)).await;
            node.is_ok_and(|node| node.is_ok_and(|node| is_ready(&node)))
        };
        let outcome = process.ready(START, ready).await;
        outcome.with_context(|| last_words(self.folder()))
    }
}

fn is_ready(node: &KubernetesNode) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    taints.is_empty() && conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True")
}

/// The end of each program's log, for who has to find out why there is no node.
fn last_words(folder: &Folder) -> String {
    let of = |name: &str| {
        let log = folder.path().join("logs").join(format!("{name}.log"));
        let log = std::fs::read_to_string(log).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(3).collect();
        format!("  {name}: {}", last.into_iter().rev().collect::<Vec<_>>().join("\n    "))
    };
    let said = ["containerd", "kube-apiserver", "kubelet", "import"].map(of).join("\n");
    format!("the node is not ready; its programs said last:\n{said}")
}

/// Root, namespaces and control groups as the scripts need them.
fn may_have_one() -> Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("a node needs Linux");
    }
    let works = |program: &str, args: &[&str]| {
        let command = std::process::Command::new(program).args(args).output();
        command.is_ok_and(|output| output.status.success())
    };
    for (program, package) in
        [("unshare", "util-linux"), ("ip", "iproute2"), ("nsenter", "util-linux"), ("flock", "util-linux")]
    {
        if !works(program, &["--version"]) && !works(program, &["-V"]) {
            bail!("a node needs the program {program} (package {package})");
        }
    }
    if !works("id", &["-u"]) || !works("sh", &["-c", "[ \"$(id -u)\" = 0 ]"]) {
        bail!("a node needs root");
    }
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        bail!("a node needs control groups of version 1, and this machine has version 2 alone");
    }
    if !works("sh", &["-c", "d=/sys/fs/cgroup/memory/conjur-node-try && mkdir $d && rmdir $d"]) {
        bail!("a node needs control groups that can be written to");
    }
    let namespaces =
        ["--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup", "--fork", "--kill-child", "true"];
    if !works("unshare", &namespaces) {
        bail!("a node needs namespaces, and `unshare {}` fails", namespaces.join(" "));
    }
    Ok(())
}

fn url() -> String {
    format!("https://{NODE}:443")
}

/// The files of any control plane, and what a node needs beside them.
fn write_files(folder: &Folder, authority: &Authority) -> Result<Files> {
    for part in ["args", "images", "containerd", "kubelet", "pods", "etcd", "cni"] {
        std::fs::create_dir(folder.path().join(part)).with_context(|| format!("making the folder {part}"))?;
    }
    let names =
        ["127.0.0.1", NODE, API, "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
    let components = [
        ("kubelet", format!("system:node:{NAME}"), "system:nodes"),
        ("controller-manager", "system:kube-controller-manager".to_owned(), ""),
        ("scheduler", "system:kube-scheduler".to_owned(), ""),
    ];
    let files = Files::write(folder, authority, &names, &components)?;
    folder.write("ca.crt", authority.certificate())?;
    let client = authority.issue_member("kube-apiserver-kubelet-client", "system:masters")?;
    folder.write("kubelet-client.crt", client.certificate)?;
    folder.write("kubelet-client.key", client.key)?;
    folder.write("resolv.conf", "")?;
    folder.write("kubelet.yaml", kubelet_configuration(folder).to_string())?;
    folder.write("cni/10-pods.conflist", network().to_string())?;
    folder.write("outside.sh", include_str!("node/outside.sh"))?;
    folder.write("inside.sh", include_str!("node/inside.sh"))?;
    Ok(files)
}

fn kubelet_configuration(folder: &Folder) -> serde_json::Value {
    let never = json!({
        "memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%",
    });
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": false,
        "cgroupDriver": "cgroupfs",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        // A lower one needs CAP_SYS_RESOURCE, which root may lack.
        "oomScoreAdj": 0,
        "failSwapOn": false,
        "resolvConf": folder.path().join("resolv.conf"),
        "authentication": {
            "anonymous": {"enabled": false}, "webhook": {"enabled": true},
            "x509": {"clientCAFile": folder.path().join("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "imageGCHighThresholdPercent": 100,
        "evictionHard": never,
        "nodeStatusUpdateFrequency": "5s",
        "shutdownGracePeriod": "0s",
    })
}

fn network() -> serde_json::Value {
    json!({"cniVersion": "0.4.0", "name": "pods", "plugins": [{
        "type": "ptp", "ipMasq": false, "mtu": 1400,
        "ipam": {
            "type": "host-local", "dataDir": "/run/cni-ipam",
            "ranges": [[{"subnet": PODS}]], "routes": [{"dst": "0.0.0.0/0"}],
        },
    }]})
}

fn containerd_configuration(folder: &Path, runtime: &Path) -> String {
    format!(
        r#"version = 2
root = "{folder}/containerd"
state = "/run/containerd"
oom_score = 0
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "/run/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # A Pod's pause would get -998, which needs CAP_SYS_RESOURCE.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{runtime}/lib/cni"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "{runtime}/sbin/runc"
        SystemdCgroup = false
"#,
        folder = folder.display(),
        runtime = runtime.display(),
    )
}

/// Each program's arguments, as `inside.sh` starts them.
fn programs_args(files: &Files) -> Vec<(&'static str, Vec<String>)> {
    let of = |name: &str| files.path(&format!("{name}.kubeconfig"));
    let etcd = [
        format!("--data-dir={}", files.path("etcd")),
        "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
        "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
        "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    let mut api_server = control_plane::api_server_args(files, 2379);
    api_server.extend([
        "--secure-port=443".to_owned(),
        format!("--advertise-address={NODE}"),
        format!("--client-ca-file={}", files.path("ca.crt")),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        format!("--service-cluster-ip-range={SERVICES}"),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        format!("--kubelet-client-certificate={}", files.path("kubelet-client.crt")),
        format!("--kubelet-client-key={}", files.path("kubelet-client.key")),
    ]);
    let by = |name: &str| {
        let file = of(name);
        [
            format!("--kubeconfig={file}"),
            format!("--authentication-kubeconfig={file}"),
            format!("--authorization-kubeconfig={file}"),
            "--leader-elect=false".to_owned(),
        ]
    };
    let mut controllers = by("controller-manager").to_vec();
    controllers.extend([
        format!("--service-account-private-key-file={}", files.path("sa.key")),
        format!("--root-ca-file={}", files.path("ca.crt")),
        "--use-service-account-credentials".to_owned(),
        "--controllers=*,-nodeipam".to_owned(),
    ]);
    let kubelet = [
        format!("--kubeconfig={}", of("kubelet")),
        format!("--config={}", files.path("kubelet.yaml")),
        format!("--node-ip={NODE}"),
        format!("--cert-dir={}", files.path("kubelet/pki")),
        format!("--hostname-override={NAME}"),
    ];
    vec![
        ("containerd", vec!["--config".to_owned(), files.path("containerd.toml")]),
        ("etcd", etcd.to_vec()),
        ("kube-apiserver", api_server),
        ("kube-controller-manager", controllers),
        ("kube-scheduler", by("scheduler").to_vec()),
        ("kubelet", kubelet.to_vec()),
    ]
}

/// What the node imports when it starts, the pause image among them.
fn take_images(folder: &Folder, programs: &Path, images: &[PathBuf]) -> Result<()> {
    folder.write("containerd.toml", containerd_configuration(folder.path(), &programs.join("usr")))?;
    let pause = operator_image::Image::of_file(&programs.join("pause"), PAUSE_IMAGE)?;
    pause.write(&folder.path().join("images/pause.tar"))?;
    for (number, image) in images.iter().enumerate() {
        let to = folder.path().join(format!("images/{number}.tar"));
        std::fs::copy(image, to).with_context(|| format!("the image {}", image.display()))?;
    }
    Ok(())
}

fn program(folder: &Folder, programs: &Path, runtime: &Path) -> Program {
    let path = |path: &Path| path.display().to_string();
    let env =
        [("HOST_IP", HOST), ("NODE_IP", NODE), ("POD_NET", PODS), ("SERVICE_NET", SERVICES), ("API_IP", API)];
    Program {
        name: "node".to_owned(),
        path: "/bin/bash".into(),
        args: vec![
            path(&folder.path().join("outside.sh")),
            path(folder.path()),
            path(programs),
            path(runtime),
        ],
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        last_signal: "TERM",
    }
}
