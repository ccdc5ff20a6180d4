//! The arguments.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use conjur_operator_api::GoDuration;

/// See and steer what conjur-operator keeps in step: why an object is not Ready, what a policy would change, who uses a variable.
#[derive(Parser, Debug)]
#[command(name = "kubectl-conjur", bin_name = "kubectl conjur", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// How it looks.
    #[command(flatten)]
    pub look: LookArgs,
}

/// Which cluster, and as whom.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterArgs {
    /// Namespace; that of the kubeconfig's context where it is left out
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
    /// Context of the kubeconfig
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// Path of the kubeconfig
    #[arg(long, global = true)]
    pub kubeconfig: Option<PathBuf>,
    /// User to act as
    #[arg(long = "as", value_name = "USER", global = true)]
    pub as_user: Option<String>,
    /// Group to act as, once for each
    #[arg(long = "as-group", value_name = "GROUP", global = true)]
    pub as_groups: Vec<String>,
}

/// How it looks.
#[derive(Args, Debug, Clone, Copy)]
#[command(next_help_heading = "Output")]
pub struct LookArgs {
    /// Form of the output; text where it is left out
    #[arg(short, long, value_name = "FORM", global = true)]
    pub output: Option<Form>,
    /// Colours
    #[arg(long, value_name = "WHEN", default_value = "auto", global = true)]
    pub color: Color,
}

/// A form of the output.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One JSON document
    Json,
    /// One YAML document
    Yaml,
    /// Names alone, as kubectl takes them
    Name,
    /// Text whose last column is not cut
    Wide,
}

/// When there are colours.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Color {
    pub(crate) fn apply(self) {
        match self {
            // `NO_COLOR` and a dumb terminal are looked at there.
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
        }
        .write_global();
    }
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// List objects of all kinds with their state
    Get(GetArgs),
    /// Say why an object is not Ready, or whether a variable can be read, and what to do
    Explain(ExplainArgs),
    /// Try the way to Conjur step by step, and say what is in the way
    Doctor(DoctorArgs),
    /// Show what a policy would change in Conjur; exits with 1 where it would change something
    Diff(DiffArgs),
    /// Check manifests and policy documents without a cluster and without Conjur
    Lint(LintArgs),
    /// Have objects looked at now
    Sync(SyncArgs),
    /// Stop objects from being read, written and repaired
    Suspend(ObjectsArgs),
    /// Let suspended objects go on
    Resume(ObjectsArgs),
    /// Rotate the API key of a ConjurHost now
    Rotate(RotateArgs),
    /// Show the way of a variable: the objects that use it, their Secrets, the workloads that mount them
    Tree(TreeArgs),
    /// Show the Events of objects
    Events(EventsArgs),
    /// Come from External Secrets Operator or the Secrets Provider: print manifests, or hand Secrets over
    Migrate(MigrateArgs),
    /// Print a script for completion by the shell
    Completion {
        /// The shell
        shell: Shell,
    },
    /// Write man pages into a folder
    Man {
        /// The folder
        folder: PathBuf,
    },
    /// What kubectl is to offer behind these words
    #[command(name = "__complete", hide = true)]
    Complete {
        /// What is typed, of which the last is not done
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

/// Arguments of `get`.
#[derive(Args, Debug)]
pub struct GetArgs {
    /// Objects (`cjs/db`), kinds (`cjs`) or names; all where none is given
    #[arg(value_name = "OBJECT")]
    pub objects: Vec<String>,
    /// In all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Only those that are not Ready
    #[arg(long)]
    pub not_ready: bool,
}

/// Arguments of `explain`.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// The object, as in `cjs/db`; all of the namespace that are not Ready where it is left out
    #[arg(conflicts_with = "variable")]
    pub object: Option<String>,
    /// A variable, instead of an object
    #[arg(long, value_name = "ID")]
    pub variable: Option<String>,
    /// With `--variable`: the connection to ask through, as in `cjc/conjur`; the namespace's only one where it is left out
    #[arg(long, value_name = "CONNECTION", requires = "variable")]
    pub connection: Option<String>,
}

/// Arguments of `doctor`.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// The connection, as in `conjur` or `ccjc/shared`; the namespace's only one where it is left out
    #[arg(value_name = "CONNECTION")]
    pub connection: Option<String>,
    /// By the environment instead of a connection: `CONJUR_APPLIANCE_URL`, `CONJUR_ACCOUNT`, `CONJUR_AUTHN_LOGIN`,
    /// `CONJUR_AUTHN_API_KEY`, `CONJUR_CERT_FILE`, or `CYBERARK_API_BASE`, `CYBERARK_ACCOUNT`, `CYBERARK_USERNAME`,
    /// `CYBERARK_API_KEY`
    #[arg(long, conflicts_with = "connection")]
    pub env: bool,
    /// The variable to read; nothing of its value is shown
    #[arg(long, value_name = "ID")]
    pub variable: Option<String>,
    /// A variable whose own value is written again
    #[arg(long, value_name = "ID")]
    pub write: Option<String>,
}

/// Arguments of `diff`.
#[derive(Args, Debug)]
pub struct DiffArgs {
    /// The ConjurPolicy, as in `p` or `cjp/p`
    #[arg(value_name = "POLICY", required_unless_present = "file", conflicts_with = "file")]
    pub policy: Option<String>,
    /// A manifest of a ConjurPolicy, instead of one that is in the cluster; `-` is the standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Arguments of `lint`.
#[derive(Args, Debug)]
pub struct LintArgs {
    /// Files and folders, for each; `-` is the standard input
    #[arg(short, long = "file", value_name = "PATH", required = true)]
    pub files: Vec<PathBuf>,
    /// Report as SARIF, for code scanning
    #[arg(long)]
    pub sarif: bool,
}

/// Arguments of `migrate`.
#[derive(Args, Debug)]
pub struct MigrateArgs {
    /// Files and folders with the old manifests, for each; without any, what is in the namespace
    #[arg(short, long = "file", value_name = "PATH", conflicts_with_all = ["apply", "undo"])]
    pub files: Vec<PathBuf>,
    /// The connection to use where an object's own can't be translated, as in `cjc/conjur`
    #[arg(long, value_name = "CONNECTION", conflicts_with = "undo")]
    pub connection: Option<String>,
    /// Hand over the Secrets that ExternalSecrets of the namespace write: the same Secrets, keys and values
    #[arg(long)]
    pub apply: bool,
    /// Give the Secrets back that were handed over
    #[arg(long, conflicts_with = "apply")]
    pub undo: bool,
    /// How long to wait, at each step
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub timeout: Duration,
}

/// Objects, one or more.
#[derive(Args, Debug)]
pub struct ObjectsArgs {
    /// The objects, as in `cjs/db`
    #[arg(required = true, value_name = "OBJECT")]
    pub objects: Vec<String>,
}

/// Arguments of `sync`.
#[derive(Args, Debug)]
pub struct SyncArgs {
    /// The objects, as in `cjs/db`
    #[arg(value_name = "OBJECT", required_unless_present_any = ["all", "connection"])]
    pub objects: Vec<String>,
    /// All objects of the namespace but connections
    #[arg(long, conflicts_with_all = ["objects", "connection"])]
    pub all: bool,
    /// All objects of the namespace that use this connection, as in `cjc/conjur`
    #[arg(long, value_name = "CONNECTION", conflicts_with = "objects")]
    pub connection: Option<String>,
    /// Do not wait until it is done
    #[arg(long)]
    pub no_wait: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub timeout: Duration,
}

/// Arguments of `rotate`.
#[derive(Args, Debug)]
pub struct RotateArgs {
    /// The ConjurHost, as in `web` or `cjh/web`
    pub host: String,
    /// Do not wait until it is done
    #[arg(long)]
    pub no_wait: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub timeout: Duration,
}

/// Arguments of `tree`.
#[derive(Args, Debug)]
pub struct TreeArgs {
    /// A variable's id, an object (`cjs/db`), or `secret/NAME`, `deployment/NAME`, `statefulset/NAME`, `daemonset/NAME`
    pub of: String,
    /// In all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
}

/// Arguments of `events`.
#[derive(Args, Debug)]
pub struct EventsArgs {
    /// The objects, as in `cjs/db`; all of the namespace where none is given
    #[arg(value_name = "OBJECT")]
    pub objects: Vec<String>,
    /// In all namespaces
    #[arg(short = 'A', long, conflicts_with = "objects")]
    pub all_namespaces: bool,
    /// Go on with those that come, until it is interrupted
    #[arg(short, long)]
    pub watch: bool,
}

/// A shell.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "their names say it")]
pub enum Shell {
    Bash,
    Fish,
    Powershell,
    Zsh,
}

fn duration(text: &str) -> Result<Duration, String> {
    GoDuration::parse(text).map(|duration| duration.get()).map_err(|error| error.to_string())
}
