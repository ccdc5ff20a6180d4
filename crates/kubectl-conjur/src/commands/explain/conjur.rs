//! What Conjur says of an id: whether it is there, holds a value, and may be used; and the statement that is missing.

use conjur_client::{Check, Client, Error, RoleId};

use crate::steps::Steps;

/// A privilege on a record, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Its value is read.
    Read,
    /// Its value is written.
    Write,
    /// Policy is loaded into it; the privilege is that of the mode.
    Load(&'static str),
}

impl Need {
    fn kind(self) -> &'static str {
        match self {
            Need::Read | Need::Write => "variable",
            Need::Load(_) => "policy",
        }
    }

    fn privilege(self) -> &'static str {
        match self {
            Need::Read => "execute",
            Need::Write => "update",
            Need::Load(privilege) => privilege,
        }
    }

    /// As a `!permit` gives it: who reads a value also wants to see the record.
    fn privileges(self) -> String {
        match self {
            Need::Read => "read, execute".to_owned(),
            Need::Write => "read, update".to_owned(),
            Need::Load(privilege) => format!("read, {privilege}"),
        }
    }
}

/// Who asks, by what whoami said.
pub struct Identity {
    pub login: String,
}

impl Identity {
    /// As a policy names it: `!host apps/web`.
    fn in_policy(&self) -> String {
        match self.login.strip_prefix("host/") {
            Some(host) => format!("!host {host}"),
            None => format!("!user {}", self.login),
        }
    }

    /// Kind and id.
    fn role(&self) -> (&'static str, &str) {
        self.login.strip_prefix("host/").map_or(("user", self.login.as_str()), |host| ("host", host))
    }
}

/// Asks who the client is, and which roles that is a member of.
pub async fn identity(client: &Client, steps: &mut Steps) -> Option<Identity> {
    let who = match client.whoami().await {
        Ok(who) => who,
        Err(error) => {
            steps.bad("identity", error.to_string(), "kubectl conjur doctor looks at it step by step");
            return None;
        }
    };
    let identity = Identity { login: who.username };
    let (kind, id) = identity.role();
    // A host may not see itself; then its permits tell, below.
    let roles = client.all_role_memberships(kind, id).await.unwrap_or_default();
    let others = roles.iter().filter(|role| role.login() != identity.login);
    let others: Vec<String> = others.map(RoleId::to_string).collect();
    let member =
        if others.is_empty() { String::new() } else { format!(", a member of {}", others.join(", ")) };
    steps.good("identity", format!("{}{member}", identity.login));
    Some(identity)
}

/// Looks at one record.
pub async fn look(client: &Client, identity: &Identity, need: Need, id: &str, steps: &mut Steps) {
    let (kind, privilege) = (need.kind(), need.privilege());
    match client.check_permission(kind, id, privilege, None).await {
        Ok(Check::Granted) if need == Need::Read => look_at_value(client, id, steps).await,
        Ok(Check::Granted) => steps.good(id, format!("{} has {privilege} on the {kind}", identity.login)),
        Ok(Check::Denied) => steps.bad(
            id,
            format!("{} sees the {kind}, and lacks {privilege} on it", identity.login),
            format!(
                "Load into the root policy, or the branch that holds it:\n{}",
                permit(identity, need, id)
            ),
        ),
        Ok(Check::NoResource) => steps.bad(
            id,
            format!(
                "there is no such {kind}, or {} has no privilege on it: Conjur does not tell these apart",
                identity.login
            ),
            format!(
                "If it exists, permit it; if not, declare it first (`- !{kind} {}`):\n{}",
                id.rsplit('/').next().unwrap_or(id),
                permit(identity, need, id)
            ),
        ),
        Err(error) => unknown(id, &error, steps),
    }
}

async fn look_at_value(client: &Client, id: &str, steps: &mut Steps) {
    match client.show_resource("variable", id).await {
        Ok(Some(variable)) => match variable.newest_version() {
            Some(version) => steps.good(id, format!("may be read; version {version}")),
            None => steps.bad(
                id,
                "may be read, and holds no value",
                format!("Set one: conjur variable set -i {id} -v <value>"),
            ),
        },
        Ok(None) => steps.good(id, "may be read"),
        Err(error) => unknown(id, &error, steps),
    }
}

fn unknown(id: &str, error: &Error, steps: &mut Steps) {
    steps.unknown(id, error.to_string());
}

fn permit(identity: &Identity, need: Need, id: &str) -> String {
    format!(
        "- !permit\n  role: {}\n  privileges: [ {} ]\n  resource: !{} {id}",
        identity.in_policy(),
        need.privileges(),
        need.kind()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_permit_names_role_privileges_and_resource() {
        let host = Identity { login: "host/apps/web".to_owned() };
        assert_eq!(
            permit(&host, Need::Read, "apps/db/password"),
            "- !permit\n  role: !host apps/web\n  privileges: [ read, execute ]\n  resource: !variable apps/db/password"
        );
        let user = Identity { login: "alice".to_owned() };
        assert!(permit(&user, Need::Load("create"), "apps").contains("role: !user alice"));
        assert!(permit(&user, Need::Load("create"), "apps").ends_with("resource: !policy apps"));
        assert_eq!((host.role(), user.role()), (("host", "apps/web"), ("user", "alice")));
    }
}
