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

/// Whether a record (its full id) lies in a branch, so that only who may load that can have made it. Of a user's id the
/// part behind the `@` is the branch's with `-` for each `/`.
pub fn lies_in(full_id: &str, account: &str, branch: &str) -> bool {
    let mut parts = full_id.splitn(3, ':');
    if parts.next() != Some(account) {
        return false;
    }
    match (branch, parts.next(), parts.next()) {
        (_, None, _) | (_, _, None) => false,
        ("root", ..) => true,
        (branch, Some("user"), Some(id)) => {
            let at = id.rsplit_once('@').map_or("", |(_, at)| at);
            is_at_or_below(at, &branch.replace('/', "-"), '-')
        }
        (branch, _, Some(id)) => is_at_or_below(id, branch, '/'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_lies_in_the_branch_that_its_id_begins_with() {
        for (record, branch, lies) in [
            ("demo:group:app/later", "app", true),
            ("demo:host:app", "app", true),
            ("demo:group:apps/later", "app", false),
            ("demo:group:later", "app", false),
            ("demo:group:later", "root", true),
            ("demo:user:a@app-eu", "app/eu", true),
            ("demo:user:a@app-eu", "app", true),
            ("demo:user:a@apps", "app", false),
            ("demo:user:a", "app", false),
            ("other:group:app/later", "app", false),
            ("other:group:later", "root", false),
            ("nonsense", "root", false),
        ] {
            assert_eq!(lies_in(record, "demo", branch), lies, "{record} {branch}");
        }
    }

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
