//! Two operators, of which one acts at a time.

use conjur_dev::Point;
use conjur_operator::api::ConjurPolicy;

use super::super::alone;
use super::{billing, held, hold, keys_in, keys_work, old_host_is_untouched, policy, settled, version};

#[test]
fn of_two_operators_one_loads_and_the_other_takes_over_what_it_left() {
    alone(|bench, mut first| async move {
        billing(&bench).await;
        let second = bench.second_operator().await;
        let sent = || {
            let all = bench.conjur.requests();
            all.iter().filter(|r| r.method == "PATCH" && r.path.ends_with("/policy/billing")).count()
        };

        let gate = hold(&bench, Point::BeforeCommit);
        bench.apply(&policy("p", &keys_in("roles"), "- !host old\n- !host web\n")).await;
        held(&bench, 1).await;
        settled(&bench, "meanwhile").await;
        assert_eq!(sent(), 1, "one of them loads");
        bench.conjur.release(gate);
        bench.ready::<ConjurPolicy>("p").await;
        keys_work(&bench, "roles", &["web"]).await;

        let _gate = hold(&bench, Point::AfterCommit);
        bench.apply(&policy("p", &keys_in("roles"), "- !host old\n- !host web\n- !host two\n")).await;
        held(&bench, 1).await;
        first.kill9().await.unwrap();
        bench.ready::<ConjurPolicy>("p").await;
        keys_work(&bench, "roles", &["web", "two"]).await;
        assert_eq!((sent(), version(&bench, "billing")), (2, 2), "the other found out that it was loaded");
        assert_eq!(bench.conjur.key_generation("host/billing/web"), Some(0), "a stored key is never rotated");
        assert_eq!(bench.conjur.key_generation("host/billing/two"), Some(1));
        old_host_is_untouched(&bench);

        second.terminate().await.unwrap();
        first.restart().await.unwrap();
        settled(&bench, "afterwards").await;
        assert_eq!(version(&bench, "billing"), 2);
        bench.no_secret_in(&second.log());
    });
}
