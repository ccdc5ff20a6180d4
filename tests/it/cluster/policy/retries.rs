//! A retry is earned: what a refused document waits for, and what it costs meanwhile.

use std::time::{Duration, Instant};

use conjur_dev::{Effect, Fault, Kind, When};
use conjur_operator::api::{ConjurConnection, ConjurPolicy};

use super::super::{
    Bench, SOON, alone,
    setup::{change_policy, condition, eventually, states},
    test,
};
use super::{billing, keys_in, keys_work, loads, policy, settled, status};

async fn sync_now(bench: &Bench, name: &str, text: &str) {
    let stamp = format!("conjur-operator.io/sync-now={text}");
    bench.kubectl(&["annotate", "--overwrite", "conjurpolicy", name, &stamp]).await;
}

/// Documents that Conjur refuses, of every kind that it tells apart.
fn broken(n: usize) -> String {
    match n % 6 {
        0 => "- !variable {idd: x}\n".to_owned(),
        1 => "- !vriable x\n".to_owned(),
        2 => format!("- !grant {{role: !group missing-{n}, member: !host old}}\n"),
        3 => format!("- !permit {{role: !host nobody-{n}, privileges: [read], resource: !variable old}}\n"),
        4 => "- !variable /elsewhere\n".to_owned(),
        _ => format!("- !variable {{id: v, owner: !group no-owner-{n}}}\n"),
    }
}

#[test]
fn thirty_broken_and_thirty_good_documents_are_sixty_loads() {
    test(|bench| async move {
        billing(&bench).await;
        for n in 0..30 {
            bench.apply(&policy(&format!("broken-{n}"), "", &broken(n))).await;
        }
        for n in 0..30 {
            bench.says::<ConjurPolicy>(&format!("broken-{n}"), "PolicyInvalid").await;
        }
        assert_eq!(loads(&bench), 30);
        let looks = bench.conjur.requests().len();
        for n in 0..30 {
            let document = format!(
                "- !variable v{n}\n- !group g{n}\n- !grant {{role: !group g{n}, member: !host old}}\n"
            );
            bench.apply(&policy(&format!("good-{n}"), "", &document)).await;
        }
        for n in 0..30 {
            bench.ready::<ConjurPolicy>(&format!("good-{n}")).await;
        }
        settled(&bench, "last").await;
        assert_eq!(loads(&bench), 30 + 31, "each broken one once, each good one once, and the last");
        let asked = bench.conjur.requests().len() - looks;
        assert!(asked <= 31 * 4, "{asked} requests for 31 loads: the broken ones ask for nothing meanwhile");
        // Made by another policy, what one of them lacks sends that one, and no other.
        bench.apply(&policy("maker", "", "- !group missing-2\n- !group missing-99\n")).await;
        bench.ready::<ConjurPolicy>("broken-2").await;
        settled(&bench, "after-all").await;
        assert_eq!(loads(&bench), 30 + 31 + 3);
    });
}

#[test]
fn a_restart_sends_no_refused_document_again() {
    alone(|bench, mut operator| async move {
        billing(&bench).await;
        for n in 0..6 {
            bench.apply(&policy(&format!("broken-{n}"), "", &broken(n))).await;
        }
        bench.apply(&policy("no-branch", "branch: nowhere", "- !variable v\n")).await;
        for n in 0..6 {
            bench.says::<ConjurPolicy>(&format!("broken-{n}"), "PolicyInvalid").await;
        }
        let message = bench.says::<ConjurPolicy>("broken-2", "PolicyInvalid").await;
        bench.says::<ConjurPolicy>("no-branch", "BranchNotFound").await;
        let before = loads(&bench);
        operator.kill9().await.unwrap();
        operator.restart().await.unwrap();
        settled(&bench, "after").await;
        assert_eq!(loads(&bench), before + 1);
        // What it waits for still wakes it.
        let standing = bench.says::<ConjurPolicy>("broken-2", "PolicyInvalid").await;
        assert_eq!(standing, message);
        bench.apply(&policy("maker", "", "- !group missing-2\n")).await;
        bench.ready::<ConjurPolicy>("broken-2").await;
        bench.root("- !policy {id: nowhere, owner: !host ops}\n").await;
        sync_now(&bench, "no-branch", "now").await;
        bench.ready::<ConjurPolicy>("no-branch").await;
    });
}

#[test]
fn what_somebody_mends_in_conjur_is_noticed_at_once_by_sync_now() {
    test(|bench| async move {
        bench
            .root(
                "- !host ops\n- !host loader\n- !policy {id: billing, owner: !host ops, body: [!host hh]}\n\
                 - !policy {id: granted}\n- !policy {id: owned}\n\
                 - !permit {role: !host ops, privileges: [read], resource: !policy granted}\n\
                 - !permit {role: !host ops, privileges: [read, create, update], resource: !policy owned}\n",
            )
            .await;
        bench.connect("host/ops").await;
        bench.apply(&policy("a", "", "- !grant {role: !group later, member: !host hh}\n")).await;
        bench.apply(&policy("b", "branch: granted", "- !variable v\n")).await;
        bench.apply(&policy("c", &format!("branch: owned\n{}", keys_in("c")), "- !host web\n")).await;
        bench.says::<ConjurPolicy>("a", "PolicyInvalid").await;
        bench.says::<ConjurPolicy>("b", "PolicyForbidden").await;
        bench.says::<ConjurPolicy>("c", "NotBranchOwner").await;
        let sent = loads(&bench);
        assert_eq!(sent, 2, "c was not sent");
        bench.conjur.load("billing", "- !group later\n").await.unwrap();
        bench
            .root("- !permit {role: !host ops, privileges: [create, update], resource: !policy granted}\n")
            .await;
        change_policy(&bench, "- !policy {id: owned, owner: !host ops}\n").await;
        for name in ["a", "b", "c"] {
            sync_now(&bench, name, "mended").await;
            let p = bench.ready::<ConjurPolicy>(name).await;
            assert_eq!(status(&p).last_handled_sync_now.as_deref(), Some("mended"), "{name}");
            assert_eq!(status(&p).refusal, None, "{name}");
        }
        assert_eq!(loads(&bench), sent + 4, "and that of the owner");
        bench.keep_secret(bench.conjur.api_key_of("host/owned/web").unwrap());
    });
}

#[test]
fn sync_now_of_a_refused_document_counts_once_in_a_few_seconds() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("p", "", "- !vriable x\n")).await;
        bench.says::<ConjurPolicy>("p", "PolicyInvalid").await;
        let begun = Instant::now();
        for n in 0..20 {
            sync_now(&bench, "p", &format!("n{n}")).await;
        }
        let handled = |p: &ConjurPolicy| {
            p.status.as_ref().is_some_and(|s| s.last_handled_sync_now.as_deref() == Some("n19"))
        };
        bench.until("the last one is handled", "p", handled).await;
        let most = 3 + begun.elapsed().as_secs() / 5;
        let tries = u64::try_from(loads(&bench)).unwrap();
        assert!(tries <= most, "{tries} loads in {:?}", begun.elapsed());
    });
}

#[test]
fn sync_now_of_a_loaded_document_looks_for_drift() {
    test(|bench| async move {
        billing(&bench).await;
        bench.apply(&policy("p", "", "- !variable v\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        bench.conjur.load("billing", "- !variable other\n").await.unwrap();
        let looks = bench.conjur.count(Kind::DryRun);
        sync_now(&bench, "p", "one").await;
        let handled = |p: &ConjurPolicy| {
            p.status.as_ref().is_some_and(|s| s.last_handled_sync_now.as_deref() == Some("one"))
        };
        bench.until("it is handled", "p", handled).await;
        assert!(bench.conjur.count(Kind::DryRun) > looks);
        assert_eq!(loads(&bench), 1, "it had not drifted");
        // By itself it does not look.
        let looks = bench.conjur.count(Kind::DryRun);
        settled(&bench, "later").await;
        assert_eq!(bench.conjur.count(Kind::DryRun), looks);
    });
}

#[test]
fn a_document_at_which_the_server_fails_is_the_documents_fault() {
    test(|bench| async move {
        billing(&bench).await;
        let effect = Effect::Status { status: 500, retry_after: None };
        let path = "/policies/demo/policy/billing".to_owned();
        bench.conjur.fault(Fault { method: None, path, count: None, when: When::Before, effect });
        let document = "- !host web\n- !delete {record: !host web}\n";
        bench.apply(&policy("p", &keys_in("roles"), document)).await;
        let message = bench.says::<ConjurPolicy>("p", "PolicyInvalid").await;
        assert!(message.contains("fails at the document (status 500)"), "{message}");
        let p = bench.until("Stalled", "p", |p: &ConjurPolicy| states(p) == "Ready=False Stalled=True").await;
        assert_eq!(status(&p).created_roles, None, "there is no such host");
        let connection = bench.ready::<ConjurConnection>("conjur").await;
        assert_eq!(condition(&connection, "Ready").unwrap().1, "Connected");
        settled(&bench, "elsewhere").await;
        assert_eq!(loads(&bench), 3, "two tries, and that of another policy");
        bench.conjur.clear_faults();
        bench.apply(&policy("p", &keys_in("roles"), "- !host web\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        keys_work(&bench, "roles", &["web"]).await;
    });
}

#[test]
fn a_load_that_happened_before_the_server_failed_loses_no_key() {
    test(|bench| async move {
        billing(&bench).await;
        let effect = Effect::Status { status: 500, retry_after: None };
        let path = "/policies/demo/policy/billing".to_owned();
        bench.conjur.fault(Fault { method: None, path, count: Some(1), when: When::After, effect });
        bench.apply(&policy("p", &keys_in("roles"), "- !host web\n")).await;
        bench.ready::<ConjurPolicy>("p").await;
        keys_work(&bench, "roles", &["web"]).await;
        assert_eq!(loads(&bench), 1);
    });
}

#[test]
fn a_refused_load_leaves_no_secret_for_keys_behind() {
    test(|bench| async move {
        billing(&bench).await;
        for (n, document) in
            ["- !host web\n- !vriable x\n", "- !host web\n- !grant {role: !group no, member: !host web}\n"]
                .into_iter()
                .enumerate()
        {
            let name = format!("p{n}");
            bench.apply(&policy(&name, &keys_in(&format!("roles-{n}")), document)).await;
            bench.says::<ConjurPolicy>(&name, "PolicyInvalid").await;
            assert_eq!(bench.data(&format!("roles-{n}")).await, None);
            let p: ConjurPolicy = bench.api().get(&name).await.unwrap();
            assert_eq!((status(&p).created_roles, status(&p).pending), (None, None));
        }
        // One that somebody else's keys are in stays.
        bench.apply(&policy("q", &keys_in("q"), "- !host one\n")).await;
        bench.ready::<ConjurPolicy>("q").await;
        bench.apply(&policy("q", &keys_in("q"), "- !host one\n- !host two\n- !vriable x\n")).await;
        bench.says::<ConjurPolicy>("q", "PolicyInvalid").await;
        keys_work(&bench, "q", &["one"]).await;
    });
}

#[test]
fn a_stranger_with_a_login_of_their_own_holds_up_nobody_elses_load() {
    test(|bench| async move {
        bench
            .root(
                "- !host ops\n- !host stranger\n- !policy {id: billing, owner: !host ops}\n\
                   - !permit {role: !host stranger, privileges: [read], resource: !policy billing}\n",
            )
            .await;
        bench.connect("host/ops").await;
        let key = bench.conjur.api_key_of("host/stranger").unwrap();
        bench.put_secret("stranger", &[("api-key", &key)]).await;
        bench.apply(&bench.connection("stranger", "host/stranger").replace("conjur-login", "stranger")).await;
        bench.ready::<ConjurConnection>("stranger").await;
        // The stranger's turn takes as long as this.
        let slow = Duration::from_secs(25);
        let path = "/resources/demo/policy/billing".to_owned();
        let effect = Effect::Latency { millis: u64::try_from(slow.as_millis()).unwrap() };
        bench.conjur.fault(Fault {
            method: Some("GET".into()),
            path,
            count: Some(1),
            when: When::Before,
            effect,
        });
        let theirs = policy("theirs", &keys_in("theirs"), "- !host web\n");
        bench.apply(&theirs.replace("{name: conjur}", "{name: stranger}")).await;
        eventually("the stranger has its turn", || {
            bench.conjur.requests().iter().any(|r| r.path.contains("/resources/demo/policy/billing"))
        })
        .await;
        let begun = Instant::now();
        bench.apply(&policy("ours", "", "- !variable v\n")).await;
        bench.ready::<ConjurPolicy>("ours").await;
        assert!(begun.elapsed() + Duration::from_secs(5) < slow, "{:?}", begun.elapsed());
        assert!(slow < SOON);
        bench.says::<ConjurPolicy>("theirs", "NotBranchOwner").await;
    });
}
