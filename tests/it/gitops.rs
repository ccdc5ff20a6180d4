//! How GitOps tools judge the objects: kstatus (Flux, `kubectl wait`'s kin) by its own rules, Argo CD by the scripts of `gitops/argocd`.

mod files;
pub mod judge;
mod kstatus;
mod lua;
pub mod phase;
pub mod record;
