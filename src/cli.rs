//! The command line. Every flag of `run` is also an environment variable.

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use clap::ArgAction;
use clap::builder::{
    BoolishValueParser, NonEmptyStringValueParser, PossibleValuesParser, TypedValueParser as _,
};
use tracing::level_filters::LevelFilter;

use crate::api::GoDuration;
use crate::conjur::reach::Pattern;
use crate::heavy;
use crate::leader::{LeaseTiming, TimingError};
use crate::limits::{self, DRAIN};
use crate::plan::install::HookScope;
use crate::plan::scope::{WatchScope, WatchScopeError};
use crate::server::ListenAddress;
use crate::telemetry::{Format, LEVELS};

/// Keeps CyberArk Conjur and a Kubernetes cluster in step.
#[derive(Debug, clap::Parser)]
#[command(name = "conjur-operator", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, clap::Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one, for as long as the process begins")]
pub enum Command {
    /// Run the operator, in a cluster or with a kubeconfig
    Run(RunArgs),
    /// Print the CustomResourceDefinitions as YAML
    Crds,
    /// Apply the connections of a release of the chart, and delete those that it wants no more
    Apply(ApplyArgs),
    /// Fail where an uninstall of the chart would lose objects, or leave some that nothing can let go
    UninstallCheck(UninstallCheckArgs),
    /// Fail where a kind is not served, or a connection of a release of the chart is not Ready
    InstallCheck(InstallCheckArgs),
    /// Answer questions on the standard input, as the operator itself asks them
    #[command(name = heavy::serve::COMMAND, hide = true)]
    HeavyWorker {
        /// How many bytes it may take besides those it starts with
        bytes: usize,
    },
}

#[derive(Debug, Clone, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct RunArgs {
    /// Namespaces to watch and touch, and no others; left out: all
    #[arg(long, env = "CONJUR_OPERATOR_WATCH_NAMESPACE", value_name = "NAMESPACE", value_delimiter = ',')]
    watch_namespace: Vec<String>,

    /// Serve ClusterConjurConnections; with `false` neither these nor Namespaces are read
    #[arg(
        long,
        env = "CONJUR_OPERATOR_CLUSTER_CONNECTIONS",
        default_value_t = true,
        action = ArgAction::Set,
        value_name = "BOOL",
        value_parser = BoolishValueParser::new()
    )]
    cluster_connections: bool,

    /// Act only while holding a Lease; needed with more than one replica
    #[arg(long, env = "CONJUR_OPERATOR_LEADER_ELECT", value_parser = BoolishValueParser::new())]
    pub leader_elect: bool,

    /// Where /metrics is served; `:8080` is every interface
    #[arg(long, env = "CONJUR_OPERATOR_METRICS_ADDR", default_value = ":8080", value_name = "ADDRESS")]
    pub metrics_addr: ListenAddress,

    /// Show each object on /metrics by its name, too; a series for each of them and more
    #[arg(long, env = "CONJUR_OPERATOR_METRICS_OBJECTS", value_parser = BoolishValueParser::new())]
    pub metrics_objects: bool,

    /// Where /healthz and /readyz are served
    #[arg(long, env = "CONJUR_OPERATOR_HEALTH_ADDR", default_value = ":8081", value_name = "ADDRESS")]
    pub health_addr: ListenAddress,

    /// How log lines are written
    #[arg(long, env = "CONJUR_OPERATOR_LOG_FORMAT", value_enum, default_value_t = Format::Json, value_name = "FORMAT")]
    pub log_format: Format,

    /// How much the operator itself logs; its dependencies stay at info
    #[arg(long, env = "CONJUR_OPERATOR_LOG_LEVEL", default_value = "info", value_name = "LEVEL", value_parser = log_level())]
    pub log_level: LevelFilter,

    /// A file that says the level instead, read every few seconds: a ConfigMap's, mounted into the Pod
    #[arg(long, env = "CONJUR_OPERATOR_LOG_LEVEL_FILE", value_name = "PATH")]
    pub log_level_file: Option<PathBuf>,

    /// How many writes to the API server may be in flight
    #[arg(long, env = "CONJUR_OPERATOR_MAX_CONCURRENT", default_value = "32", value_name = "N")]
    pub max_concurrent: NonZeroUsize,

    /// Hosts that connections of namespaces may lead to beyond the default, which denies loopback, link-local and metadata
    /// addresses; networks as 10.0.0.0/8, names as *.corp.example
    #[arg(long, env = "CONJUR_OPERATOR_ALLOW_HOSTS", value_name = "PATTERN|CIDR", value_delimiter = ',')]
    pub allow_hosts: Vec<Pattern>,

    /// Hosts that connections of namespaces may not lead to; this wins over --allow-hosts
    #[arg(long, env = "CONJUR_OPERATOR_DENY_HOSTS", value_name = "PATTERN|CIDR", value_delimiter = ',')]
    pub deny_hosts: Vec<Pattern>,

    /// Whom the tokens of ServiceAccounts may be for that connections of namespaces log in with
    #[arg(
        long,
        env = "CONJUR_OPERATOR_ALLOWED_AUDIENCES",
        value_name = "AUDIENCE",
        value_delimiter = ',',
        default_value = "conjur",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub allowed_audiences: Vec<String>,

    /// Restart workloads for ConjurSecrets that ask for it; `false` where the operator has no right to
    #[arg(
        long,
        env = "CONJUR_OPERATOR_ROLLOUT_RESTART",
        default_value_t = true,
        action = ArgAction::Set,
        value_name = "BOOL",
        value_parser = BoolishValueParser::new()
    )]
    pub rollout_restart: bool,

    /// Namespace of the Lease [default: POD_NAMESPACE, or else the client's own namespace]
    #[arg(long, env = "CONJUR_OPERATOR_LEASE_NAMESPACE", value_name = "NAMESPACE")]
    lease_namespace: Option<String>,

    /// Name of the Lease
    #[arg(
        long,
        env = "CONJUR_OPERATOR_LEASE_NAME",
        default_value = "conjur-operator",
        value_name = "NAME",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub lease_name: String,

    /// How long others wait for a sign of life of the holder before they take the Lease; whole seconds
    #[arg(long, env = "CONJUR_OPERATOR_LEASE_DURATION", default_value = "15s", value_name = "DURATION", value_parser = duration)]
    lease_duration: Duration,

    /// How long the holder tries to renew the Lease before it gives up; shorter than --lease-duration
    #[arg(long, env = "CONJUR_OPERATOR_LEASE_RENEW_DEADLINE", default_value = "10s", value_name = "DURATION", value_parser = duration)]
    lease_renew_deadline: Duration,

    /// How often the Lease is renewed, or asked for
    #[arg(long, env = "CONJUR_OPERATOR_LEASE_RETRY_PERIOD", default_value = "2s", value_name = "DURATION", value_parser = duration)]
    lease_retry_period: Duration,

    /// How long the Lease is kept for a load of policy that is under way when the operator is told to stop; the grace of the
    /// Pod has to be longer
    #[arg(long, env = "CONJUR_OPERATOR_LOAD_GRACE", default_value = "45s", value_name = "DURATION", value_parser = load_grace)]
    pub load_grace: Duration,
}

/// What the chart's hooks run.
#[derive(Debug)]
pub enum Hook {
    /// After an install or upgrade.
    Apply(ApplyArgs),
    /// Before an uninstall.
    UninstallCheck(UninstallCheckArgs),
    /// As a test.
    InstallCheck(InstallCheckArgs),
}

#[derive(Debug, clap::Args)]
pub struct ScopeArgs {
    /// A namespace to look in, of several; without it all of the cluster
    #[arg(long = "namespace", value_name = "NAMESPACE", value_parser = NonEmptyStringValueParser::new())]
    namespaces: Vec<String>,

    /// Look at ClusterConjurConnections, too
    #[arg(
        long,
        default_value_t = true,
        action = ArgAction::Set,
        value_name = "BOOL",
        value_parser = BoolishValueParser::new()
    )]
    cluster_connections: bool,
}

impl From<ScopeArgs> for HookScope {
    fn from(ScopeArgs { namespaces, cluster_connections }: ScopeArgs) -> Self {
        Self { namespaces, cluster_connections }
    }
}

#[derive(Debug, clap::Args)]
pub struct ApplyArgs {
    /// The manifests, as JSON, one after the other
    #[arg(long, value_name = "FILE")]
    pub file: PathBuf,

    /// Whose they are: the value of the label conjur-operator.io/applied-by
    #[arg(long, value_name = "LABEL", value_parser = NonEmptyStringValueParser::new())]
    pub owner: String,

    /// Say what would be done, as the API server answers, and change nothing
    #[arg(long)]
    pub dry_run: bool,

    #[command(flatten)]
    pub scope: ScopeArgs,
}

#[derive(Debug, clap::Args)]
pub struct UninstallCheckArgs {
    /// The CRDs go with the release, and all objects with them
    #[arg(long)]
    pub crds_go: bool,

    #[command(flatten)]
    pub scope: ScopeArgs,
}

#[derive(Debug, clap::Args)]
pub struct InstallCheckArgs {
    /// Whose connections have to be Ready: the value of the label conjur-operator.io/applied-by
    #[arg(long, value_name = "LABEL", value_parser = NonEmptyStringValueParser::new())]
    pub owner: String,

    /// Which these are: the file that `apply` gets; without it there are none
    #[arg(long, value_name = "FILE")]
    pub connections: Option<PathBuf>,

    #[command(flatten)]
    pub scope: ScopeArgs,
}

impl RunArgs {
    /// Which namespaces it watches.
    ///
    /// # Errors
    /// In a sentence, what can't be.
    pub fn scope(&self) -> Result<WatchScope, WatchScopeError> {
        WatchScope::new(&self.watch_namespace, self.cluster_connections)
    }

    /// How long the Lease lasts.
    ///
    /// # Errors
    /// In a sentence, which flags do not go together.
    pub fn lease_timing(&self) -> Result<LeaseTiming, TimingError> {
        LeaseTiming::new(self.lease_duration, self.lease_renew_deadline, self.lease_retry_period)
    }

    /// What is under way when it is told to stop takes at most so long.
    pub fn longest_end(&self) -> Duration {
        self.load_grace.max(DRAIN)
    }

    /// The namespace of the Lease; `own` is the one that the client is at home in.
    pub fn lease_namespace(&self, own: &str) -> String {
        let pod = std::env::var("POD_NAMESPACE").ok();
        self.lease_namespace.clone().or(pod).filter(|name| !name.is_empty()).unwrap_or_else(|| own.to_owned())
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    GoDuration::parse(text).map(|duration| duration.get()).map_err(|error| error.to_string())
}

fn load_grace(text: &str) -> Result<Duration, String> {
    let (grace, most) = (duration(text)?, limits::LOAD_GRACE);
    if grace > most {
        return Err(format!("is at most {} min, which no load outlasts", most.as_secs() / 60));
    }
    Ok(grace)
}

fn log_level() -> impl clap::builder::TypedValueParser<Value = LevelFilter> {
    PossibleValuesParser::new(LEVELS).try_map(|level| level.parse::<LevelFilter>())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    fn run(flags: &[&str]) -> Result<RunArgs, clap::Error> {
        match Cli::try_parse_from(["conjur-operator", "run"].iter().chain(flags))?.command {
            Command::Run(args) => Ok(args),
            other => panic!("`run` was parsed as {other:?}"),
        }
    }

    #[test]
    fn run_without_flags_has_the_documented_defaults() {
        let args = run(&[]).unwrap();
        assert!(!args.leader_elect && !args.metrics_objects);
        assert_eq!(args.metrics_addr, ListenAddress::AllInterfaces(8080));
        assert_eq!(args.health_addr, ListenAddress::AllInterfaces(8081));
        assert_eq!((args.log_format, args.log_level), (Format::Json, LevelFilter::INFO));
        assert_eq!(args.max_concurrent.get(), 32);
        assert_eq!(args.lease_name, "conjur-operator");
        assert!(args.allow_hosts.is_empty() && args.deny_hosts.is_empty());
        assert_eq!(args.allowed_audiences, ["conjur"]);
        assert!(args.rollout_restart);
        assert_eq!(args.scope(), Ok(WatchScope::default()));
        let seconds = Duration::from_secs;
        assert_eq!(args.lease_timing(), LeaseTiming::new(seconds(15), seconds(10), seconds(2)));
        assert_eq!((args.load_grace, args.longest_end()), (seconds(45), seconds(45)));
    }

    #[test]
    fn every_flag_is_taken() {
        let flags = "--leader-elect --metrics-objects --metrics-addr 127.0.0.1:1 --health-addr [::1]:2 --log-format text --log-level trace --log-level-file /etc/level \
                     --max-concurrent 4 --lease-namespace ns --lease-name op --allow-hosts 127.0.0.0/8,::1 \
                     --allow-hosts *.corp.example --deny-hosts 10.0.0.0/8 --allowed-audiences conjur,vault \
                     --rollout-restart false --watch-namespace a,b --watch-namespace c --cluster-connections=false \
                     --lease-duration 30s --lease-renew-deadline 20s --lease-retry-period 500ms --load-grace 2s";
        let args = run(&flags.split_whitespace().collect::<Vec<_>>()).unwrap();
        assert!(args.leader_elect && args.metrics_objects);
        assert_eq!(args.metrics_addr.to_string(), "127.0.0.1:1");
        assert_eq!(args.health_addr.to_string(), "[::1]:2");
        assert_eq!((args.log_format, args.log_level), (Format::Text, LevelFilter::TRACE));
        assert_eq!(args.log_level_file.as_deref(), Some(std::path::Path::new("/etc/level")));
        assert_eq!(args.max_concurrent.get(), 4);
        assert_eq!((args.allow_hosts.len(), args.deny_hosts.len()), (3, 1));
        assert_eq!(args.allowed_audiences, ["conjur", "vault"]);
        assert!(!args.rollout_restart);
        let scope = args.scope().unwrap();
        assert_eq!(
            (scope.parts(), scope.has_cluster_connections()),
            (vec!["a".into(), "b".into(), "c".into()], false)
        );
        let millis = Duration::from_millis;
        assert_eq!(args.lease_timing(), LeaseTiming::new(millis(30_000), millis(20_000), millis(500)));
        assert_eq!((args.load_grace, args.longest_end()), (millis(2_000), DRAIN));
        assert_eq!((args.lease_namespace("own").as_str(), args.lease_name.as_str()), ("ns", "op"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for flags in [
            ["--max-concurrent", "0"],
            ["--metrics-addr", "8080"],
            ["--log-level", "loud"],
            ["--log-level", "off"],
            ["--log-format", "xml"],
            ["--lease-name", ""],
            ["--allow-hosts", "10.0.0.0/33"],
            ["--deny-hosts", "https://x"],
            ["--allowed-audiences", ""],
            ["--rollout-restart", "perhaps"],
            ["--cluster-connections", "perhaps"],
            ["--lease-duration", "15"],
            ["--lease-retry-period", "soon"],
            ["--load-grace", "16m"],
        ] {
            assert!(run(&flags).is_err(), "{flags:?}");
        }
    }

    #[test]
    fn every_flag_is_also_an_environment_variable_of_its_name() {
        let cli = Cli::command();
        let run = cli.find_subcommand("run").unwrap();
        for flag in run.get_arguments().filter(|flag| flag.get_long().is_some_and(|name| name != "help")) {
            let name = flag.get_long().unwrap().to_uppercase().replace('-', "_");
            let expected = format!("CONJUR_OPERATOR_{name}");
            assert_eq!(flag.get_env().and_then(|env| env.to_str()), Some(expected.as_str()));
        }
    }
}
