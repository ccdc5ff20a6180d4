//! conjur-operator: keeps CyberArk Conjur and a Kubernetes cluster in step.
pub mod api;
pub mod metrics;
pub mod plan;
pub mod server;
pub mod telemetry;
