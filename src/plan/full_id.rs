//! What a full id says: `account:kind:id`.

/// The kind.
pub fn kind_of(full_id: &str) -> &str {
    full_id.split(':').nth(1).unwrap_or_default()
}

/// The id below the account; it may have colons of its own. None where it is no full id.
pub fn below_account(full_id: &str) -> Option<&str> {
    full_id.splitn(3, ':').nth(2)
}

/// Whether what has this full id has an API key: a host or a user.
pub fn has_key(full_id: &str) -> bool {
    matches!(kind_of(full_id), "host" | "user")
}

/// Whether an id is that of a branch or lies below it; `separator` stands between the segments of both.
pub fn is_at_or_below(id: &str, branch: &str, separator: char) -> bool {
    id.strip_prefix(branch).is_some_and(|rest| rest.is_empty() || rest.starts_with(separator))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_id_has_an_account_a_kind_and_an_id_with_colons_of_its_own() {
        assert_eq!((kind_of("demo:host:a:b"), below_account("demo:host:a:b")), ("host", Some("a:b")));
        assert_eq!((kind_of("demo"), below_account("demo:host")), ("", None));
        assert!(has_key("demo:host:a:b") && has_key("demo:user:a") && !has_key("demo:host_factory:a"));
    }

    #[test]
    fn a_branch_ends_at_its_separator() {
        for (id, is) in [("app", true), ("app/eu", true), ("apps", false), ("app-eu", false), ("", false)] {
            assert_eq!(is_at_or_below(id, "app", '/'), is, "{id}");
        }
    }
}
