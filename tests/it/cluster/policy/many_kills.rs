//! Two hundred kills of the operator at random moments, with documents that change, objects that go and come, and
//! answers of Conjur that are late or lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use conjur_dev::{Effect, Fault, When};
use conjur_operator::api::ConjurPolicy;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams};
use rand::{Rng, SeedableRng, rngs::StdRng};
use testbed::wait_for;

use super::super::{Bench, SOON, alone};
use super::policy;

const KILLS: usize = 200;
/// After so many kills all is left alone until it is done, and looked at.
const LAP: usize = 40;
const BRANCHES: usize = 5;
/// Longest time from a start to the kill: some more than all objects take.
const LONGEST_LIFE: u64 = 700;

/// What a test asks of one object.
struct Asked {
    name: String,
    branch: String,
    deletes: bool,
    /// Names of all records that its documents ever made.
    made: Vec<String>,
    /// From which of them on they may stand in a document: a host that is removed is not made again, or its new key
    /// would look like one that was rotated.
    from: usize,
    changes: usize,
}

impl Asked {
    /// The next document: one host and one variable more, and never the same text again.
    fn change(&mut self) -> String {
        self.changes += 1;
        self.made.push(format!("{}{}", self.name, self.changes));
        let statements = self.made[self.from..]
            .iter()
            .rev()
            .take(4)
            .fold(String::new(), |all, made| all + &format!("- !host {made}\n- !variable {made}\n"));
        let keys = super::keys_in(&format!("{}-roles", self.name));
        let deletion = if self.deletes { "Delete" } else { "Retain" };
        let more = format!("branch: {}\ndeletionPolicy: {deletion}\n{keys}", self.branch);
        policy(&self.name, &more, &format!("- !host old\n- !variable old\n{statements}# {}\n", self.changes))
    }
}

async fn set_up(bench: &Bench) -> Vec<Asked> {
    let branch = |i: usize| format!("b{i}");
    let root: String = (0..BRANCHES).fold("- !host ops\n".to_owned(), |all, i| {
        all + &format!(
            "- !policy\n  id: {}\n  owner: !host ops\n  body:\n  - !host old\n  - !variable old\n",
            branch(i)
        )
    });
    bench.root(&root).await;
    bench.connect("host/ops").await;
    let asked = |i: usize| Asked {
        name: format!("p{i}x"),
        branch: branch(i / 2),
        deletes: i % 2 == 1,
        made: Vec::new(),
        from: 0,
        changes: 0,
    };
    (0..2 * BRANCHES).map(asked).collect()
}

/// What Conjur was asked that may have to do with a login: no values.
fn history(bench: &Bench, login: &str) -> String {
    let name = login.rsplit('/').next().unwrap_or_default();
    let branch = login.split('/').nth(1).unwrap_or_default();
    let loads =
        bench.conjur.policy_versions(branch).into_iter().map(|v| format!("{}: {:?}", v.version, v.text));
    let asked = bench.conjur.requests().into_iter().filter(|r| r.path.contains(name) || r.method == "PATCH");
    let asked = asked.map(|r| format!("{} {} {:?}", r.method, r.path, r.status));
    loads.chain(asked).collect::<Vec<_>>().join("\n")
}

/// Keys that are stored work, whenever the operator was killed; and a stored key is never rotated.
pub(super) async fn stored_keys_work(bench: &Bench, stored: &mut BTreeMap<String, String>) {
    let secrets = bench.api::<Secret>().list(&ListParams::default()).await.unwrap();
    for secret in secrets {
        let data = secret.data.unwrap_or_default();
        for (name, login) in
            data.iter().filter(|(name, _)| name.starts_with("host.") && name.strip_suffix(".login").is_some())
        {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let login = text(&login.0);
            let Some(key) = data.get(&name.replace(".login", ".api-key")) else {
                panic!("{login} is stored without a key")
            };
            let key = text(&key.0);
            // Its removal may have happened, and the key not have gone yet.
            let Some(now) = bench.conjur.api_key_of(&login) else { continue };
            assert!(now == key, "the stored key of {login} does not work");
            if let Some(before) = stored.insert(login.clone(), key.clone()) {
                assert!(before == key, "a stored key of {login} was rotated: {}", history(bench, &login));
            } else {
                bench.keep_secret(key);
            }
        }
    }
}

async fn all_done(bench: &Bench, asked: &[Asked], seed: u64) {
    wait_for(&format!("all are Ready (seed {seed})"), SOON, || async {
        let all = bench.api::<ConjurPolicy>().list(&ListParams::default()).await.unwrap().items;
        let ready = |p: &&ConjurPolicy| {
            let said = p.status.clone().unwrap_or_default();
            let conditions = said.conditions.unwrap_or_default();
            said.observed_generation == p.metadata.generation
                && conditions.len() == 1
                && conditions[0].status == "True"
        };
        (all.iter().filter(ready).count() == asked.len()).then_some(())
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}\n{}", bench.state_now()));
    for object in asked {
        let data = bench.data(&format!("{}-roles", object.name)).await.unwrap();
        assert!(
            !data.contains_key("pending.json"),
            "an announcement of {} was left over, seed {seed}",
            object.name
        );
        // The newest document is loaded; every host that is there has its key, and it works.
        for made in object
            .made
            .iter()
            .filter(|made| bench.conjur.exists("host", &format!("{}/{made}", object.branch)))
        {
            let key = format!("host.{}_2f{made}.api-key", object.branch);
            let works =
                data.get(&key) == bench.conjur.api_key_of(&format!("host/{}/{made}", object.branch)).as_ref();
            assert!(works, "no key that works is stored for {made} of {}, seed {seed}", object.branch);
        }
        let newest = object.made.last().unwrap();
        assert!(bench.conjur.exists("host", &format!("{}/{newest}", object.branch)), "{newest}, seed {seed}");
    }
    for i in 0..BRANCHES {
        assert_eq!(bench.conjur.key_generation(&format!("host/b{i}/old")), Some(0));
        let texts: Vec<String> =
            bench.conjur.policy_versions(&format!("b{i}")).into_iter().map(|v| v.text).collect();
        let loads: Vec<&String> = texts.iter().filter(|text| text.starts_with("- !host")).collect();
        let different: BTreeSet<&String> = loads.iter().copied().collect();
        assert_eq!(loads.len(), different.len(), "a document was loaded twice into b{i}, seed {seed}");
    }
}

#[test]
fn two_hundred_kills_lose_no_key_rotate_no_stored_one_and_repeat_no_load() {
    alone(|bench, mut operator| async move {
        let seed: u64 = rand::random();
        let mut random = StdRng::seed_from_u64(seed);
        let mut asked = set_up(&bench).await;
        let mut stored = BTreeMap::new();
        let started = Instant::now();
        for object in &mut asked {
            bench.apply(&object.change()).await;
        }
        let slow = Effect::Latency { millis: 4 };
        bench.conjur.fault(Fault {
            method: None,
            path: "/".into(),
            count: None,
            when: When::After,
            effect: slow,
        });
        for kill in 1..=KILLS {
            for _ in 0..random.random_range(0..3) {
                let at = random.random_range(0..asked.len());
                let object = &mut asked[at];
                if object.deletes && random.random_range(0..3) == 0 {
                    object.from = object.made.len();
                    drop(bench.api::<ConjurPolicy>().delete(&object.name, &DeleteParams::default()).await);
                } else {
                    // What is being deleted is made anew by the next change.
                    drop(bench.try_apply(&object.change()).await);
                }
            }
            if random.random_range(0..4) == 0 {
                let (path, count, when) = ("/policies/".into(), Some(1), When::After);
                bench.conjur.fault(Fault { method: None, path, count, when, effect: Effect::Reset });
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(0..LONGEST_LIFE))).await;
            operator.kill9().await.unwrap();
            stored_keys_work(&bench, &mut stored).await;
            operator.restart().await.unwrap();
            if kill % LAP == 0 {
                for object in &mut asked {
                    // What was asked while it was being deleted went with it.
                    settle(&bench, object).await;
                }
                all_done(&bench, &asked, seed).await;
                stored_keys_work(&bench, &mut stored).await;
            }
        }
        for object in asked.iter().filter(|object| object.deletes) {
            bench.api::<ConjurPolicy>().delete(&object.name, &DeleteParams::default()).await.unwrap();
        }
        for object in asked.iter().filter(|object| object.deletes) {
            let api = bench.api::<ConjurPolicy>();
            wait_for("it is gone", SOON, || async {
                api.get_opt(&object.name).await.unwrap().is_none().then_some(())
            })
            .await
            .unwrap_or_else(|e| panic!("{e:#}\n{}", bench.state_now()));
            for made in &object.made {
                let id = format!("{}/{made}", object.branch);
                let left = bench.conjur.exists("host", &id) || bench.conjur.exists("variable", &id);
                assert!(!left, "{id} was left in Conjur, seed {seed}");
            }
            assert!(bench.conjur.exists("variable", &format!("{}/old", object.branch)));
        }
        eprintln!("{KILLS} kills in {:?}, {} keys stored", started.elapsed(), stored.len());
    });
}

/// Waits until an object is not being deleted, and asks for a new document.
async fn settle(bench: &Bench, object: &mut Asked) {
    let api = bench.api::<ConjurPolicy>();
    wait_for("it is gone or stays", SOON, || async {
        let there = api.get_opt(&object.name).await.unwrap();
        there.is_none_or(|p| p.metadata.deletion_timestamp.is_none()).then_some(())
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}\n{}", bench.state_now()));
    bench.apply(&object.change()).await;
}
