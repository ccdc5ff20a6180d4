//! ConjurSecret on a real control plane.

use conjur_operator::api::ConjurSecret;

use super::{Bench, test};

/// A Conjur with a host that may read two variables.
async fn billing(bench: &Bench) -> (String, String) {
    bench
        .root(
            "- !policy\n  id: billing\n  body:\n  - !host app\n  - &v [!variable user, !variable password]\n  - !permit\n    \
             role: !host app\n    privileges: [read, execute]\n    resource: *v\n",
        )
        .await;
    let values = (bench.set("billing/user"), bench.set("billing/password"));
    bench.connect("host/billing/app").await;
    values
}

#[test]
fn a_secret_gets_what_conjur_holds() {
    test(|bench| async move {
        let (user, password) = billing(&bench).await;
        bench
            .apply(&bench.conjur_secret(
                "db",
                "1h",
                &[("user", "billing/user"), ("password", "billing/password")],
            ))
            .await;
        bench.holds("db", &[("user", &user), ("password", &password)]).await;
        let object: ConjurSecret = bench.ready("db").await;
        let status = object.status.unwrap();
        assert_eq!(status.keys, Some(2));
        assert_eq!(status.target.unwrap().name, "db");
    });
}
