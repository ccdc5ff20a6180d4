//! The keys under which a Secret keeps the login and API key of a role that a policy made.

/// A Secret's key may be this long.
const MAX_KEY: usize = 253;
const LOGIN: &str = ".login";
const API_KEY: &str = ".api-key";

/// Why a role can't be kept in a Secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoleKeyError {
    #[error("{role}: only hosts and users have API keys")]
    NoApiKey { role: String },
    #[error(
        "the id of {role} is too long to be the key of a Secret, which may have {MAX_KEY} bytes (this would have {length}): shorten the id"
    )]
    TooLong { role: String, length: usize },
}

/// The two keys of one role in the Secret, and what stands under the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleKeys {
    /// `host.apps_2fbilling_2fweb.login`
    pub login_key: String,
    /// `host.apps_2fbilling_2fweb.api-key`
    pub api_key_key: String,
    /// `host/apps/billing/web`, or a user's `alice@apps-billing`: what the role authenticates with.
    pub login: String,
}

/// The keys for a role, given its full id (`account:host:apps/billing/web`); see [`secret_key_name`] for the errors.
pub fn role_keys(role: &str) -> Result<RoleKeys, RoleKeyError> {
    let name = secret_key_name(role)?;
    Ok(RoleKeys {
        login_key: format!("{name}{LOGIN}"),
        api_key_key: format!("{name}{API_KEY}"),
        login: login(role)?,
    })
}

/// The name in a Secret's keys for a role, given its full id: `host.` or `user.` and the id below the account, bytes
/// outside `[A-Za-z0-9-]` as `_` and two lower hex digits. Two roles never share a name.
///
/// Fails for a role that is neither host nor user, and where the longer key would not fit into a Secret.
pub fn secret_key_name(role: &str) -> Result<String, RoleKeyError> {
    let (kind, id) = split(role)?;
    let mut name = format!("{kind}.");
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' {
            name.push(char::from(byte));
        } else {
            name.push('_');
            name.push_str(&hex::encode([byte]));
        }
    }
    let length = name.len() + API_KEY.len();
    if length > MAX_KEY {
        return Err(RoleKeyError::TooLong { role: role.to_owned(), length });
    }
    Ok(name)
}

/// What a role authenticates with, given its full id: `host/apps/billing/web`, or a user's id as it is.
pub fn login(role: &str) -> Result<String, RoleKeyError> {
    let (kind, id) = split(role)?;
    Ok(if kind == "host" { format!("host/{id}") } else { id.to_owned() })
}

fn split(role: &str) -> Result<(&str, &str), RoleKeyError> {
    let mut parts = role.splitn(3, ':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(kind @ ("host" | "user")), Some(id)) if !id.is_empty() => Ok((kind, id)),
        _ => Err(RoleKeyError::NoApiKey { role: role.to_owned() }),
    }
}

/// The name of the Secret for the keys of a policy that names none.
pub fn default_keys_name(policy: &str) -> String {
    format!("{policy}-created-roles")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_role_has_two_keys_and_a_login() {
        let cases = [
            ("myorg:host:apps/billing/web", "host.apps_2fbilling_2fweb", "host/apps/billing/web"),
            ("myorg:user:alice@apps-billing", "user.alice_40apps-billing", "alice@apps-billing"),
            ("myorg:user:alice", "user.alice", "alice"),
            ("myorg:host:a_b.c", "host.a_5fb_2ec", "host/a_b.c"),
            (
                "myorg:host:system:serviceaccount:ns1:sa1",
                "host.system_3aserviceaccount_3ans1_3asa1",
                "host/system:serviceaccount:ns1:sa1",
            ),
            ("myorg:host:ü", "host._c3_bc", "host/ü"),
        ];
        for (role, name, login) in cases {
            let keys = role_keys(role).unwrap();
            assert_eq!(keys.login_key, format!("{name}.login"), "{role}");
            assert_eq!(keys.api_key_key, format!("{name}.api-key"), "{role}");
            assert_eq!(keys.login, login, "{role}");
        }
    }

    #[test]
    fn the_longest_key_that_fits_is_taken_and_one_byte_more_is_refused() {
        let role = |n: usize| format!("myorg:host:{}", "x".repeat(n));
        let fits = MAX_KEY - "host.".len() - API_KEY.len();
        assert_eq!(role_keys(&role(fits)).unwrap().api_key_key.len(), MAX_KEY);
        let error = role_keys(&role(fits + 1)).unwrap_err();
        assert!(matches!(error, RoleKeyError::TooLong { length: 254, .. }), "{error}");
    }

    #[test]
    fn what_is_neither_host_nor_user_has_no_key() {
        for role in ["myorg:group:ops", "myorg:policy:apps", "host", "", "myorg:host:", "myorg:host"] {
            assert!(matches!(role_keys(role), Err(RoleKeyError::NoApiKey { .. })), "{role}");
        }
    }

    proptest! {
        #[test]
        fn names_are_valid_keys_of_a_secret(id in ".{1,60}") {
            if let Ok(keys) = role_keys(&format!("a:host:{id}")) {
                for key in [keys.login_key, keys.api_key_key] {
                    prop_assert!(key.len() <= 253);
                    prop_assert!(key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)));
                    prop_assert!(!key.starts_with(".."));
                }
            }
        }

        #[test]
        fn two_roles_never_share_a_name(a in "[a_2f/@.]{1,6}", b in "[a_2f/@.]{1,6}", host in any::<bool>()) {
            let kind = if host { "host" } else { "user" };
            let (first, second) = (secret_key_name(&format!("o:host:{a}")), secret_key_name(&format!("o:{kind}:{b}")));
            prop_assert_eq!(first == second, host && a == b);
        }
    }
}
