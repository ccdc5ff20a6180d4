//! A hundred and twenty kills of the operator at random moments, with Secrets that change and answers of Conjur that are lost.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::super::apart;
use super::*;

const KILLS: usize = 120;
/// After so many kills all is left alone until it is done, and looked at.
const LAP: usize = 30;
const OBJECTS: usize = 8;
/// Longest time from a start to the kill.
const LONGEST_LIFE: u64 = 700;

/// One object, and what its Secret holds.
struct Kept {
    name: String,
    /// `owned`, which the identity owns, or `loaded`, which it may merely load.
    branch: &'static str,
    deletes: bool,
    data: BTreeMap<String, String>,
    keys: usize,
}

impl Kept {
    fn new(at: usize) -> Self {
        Self {
            name: format!("p{at}"),
            branch: if at.is_multiple_of(2) { "owned" } else { "loaded" },
            deletes: at % 4 < 2,
            data: BTreeMap::new(),
            keys: 0,
        }
    }

    fn id(&self, key: &str) -> String {
        format!("{}/{}.{key}", self.branch, self.name)
    }

    fn manifest(&self) -> Value {
        let deletion = if self.deletes { "Delete" } else { "Retain" };
        let more = json!({
            "prefix": format!("{}/{{secret}}.", self.branch), "deletionPolicy": deletion,
            "createVariables": { "branch": self.branch, "annotations": { "team": "ai" } },
        });
        push(&self.name, &self.name, &more)
    }

    /// A new key, a new value, or a key less.
    async fn change(&mut self, bench: &Bench, random: &mut StdRng) {
        let keys: Vec<String> = self.data.keys().cloned().collect();
        let any = |random: &mut StdRng| keys[random.random_range(0..keys.len())].clone();
        match random.random_range(0..4) {
            0 if keys.len() > 2 => _ = self.data.remove(&any(random)),
            1 | 2 if !keys.is_empty() => _ = self.data.insert(any(random), bench.secret_value("kill")),
            _ => {
                self.keys += 1;
                self.data.insert(format!("k{}", self.keys), bench.secret_value("kill"));
            }
        }
        put_data(bench, &self.name, &[], &json!(self.data)).await;
    }
}

async fn set_up(bench: &Bench) -> (BTreeMap<String, String>, Vec<Kept>) {
    bench
        .root(
            "- !host ops\n- !policy {id: owned, owner: !host ops}\n- !policy loaded\n\
             - !permit {role: !host ops, privileges: [read, create, update], resource: !policy loaded}\n",
        )
        .await;
    bench.connect("host/ops").await;
    let mut foreign = BTreeMap::new();
    for branch in ["owned", "loaded"] {
        let document = "- !variable theirs\n- !variable p0.k1\n- !variable p1.k1\n";
        bench.conjur.load(branch, document).await.unwrap();
        for name in ["theirs", if branch == "owned" { "p1.k1" } else { "p0.k1" }] {
            let id = format!("{branch}/{name}");
            foreign.insert(id.clone(), bench.set(&id));
        }
    }
    (foreign, (0..OBJECTS).map(Kept::new).collect())
}

/// At any moment: what holds a value says whose it is, but for what an administrator declared; what is foreign is untouched.
async fn all_is_owned(bench: &Bench, foreign: &BTreeMap<String, String>, seed: u64) {
    let cluster = cluster(bench).await;
    for id in bench.conjur.all("variable") {
        let id = id.replace("demo:variable:", "");
        let value = bench.conjur.variable(&id);
        if let Some(theirs) = foreign.get(&id) {
            assert_eq!(value.as_deref(), Some(theirs.as_bytes()), "{id}, seed {seed}");
            assert_eq!(annotation(bench, &id, OWNER), None, "{id}, seed {seed}");
        } else if value.is_some() && !id.ends_with("/p0.k1") && !id.ends_with("/p1.k1") {
            let name = id.split(['/', '.']).nth(1).unwrap();
            let owner = format!("{cluster}/{}/ConjurPush/{name}", bench.namespace);
            assert_eq!(annotation(bench, &id, OWNER), Some(owner), "{id}, seed {seed}");
            assert_eq!(annotation(bench, &id, CREATED).as_deref(), Some("true"), "{id}, seed {seed}");
        }
    }
}

/// Every value has arrived, and what was taken away is gone where that is asked for.
async fn all_arrives(bench: &Bench, kept: &[Kept], seed: u64) {
    let wanted: BTreeMap<String, &String> =
        kept.iter().flat_map(|one| one.data.iter().map(|(key, value)| (one.id(key), value))).collect();
    let left = || {
        let missing = wanted
            .iter()
            .filter(|(id, value)| bench.conjur.variable(id).as_deref() != Some(value.as_bytes()));
        let mut left: Vec<String> = missing.map(|(id, _)| id.clone()).collect();
        for one in kept.iter().filter(|one| one.deletes) {
            let taken = (1..=one.keys).map(|n| format!("k{n}")).filter(|key| !one.data.contains_key(key));
            // What an administrator declared, and the identity can see, never goes.
            let made = taken.filter(|key| key != "k1" || one.name != "p0");
            // What was cut off before it said whose it is holds nothing, and stays.
            left.extend(made.map(|key| one.id(&key)).filter(|id| annotation(bench, id, OWNER).is_some()));
        }
        left
    };
    wait_for(&format!("all values arrive (seed {seed})"), SOON, || async { left().is_empty().then_some(()) })
        .await
        .unwrap_or_else(|e| panic!("{e:#}: {:?}\n{}", left(), bench.state_now()));
    for one in kept {
        let keys = one.data.len();
        let done = |push: &ConjurPush| {
            let said = status(push);
            let all = said.variables.unwrap_or_default();
            let announced = all.iter().any(|v| v.version == PushedVersion::Announced);
            said.conditions.is_some_and(|all| all.len() == 1 && all[0].status == "True")
                && all.len() == keys
                && !announced
        };
        bench.until(&format!("done (seed {seed})"), &one.name, done).await;
    }
}

#[test]
fn a_hundred_kills_lose_no_value_and_leave_no_variable_that_is_nobodys() {
    apart(|bench, mut operator| async move {
        let seed: u64 = rand::random();
        let mut random = StdRng::seed_from_u64(seed);
        let (foreign, mut kept) = set_up(&bench).await;
        let started = Instant::now();
        for one in &mut kept {
            one.change(&bench, &mut random).await;
            put(&bench, &one.manifest()).await;
        }
        let slow = Effect::Latency { millis: 4 };
        bench.conjur.fault(fault("/", None, When::After, slow));
        for kill in 1..=KILLS {
            for _ in 0..random.random_range(0..3) {
                let at = random.random_range(0..kept.len());
                kept[at].change(&bench, &mut random).await;
            }
            let path = ["/policies/", "/secrets/"][random.random_range(0..2)];
            if random.random_range(0..4) == 0 {
                bench.conjur.fault(fault(path, Some(1), When::After, Effect::Reset));
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(0..LONGEST_LIFE))).await;
            operator.kill9().await.unwrap();
            all_is_owned(&bench, &foreign, seed).await;
            operator.restart().await.unwrap();
            if kill % LAP == 0 {
                all_arrives(&bench, &kept, seed).await;
                all_is_owned(&bench, &foreign, seed).await;
            }
        }
        nothing_in_policies(
            &bench,
            &kept.iter().flat_map(|one| one.data.values().cloned()).collect::<Vec<_>>(),
        );
        for one in &kept {
            delete(&bench, &one.name).await;
            for key in one.data.keys() {
                // One that was declared in `loaded`, where the identity can't see it, counts as made by the object.
                let declared = key == "k1" && one.name == "p0";
                assert_eq!(
                    bench.conjur.exists("variable", &one.id(key)),
                    declared || !one.deletes,
                    "{}, seed {seed}",
                    one.id(key)
                );
            }
        }
        all_is_owned(&bench, &foreign, seed).await;
        eprintln!("{KILLS} kills in {:?}, {} values sent", started.elapsed(), sent(&bench));
    });
}
