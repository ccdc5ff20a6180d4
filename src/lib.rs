//! conjur-operator: keeps CyberArk Conjur and a Kubernetes cluster in step.
pub mod api;
pub mod conjur;
pub mod plan;
pub mod sensitive;
