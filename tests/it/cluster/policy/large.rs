//! Large documents.

use conjur_dev::Point;
use conjur_operator::api::{ConjurPolicy, condition::find};

use super::super::test;
use super::{billing, held, hold, policy, version};

#[test]
fn five_thousand_variables_load_with_their_progress_visible() {
    test(|bench| async move {
        billing(&bench).await;
        let document = (0..5000).fold(String::new(), |all, i| {
            all + &format!("- !variable team-{}/service-{i}/password\n", i % 7)
        });
        let gate = hold(&bench, Point::BeforeCommit);
        bench.apply(&policy("p", "deletionPolicy: Delete", &document)).await;
        held(&bench, 1).await;
        let message = bench.says::<ConjurPolicy>("p", "Loading").await;
        let says =
            format!("loading {} bytes with 5000 records into branch billing, since 20", document.len());
        assert!(message.starts_with(&says), "{message}");
        let under_way: ConjurPolicy = bench.api().get("p").await.unwrap();
        let conditions = under_way.status.unwrap().conditions.unwrap();
        assert_eq!(find(&conditions, "Ready").unwrap().status, "False");
        assert_eq!(find(&conditions, "Reconciling").unwrap().status, "True");
        bench.conjur.release(gate);
        bench.ready::<ConjurPolicy>("p").await;
        for i in [0, 1, 4999] {
            assert!(bench.conjur.exists("variable", &format!("billing/team-{}/service-{i}/password", i % 7)));
        }
        assert_eq!(version(&bench, "billing"), 1);
        let inventory =
            bench.data("conjurpolicy-inventory.p").await.unwrap().remove("inventory.json").unwrap();
        assert!(inventory.contains("team-1/service-4999") || inventory.contains("service-4999/password"));
    });
}
