//! One control plane and one operator for all tests; a namespace and a Conjur for each.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use conjur_dev::{Options, Server};
use serde_json::Value;
use testbed::{Chart, ControlPlane, Operator, OperatorOptions, Release, wait_for};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    sync::OnceCell,
};

pub const SOON: Duration = Duration::from_secs(60);

struct World {
    plane: &'static ControlPlane,
    #[allow(dead_code, reason = "it ends when it goes")]
    operator: Operator,
}

static WORLD: OnceCell<World> = OnceCell::const_new();
static RUNTIME: std::sync::LazyLock<tokio::runtime::Runtime> = std::sync::LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
});
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// A program of this workspace, as it was built for tests.
fn program(name: &str) -> PathBuf {
    // target/debug/deps/plugin-…
    let here = std::env::current_exe().unwrap();
    here.ancestors().nth(2).unwrap().join(name)
}

async fn world() -> &'static World {
    WORLD
        .get_or_init(|| async {
            let plane = ControlPlane::shared().await;
            let release: Release = plane.install_chart(&Chart::default()).await.unwrap();
            let options = OperatorOptions::under(&release);
            let operator = Operator::start(program("conjur-operator"), plane, options).await.unwrap();
            World { plane, operator }
        })
        .await
}

/// What the plugin printed, and its exit code.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// What a machine reads.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts the exit code.
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        self
    }

    /// Asserts that something was said.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        let all = format!("{}\n{}", self.out, self.err);
        // Lines are broken anywhere.
        let flat = all.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(text), "{text:?} is not in\n{all}");
        // Addresses and paths stay whole.
        for line in self.out.lines().filter(|line| !line.contains("http") && !line.starts_with('/')) {
            assert!(line.chars().count() <= 100, "wider than 100 columns: {line}");
        }
        self
    }
}

/// What one test works with.
pub struct Bench {
    pub namespace: String,
    pub conjur: Server,
    world: &'static World,
}

/// Runs a test in a namespace of its own.
pub fn test<F: Future<Output = ()>>(body: impl FnOnce(Bench) -> F) {
    RUNTIME.block_on(async {
        let world = world().await;
        let namespace = format!("plugin-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        world.plane.kubectl(&["create", "namespace", &namespace]).await.unwrap();
        let conjur = Server::start(Options::default()).await.unwrap();
        body(Bench { namespace, conjur, world }).await;
    });
}

impl Bench {
    /// Runs the plugin in the test's namespace.
    pub async fn plugin(&self, args: &[&str]) -> Ran {
        self.plugin_with(args, &[]).await
    }

    /// The same with variables in its environment.
    pub async fn plugin_with(&self, args: &[&str], env: &[(&str, &str)]) -> Ran {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kubectl-conjur"));
        command.args(["--namespace", &self.namespace]);
        command.arg("--kubeconfig").arg(self.world.plane.kubeconfig()).args(args);
        command.envs(env.iter().copied());
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Runs the plugin, and kills it after so long; says whether it was over before.
    pub async fn plugin_killed(&self, args: &[&str], after: Duration) -> bool {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_kubectl-conjur"));
        command.args(args).args(["--namespace", &self.namespace]);
        command.arg("--kubeconfig").arg(self.world.plane.kubeconfig());
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut running = command.spawn().unwrap();
        let over = tokio::time::timeout(after, running.wait()).await;
        running.start_kill().ok();
        running.wait().await.unwrap();
        over.is_ok()
    }

    /// Runs the plugin until a line of its output has this text; what came until then.
    pub async fn plugin_until(
        &self,
        args: &[&str],
        text: &str,
        meanwhile: impl Future<Output = ()>,
    ) -> String {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_kubectl-conjur"));
        command.args(["--namespace", &self.namespace]);
        command.arg("--kubeconfig").arg(self.world.plane.kubeconfig()).args(args);
        command.stdout(std::process::Stdio::piped()).kill_on_drop(true);
        let mut running = command.spawn().unwrap();
        let mut lines = BufReader::new(running.stdout.take().unwrap()).lines();
        meanwhile.await;
        let mut all = String::new();
        let read = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                all += &line;
                all.push('\n');
                if line.contains(text) {
                    return;
                }
            }
            panic!("it ended before it said {text}:\n{all}");
        };
        tokio::time::timeout(SOON, read).await.unwrap();
        all
    }

    pub async fn client(&self) -> kube::Client {
        self.world.plane.client().await.unwrap()
    }

    /// Those of External Secrets Operator, from its Go module.
    pub async fn external_secrets_crds(&self) {
        static APPLIED: OnceCell<()> = OnceCell::const_new();
        let apply = async || {
            let folder = testbed::external_secrets_crds().await.unwrap();
            let folder = folder.to_str().unwrap();
            self.world.plane.kubectl(&["apply", "--server-side", "-f", folder]).await.unwrap();
            let wait = [
                "wait",
                "--for=condition=Established",
                "--timeout=60s",
                "crd",
                "externalsecrets.external-secrets.io",
            ];
            self.world.plane.kubectl(&wait).await.unwrap();
        };
        APPLIED.get_or_init(apply).await;
    }

    /// Applies a manifest in the test's namespace.
    pub async fn apply(&self, yaml: &str) {
        let args = ["apply", "--server-side", "--force-conflicts", "--namespace", &self.namespace, "-f", "-"];
        self.world.plane.kubectl_with(&args, yaml).await.unwrap();
    }

    pub async fn kubectl(&self, args: &[&str]) -> String {
        self.world.plane.kubectl(&[&["--namespace", &self.namespace], args].concat()).await.unwrap()
    }

    /// Waits until an object's Ready condition has this reason.
    pub async fn is(&self, object: &str, reason: &str) {
        let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")].reason}"#;
        let said = || async { (self.kubectl(&["get", object, "-o", path]).await == reason).then_some(()) };
        let waited = wait_for(&format!("{object} is {reason}"), SOON, said).await;
        if let Err(error) = waited {
            panic!("{error:#}\n{}", self.kubectl(&["get", object, "-o", "yaml"]).await);
        }
    }

    /// A host `ops` that owns the branch `apps`, in which there are variables with values; the connection `conjur` that logs in
    /// as the host, Ready.
    pub async fn connected(&self, variables: &[&str]) {
        let body: String = variables.iter().map(|name| format!("  - !variable {name}\n")).collect();
        self.conjur
            .load_root(&format!("- !host ops\n- !policy\n  id: apps\n  owner: !host ops\n  body:\n{body}"))
            .await
            .unwrap();
        for name in variables {
            assert!(self.conjur.set_variable(&format!("apps/{name}"), format!("value-of-{name}").as_bytes()));
        }
        self.connect("conjur", "host/ops").await;
        self.is("cjc/conjur", "Connected").await;
    }

    /// A connection that logs in as a role, with its key in the Secret `<name>-login`.
    pub async fn connect(&self, name: &str, login: &str) {
        let key = self.conjur.api_key_of(login).unwrap();
        let url = self.conjur.url();
        self.apply(&format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}-login}}\nstringData: {{api-key: {key}}}\n---\n\
             apiVersion: conjur-operator.io/v1alpha1\nkind: ConjurConnection\nmetadata: {{name: {name}}}\nspec:\n  url: {url}\n  \
             account: demo\n  auth: {{apiKey: {{login: {login}, apiKeySecretRef: {{name: {name}-login, key: api-key}}}}}}\n"
        ))
        .await;
    }

    /// A ConjurSecret through the connection `conjur`, with keys and variables below `apps/`.
    pub async fn secret(&self, name: &str, data: &[(&str, &str)]) {
        let data: String = data
            .iter()
            .map(|(key, variable)| format!("  - {{key: {key}, variable: apps/{variable}}}\n"))
            .collect();
        self.apply(&format!(
            "apiVersion: conjur-operator.io/v1alpha1\nkind: ConjurSecret\nmetadata: {{name: {name}}}\nspec:\n  \
             connectionRef: {{name: conjur}}\n  data:\n{data}"
        ))
        .await;
    }
}
