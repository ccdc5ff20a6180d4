//! Who owns a branch may have roles made in it; who merely may load it may not.

use conjur_operator::api::ConjurPolicy;

use super::super::{Bench, setup::change_policy, test};
use super::{keys_in, loads, policy, version};

/// Branch `billing` of a group; `loader` may load it, and `member` is in the group.
async fn of_a_group(bench: &Bench) {
    bench
        .root(
            "- !group owners\n- !host loader\n- !host member\n- !grant {role: !group owners, member: !host member}\n\
             - !policy {id: billing, owner: !group owners}\n\
             - !permit {role: !host loader, privileges: [read, create, update], resource: !policy billing}\n",
        )
        .await;
}

#[test]
fn who_does_not_own_the_branch_gets_no_hosts_loaded() {
    test(|bench| async move {
        of_a_group(&bench).await;
        bench.connect("host/loader").await;
        bench.apply(&policy("p", &keys_in("roles"), "- !variable v\n- !host web\n")).await;
        let message = bench.says::<ConjurPolicy>("p", "NotBranchOwner").await;
        assert!(message.contains("line 2") && message.contains("host billing/web"), "{message}");
        assert!(message.contains("- !policy {id: billing, owner: !host /loader}"), "{message}");
        assert_eq!((loads(&bench), version(&bench, "billing")), (0, 0));
        assert!(bench.data("roles").await.is_none());

        // The line that the message gives makes it go on; a word to look again is enough.
        let (place, line) = message.split_once(": - !policy ").unwrap();
        assert!(place.ends_with("load this into branch root in mode Update (PATCH)"), "{message}");
        let (line, _) = line.split_once("; or grant").unwrap();
        change_policy(&bench, &format!("- !policy {line}\n")).await;
        bench.kubectl(&["annotate", "conjurpolicy", "p", "look=again"]).await;
        bench.ready::<ConjurPolicy>("p").await;
        super::keys_work(&bench, "roles", &["web"]).await;
    });
}

#[test]
fn who_does_not_own_the_branch_may_load_other_records() {
    test(|bench| async move {
        of_a_group(&bench).await;
        bench.connect("host/loader").await;
        bench.apply(&policy("p", "", "- !variable v\n- !group g\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        assert!(bench.conjur.exists("variable", "billing/v"));
    });
}

#[test]
fn a_member_of_the_group_that_owns_the_branch_is_an_owner() {
    test(|bench| async move {
        of_a_group(&bench).await;
        bench.connect("host/member").await;
        bench.apply(&policy("p", &keys_in("roles"), "- !host web\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        super::keys_work(&bench, "roles", &["web"]).await;
    });
}

#[test]
fn a_host_with_an_owner_outside_the_branch_is_refused() {
    test(|bench| async move {
        of_a_group(&bench).await;
        bench.connect("host/member").await;
        bench
            .apply(&policy(
                "p",
                &keys_in("roles"),
                "- !variable v\n- !host\n  id: web\n  owner: !host /loader\n",
            ))
            .await;
        let message = bench.says::<ConjurPolicy>("p", "NotBranchOwner").await;
        assert!(message.contains("line 2") && message.contains("demo:host:loader"), "{message}");
        assert_eq!(loads(&bench), 0);
        // A group of the branch is inside.
        let document = "- !group admins\n- !host\n  id: web\n  owner: !group admins\n";
        bench.apply(&policy("p", &keys_in("roles"), document)).await;
        bench.ready::<ConjurPolicy>("p").await;
        super::keys_work(&bench, "roles", &["web"]).await;
    });
}

#[test]
fn a_grant_of_the_role_that_owns_the_branch_makes_it_go_on() {
    test(|bench| async move {
        of_a_group(&bench).await;
        bench.connect("host/loader").await;
        bench.apply(&policy("p", &keys_in("roles"), "- !host web\n")).await;
        bench.says::<ConjurPolicy>("p", "NotBranchOwner").await;
        bench.conjur.load("root", "- !grant {role: !group owners, member: !host loader}\n").await.unwrap();
        bench.kubectl(&["annotate", "conjurpolicy", "p", "look=again"]).await;
        bench.ready::<ConjurPolicy>("p").await;
        super::keys_work(&bench, "roles", &["web"]).await;
    });
}
