//! A branch that one object Replaces belongs to it.

use conjur_operator::api::ConjurPolicy;
use testbed::wait_for;

use super::super::{Bench, SOON, test};
use super::{billing, loads, policy, version};

/// Waits until the second after an object was made is over: ages have whole seconds.
pub(super) async fn a_second_later(bench: &Bench, name: &str) {
    let made = bench.api::<ConjurPolicy>().get(name).await.unwrap().metadata.creation_timestamp.unwrap();
    let then = made.0.as_second() + 1;
    wait_for("a second to pass", SOON, || async {
        (jiff::Timestamp::now().as_second() >= then).then_some(())
    })
    .await
    .unwrap();
}

#[test]
fn an_older_replace_keeps_its_branch_until_it_goes() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("holder", "mode: Replace", "- !variable mine\n")).await;
        bench.ready::<ConjurPolicy>("holder").await;
        a_second_later(&bench, "holder").await;
        for (name, more) in [("update", ""), ("append", "mode: Append"), ("replace", "mode: Replace")] {
            bench.apply(&policy(name, more, &format!("- !variable {name}\n"))).await;
            let message = bench.says::<ConjurPolicy>(name, "BranchTaken").await;
            assert!(message.contains(&format!("ConjurPolicy {}/holder", bench.namespace)), "{message}");
        }
        assert_eq!(loads(&bench), 1);
        // Another mode lets those in that Replace nothing themselves.
        bench.apply(&policy("holder", "mode: Update", "- !variable mine\n")).await;
        bench.ready::<ConjurPolicy>("update").await;
        bench.ready::<ConjurPolicy>("append").await;
        let message = bench.says::<ConjurPolicy>("replace", "BranchTaken").await;
        assert!(message.contains("loaded by the older"), "{message}");
        for name in ["holder", "update", "append"] {
            bench.kubectl(&["delete", "conjurpolicy", name]).await;
        }
        bench.ready::<ConjurPolicy>("replace").await;
        assert!(bench.conjur.exists("variable", "billing/replace"));
        assert!(!bench.conjur.exists("variable", "billing/mine"), "now it is the only one");
    });
}

#[test]
fn a_branch_is_one_over_all_connections_and_namespaces() {
    test(|bench| async move {
        billing(&bench).await;
        // Another spelling of the address, in another connection.
        let other = bench.connection("other", "host/ops").replace("\n  account", "/\n  account");
        bench.apply(&other).await;
        bench.apply(&policy("holder", "mode: Replace", "- !variable mine\n")).await;
        bench.ready::<ConjurPolicy>("holder").await;
        a_second_later(&bench, "holder").await;
        let through_other =
            policy("p", "", "- !variable theirs\n").replace("{name: conjur}", "{name: other}");
        bench.apply(&through_other).await;
        bench.says::<ConjurPolicy>("p", "BranchTaken").await;
        // A branch below is another branch, and another branch lets it go on.
        bench.root("- !policy {id: elsewhere, owner: !host ops}\n").await;
        bench.apply(&through_other.replace("branch: billing", "branch: elsewhere")).await;
        bench.ready::<ConjurPolicy>("p").await;
        assert!(bench.conjur.exists("variable", "elsewhere/theirs"));
    });
}

#[test]
fn who_becomes_a_replace_takes_the_branch_from_younger_ones_only() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("older", "", "- !variable one\n")).await;
        bench.ready::<ConjurPolicy>("older").await;
        a_second_later(&bench, "older").await;
        bench.apply(&policy("younger", "", "- !variable two\n")).await;
        bench.ready::<ConjurPolicy>("younger").await;
        bench.apply(&policy("younger", "mode: Replace", "- !variable two\n")).await;
        bench.says::<ConjurPolicy>("younger", "BranchTaken").await;
        assert!(bench.conjur.exists("variable", "billing/one"));
        bench.apply(&policy("younger", "", "- !variable two\n")).await;
        bench.ready::<ConjurPolicy>("younger").await;
        bench.apply(&policy("older", "mode: Replace", "- !variable one\n- !variable two\n")).await;
        bench.ready::<ConjurPolicy>("older").await;
        bench.says::<ConjurPolicy>("younger", "BranchTaken").await;
    });
}

#[test]
fn who_may_not_load_the_branch_keeps_nobody_out() {
    test(|bench| async move {
        billing(&bench).await;
        bench.root("- !host stranger\n").await;
        bench
            .put_secret("stranger", &[("api-key", &bench.conjur.api_key_of("host/stranger").unwrap())])
            .await;
        let theirs =
            bench.connection("theirs", "host/stranger").replace("name: conjur-login", "name: stranger");
        bench.apply(&theirs).await;
        let squatter = policy("squatter", "mode: Replace", "- !variable x\n")
            .replace("{name: conjur}", "{name: theirs}");
        bench.apply(&squatter).await;
        bench.says::<ConjurPolicy>("squatter", "BranchNotFound").await;
        a_second_later(&bench, "squatter").await;
        bench.apply(&policy("p", "", "- !variable one\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        assert_eq!(version(&bench, "billing"), 1);
    });
}
