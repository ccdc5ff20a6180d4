//! A branch that one object Replaces belongs to it.

use conjur_operator::api::ConjurPolicy;
use testbed::wait_for;

use super::super::{Bench, SOON, test};
use super::{billing, keys_in, loads, policy, policy_from, version};

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
        let other = bench.connection("other", "host/ops").replace("//127.0.0.1:", "//127.1:");
        let other = other.replace("\n  account", "/\n  account");
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

#[test]
fn who_never_asks_conjur_keeps_nobody_out() {
    test(|bench| async move {
        billing(&bench).await;
        bench.root("- !host stranger\n").await;
        let key = bench.conjur.api_key_of("host/stranger").unwrap();
        for (login, key) in
            [("known", key.as_str()), ("unknown", "3x6zz3zv9g8bqm2wqyp0k1wxe3a2yc9fr1h3n2m4q3d7sb1w2sv1a8")]
        {
            bench.put_secret(login, &[("api-key", key)]).await;
            let theirs = bench.connection(login, "host/stranger");
            bench.apply(&theirs.replace("name: conjur-login", &format!("name: {login}"))).await;
        }
        bench.put_secret("mine", &[("k", "v")]).await;
        let mut squatters = Vec::new();
        for login in ["known", "unknown"] {
            for (case, more, document, reason) in [
                ("suspended", "mode: Replace\nsuspend: true".to_owned(), "- !variable x\n", "Suspended"),
                ("invalid", "mode: Replace".to_owned(), "- [", "PolicyInvalid"),
                ("unnamed", "mode: Replace".to_owned(), "- !host x\n", "CreatedRolesRequired"),
                ("foreign", format!("mode: Replace\n{}", keys_in("mine")), "- !host x\n", "ForeignSecret"),
                ("missing", "mode: Replace".to_owned(), "", "DocumentNotFound"),
            ] {
                let name = format!("{case}-{login}");
                let manifest = if reason == "DocumentNotFound" {
                    policy_from(&name, &more, &[("ConfigMap", "nowhere", "k")])
                } else {
                    policy(&name, &more, document)
                };
                bench.apply(&manifest.replace("{name: conjur}", &format!("{{name: {login}}}"))).await;
                squatters.push((name, reason));
            }
        }
        for (name, reason) in &squatters {
            bench
                .until("refused", name, |p: &ConjurPolicy| {
                    let conditions = p.status.clone().unwrap_or_default().conditions.unwrap_or_default();
                    let refused = [*reason, "ConnectionNotReady"];
                    conditions.iter().any(|c| c.type_ == "Ready" && refused.contains(&c.reason.as_str()))
                })
                .await;
        }
        // One that goes, and is held by somebody's finalizer.
        let held = policy("held", "mode: Replace", "- [")
            .replace("{name: held}", "{name: held, finalizers: [test/hold]}");
        bench.apply(&held).await;
        bench.kubectl(&["delete", "--wait=false", "conjurpolicy", "held"]).await;
        a_second_later(&bench, &squatters.last().unwrap().0).await;
        bench.apply(&policy("p", "", "- !variable one\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        assert_eq!(version(&bench, "billing"), 1);
        let release = r#"[{"op":"remove","path":"/metadata/finalizers"}]"#;
        bench.kubectl(&["patch", "conjurpolicy", "held", "--type=json", "-p", release]).await;
    });
}
