//! Where it happens: the control plane, both Conjurs, and the operator within its bounds.

use anyhow::{Context as _, Result};
use kube::Client;
use testbed::{Chart, ControlPlane, DevConjur, Operator, OperatorOptions, Release};

use crate::hostile::Hostile;
use crate::memory::MemoryGroup;
use crate::{Options, loosen, say};

/// What attackers and honest tenants share.
pub struct World {
    /// The control plane.
    pub plane: ControlPlane,
    /// The Conjur that everybody's connections lead to, but for the attackers' own.
    pub conjur: DevConjur,
    /// The attackers' own.
    pub hostile: Hostile,
    /// The administrator's client.
    pub client: Client,
    /// The installed chart.
    pub release: Release,
    /// The operator.
    pub operator: Operator,
    /// What bounds its memory.
    pub memory: Option<MemoryGroup>,
}

impl World {
    /// Starts all of it. The CRDs are loosened: an object may be older than their rules.
    pub async fn start(options: &Options) -> Result<Self> {
        say("starting a control plane, two Conjurs and the operator");
        let beside = |name: &str| Ok::<_, std::io::Error>(std::env::current_exe()?.with_file_name(name));
        let conjur = options.conjur.clone().map_or_else(|| beside("conjur-dev"), Ok)?;
        let binary = options.operator.clone().map_or_else(|| beside("conjur-operator"), Ok)?;
        let plane = ControlPlane::start().await?;
        let conjur = DevConjur::start(conjur, plane.folder(), "myorg").await?;
        let release = plane.install_chart(&Chart::default()).await?;
        let client = plane.client().await?;
        loosen::crds(&client).await?;
        let memory = MemoryGroup::new(options.memory);
        if memory.is_none() {
            say("  no control group can be made here: the operator's peak is looked at instead");
        }
        let operator = OperatorOptions { log_level: "info".to_owned(), ..OperatorOptions::under(&release) }
            .within(options.descriptors, memory.as_ref().map(MemoryGroup::folder));
        let operator = OperatorOptions {
            args: [operator.args.clone(), vec!["--leader-elect".to_owned()]].concat(),
            ..operator
        };
        let operator = Operator::start(&binary, &plane, operator).await.context("starting the operator")?;
        let hostile = Hostile::start()?;
        Ok(Self { plane, conjur, hostile, client, release, operator, memory })
    }

    /// Ends all of it.
    pub async fn stop(self) -> Result<()> {
        if self.operator.is_running() {
            self.operator.kill9().await?;
        }
        self.conjur.process().end().await?;
        self.plane.stop().await
    }
}
