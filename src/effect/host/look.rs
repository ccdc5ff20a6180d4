//! What is looked at in Conjur for a host, and what its refusals mean.

use std::collections::BTreeSet;

use super::{HostCaller, Keeper, tokens};
use crate::{
    api::{Reason, host::PendingEnrolment},
    conjur::{Error, Members, Ownership, PolicyBranch},
    effect::evidence,
    plan::{
        Failure, LOOK_AGAIN,
        effect::evidence::{BranchVersion, Origin},
        full_id::{below_account, kind_of},
        host::step::{EnrolmentWay, FactoryLook, HostLook},
    },
};

/// The field that names branches by its roles.
const MEMBER_OF: &str = "spec.memberOf";

/// The field of a spec that a branch comes from: what lies in another one than the host is a membership.
fn field_of(branch: &str, way: &EnrolmentWay) -> &'static str {
    match way {
        EnrolmentWay::Branch(own) if own != branch => MEMBER_OF,
        EnrolmentWay::Branch(_) | EnrolmentWay::Factory(_) | EnrolmentWay::Token | EnrolmentWay::Existing => {
            "spec.via.branch"
        }
    }
}

impl<C: HostCaller> Keeper<'_, C> {
    pub(super) fn field_of(&self, branch: &PolicyBranch) -> &'static str {
        field_of(branch.as_str(), &self.caller.way())
    }

    /// The branch of a document.
    pub(super) fn policy_branch(&self, branch: &str) -> Result<PolicyBranch, Failure> {
        PolicyBranch::new(branch).map_err(|e| {
            let field = field_of(branch, &self.caller.way());
            Failure::stalled(Reason::InvalidSpec, format!("{field}: {e}"))
        })
    }

    pub(super) async fn look_at_host(&self) -> Result<HostLook, Failure> {
        let shown = self.asked.through.client.show_resource("host", self.asked.id).await;
        Ok(match shown.map_err(|e| self.failed(e))? {
            None => HostLook::Absent,
            Some(shown) => HostLook::There {
                maker: self.caller.maker(&shown),
                origin: Origin { created_at: shown.created_at, policy: shown.policy },
            },
        })
    }

    /// Who does not own a branch sees none of its hosts, and can't recover their keys.
    pub(super) async fn require_ownership(&self, branch: &str) -> Result<(), Failure> {
        let branch = self.policy_branch(branch)?;
        match self.asked.through.client.owns_branch(&branch).await.map_err(|e| self.failed(e))? {
            Ownership::Owner => Ok(()),
            is => Err(self.not_owned(&branch, is)),
        }
    }

    pub(super) fn not_owned(&self, branch: &PolicyBranch, is: Ownership) -> Failure {
        let identity = &self.asked.through.identity;
        match is {
            Ownership::NoBranch | Ownership::Owner => Failure::waiting(
                Reason::BranchNotFound,
                LOOK_AGAIN,
                format!(
                    "policy branch {branch} does not exist, or is not visible to {identity}. Make it, with {identity} as its owner, or \
                     correct {}",
                    self.field_of(branch)
                ),
            ),
            Ownership::NotOwner if self.field_of(branch) == MEMBER_OF => Failure::stalled(
                Reason::NotBranchOwner,
                format!(
                    "{identity} may see branch {branch}, but does not own it, and can't grant there what spec.memberOf says. Make it \
                     the owner, grant it the role that owns the branch, or correct spec.memberOf"
                ),
            ),
            Ownership::NotOwner => Failure::stalled(
                Reason::NotBranchOwner,
                format!(
                    "{identity} may see branch {branch}, but does not own it: the key of a host that it makes there could be lost for \
                     good. Make it the owner, as in - !policy {{id: …, owner: !host …}}, or grant it the role that owns the branch"
                ),
            ),
        }
    }

    pub(super) async fn versions(&self, branch: &str) -> Result<Vec<BranchVersion>, Failure> {
        let branch = self.policy_branch(branch)?;
        match evidence::versions(self.asked.through, &branch).await {
            Ok(versions) => Ok(versions),
            Err(Error::NotFound { .. }) => Err(self.not_owned(&branch, Ownership::NoBranch)),
            Err(Error::Forbidden { .. }) => Err(self.not_owned(&branch, Ownership::NotOwner)),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// What the host is a member of, as specs write it.
    pub(super) async fn memberships(&self) -> Result<BTreeSet<String>, Failure> {
        let memberships =
            self.asked.through.client.role_memberships("host", self.asked.id, &Members::default()).await;
        let memberships = memberships.map_err(|e| self.failed(e))?;
        let text = |full: String| Some(format!("{}/{}", kind_of(&full), below_account(&full)?));
        Ok(memberships.into_iter().filter_map(|grant| text(grant.role.to_string())).collect())
    }

    /// Who does not own a factory sees none of the hosts that it made: it would be asked for a new key of another's.
    pub(super) async fn require_factory(&self, factory: &str) -> Result<(), Failure> {
        match self.asked.through.client.owns_host_factory(factory).await.map_err(|e| self.failed(e))? {
            Ownership::Owner => Ok(()),
            Ownership::NoBranch => Err(self.no_factory(factory)),
            Ownership::NotOwner => {
                let identity = &self.asked.through.identity;
                let message = format!(
                    "{identity} may use host factory {factory}, but does not own it: the hosts that it makes would be invisible to \
                     {identity}, and their keys could not be rotated. Let {identity} own it, as in - !host-factory {{id: …, owner: !host …}}, \
                     or correct spec.via.hostFactory.id"
                );
                Err(Failure::stalled(Reason::NotBranchOwner, message))
            }
        }
    }

    /// The factory's tokens by when they end, and the server's clock.
    pub(super) async fn look_at_factory(&self, factory: &str) -> Result<FactoryLook, Failure> {
        self.find_factory(factory).await?.ok_or_else(|| self.no_factory(factory))
    }

    /// The same; none where it does not exist, or can't be seen.
    pub(super) async fn find_factory(&self, factory: &str) -> Result<Option<FactoryLook>, Failure> {
        let seen = tokens::look(&self.asked.through.client, factory).await.map_err(|e| self.failed(e))?;
        Ok(seen.map(|(look, _)| look))
    }

    /// Revokes the token of a factory that ends then; that it is gone is none of its concern.
    pub(super) async fn revoke(&mut self, factory: &str, expires: i64) -> Result<(), Failure> {
        let client = &self.asked.through.client;
        let revoked = if let Some(own) = self.token.take() {
            tokens::revoke(client, &own).await
        } else {
            // By the status alone: it grants nothing.
            self.caller.check_rules()?;
            let token = PendingEnrolment { factory: factory.to_owned(), expires };
            tokens::revoke_announced(client, &token).await
        };
        match revoked {
            Ok(()) => Ok(()),
            Err(Error::Forbidden { .. }) => Err(self.no_factory(factory)),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// The factory that the spec names.
    pub(super) fn caller_factory(&self) -> Option<String> {
        match self.caller.way() {
            EnrolmentWay::Factory(factory) => Some(factory),
            EnrolmentWay::Branch(_) | EnrolmentWay::Token | EnrolmentWay::Existing => None,
        }
    }

    fn no_factory(&self, factory: &str) -> Failure {
        let identity = &self.asked.through.identity;
        let message = format!(
            "host factory {factory} does not exist, or {identity} does not own it. Make it in a branch that {identity} owns, or correct \
             spec.via.hostFactory.id"
        );
        Failure::waiting(Reason::HostNotFound, LOOK_AGAIN, message)
    }

    pub(super) fn factory_refused(&self, factory: &str, error: Error) -> Failure {
        match error {
            Error::NotFound { .. } | Error::Forbidden { .. } => self.no_factory(factory),
            Error::Invalid { message, .. } => {
                let message = format!("host factory {factory} makes no token: {message}");
                Failure::transient(Reason::ConjurUnavailable, message)
            }
            error => self.failed(error),
        }
    }

    /// What the refusal of an enrolment means; its token is not the connection's.
    pub(super) fn enrolment_refused(&self, is_given: bool, error: Error) -> Failure {
        let id = self.asked.id;
        match error {
            Error::Unauthenticated { .. } if is_given => Failure::stalled(
                Reason::KeyNotStored,
                format!(
                    "Conjur refuses the token in spec.via.hostFactoryTokenSecretRef: it is expired, revoked or unknown, or may not be \
                     used from the operator's address. No key is stored for host/{id}; put a new token into that Secret"
                ),
            ),
            Error::Unauthenticated { .. } => Failure::transient(
                Reason::ConjurUnavailable,
                format!(
                    "Conjur refuses the token that its host factory made for host/{id} a moment ago; another one is made"
                ),
            ),
            Error::Forbidden { .. } => Failure::stalled(
                Reason::ForeignHost,
                format!(
                    "host/{id} exists in Conjur, and its host factory did not make it. Use another id, or enrol it with \
                     spec.via.existing"
                ),
            ),
            Error::NotFound { message, .. } | Error::Invalid { message, .. } => {
                Failure::stalled(Reason::InvalidSpec, format!("Conjur does not take host/{id}: {message}"))
            }
            error => self.failed(error),
        }
    }

    pub(super) fn rotation_refused(&self, error: Error) -> Failure {
        let (id, identity) = (self.asked.id, &self.asked.through.identity);
        match error {
            Error::NotFound { .. } => Failure::stalled(
                Reason::HostNotFound,
                format!(
                    "the key of host/{id} can't be rotated: the host does not exist, or is not visible to {identity}. Let {identity} own \
                     it, or correct spec.id"
                ),
            ),
            Error::Forbidden { .. } => Failure::stalled(
                Reason::HostNotFound,
                format!(
                    "the key of host/{id} can't be rotated: {identity} lacks `update` on it. Let {identity} own it"
                ),
            ),
            Error::Invalid { message, .. } => Failure::stalled(
                Reason::InvalidSpec,
                format!("the key of host/{id} can't be rotated: {message}"),
            ),
            error => self.failed(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_that_is_not_the_hosts_comes_from_a_membership() {
        let way = EnrolmentWay::Branch("apps".into());
        assert_eq!(field_of("apps", &way), "spec.via.branch");
        assert_eq!(field_of("apps/web", &way), "spec.memberOf");
        assert_eq!(field_of("root", &way), "spec.memberOf");
        assert_eq!(field_of("apps", &EnrolmentWay::Existing), "spec.via.branch");
    }
}
