//! Traces, as OpenTelemetry has them: a span for each reconcile and each request to Conjur, sent to a collector by OTLP over
//! HTTP. Only in builds with the feature `otel`, and only where the variables of OpenTelemetry name a collector.

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

use super::SPANS;

/// What the service is called where `OTEL_SERVICE_NAME` does not say.
const SERVICE: &str = env!("CARGO_PKG_NAME");

/// Sends spans; none where none are to be sent.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<SdkTracerProvider>);

/// Whether a variable says something.
fn says(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

impl Traces {
    /// As the variables `OTEL_*` say: to no one unless they name an endpoint.
    pub(super) fn from_environment() -> Result<Self, ExporterBuildError> {
        let is_disabled = says("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let endpoint =
            says("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| says("OTEL_EXPORTER_OTLP_ENDPOINT"));
        if is_disabled || endpoint.is_none() {
            return Ok(Self(None));
        }
        // It reads the endpoint, the headers and the timeout itself.
        Ok(Self::by(SpanExporter::builder().with_http().build()?))
    }

    #[cfg(test)]
    fn to(endpoint: String) -> Result<Self, ExporterBuildError> {
        Ok(Self::by(SpanExporter::builder().with_http().with_endpoint(endpoint).build()?))
    }

    fn by(exporter: SpanExporter) -> Self {
        let mut resource = Resource::builder();
        if says("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name(SERVICE);
        }
        // A thread of its own sends them.
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter);
        Self(Some(provider.with_resource(resource.build()).build()))
    }

    /// Takes the spans of the operator's own, and no other's.
    pub(super) fn layer<S>(&self) -> Option<impl Layer<S> + use<S>>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let tracer = self.0.as_ref()?.tracer(SERVICE);
        let filter =
            SPANS.iter().fold(Targets::new(), |all, target| all.with_target(*target, LevelFilter::INFO));
        Some(tracing_opentelemetry::layer().with_tracer(tracer).with_filter(filter))
    }

    /// Sends what is still to be sent, at the end.
    pub fn close(&self) {
        if let Some(provider) = &self.0 {
            // Who ends has no one to tell.
            drop(provider.shutdown());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
    };

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn a_span_of_the_operator_reaches_a_collector_and_those_of_others_do_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let collector = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut got, mut part) = (Vec::new(), [0; 4096]);
            // The span's name is the last that is looked for, and comes last.
            while !String::from_utf8_lossy(&got).contains("billing") {
                match stream.read(&mut part).unwrap() {
                    0 => break,
                    read => got.extend_from_slice(&part[..read]),
                }
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
            got
        });
        let traces = Traces::to(format!("http://{address}/v1/traces")).unwrap();
        let subscriber = tracing_subscriber::registry().with(traces.layer());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info_span!("theirs", secret = "hunter2").in_scope(|| ());
            tracing::info_span!(target: "conjur_operator::trace", "reconcile", namespace = "billing")
                .in_scope(|| ());
        });
        traces.close();
        let got = String::from_utf8_lossy(&collector.join().unwrap()).into_owned();
        assert!(got.starts_with("POST /v1/traces") && got.contains("reconcile"), "{got}");
        assert!(got.contains(SERVICE) && !got.contains("hunter2"), "{got}");
    }
}
