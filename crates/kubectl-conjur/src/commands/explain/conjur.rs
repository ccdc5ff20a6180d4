//! What Conjur says of an id: whether it is there, holds a value, and may be used; and the statement that is missing.

use conjur_client::{Check, Client, Error, Ownership, Page, PolicyBranch, RoleId};

use crate::steps::Steps;

/// So many records are looked through for one of a like name.
const LOOKED_AT: u32 = 1000;
/// So many characters may differ.
const NEAR: usize = 3;

/// Where a `!permit` goes. What it is about has to lie below the branch, and is named from there on (recordings 116, 117); who
/// gets it may be named from the root on in any.
const INTO_ROOT: &str =
    "Load this into the root policy, or into a branch that the id lies in, without the branch's own id in it";

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
    /// As a policy names it in any branch: `!host /apps/web`.
    fn in_policy(&self) -> String {
        let (kind, id) = self.role();
        tagged(kind, &format!("/{id}"))
    }

    /// Kind and id.
    fn role(&self) -> (&'static str, &str) {
        self.login.strip_prefix("host/").map_or(("user", self.login.as_str()), |host| ("host", host))
    }
}

/// Asks who the client is, and which roles that is a member of. `doctor` is the command that looks closer.
pub async fn identity(client: &Client, doctor: &str, steps: &mut Steps) -> Option<Identity> {
    let who = match client.whoami().await {
        Ok(who) => who,
        Err(error) => {
            steps.bad("identity", error.to_string(), format!("{doctor} looks at it step by step"));
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
        Ok(Check::NoResource) => {
            let near = nearest(client, kind, id).await;
            let is_near = near.is_some();
            let near = near.map(|near| format!(" There is a {kind} {near}: is that the one that is meant?"));
            steps.bad(
                id,
                format!(
                    "there is no such {kind}, or {} has no privilege on it: Conjur does not tell these apart.{}",
                    identity.login,
                    near.unwrap_or_default()
                ),
                match need {
                    // One that is misspelt would be permitted what it is not.
                    Need::Load(_) if is_near => "If it is, correct the object".to_owned(),
                    _ => format!(
                    "If it does not exist, declare it first, in the branch that it is to lie in. {INTO_ROOT}:\n{}",
                    permit(identity, need, id)
                ),
                },
            );
        }
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
                "Set one, by Conjur's command line or its user interface",
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
        "- !permit\n  role: {}\n  privileges: [ {} ]\n  resource: {}",
        identity.in_policy(),
        need.privileges(),
        tagged(need.kind(), id)
    )
}

/// A record as a policy names it, quoted where YAML would read something else.
fn tagged(kind: &str, id: &str) -> String {
    let plain = id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '@'));
    if plain { format!("!{kind} {id}") } else { format!("!{kind} {}", serde_json::Value::from(id)) }
}

/// The record of a kind that is seen and whose id is most like another, where one is.
async fn nearest(client: &Client, kind: &str, id: &str) -> Option<String> {
    let found = client.list_resources(kind, Page { limit: LOOKED_AT, offset: 0 }).await.ok()?;
    let ids = found.iter().filter_map(|one| one.id.splitn(3, ':').nth(2));
    let best = ids.map(|other| (distance(id, other), other)).min()?;
    (best.0 <= NEAR).then(|| best.1.to_owned())
}

/// How many characters have to be put in, taken out or changed.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = before + usize::from(x != *y);
            before = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(before + 1);
        }
    }
    row[b.len()]
}

/// Whether the identity owns a branch, which a load that makes hosts or users needs.
pub async fn owns(client: &Client, identity: &Identity, branch: &str, steps: &mut Steps) {
    let Ok(of) = PolicyBranch::new(branch) else { return };
    let name = format!("owner of {branch}");
    match client.owns_branch(&of).await {
        Ok(Ownership::Owner) => steps.good(&name, format!("{} owns the branch", identity.login)),
        Ok(Ownership::NotOwner) => steps.bad(
            &name,
            format!(
                "{} sees the branch and does not own it: hosts and users are made by an owner alone",
                identity.login
            ),
            format!(
                "Declare the branch with `owner: {}`, or with a group that it is in",
                identity.in_policy()
            ),
        ),
        // Told by what was looked at before.
        Ok(Ownership::NoBranch) => {}
        Err(error) => unknown(&name, &error, steps),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_permit_names_role_privileges_and_resource() {
        let host = Identity { login: "host/apps/web".to_owned() };
        assert_eq!(
            permit(&host, Need::Read, "apps/db/password"),
            "- !permit\n  role: !host /apps/web\n  privileges: [ read, execute ]\n  resource: !variable apps/db/password"
        );
        let user = Identity { login: "alice".to_owned() };
        assert!(permit(&user, Need::Load("create"), "apps").contains("role: !user /alice"));
        assert!(permit(&user, Need::Load("create"), "apps").ends_with("resource: !policy apps"));
        assert_eq!(tagged("variable", "apps/key #1: \"x\""), r#"!variable "apps/key #1: \"x\"""#);
        assert_eq!((distance("app/inventory", "apps/inventory"), distance("abc", "xyz")), (1, 3));
        assert_eq!((host.role(), user.role()), (("host", "apps/web"), ("user", "alice")));
    }
}
