//! The whole thing once, on this machine: `make demo`. With KEEP=1 it leaves it running; `demo stop` ends that.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to a person")]

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use testbed::process::Folder;
use testbed::{
    Chart, ControlPlane, DevConjur, Error, Operator, OperatorOptions, PAUSE_IMAGE, Release, Result,
    chart_folder, operator_image, repository, wait_for,
};

const NAMESPACE: &str = "billing";
/// The ConjurHost of the examples, and its Secret.
const HOST: &str = "billing-web";
const PASSWORD: &str = "apps/billing/db/password";
const GENERATED: &str = "apps/billing/generated/session-key";

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match std::env::args().nth(1).as_deref() {
        None => demo().await,
        Some("stop") => stop_kept().await,
        Some(other) => Err(Error::msg(format!("`{other}`? Say `demo` or `demo stop`"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> Result<()> {
    let keep = std::env::var("KEEP").is_ok_and(|keep| !keep.is_empty() && keep != "0");
    let started = Instant::now();
    let outcome = tokio::select! {
        outcome = run(keep) => outcome,
        name = interrupted() => Err(Error::msg(format!("ended by {name}; what was started ends with this"))),
    };
    if outcome.is_ok() && !keep {
        println!("\nDone in {} s. Nothing is left behind.", started.elapsed().as_secs());
    }
    outcome
}

/// The name of the signal that tells us to end. The processes go with this one, whatever it does.
async fn interrupted() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => tokio::select! {
            _ = interrupt.recv() => "Ctrl-C",
            _ = terminate.recv() => "SIGTERM",
        },
        _ => std::future::pending().await,
    }
}

/// What the demo is about, while it runs. Where there is a node, the operator is a Pod, which no process here holds.
struct Running {
    conjur: DevConjur,
    operator: Option<Operator>,
    release: Release,
}

async fn run(keep: bool) -> Result<()> {
    let cluster = start_cluster().await?;
    let folder = cluster.folder().clone();
    let outcome = show(&cluster).await;
    match outcome {
        Ok(running) if keep => leave_running(&cluster, &running),
        Ok(running) => {
            if let Some(operator) = running.operator {
                operator.terminate().await?;
            }
            drop(running.conjur);
            cluster.stop().await
        }
        Err(error) => {
            drop(cluster);
            folder.remove().await?;
            Err(error)
        }
    }
}

/// With a node that runs Pods where this machine can have one, and else with the API server alone.
async fn start_cluster() -> Result<ControlPlane> {
    if let Some(lacking) = ControlPlane::lacks_for_a_node().await {
        println!(
            "  --  No node that runs Pods: {lacking}.\n      The operator is a process of this machine."
        );
        let what = "A Kubernetes control plane: etcd, API server, controller manager";
        return step(what, ControlPlane::start()).await;
    }
    let folder = Folder::new()?;
    let program = binary("conjur-operator")?;
    let image = step("The operator's image", operator_image(&program, &chart_folder(), &folder)).await?;
    let what = "A Kubernetes node in namespaces of its own: control plane, kubelet, containerd";
    let cluster = step(what, ControlPlane::start_with_node(&[image])).await?;
    folder.remove().await?;
    Ok(cluster)
}

/// What there is to see, in order.
async fn show(cluster: &ControlPlane) -> Result<Running> {
    let dev = binary("conjur-dev")?;
    let conjur = DevConjur::start_at(cluster.host_address(), dev, cluster.folder(), "myorg");
    let conjur =
        step("A development Conjur over HTTPS, with a certificate authority of its own", conjur).await?;
    let chart = Chart::default();
    let (release, operator) = if cluster.runs_pods() {
        let install = cluster.install_chart(&chart);
        (step("helm install --wait: the operator's Pod is ready", install).await?, None)
    } else {
        let release = step("The chart, installed with Helm", cluster.install_chart(&chart)).await?;
        let options = OperatorOptions::under(&release);
        let operator = Operator::start(binary("conjur-operator")?, cluster, options);
        let operator = step("The operator, a process under the chart's ServiceAccount", operator).await?;
        (release, Some(operator))
    };
    let running = Running { conjur, operator, release };
    if let Err(error) = tell(cluster, &running).await {
        let log = match &running.operator {
            Some(operator) => operator.log_tail(20),
            None => pod_log(cluster, &running.release).await,
        };
        return Err(error.context(format!("the operator logged last:\n{log}\n")));
    }
    Ok(running)
}

async fn pod_log(cluster: &ControlPlane, release: &Release) -> String {
    let deployment = format!("deployment/{}", release.name);
    let args = ["logs", &deployment, "--namespace", &release.namespace, "--tail", "20"];
    cluster.kubectl(&args).await.unwrap_or_else(|error| error.to_string())
}

/// The Pods of a namespace, as a table.
async fn show_pods(cluster: &ControlPlane, namespace: &str) -> Result<()> {
    say_command(&format!("kubectl get pods --namespace {namespace}"));
    print_indented(&cluster.kubectl(&["get", "pods", "--namespace", namespace]).await?);
    Ok(())
}

/// The name of the application's Pod, once one alone is ready.
async fn application_pod(cluster: &ControlPlane) -> Result<String> {
    let status = ["rollout", "status", "deployment/billing", "--namespace", NAMESPACE, "--timeout=60s"];
    cluster.kubectl(&status).await?;
    let only = ["get", "pods", "--namespace", NAMESPACE, "--selector", "app=billing", "--output", "name"];
    wait_for("one Pod of the application is left", Duration::from_secs(60), async || {
        let names = cluster.kubectl(&only).await.ok()?;
        let mut names = names.lines();
        names.next().filter(|_| names.next().is_none()).map(str::to_owned)
    })
    .await
}

async fn tell(cluster: &ControlPlane, Running { conjur, release, .. }: &Running) -> Result<()> {
    if cluster.runs_pods() {
        show_pods(cluster, &release.namespace).await?;
        println!();
    }
    let api_key =
        step("Conjur's admin makes the team's branch and its identity", make_identity(conjur)).await?;
    step("A namespace, with the identity's API key in a Secret", prepare(cluster, conjur, &api_key)).await?;
    step("kubectl apply -f examples/", apply_examples(cluster, conjur.url())).await?;
    let policy = "conjurpolicy/billing";
    step("The policy is loaded; it has made the variables", until_ready(cluster, policy, &[])).await?;
    step("What was made in the cluster is kept in Conjur, in a variable that was made for it", async {
        until_ready(cluster, "conjurpush/billing-generated", &[]).await?;
        conjur.get(GENERATED).await.map(drop)
    })
    .await?;
    step("Conjur's admin gives the variables values", async {
        conjur.set("apps/billing/db/username", "billing").await?;
        conjur.set(PASSWORD, "a-first-password").await
    })
    .await?;
    let all = until_ready(cluster, "conjursecret/billing-db", &["conjurconnection/conjur"]);
    step("The Secret is there: all is Ready", all).await?;

    say_command("kubectl get conjur --namespace billing    (without the group in the names)");
    print_indented(&without_group(&cluster.kubectl(&["get", "conjur", "--namespace", NAMESPACE]).await?));
    show_secret(cluster).await?;

    let pod = if cluster.runs_pods() {
        Some(step("The application's Pod runs with it", application_pod(cluster)).await?)
    } else {
        None
    };

    println!("\nConjur's admin changes the password.");
    conjur.set(PASSWORD, "a-second-password").await?;
    let follows = until_password(cluster, "a-second-password");
    step("The Secret follows at the next refresh (refreshInterval is 10 s)", follows).await?;
    show_secret(cluster).await?;

    if let Some(former) = pod {
        let replaced = wait_for("another Pod", Duration::from_secs(60), async || {
            application_pod(cluster).await.ok().filter(|pod| *pod != former)
        });
        step("The application's Pod is replaced by one that has the new password", replaced).await?;
        show_pods(cluster, NAMESPACE).await?;
    }

    println!("\nThe Secret is deleted by hand.");
    cluster.kubectl(&["delete", "secret", "billing-db", "--namespace", NAMESPACE]).await?;
    step("It comes back", until_password(cluster, "a-second-password")).await?;
    show_secret(cluster).await?;

    let keys =
        cluster.kubectl(&["get", "secret", "billing-roles", "--namespace", NAMESPACE, "-o", "json"]).await?;
    let (login, key) = (
        read_key(&keys, "host.apps_2fbilling_2fweb.login")?,
        read_key(&keys, "host.apps_2fbilling_2fweb.api-key")?,
    );
    step("The host that the policy made gets into Conjur with the key in its Secret", async {
        if conjur.lets_in(&login, &key).await? {
            return Ok(());
        }
        Err(Error::msg(format!("Conjur refuses {login} with the key in the Secret billing-roles")))
    })
    .await?;
    step("The identity that a ConjurHost keeps gets another key, and the former one is dead", async {
        let (login, former) = host_key(cluster).await?;
        let now = "conjur-operator.io/rotate-now=now";
        cluster.kubectl(&["annotate", "conjurhost", HOST, "--namespace", NAMESPACE, now]).await?;
        let key = wait_for("the Secret has another key", Duration::from_secs(60), async || {
            host_key(cluster).await.ok().map(|(_, key)| key).filter(|key| *key != former)
        })
        .await?;
        let (new, old) = (conjur.lets_in(&login, &key).await?, conjur.lets_in(&login, &former).await?);
        if new && !old {
            return Ok(());
        }
        Err(Error::msg(format!("Conjur lets {login} in with the new key: {new}, with the former one: {old}")))
    })
    .await
}

/// The login and the API key that the ConjurHost of the examples keeps.
async fn host_key(cluster: &ControlPlane) -> Result<(String, String)> {
    until_ready(cluster, &format!("conjurhost/{HOST}"), &[]).await?;
    let keys = cluster.kubectl(&["get", "secret", HOST, "--namespace", NAMESPACE, "-o", "json"]).await?;
    Ok((read_key(&keys, "login")?, read_key(&keys, "api-key")?))
}

/// Loads the root policy of the examples and gives the API key of the host that it makes.
async fn make_identity(conjur: &DevConjur) -> Result<String> {
    let policy = std::fs::read_to_string(example("conjur/root-policy.yml"))?;
    let loaded = conjur.load_policy("root", &policy).await?;
    let role = format!("{}:host:apps/billing", conjur.account());
    let key = loaded["created_roles"][&role]["api_key"].as_str();
    key.map(str::to_owned).ok_or_else(|| Error::msg(format!("Conjur made no {role}: {loaded}")))
}

async fn prepare(cluster: &ControlPlane, conjur: &DevConjur, api_key: &str) -> Result<()> {
    cluster.kubectl(&["create", "namespace", NAMESPACE]).await?;
    let objects = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conjur-ca", "namespace": NAMESPACE},
            "data": {"ca.crt": conjur.authority()}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "conjur-api-key", "namespace": NAMESPACE},
            "stringData": {"api-key": api_key}},
    ]});
    cluster.apply(&objects.to_string()).await.map(drop)
}

/// Applies the examples as they are, with the address of the demo's Conjur for theirs.
async fn apply_examples(cluster: &ControlPlane, url: &str) -> Result<()> {
    for name in ["conjurconnection", "conjurhost", "conjurpolicy", "conjurpush", "conjursecret", "deployment"]
    {
        let manifest = std::fs::read_to_string(example(&format!("{name}.yaml")))?;
        let manifest = manifest.replace("https://conjur.example.com", url);
        cluster.apply(&manifest.replace("registry.k8s.io/pause:3.10", PAUSE_IMAGE)).await?;
    }
    Ok(())
}

async fn until_ready(cluster: &ControlPlane, object: &str, others: &[&str]) -> Result<()> {
    let mut args = vec!["wait", "--for=condition=Ready", "--timeout=60s", "--namespace", NAMESPACE, object];
    args.extend(others);
    if let Err(error) = cluster.kubectl(&args).await {
        let yaml = cluster
            .kubectl(&["get", object, "--namespace", NAMESPACE, "-o", "yaml"])
            .await
            .unwrap_or_default();
        return Err(error.context(yaml));
    }
    Ok(())
}

async fn until_password(cluster: &ControlPlane, expected: &str) -> Result<()> {
    let what = format!("the Secret {NAMESPACE}/billing-db has the new password");
    wait_for(&what, Duration::from_secs(60), async || {
        let secret =
            cluster.kubectl(&["get", "secret", "billing-db", "--namespace", NAMESPACE, "-o", "json"]).await;
        (read_key(&secret.ok()?, "password").ok()? == expected).then_some(())
    })
    .await
}

/// What is shown is the demo's own.
async fn show_secret(cluster: &ControlPlane) -> Result<()> {
    const TEMPLATE: &str = "{{range $k, $v := .data}}{{$k}}: {{$v | base64decode}}{{\"\\n\"}}{{end}}";
    say_command("kubectl get secret billing-db --namespace billing, decoded");
    let template = format!("go-template={TEMPLATE}");
    print_indented(
        &cluster.kubectl(&["get", "secret", "billing-db", "--namespace", NAMESPACE, "-o", &template]).await?,
    );
    Ok(())
}

/// A table of kubectl's with shorter names, so that it fits a terminal.
fn without_group(table: &str) -> String {
    const GROUP: &str = ".conjur-operator.io";
    let (cut, gap) = (table.replace(GROUP, ""), " ".repeat(GROUP.len()));
    let narrow =
        |line: &str| if line.starts_with("NAME") { line.replacen(&gap, "", 1) } else { line.to_owned() };
    cut.lines().map(narrow).collect::<Vec<_>>().join("\n")
}

fn read_key(secret: &str, key: &str) -> Result<String> {
    let secret: k8s_openapi::api::core::v1::Secret = serde_json::from_str(secret)?;
    let value = secret.data.unwrap_or_default().remove(key);
    let value = value.ok_or_else(|| Error::msg(format!("the Secret has no key {key}")))?;
    Ok(String::from_utf8(value.0)?)
}

fn leave_running(cluster: &ControlPlane, running: &Running) -> Result<()> {
    let Running { conjur, operator, release } = running;
    let folder = cluster.folder().path().to_owned();
    cluster.folder().keep()?;
    remember_kept(&folder)?;
    let folder = folder.display();
    println!("\nIt goes on running. To reach it:");
    println!("  export KUBECONFIG={folder}/kubeconfig");
    println!("  PATH={}:$PATH", cluster.programs().display());
    println!("  kubectl get conjur --all-namespaces");
    println!("Conjur:  {}, account {}, login admin", conjur.url(), conjur.account());
    println!("         its CA: {folder}/conjur-ca.crt");
    println!("         admin's API key: adminKey in {folder}/conjur-ready.json");
    if let Some(operator) = operator {
        println!("Metrics: http://{}/metrics", operator.metrics_addr());
    } else {
        let Release { name, namespace, .. } = release;
        println!("Its log: kubectl logs deployment/{name} --namespace {namespace}");
        println!("Metrics: kubectl port-forward deployment/{name} 8080 --namespace {namespace}");
    }
    println!("Logs:    {folder}/logs");
    println!("To end it:  make demo-stop");
    Ok(())
}

/// Where the folders of demos that were left running are written down.
fn kept_file() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("CONJUR_OPERATOR_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("conjur-operator")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/conjur-operator")));
    let cache = cache.ok_or_else(|| Error::msg("HOME is not set; set it, or CONJUR_OPERATOR_CACHE"))?;
    std::fs::create_dir_all(&cache)?;
    Ok(cache.join("kept-demos"))
}

fn remember_kept(folder: &Path) -> Result<()> {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(kept_file()?)?;
    Ok(writeln!(file, "{}", folder.display())?)
}

async fn stop_kept() -> Result<()> {
    let file = kept_file()?;
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    if kept.is_empty() {
        println!("No demo was left running.");
    }
    for folder in kept.lines().map(Path::new) {
        step(&format!("Ending the demo in {}", folder.display()), Folder::end_kept(folder)).await?;
    }
    match std::fs::remove_file(&file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Says what goes on, with the seconds so far on a terminal, and how long it took.
async fn step<T>(what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let started = Instant::now();
    let terminal = std::io::stdout().is_terminal();
    let mut work = std::pin::pin!(work);
    let outcome = loop {
        if terminal {
            print!("\r  ..  {what} ({} s)", started.elapsed().as_secs());
            std::io::stdout().flush()?;
        }
        if let Ok(outcome) = tokio::time::timeout(Duration::from_secs(1), &mut work).await {
            break outcome;
        }
    };
    let mark = if outcome.is_ok() { "ok" } else { "!!" };
    let start = if terminal { "\r" } else { "" };
    println!("{start}  {mark}  {what} ({:.1} s)", started.elapsed().as_secs_f32());
    outcome
}

fn say_command(command: &str) {
    println!("\n  $ {command}");
}

fn print_indented(text: &str) {
    for line in text.lines() {
        println!("  {}", line.trim_end());
    }
}

fn example(name: &str) -> PathBuf {
    repository().join("examples").join(name)
}

/// The binary of another package of this workspace, built beside this one.
fn binary(name: &str) -> Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(name))
}
