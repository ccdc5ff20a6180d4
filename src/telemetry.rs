//! What is logged, how, and how much of it.

mod failures;
mod level;
mod lines;
#[cfg(feature = "otel")]
mod traces;

use std::path::PathBuf;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{FilterExt as _, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use self::{failures::Failures, level::LogLevel};

/// The levels that there are.
pub const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// What goes on with the log while the program runs.
#[derive(Clone)]
pub struct Logging {
    failures: Failures,
    level: LogLevel,
    #[cfg(feature = "otel")]
    traces: traces::Traces,
}

impl Logging {
    /// Sends what is still to be sent.
    #[cfg_attr(not(feature = "otel"), allow(clippy::unused_self, reason = "with traces it has some"))]
    pub fn close(&self) {
        #[cfg(feature = "otel")]
        self.traces.close();
    }

    /// Tells of lines that were left out, and follows the file that says the level, where there is one; for ever.
    pub async fn keep(self, level_file: Option<PathBuf>) {
        let follow = async {
            if let Some(file) = level_file {
                self.level.follow(&file).await;
            }
        };
        tokio::join!(self.failures.tell(), follow);
    }
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Json,
    Text,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// It was set up before.
    #[error("the log could not be set up: {0}")]
    Log(#[from] tracing_subscriber::util::TryInitError),
    /// The variables `OTEL_*` say what can't be.
    #[cfg(feature = "otel")]
    #[error("traces could not be set up as the variables OTEL_* say: {0}")]
    Traces(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// The targets of the operator's spans, which are for traces and not for the log. Where no one takes them they cost nothing.
const SPANS: [&str; 2] = ["conjur_operator::trace", "conjur_client::trace"];

/// Logs to standard error from here on, and keeps the values in panics out of it.
///
/// The level is that of the operator's own crate. Dependencies stay at `info` even at `trace`: kube logs response bodies below
/// that, and a Secret is such a body. What is given is to be kept going ([`Logging::keep`]).
pub fn init(format: Format, level: LevelFilter) -> Result<Logging, TelemetryError> {
    let failures = Failures::new();
    #[cfg(feature = "otel")]
    let traces = traces::Traces::from_environment()?;
    let spans = SpanTaker {
        #[cfg(feature = "otel")]
        traces: traces.clone(),
    };
    let (subscriber, level) = subscriber(format, level, failures.clone(), std::io::stderr, &spans);
    subscriber.try_init()?;
    std::panic::set_hook(Box::new(|panic| log_panic(panic.location())));
    Ok(Logging {
        failures,
        level,
        #[cfg(feature = "otel")]
        traces,
    })
}

/// Who takes the spans; in a build without traces no one.
#[derive(Default)]
struct SpanTaker {
    #[cfg(feature = "otel")]
    traces: traces::Traces,
}

impl SpanTaker {
    #[cfg(feature = "otel")]
    fn layer<S>(&self) -> Option<impl tracing_subscriber::Layer<S> + use<S>>
    where
        S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a> + Send + Sync,
    {
        self.traces.layer()
    }

    #[cfg(not(feature = "otel"))]
    #[allow(clippy::unused_self, reason = "with traces it has some")]
    fn layer(&self) -> tracing_subscriber::layer::Identity {
        tracing_subscriber::layer::Identity::new()
    }
}

fn subscriber<W>(
    format: Format,
    level: LevelFilter,
    failures: Failures,
    writer: W,
    spans: &SpanTaker,
) -> (Box<dyn Subscriber + Send + Sync>, LogLevel)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(lines::LineWriters { format, writer });
    let registry = tracing_subscriber::registry();
    let (filter, handle) = reload::Layer::new(filter(level));
    let filter = filter.and(failures);
    let subscriber: Box<dyn Subscriber + Send + Sync> = match format {
        Format::Json => {
            let json = lines.json().flatten_event(true).with_span_list(false);
            Box::new(registry.with(json.with_filter(filter)).with(spans.layer()))
        }
        Format::Text => {
            Box::new(registry.with(lines.with_ansi(false).with_filter(filter)).with(spans.layer()))
        }
    };
    (subscriber, LogLevel { filter: handle, level })
}

fn filter(level: LevelFilter) -> Targets {
    let lines =
        Targets::new().with_default(level.min(LevelFilter::INFO)).with_target("conjur_operator", level);
    // Who watches tells that a watch fails, once; this would tell it at each try, and not of which namespace.
    let lines = lines.with_target("kube_runtime::watcher", LevelFilter::ERROR);
    SPANS.iter().fold(lines, |lines, target| lines.with_target(*target, LevelFilter::OFF))
}

/// Where, and never what: a payload may hold a value.
fn log_panic(location: Option<&std::panic::Location<'_>>) {
    let at = location.map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    tracing::error!(
        at,
        thread,
        "a thread panicked; this is a bug in the operator. Please report it with its location"
    );
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What an action logs.
    fn logged(format: Format, level: LevelFilter, action: impl FnOnce()) -> String {
        let written = Written::default();
        let writer = written.clone();
        let (subscriber, _level) =
            subscriber(format, level, Failures::new(), move || writer.clone(), &SpanTaker::default());
        tracing::subscriber::with_default(subscriber, action);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn speak() {
        tracing::trace!("ours at trace");
        tracing::info!("ours at info");
        tracing::debug!(target: "kube_client::client", "theirs at debug");
        tracing::trace!(target: "hyper", "theirs at trace");
        tracing::info!(target: "kube_client", "theirs at info");
    }

    #[test]
    fn dependencies_stay_at_info_even_at_trace() {
        let log = logged(Format::Text, LevelFilter::TRACE, speak);
        assert!(
            log.contains("ours at trace") && log.contains("ours at info") && log.contains("theirs at info"),
            "{log}"
        );
        assert!(!log.contains("theirs at debug") && !log.contains("theirs at trace"), "{log}");
    }

    #[test]
    fn a_quieter_level_quiets_dependencies_too() {
        assert_eq!(logged(Format::Text, LevelFilter::ERROR, speak), "");
    }

    #[test]
    fn json_is_one_object_a_line() {
        let log = logged(Format::Json, LevelFilter::INFO, || tracing::info!(secret = "billing", "written"));
        let line: serde_json::Value = serde_json::from_str(log.trim_end()).unwrap();
        assert_eq!(
            (&line["message"], &line["secret"], &line["level"]),
            (&"written".into(), &"billing".into(), &"INFO".into())
        );
    }

    #[test]
    fn failures_of_a_namespace_are_limited_and_what_was_done_is_not() {
        let failures = Failures::new();
        let written = Written::default();
        let writer = written.clone();
        let (to, _level) = subscriber(
            Format::Text,
            LevelFilter::INFO,
            failures.clone(),
            move || writer.clone(),
            &SpanTaker::default(),
        );
        tracing::subscriber::with_default(to, || {
            for n in 0..1000 {
                tracing::warn!(namespace = "loud", n, "it failed");
                tracing::info!(namespace = "loud", n, "it was done");
                tracing::debug!(namespace = "loud", n, "nobody asked");
            }
            tracing::warn!(namespace = %"quiet", "it failed, too");
            failures.tell_now(std::time::Instant::now());
            failures.tell_now(std::time::Instant::now());
        });
        let log = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let count = |text: &str| log.lines().filter(|line| line.contains(text)).count();
        assert!((100..=110).contains(&count("it failed namespace")), "{}", count("it failed namespace"));
        assert_eq!((count("it was done"), count("nobody asked"), count("it failed, too")), (1000, 0, 1));
        let suppressed = 1000 - count("it failed namespace");
        assert_eq!(count(&format!("{suppressed} more lines of failures")), 1, "told once");
    }

    #[tokio::test]
    async fn the_level_follows_a_file_and_what_is_no_level_changes_nothing() {
        let written = Written::default();
        let writer = written.clone();
        let (to, level) = subscriber(
            Format::Text,
            LevelFilter::INFO,
            Failures::new(),
            move || writer.clone(),
            &SpanTaker::default(),
        );
        let _on = tracing::subscriber::set_default(to);
        let file = std::env::temp_dir().join(format!("conjur-operator-log-level-{}", std::process::id()));
        std::fs::write(&file, "no level, but hunter2").unwrap();
        let follows = level.follow_every(&file, std::time::Duration::from_millis(20));
        let log = || String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let change = async {
            let until = async |text: &str| {
                while !log().contains(text) {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            };
            until("holds no level").await;
            tracing::debug!("too early");
            std::fs::write(&file, "debug\n").unwrap();
            until("the log level was changed").await;
            tracing::debug!("in time");
            std::fs::remove_file(&file).unwrap();
            until("can't be read").await;
            tracing::debug!("still");
        };
        tokio::select! {
            () = follows => {}
            done = tokio::time::timeout(std::time::Duration::from_secs(60), change) => done.unwrap(),
        }
        let log = log();
        assert!(log.contains("in time") && log.contains("still") && !log.contains("too early"), "{log}");
        assert_eq!((log.matches("holds no level").count(), log.matches("hunter2").count()), (1, 0), "{log}");
    }

    #[test]
    fn a_panic_is_logged_with_its_place_and_without_its_payload() {
        let log = logged(Format::Text, LevelFilter::INFO, || {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(|panic| log_panic(panic.location())));
            let result = std::panic::catch_unwind(|| panic!("the value is hunter2"));
            std::panic::set_hook(before);
            assert!(result.is_err());
        });
        assert!(log.contains("telemetry.rs:") && log.contains("panicked"), "{log}");
        assert!(!log.contains("hunter2"), "{log}");
    }
}
