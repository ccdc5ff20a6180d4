//! An operator with far too much to do for the processor that it may have.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use conjur_operator::api::ConjurSecret;
use futures::{StreamExt, stream};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, api::PostParams};
use serde_json::json;
use testbed::{Operator, OperatorOptions, wait_for};

use super::{
    Bench, SOON, apart,
    setup::{connected, project},
};

const OBJECTS: usize = 10_000;
/// How long it is looked at: many times what loses a Lease.
const WATCHED: Duration = Duration::from_secs(90);
/// What of a core it may have, in a thousand.
const SHARE: u64 = 100;

/// A control group with a bound of processor time; it goes when this is dropped.
struct ProcessorGroup(PathBuf);

impl ProcessorGroup {
    /// Makes one, of either version; none where that can't be done here, as without root.
    fn new() -> Option<Self> {
        let (name, period) = (format!("conjur-operator-starved-{}", std::process::id()), 100_000);
        let quota = period * SHARE / 1000;
        let all = Path::new("/sys/fs/cgroup");
        let second = all.join("cgroup.controllers").exists();
        let group = Self(if second { all.join(name) } else { all.join("cpu").join(name) });
        std::fs::create_dir(&group.0).ok()?;
        if second {
            std::fs::write(group.0.join("cpu.max"), format!("{quota} {period}")).ok()?;
        } else {
            std::fs::write(group.0.join("cpu.cfs_period_us"), period.to_string()).ok()?;
            std::fs::write(group.0.join("cpu.cfs_quota_us"), quota.to_string()).ok()?;
        }
        Some(group)
    }

    /// In how many periods it had less than it wanted.
    fn throttled(&self) -> u64 {
        let text = std::fs::read_to_string(self.0.join("cpu.stat")).unwrap_or_default();
        let found = text.lines().find_map(|line| line.strip_prefix("nr_throttled "));
        found.and_then(|count| count.trim().parse().ok()).unwrap_or_default()
    }
}

impl Drop for ProcessorGroup {
    fn drop(&mut self) {
        for _ in 0..50 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

async fn holder(bench: &Bench) -> (String, Option<jiff::Timestamp>) {
    let leases = Api::<Lease>::namespaced(bench.client.clone(), &bench.world.release.namespace);
    let spec = leases.get("conjur-operator").await.unwrap().spec.unwrap();
    (spec.holder_identity.unwrap_or_default(), spec.renew_time.map(|time| time.0))
}

#[test]
#[ignore = "takes minutes: make nightly"]
fn ten_thousand_objects_and_a_tenth_of_a_core_do_not_lose_the_lease() {
    let Some(group) = ProcessorGroup::new() else {
        eprintln!(
            "not run: no control group with a bound of processor time can be made here; run it as root"
        );
        return;
    };
    apart(|bench, mut shared| async move {
        connected(&bench, &["a"]).await;
        shared.terminate().await.unwrap();
        let api = bench.api::<ConjurSecret>();
        stream::iter(0..OBJECTS)
            .for_each_concurrent(16, |at| {
                let object = project(&format!("s-{at}"), &[("a", "a")], &json!({}));
                let (api, object) = (api.clone(), serde_json::from_value(object).unwrap());
                async move { drop(api.create(&PostParams::default(), &object).await.unwrap()) }
            })
            .await;
        let mut options = OperatorOptions::under(&bench.world.release).within(4_096, Some(&group.0));
        "starved".clone_into(&mut options.name);
        options.args.push("--leader-elect".into());
        let binary = std::env::var("CONJUR_OPERATOR_RELEASE")
            .unwrap_or_else(|_| env!("CARGO_BIN_EXE_conjur-operator").to_owned());
        let operator = Operator::spawn(binary, bench.world.plane, options).await.unwrap();
        wait_for("it holds the Lease", 2 * SOON, || async {
            (holder(&bench).await.0 == "starved").then_some(())
        })
        .await
        .unwrap();
        // It lists, fetches and writes; what a standby goes by is that the Lease changes.
        let (begun, mut last, mut changed, mut longest) =
            (Instant::now(), holder(&bench).await.1, Instant::now(), Duration::ZERO);
        while begun.elapsed() < WATCHED {
            assert!(operator.is_running(), "{}", operator.log_tail(20));
            let (holder, renewed) = holder(&bench).await;
            assert_eq!(holder, "starved");
            if renewed != last {
                (last, changed) = (renewed, Instant::now());
            }
            longest = longest.max(changed.elapsed());
            assert!(longest < Duration::from_secs(15), "the Lease was not renewed for {longest:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let throttled = group.throttled();
        assert!(throttled > 300, "it was not starved: throttled in {throttled} periods");
        let url = format!("http://{}/healthz", operator.health_addr());
        assert!(reqwest::get(url).await.unwrap().status().is_success());
        eprintln!("renewed at least every {longest:?}, throttled in {throttled} periods of 100 ms");
        operator.kill9().await.unwrap();
        shared.restart().await.unwrap();
    });
}
