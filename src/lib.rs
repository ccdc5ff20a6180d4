//! conjur-operator: keeps CyberArk Conjur and a Kubernetes cluster in step.
pub mod api;
pub mod app;
pub mod cli;
pub mod leader;
pub mod metrics;
pub mod plan;
pub mod server;
pub mod telemetry;
