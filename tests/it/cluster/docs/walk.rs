//! Pages that are walked from their top to their end, as a new reader walks them: each manifest is applied, and becomes what the page
//! says; each command is run, with what stands for Conjur's own CLI.

use std::process::Stdio;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use conjur_dev::Options;
use testbed::{pki::Authority, wait_for};
use tokio::io::AsyncWriteExt as _;

use super::super::{
    Bench, SOON,
    login::{tls, with},
    test,
};
use super::{Example, becomes, example};

const QUICK_START: &str = include_str!("../../../../docs/quickstart.md");
const USE_CASES: &str = include_str!("../../../../docs/use-cases.md");
const OPERATIONS: &str = include_str!("../../../../docs/operations.md");
const REASONS: &str = include_str!("../../../../docs/reasons.md");
const ROOT: &str = include_str!("../../../../examples/conjur/root-policy.yml");
const CONNECTION: &str = include_str!("../../../../examples/conjurconnection.yaml");

pub(super) enum Step {
    /// A policy that people load.
    Policy(&'static str),
    Manifest(Example),
    Command(String),
}

/// The part of a page below a heading of the second level.
pub(super) fn section<'p>(page: &'p str, heading: &str) -> &'p str {
    let (_, rest) = page.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    rest.split("\n## ").next().unwrap_or(rest)
}

/// A page whose blocks within lists begin at the left, as do the comments behind them.
pub(super) fn flat(page: &str) -> &'static str {
    let (mut text, mut indent, mut is_block) = (String::new(), 0, false);
    for line in page.lines() {
        let bare = line.trim_start();
        if bare.starts_with("```") {
            is_block = !is_block;
            indent = line.len() - bare.len();
            text += bare;
        } else if is_block {
            text += line.get(indent..).unwrap_or_default();
        } else {
            text += if bare.starts_with("<!-- ") { bare } else { line };
        }
        text += "\n";
    }
    text.leak()
}

/// What a page has its reader do, in its order.
pub(super) fn steps(page: &'static str) -> Vec<Step> {
    let (mut steps, mut at, mut block) = (Vec::new(), 0, None);
    let mut continues = false;
    for line in page.split_inclusive('\n') {
        let start = at;
        at += line.len();
        match block {
            Some((language, from)) if line == "```\n" => {
                block = None;
                match language {
                    "yaml" => steps.push(Step::Manifest(example(&page[from..]))),
                    "yml" => steps.push(Step::Policy(&page[from..start])),
                    "text" => {}
                    other => panic!("what is done with a block of {other:?}?"),
                }
            }
            None if line.starts_with("```") => block = Some((line[3..].trim(), at)),
            None if continues || is_command(line) => {
                let text = line.trim();
                match steps.last_mut() {
                    Some(Step::Command(command)) if continues => *command += text,
                    _ => steps.push(Step::Command(text.to_owned())),
                }
                continues = text.ends_with('\\');
                if let (true, Some(Step::Command(command))) = (continues, steps.last_mut()) {
                    command.pop();
                }
            }
            Some(_) | None => {}
        }
    }
    steps
}

/// Whether a line is indented as code, and begins with a program that readers have.
fn is_command(line: &str) -> bool {
    let program = line.trim_start().split(' ').next().unwrap_or_default();
    line.starts_with("    ") && ["kubectl", "helm", "conjur"].contains(&program)
}

/// Who walks, and what they have.
pub(super) struct Walk {
    /// Of the page's own namespace.
    pub(super) bench: Bench,
    pub(super) folder: tempfile::TempDir,
    /// What is pasted: the API key that the load of the root policy gave.
    pub(super) key: String,
    /// The policy that the page showed last.
    pub(super) policy: &'static str,
}

impl Walk {
    /// With a Conjur that is reached as the pages say: by TLS, with the account of the pages.
    async fn begin(bench: &Bench, namespace: &str) -> Self {
        Self::begin_with(bench, namespace, Options::default()).await
    }

    /// The same, where the server has further options.
    pub(super) async fn begin_with(bench: &Bench, namespace: &str, options: Options) -> Self {
        let authority = Authority::new("the authority of Conjur").unwrap();
        let options = Options { account: "myorg".to_owned(), tls: Some(tls(&authority)), ..options };
        let walk = Self::of(Bench { namespace: namespace.to_owned(), ..with(bench, options).await });
        std::fs::write(walk.folder.path().join("conjur-ca.pem"), authority.certificate()).unwrap();
        walk
    }

    /// With the Conjur and the namespace of a bench.
    pub(super) fn of(bench: Bench) -> Self {
        Self { bench, folder: tempfile::tempdir().unwrap(), key: String::new(), policy: "" }
    }

    pub(super) async fn load(&mut self, policy: &'static str) {
        if let Some(key) = self.bench.root(policy).await.into_values().next() {
            self.key = key;
        }
    }

    pub(super) async fn apply(&self, manifest: &str) -> Result<String, String> {
        let url = format!("url: {}", self.bench.conjur.url());
        self.bench.try_apply(&manifest.replace("url: https://conjur.example.com", &url)).await
    }

    pub(super) async fn step(&mut self, step: &Step) -> String {
        match step {
            Step::Policy(policy) => self.policy = policy,
            Step::Manifest(example) => {
                self.apply(example.manifest).await.unwrap();
                if let Some(wrong) = becomes(&self.bench, example).await {
                    panic!("{wrong}");
                }
            }
            Step::Command(command) if command.starts_with("conjur ") => self.conjur(command).await,
            Step::Command(command) if command.starts_with("helm ") => self.helm(command).await,
            Step::Command(command) => {
                return self.shell(command).await.unwrap_or_else(|said| panic!("{command}: {said}"));
            }
        }
        String::new()
    }

    /// Does what Conjur's CLI would do.
    async fn conjur(&mut self, command: &str) {
        let words: Vec<&str> = command.split(' ').collect();
        match words[1..] {
            ["policy", "load", "--branch", "root", "--file", _] => self.load(self.policy).await,
            ["variable", "set", "--id", id, "--value", ..] if id.starts_with("conjur/authn-") => {
                let (_, value) = command.split_once(" --value ").unwrap();
                let value = self.shell(&format!("printf %s {value}")).await.unwrap();
                assert!(self.bench.conjur.set_variable(id, value.as_bytes()), "no variable {id}");
            }
            ["authenticator", "enable", "--id", service] => self.enable(service).await,
            ["variable", "set", "--id", id, "--value", ..] => drop(self.bench.set(id)),
            _ => panic!("what does Conjur's CLI do at: {command}"),
        }
    }

    /// Enables an authenticator as Conjur's administrator.
    async fn enable(&self, service: &str) {
        let conjur = &self.bench.conjur;
        let authority = std::fs::read(self.folder.path().join("conjur-ca.pem")).unwrap();
        let authority = reqwest::Certificate::from_pem(&authority).unwrap();
        let http = reqwest::Client::builder().tls_certs_only([authority]).no_proxy().build().unwrap();
        let (url, account) = (conjur.url(), conjur.account());
        let login = http.post(format!("{url}/authn/{account}/admin/authenticate")).body(conjur.admin_key());
        let token = login.send().await.unwrap().error_for_status().unwrap().bytes().await.unwrap();
        let answer = http
            .patch(format!("{url}/{service}/{account}"))
            .header("Authorization", format!("Token token=\"{}\"", STANDARD.encode(token)))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body("enabled=true");
        answer.send().await.unwrap().error_for_status().unwrap();
    }

    /// The chart is installed already; that it takes what the page gives it is seen without a cluster.
    async fn helm(&self, command: &str) {
        let chart = testbed::chart_folder().display().to_string();
        let words = command.strip_prefix("helm upgrade ").expect("an upgrade").split_whitespace();
        let others = ["--install", "--wait", "--create-namespace", "--reset-then-reuse-values"];
        let words = words.filter(|word| !others.contains(word)).map(|word| word.trim_matches('\''));
        let is_chart = |word: &str| word == "CHART" || word.starts_with("oci://");
        let words = words.map(|word| if is_chart(word) { chart.as_str() } else { word });
        let args: Vec<&str> = std::iter::once("template").chain(words).collect();
        let rendered = self.bench.world.plane.helm(&args).await.unwrap();
        assert!(rendered.contains("kind: Deployment"), "{rendered}");
        let requests = command.contains("serviceAccountNames");
        assert_eq!(rendered.contains("serviceaccounts/token"), requests, "{command}");
    }

    /// Runs a command in a shell, with the reader's rights, and the API key on its standard input.
    pub(super) async fn shell(&self, command: &str) -> Result<String, String> {
        let plane = self.bench.world.plane;
        let mut path = vec![plane.programs().to_owned()];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let mut child = tokio::process::Command::new("bash")
            .args(["-c", &format!("set -o pipefail; {command}")])
            .current_dir(self.folder.path())
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("KUBECONFIG", plane.kubeconfig())
            .env("HOME", self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let key = format!("{}\n", self.key);
        // A command that does not read it closes it.
        let write = async move { drop(stdin.write_all(key.as_bytes()).await) };
        let ((), output) = tokio::join!(write, child.wait_with_output());
        let output = output.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

#[test]
fn the_quick_start_is_walked_by_the_page_alone() {
    test(|bench| async move {
        let mut walk = Walk::begin(&bench, "quickstart").await;
        let (mut looked, mut ran) = (0, 0);
        for step in steps(QUICK_START) {
            match &step {
                // The Secret follows in a moment.
                Step::Command(command) if command.contains("base64 -d") => {
                    let value = walk.bench.conjur.variable("quickstart/db/password").unwrap();
                    let look =
                        || async { walk.shell(command).await.ok().filter(|said| said.as_bytes() == value) };
                    wait_for(command, SOON, look).await.unwrap();
                    looked += 1;
                }
                _ => drop(walk.step(&step).await),
            }
            ran += usize::from(matches!(step, Step::Command(_)));
        }
        assert!(looked == 3 && ran > 14, "{looked} of {ran} commands");
        assert!(
            !walk.bench.conjur.exists("variable", "quickstart/db/password"),
            "the policy's variables stay"
        );
        walk.bench.conjur.stop().await;
    });
}

/// The variable of the last section, as the first cluster left it.
const OF_THE_FIRST_CLUSTER: &str = "- !variable
  id: generated/session-key
  annotations:
    conjur-operator.io/owner: 0b9c6a2e-6f0e-4d7a-9a35-5d3c1f6f2a11/billing/ConjurPush/billing-generated
    conjur-operator.io/created: \"true\"
";

/// Gives values to the variables that the page's policy made.
fn fill(bench: &Bench) {
    let identity =
        Authority::new("an authority of web servers").unwrap().issue(&["billing.example.com"]).unwrap();
    for (name, value) in [("certificate", &identity.certificate), ("private-key", &identity.key)] {
        assert!(bench.conjur.set_variable(&format!("apps/billing/tls/{name}"), value.as_bytes()));
    }
    bench.keep_secret(identity.key);
    for name in ["registry/username", "registry/password", "db/username", "db/password"] {
        bench.set(&format!("apps/billing/{name}"));
    }
}

/// What the page takes for granted: a namespace with the connection of the examples.
async fn begin_use_cases(bench: &Bench) -> Walk {
    let mut walk = Walk::begin(bench, "billing").await;
    walk.load(ROOT).await;
    walk.shell("kubectl create namespace billing").await.unwrap();
    credentials(&walk, "billing", "conjur-api-key").await;
    walk.apply(CONNECTION).await.unwrap();
    walk
}

/// The key and the authority in a namespace.
async fn credentials(walk: &Walk, namespace: &str, secret: &str) {
    for command in [
        format!("kubectl create configmap conjur-ca -n {namespace} --from-file ca.crt=conjur-ca.pem"),
        format!("kubectl create secret generic {secret} -n {namespace} --from-file api-key=/dev/stdin"),
    ] {
        walk.shell(&command).await.unwrap();
    }
}

#[test]
fn every_use_case_becomes_what_the_page_says() {
    test(|bench| async move {
        let mut walk = begin_use_cases(&bench).await;
        let conjur = walk.bench.conjur.clone();
        let mut applied = 0;
        for step in steps(USE_CASES) {
            match &step {
                Step::Policy(policy) => {
                    walk.load(policy).await;
                    credentials(&walk, "conjur-system", "conjur-platform").await;
                }
                Step::Manifest(example) if example.name == "billing-tls" => fill(&walk.bench),
                Step::Manifest(example) if example.name == "billing-generated" => {
                    conjur.load("apps/billing", OF_THE_FIRST_CLUSTER).await.unwrap();
                    walk.bench.set("apps/billing/generated/session-key");
                }
                _ => {}
            }
            applied += usize::from(matches!(step, Step::Manifest(_)));
            let key = walk.bench.data("billing-worker").await;
            walk.step(&step).await;
            if matches!(&step, Step::Command(command) if command.contains("rotate-now")) {
                let look = || async { (walk.bench.data("billing-worker").await != key).then_some(()) };
                wait_for("another key", SOON, look).await.unwrap();
            }
        }
        assert!(applied > 9, "{applied} manifests");
        let pull = walk.bench.data("registry").await.unwrap();
        let pull: serde_json::Value = serde_json::from_str(&pull[".dockerconfigjson"]).unwrap();
        let password = conjur.variable("apps/billing/registry/password").unwrap();
        assert_eq!(pull["auths"]["registry.example.com"]["password"].as_str().unwrap().as_bytes(), password);
        let look = || async {
            let value = conjur.variable("apps/billing/generated/session-key")?;
            (value == b"made-in-the-cluster").then_some(())
        };
        wait_for("what the first cluster pushed is pushed from here", SOON, look).await.unwrap();
        the_secrets_to_back_up_are_listed(&mut walk).await;
        every_command_between_words_is_one(&walk).await;
        walk.bench.nothing_leaked().await;
        for command in [
            "kubectl delete clusterconjurconnection corp",
            "kubectl delete configmap/conjur-ca secret/conjur-platform -n conjur-system",
            "kubectl delete namespace billing --wait=false",
        ] {
            walk.shell(command).await.unwrap();
        }
        conjur.stop().await;
    });
}

/// The command of the page of operations, and what it says of its list.
async fn the_secrets_to_back_up_are_listed(walk: &mut Walk) {
    let is_it = |step: &Step| matches!(step, Step::Command(command) if command.contains("managed=true"));
    let command = steps(OPERATIONS).into_iter().find(is_it).unwrap();
    let listed = walk.step(&command).await;
    for owned in ["billing-worker ConjurHost/billing-worker", "billing-tls ConjurSecret/billing-tls"] {
        let there = listed
            .lines()
            .any(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") == format!("billing {owned}"));
        assert!(there, "{owned}: {listed}");
    }
}

/// What the placeholders of commands stand for among the objects of the use cases.
const OBJECTS: [(&str, &str); 9] = [
    ("KIND/NAME", "conjursecret/billing-db"),
    ("KIND NAME", "conjursecret billing-db"),
    ("clusterconjurconnection NAME", "clusterconjurconnection corp"),
    ("conjurconnection NAME", "conjurconnection conjur"),
    ("conjurpolicy NAME", "conjurpolicy billing-plan"),
    ("conjursecret NAME", "conjursecret billing-db"),
    ("secret NAME", "secret billing-tls"),
    ("inventory.NAME", "inventory.billing"),
    ("NAMESPACE", "billing"),
];

/// Commands of kubectl that stand in the text of pages, and not in lines of their own.
async fn every_command_between_words_is_one(walk: &Walk) {
    let spans = [REASONS, OPERATIONS].into_iter().flat_map(|page| page.split('`').skip(1).step_by(2));
    let commands = spans.map(|span| span.split_whitespace().collect::<Vec<_>>().join(" "));
    let commands: std::collections::BTreeSet<String> =
        commands.filter(|span| span.starts_with("kubectl ") && span.matches(' ').count() > 2).collect();
    let mut ran = 0;
    for command in &commands {
        let here = OBJECTS.iter().fold(command.clone(), |text, (from, to)| text.replace(from, to));
        // No Pod runs here.
        if here.starts_with("kubectl logs ") {
            continue;
        }
        // What it is piped into is the reader's own.
        let here = here.split(" | ").next().unwrap();
        match walk.shell(here).await {
            Ok(_) => ran += 1,
            // None of the use cases has one.
            Err(said) => {
                let is_none = here.contains("inventory.") && said.contains("NotFound");
                assert!(is_none, "{command}: {said}");
            }
        }
    }
    assert!(ran > 15, "{ran} commands: {commands:?}");
}
