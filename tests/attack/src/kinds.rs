//! What attackers do: the objects of each kind of attack, and what these need.

mod back;
mod heavy;
mod loose;
mod servers;
mod shared;

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::apply::{make, make_all, namespace};
use crate::world::World;

pub use back::forged;

/// A kind of attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Templates whose values nest, double, and recurse
    Templates,
    /// Template texts that are slow to look through, each used by sixteen keys
    Texts,
    /// Regular expressions that are large once compiled
    Expressions,
    /// Policy documents of tiny, nested and repeated nodes
    Documents,
    /// JSON values that nest and that are long
    Json,
    /// Thousands of sources that don't exist
    Sources,
    /// Variables that don't exist, by thousands, on the shared connection
    Missing,
    /// Objects that write what the other reads
    Loops,
    /// Connections to a hostile server, of each kind of hostility
    Connections,
    /// Searches on a hostile server
    Searches,
    /// Policies on a hostile server
    Policies,
    /// Values of a hostile server
    Values,
    /// Secrets that carry the operator's label and large annotations
    Labelled,
    /// Objects that no CRD of this version lets through
    Loose,
    /// One namespace with 3,000 small objects
    Many,
    /// One attacker with twenty namespaces
    Spread,
    /// Pushes of the same hundreds of Secrets, of large ones, and to the ids of others
    Pushes,
    /// Hosts that are rotated all the time, several for one id, and those of others
    Hosts,
    /// Pushes to a hostile server, and hosts of one
    Written,
}

impl Kind {
    /// Its name in namespaces and reports.
    pub fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// What one kind of attack consists of.
#[derive(Debug, Default)]
pub struct Plan {
    /// Namespaces.
    pub namespaces: Vec<String>,
    /// What else is loaded into the root policy of the shared Conjur.
    pub policy: String,
    /// Variables at the shared Conjur, with their values.
    pub variables: Vec<(String, String)>,
    /// What the objects refer to.
    pub before: Vec<Value>,
    /// The hostile objects.
    pub objects: Vec<Value>,
}

/// The plan of a kind.
fn plan(kind: Kind, world: &World, count: usize) -> Plan {
    let namespace = format!("attacker-{}", kind.name());
    let mut plan = match kind {
        Kind::Templates => heavy::templates(&namespace, count),
        Kind::Texts => heavy::texts(&namespace, count),
        Kind::Expressions => heavy::expressions(&namespace, count),
        Kind::Documents => heavy::documents(&namespace, count),
        Kind::Json => heavy::json_values(&namespace, count),
        Kind::Sources => shared::sources(&namespace, count),
        Kind::Missing => shared::missing(&namespace, count),
        Kind::Loops => shared::loops(&namespace, count),
        Kind::Labelled => shared::labelled(&namespace, count),
        Kind::Many => shared::small(&namespace, 15 * count),
        Kind::Spread => shared::spread(&namespace, count),
        Kind::Connections => servers::connections(&namespace, &world.hostile, count),
        Kind::Searches => servers::searches(&namespace, &world.hostile, count),
        Kind::Policies => servers::policies(&namespace, &world.hostile, count),
        Kind::Values => servers::values(&namespace, &world.hostile, count),
        Kind::Loose => loose::objects(&namespace, &world.hostile, count),
        Kind::Pushes => back::pushes(&namespace, count),
        Kind::Hosts => back::hosts(&namespace, count),
        Kind::Written => back::written(&namespace, &world.hostile, count),
    };
    if plan.namespaces.is_empty() {
        plan.namespaces.push(namespace);
    }
    plan
}

/// Makes what the objects of these kinds refer to, and gives the objects of each.
pub async fn prepare(world: &World, kinds: &[Kind], count: usize) -> Result<Vec<(Kind, Vec<Value>)>> {
    let mut attacks = Vec::new();
    for kind in kinds {
        let plan = plan(*kind, world, count);
        let mut policy = String::new();
        for name in &plan.namespaces {
            make(&world.client, &namespace(name, "attacker")).await?;
            writeln!(policy, "- !policy attack/{name}")?;
        }
        policy.push_str(&plan.policy);
        for (id, _) in &plan.variables {
            writeln!(policy, "- !variable {id}")?;
        }
        world.conjur.load_policy("root", &policy).await.with_context(|| format!("{kind:?}"))?;
        for (id, value) in &plan.variables {
            world.conjur.set(id, value).await?;
        }
        let (taken, refused) = make_all(&world.client, &plan.before).await;
        anyhow::ensure!(taken == plan.before.len(), "{kind:?}: {refused:?}");
        attacks.push((*kind, plan.objects));
    }
    Ok(attacks)
}
