//! Two who write one Secret.

use conjur_operator::api::ConjurSecret;
use serde_json::json;

use super::{
    setup::{api_requests, connected, edit, project, put, secret, synced},
    test, version,
};

#[test]
fn who_changes_a_secret_each_time_it_was_repaired_does_not_keep_us_busy() {
    test(|bench| async move {
        connected(&bench, &["a"]).await;
        put(&bench, &project("db", &[("a", "a")], &json!({}))).await;
        bench.ready::<ConjurSecret>("db").await;
        let before = api_requests(&bench).len();
        let contested = bench.says::<ConjurSecret>("db", "Contested");
        let fights = async {
            let mut seen = String::new();
            loop {
                let now = secret(&bench, "db").await;
                if version(&now) == seen {
                    tokio::task::yield_now().await;
                } else {
                    seen = version(&edit(&bench, "db", json!({ "stringData": { "a": "theirs" } })).await);
                }
            }
        };
        let message = tokio::select! {
            message = contested => message,
            () = fights => unreachable!("it never ends"),
        };
        assert!(message.contains("Secret db is overwritten by another writer"), "{message}");
        let is_write = |r: &&testbed::ApiRequest| r.resource == "secrets" && r.verb == "update";
        let writes = api_requests(&bench)[before..].iter().filter(is_write).count();
        assert!((5..=22).contains(&writes), "{writes} repairs before it was slowed down");

        // Who asks for it has it at once.
        let value = bench.set("apps/a");
        synced(&bench, "db", "now").await;
        bench.holds("db", &[("a", &value)]).await;
        bench.ready::<ConjurSecret>("db").await;
    });
}
