//! With the feature `otel`, a collector gets a span for each reconcile and each request: `make test-otel`.

use conjur_operator::api::ConjurSecret;
use serde_json::json;
use testbed::{Operator, OperatorOptions, wait_for};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::path};

use super::{
    SOON, alone,
    setup::{connected, project, put},
};

#[test]
fn a_collector_gets_the_spans_of_reconciles_and_requests_and_no_value() {
    alone(|bench, mut shared| async move {
        shared.terminate().await.unwrap();
        let collector = MockServer::start().await;
        Mock::given(path("/v1/traces")).respond_with(ResponseTemplate::new(200)).mount(&collector).await;
        let world = bench.world;
        let mut options = OperatorOptions::under(&world.release);
        "traced".clone_into(&mut options.name);
        "trace".clone_into(&mut options.log_level);
        options.env.push(("OTEL_EXPORTER_OTLP_ENDPOINT".into(), collector.uri()));
        options.env.push(("OTEL_BSP_SCHEDULE_DELAY".into(), "200".into()));
        let operator =
            Operator::start(env!("CARGO_BIN_EXE_conjur-operator"), world.plane, options).await.unwrap();
        let values = connected(&bench, &["a"]).await;
        put(&bench, &project("db", &[("KEY", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("db").await;
        // Texts stand in protobuf as they are.
        let got = || async {
            let requests = collector.received_requests().await.unwrap();
            let all: Vec<u8> = requests.into_iter().flat_map(|request| request.body).collect();
            String::from_utf8_lossy(&all).into_owned()
        };
        let spans = wait_for("the spans", SOON, || async {
            let got = got().await;
            let texts = ["reconcile", "ConjurSecret", &bench.namespace, "Conjur request", "whoami"];
            texts.iter().all(|text| got.contains(text)).then_some(got)
        })
        .await
        .unwrap();
        assert!(!spans.contains(&values[0]), "a value is in a span");
        operator.terminate().await.unwrap();
        bench.no_secret_in(&operator.log());
        shared.restart().await.unwrap();
    });
}
