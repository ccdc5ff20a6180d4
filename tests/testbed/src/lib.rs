//! What cluster tests and the demo stand on: a real control plane, with a node that runs Pods where the machine can have
//! one; the chart installed by Helm; and the operator as a process under the chart's `ServiceAccount`, or as a Pod.
//!
//! Every process that is started here ends with the one that started it, even when that is killed with
//! SIGKILL; see [`process`]. Everything listens on the loopback interface only, or within the node's network, and every file lies in one
//! temporary folder, which goes when the processes have ended.
//!
//! ```no_run
//! # async fn example() -> testbed::Result<()> {
//! use testbed::{Chart, ControlPlane, Operator, OperatorOptions};
//!
//! let cluster = ControlPlane::start().await?;
//! let release = cluster.install_chart(&Chart::default()).await?;
//! let operator =
//!     Operator::start("target/debug/conjur-operator", &cluster, OperatorOptions::under(&release)).await?;
//! cluster.apply("{apiVersion: v1, kind: Namespace, metadata: {name: billing}}").await?;
//! operator.terminate().await?;
//! cluster.stop().await
//! # }
//! ```

mod api_path;
mod audit;
mod chart;
mod conjur;
mod control_plane;
mod cost;
mod hooks;
mod image;
mod node;
mod operator;
pub mod pki;
pub mod process;
mod programs;
mod wait;

pub use anyhow::{Error, Result};
pub use api_path::{Address, ApiPath, Loss};
pub use audit::{ApiRequest, AuditMark};
pub use chart::{Chart, Release, chart_folder};
pub use conjur::DevConjur;
pub use control_plane::ControlPlane;
pub use cost::Cost;
pub use hooks::HookRun;
pub use image::operator_image;
pub use node::PAUSE_IMAGE;
pub use operator::{Operator, OperatorOptions};
pub use programs::{check_rules, cosign, crane, external_secrets_crds, helm, repository};
pub use wait::wait_for;
