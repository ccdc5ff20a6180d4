//! What the namespaces may do that use a ClusterConjurConnection. Nothing is granted but by a rule.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::plan::Failure;

use crate::{
    api::{Reason, connection::AccessRule},
    limits::FOUND_ID_BYTES,
    segments::{self, is_dots},
};

/// A namespace that wants to use a connection.
#[derive(Clone, Copy, Debug)]
pub struct Consumer<'a> {
    /// Its name.
    pub namespace: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
}

/// What is to be done with an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Read a variable.
    Read,
    /// Push a value into a variable.
    Push,
    /// Load a policy branch.
    Load,
    /// Ask what a load of a policy branch would change.
    Plan,
}

impl Verb {
    fn list(self) -> &'static str {
        match self {
            Verb::Read => "read",
            Verb::Push => "write",
            Verb::Load | Verb::Plan => "branches",
        }
    }
}

/// Whether a rule grants it.
///
/// # Errors
/// `AccessDenied`, with the rule that is missing.
pub fn check(
    rules: &[AccessRule],
    who: Consumer,
    verb: Verb,
    id: &str,
    connection: &str,
) -> Result<(), Failure> {
    let what = match verb {
        Verb::Read => format!("read variable {id}"),
        Verb::Push => format!("push to variable {id}"),
        Verb::Load => format!("load policy branch {id}"),
        Verb::Plan => format!("ask what a load of policy branch {id} would change"),
    };
    if has_bad_segment(id) {
        let message =
            format!("cannot {what}: the id has an empty, '.' or '..' segment, or a control character");
        return Err(Failure::stalled(Reason::InvalidSpec, message));
    }
    let granted = Granted::of(rules, who, verb);
    if granted.includes(id) {
        return Ok(());
    }
    let namespace = who.namespace;
    let why = if granted.patterns.is_none() {
        format!(
            "no rule of spec.access of ClusterConjurConnection {connection} is for namespace {namespace}, so it may not {what}"
        )
    } else {
        format!(
            "the rules of ClusterConjurConnection {connection} for namespace {namespace} do not let it {what}"
        )
    };
    // A rule of its own: one that is there may be for others, too, who would get the same.
    let message = format!(
        "{why}. Its administrator can add: - {{namespaces: {{names: [{namespace}]}}, {}: [\"{id}\"]}}",
        verb.list()
    );
    Err(Failure::stalled(Reason::AccessDenied, message))
}

/// Whether a namespace may use a connection at all, for what names no id.
///
/// # Errors
/// `AccessDenied`.
pub fn check_use(rules: &[AccessRule], who: Consumer, connection: &str) -> Result<(), Failure> {
    if rules.iter().any(|rule| rule_is_for(rule, who)) {
        return Ok(());
    }
    let namespace = who.namespace;
    Err(Failure::stalled(
        Reason::AccessDenied,
        format!(
            "no rule of spec.access of ClusterConjurConnection {connection} is for namespace {namespace}, so it may not \
             be used from there. Its administrator can add: - {{namespaces: {{names: [{namespace}]}}, read: [<ids>]}}"
        ),
    ))
}

/// Which rules are for a namespace, as a text; none where no rule selects by labels, so that nothing but the rules
/// themselves can change it.
pub fn selection(rules: &[AccessRule], who: Consumer) -> Option<String> {
    rules
        .iter()
        .any(|rule| rule.namespaces.selector.is_some())
        .then(|| rules.iter().map(|rule| if rule_is_for(rule, who) { '1' } else { '0' }).collect())
}

/// What a namespace may do, of all rules that are for it.
pub struct Granted {
    /// None where no rule is for the namespace.
    patterns: Option<Vec<String>>,
    /// The root policy: all of Conjur. None where the ids are not of branches; then `root` is an id like any other.
    root: Option<bool>,
}

/// The branch that is no branch: everything else is below it.
const ROOT: &str = "root";

impl Granted {
    /// Gathers what the rules grant.
    pub fn of(rules: &[AccessRule], who: Consumer, verb: Verb) -> Self {
        let mut patterns = None;
        let mut root = matches!(verb, Verb::Load | Verb::Plan).then_some(false);
        for rule in rules.iter().filter(|rule| rule_is_for(rule, who)) {
            let granted = match verb {
                Verb::Read => rule.read.as_deref(),
                Verb::Push => rule.write.as_deref(),
                Verb::Load | Verb::Plan => rule.branches.as_deref(),
            };
            let granted = granted.unwrap_or_default();
            // As it is written: a namespace may be called so, too.
            root = root.map(|root| root || granted.iter().any(|pattern| pattern == ROOT));
            let granted = granted.iter().map(|pattern| filled(pattern, who.namespace));
            patterns.get_or_insert_with(Vec::new).extend(granted);
        }
        Self { patterns, root }
    }

    /// Whether an id would be granted, were it not for what its segments are. A very long one is not looked at.
    pub fn covers(&self, id: &str) -> bool {
        id.len() <= FOUND_ID_BYTES && self.patterns.iter().flatten().any(|pattern| glob(pattern, id))
    }

    /// Whether an id is granted; one with an empty, `.` or `..` segment never is, and the root policy only where a rule
    /// says `root`.
    pub fn includes(&self, id: &str) -> bool {
        if let (ROOT, Some(root)) = (id, self.root) {
            return root;
        }
        !has_bad_segment(id) && self.patterns.iter().flatten().any(|pattern| glob(pattern, id))
    }

    /// Whether a branch is granted that an id lies in, be it some levels above.
    fn holds(&self, id: &str) -> bool {
        let ends = id.match_indices('/').map(|(at, _)| at);
        self.includes(ROOT) || ends.into_iter().any(|end| self.includes(&id[..end]))
    }
}

/// Whether a rule grants a branch that an id lies in: who may load a branch may make what lies below it.
///
/// # Errors
/// `AccessDenied`, with the rule that is missing; `InvalidSpec` for an id that can't be.
pub fn check_within(
    rules: &[AccessRule],
    who: Consumer,
    what: &str,
    id: &str,
    connection: &str,
) -> Result<(), Failure> {
    if has_bad_segment(id) {
        let message =
            format!("cannot keep {what}: its id has an empty, '.' or '..' segment, or a control character");
        return Err(Failure::stalled(Reason::InvalidSpec, message));
    }
    if Granted::of(rules, who, Verb::Load).holds(id) {
        return Ok(());
    }
    let branch = id.rsplit_once('/').map_or(ROOT, |(parent, _)| parent);
    let namespace = who.namespace;
    let message = format!(
        "no rule of ClusterConjurConnection {connection} for namespace {namespace} grants a branch that {what} lies in. Its \
         administrator can add: - {{namespaces: {{names: [{namespace}]}}, branches: [\"{branch}\"]}}"
    );
    Err(Failure::stalled(Reason::AccessDenied, message))
}

/// Whether each of these ids, by what messages call it, lies in a branch that a rule grants; without ids, whether a rule is for the
/// namespace at all.
///
/// # Errors
/// As [`check_use`] and [`check_within`].
pub fn check_hosts(
    rules: &[AccessRule],
    who: Consumer,
    ids: &[(String, &str)],
    connection: &str,
) -> Result<(), Failure> {
    if ids.is_empty() {
        return check_use(rules, who, connection);
    }
    ids.iter().try_for_each(|(what, id)| check_within(rules, who, what, id, connection))
}

/// Whether a rule that grants a branch which an id lies in says `identities: true`.
pub fn may_rotate_identity(rules: &[AccessRule], who: Consumer, id: &str) -> bool {
    rules.iter().filter(|rule| rule.identities == Some(true)).any(|rule| {
        let one = std::slice::from_ref(rule);
        !has_bad_segment(id) && Granted::of(one, who, Verb::Load).holds(id)
    })
}

fn rule_is_for(rule: &AccessRule, who: Consumer) -> bool {
    let namespaces = &rule.namespaces;
    let named = namespaces.names.as_ref().map(|names| names.iter().any(|n| n == who.namespace));
    let selected = namespaces.selector.as_ref().map(|s| selects(s, who.labels));
    // Both given: both must match. None given: a rule for no one.
    match (named, selected) {
        (None, None) => false,
        (named, selected) => named.unwrap_or(true) && selected.unwrap_or(true),
    }
}

/// Whether a label selector selects labels; an operator that is not known selects nothing.
pub fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(k, v)| labels.get(k) == Some(v));
    equal
        && selector.match_expressions.iter().flatten().all(|e| {
            let value = labels.get(&e.key);
            let listed = |v: &String| e.values.iter().flatten().any(|x| x == v);
            match e.operator.as_str() {
                "In" => value.is_some_and(listed),
                "NotIn" => !value.is_some_and(listed),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

fn filled(pattern: &str, namespace: &str) -> String {
    pattern.replace("{namespace}", namespace)
}

/// What a server, or what stands before it, could read as another id.
fn has_bad_segment(id: &str) -> bool {
    id.contains(char::is_control) || id.split('/').any(str::is_empty) || id.split(['/', '\\']).any(is_dots)
}

/// Whether an id matches a pattern: `*` stands for any text within a segment, `**` as a whole segment for one or
/// more segments.
pub fn glob(pattern: &str, id: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').collect();
    let id: Vec<&str> = id.split('/').collect();
    // reached[i]: the segments of the pattern so far match the first i segments of the id.
    let mut reached = vec![false; id.len() + 1];
    reached[0] = true;
    for part in pattern {
        let mut next = vec![false; id.len() + 1];
        for (i, segment) in id.iter().enumerate() {
            next[i + 1] = if part == "**" {
                reached[i] || next[i]
            } else {
                reached[i] && segments::matches(part, segment)
            };
        }
        reached = next;
    }
    reached[id.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::connection::AccessNamespaces;

    #[test]
    fn the_selection_is_told_where_labels_can_change_it() {
        let rule = |names: Option<&str>, label: Option<&str>| {
            let selector = label.map(|value| LabelSelector {
                match_labels: Some(BTreeMap::from([("team".to_owned(), value.to_owned())])),
                ..LabelSelector::default()
            });
            let names = names.map(|name| vec![name.to_owned()]);
            AccessRule {
                namespaces: AccessNamespaces { names, selector },
                read: None,
                write: None,
                branches: None,
                identities: None,
            }
        };
        let named = [rule(Some("n"), None), rule(Some("m"), None)];
        let selected = [rule(Some("n"), None), rule(None, Some("pay")), rule(Some("m"), Some("pay"))];
        for (labels, of_selected) in [(&[][..], "100"), (&[("team", "pay")], "110"), (&[("x", "y")], "100")] {
            let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let who = Consumer { namespace: "n", labels: &labels };
            assert_eq!(selection(&named, who), None);
            assert_eq!(selection(&selected, who).as_deref(), Some(of_selected));
        }
    }

    #[test]
    fn one_star_stays_within_a_segment_and_two_cross() {
        for (pattern, id, expected) in [
            ("apps/billing", "apps/billing", true),
            ("apps/billing", "apps/billing/db", false),
            ("apps/*", "apps/billing", true),
            ("apps/*", "apps/billing/db", false),
            ("apps/*/db", "apps/billing/db", true),
            ("apps/b*g", "apps/billing", true),
            ("apps/b*l*g", "apps/billing", true),
            ("apps/b*x", "apps/billing", false),
            ("apps/**", "apps/billing/db/password", true),
            ("apps/**", "apps/billing", true),
            ("apps/**", "apps", false),
            ("apps/**", "appsx/billing", false),
            ("**/password", "apps/billing/password", true),
            ("**/password", "password", false),
            ("apps/**/password", "apps/a/b/password", true),
            ("apps/**/password", "apps/password", false),
            ("**", "anything/at/all", true),
            ("*", "anything", true),
            ("*", "any/thing", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(glob(pattern, id), expected, "{pattern} {id}");
        }
    }

    fn rule(names: Option<&[&str]>, labels: Option<&[(&str, &str)]>, read: &[&str]) -> AccessRule {
        let text = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        AccessRule {
            namespaces: AccessNamespaces {
                names: names.map(text),
                selector: labels.map(|l| LabelSelector {
                    match_labels: Some(l.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()),
                    match_expressions: None,
                }),
            },
            read: Some(text(read)),
            write: None,
            branches: None,
            identities: None,
        }
    }

    fn may(rules: &[AccessRule], id: &str) -> Result<(), Reason> {
        let labels = BTreeMap::from([("team".to_owned(), "pay".to_owned())]);
        let who = Consumer { namespace: "billing", labels: &labels };
        check(rules, who, Verb::Read, id, "shared").map_err(|f| f.reason)
    }

    #[test]
    fn nothing_is_granted_but_by_a_rule_for_the_namespace() {
        let all = &["**"];
        for (rules, granted) in [
            (vec![], false),
            (vec![rule(None, None, all)], false),
            (vec![rule(Some(&["billing"]), None, all)], true),
            (vec![rule(Some(&["other"]), None, all)], false),
            (vec![rule(None, Some(&[("team", "pay")]), all)], true),
            (vec![rule(None, Some(&[("team", "x")]), all)], false),
            (vec![rule(Some(&["billing"]), Some(&[("team", "pay")]), all)], true),
            (vec![rule(Some(&["billing"]), Some(&[("team", "x")]), all)], false),
            (vec![rule(Some(&["other"]), Some(&[("team", "pay")]), all)], false),
            (vec![rule(Some(&["billing"]), None, &["apps/{namespace}/**"])], true),
            (vec![rule(Some(&["billing"]), None, &["apps/other/**"])], false),
            (vec![rule(Some(&["billing"]), None, &[])], false),
        ] {
            assert_eq!(may(&rules, "apps/billing/db").is_ok(), granted, "{rules:?}");
        }
    }

    #[test]
    fn an_id_with_a_bad_segment_is_refused_before_any_rule() {
        let all = vec![rule(Some(&["billing"]), None, &["**"])];
        for id in ["apps/../secret", "apps//x", "/x", "x/", "."] {
            assert_eq!(may(&all, id), Err(Reason::InvalidSpec), "{id}");
        }
    }

    #[test]
    fn what_names_no_id_needs_a_rule_for_the_namespace() {
        let labels = BTreeMap::new();
        let who = Consumer { namespace: "billing", labels: &labels };
        for (rules, may) in [
            (vec![], false),
            (vec![rule(Some(&["other"]), None, &["**"])], false),
            (vec![rule(Some(&["billing"]), None, &[])], true),
        ] {
            assert_eq!(check_use(&rules, who, "shared").is_ok(), may, "{rules:?}");
        }
    }

    #[test]
    fn what_is_granted_is_gathered_from_all_rules() {
        let labels = BTreeMap::new();
        let who = Consumer { namespace: "billing", labels: &labels };
        let rules = [
            rule(Some(&["billing"]), None, &["apps/{namespace}/*"]),
            rule(Some(&["other"]), None, &["**"]),
            rule(Some(&["billing"]), None, &["shared/**"]),
        ];
        let granted = Granted::of(&rules, who, Verb::Read);
        let ids = ["apps/billing/a", "apps/other/a", "shared/x/y", "shared/../x", "apps/billing/.."];
        let included: Vec<_> = ids.into_iter().filter(|id| granted.includes(id)).collect();
        assert_eq!(included, ["apps/billing/a", "shared/x/y"]);
        assert!(!Granted::of(&rules, who, Verb::Load).includes("apps/billing/a"));
    }

    #[test]
    fn the_root_policy_is_granted_only_where_a_rule_says_so() {
        let labels = BTreeMap::new();
        for (namespace, branches, granted) in [
            ("billing", &["root"][..], true),
            ("billing", &["apps/*", "root"], true),
            ("billing", &["*"], false),
            ("billing", &["**"], false),
            ("billing", &["r*", "*t", "r**t", "roo*", "ro*ot", "**/root", "root/**", "root/*"], false),
            ("root", &["{namespace}"], false),
            ("root", &["{namespace}", "**"], false),
            ("oo", &["r{namespace}t"], false),
            ("root", &["root"], true),
        ] {
            let mut rule = rule(Some(&[namespace]), None, &[]);
            rule.branches = Some(branches.iter().map(|b| (*b).to_owned()).collect());
            let who = Consumer { namespace, labels: &labels };
            for verb in [Verb::Load, Verb::Plan] {
                let answer = check(std::slice::from_ref(&rule), who, verb, "root", "shared");
                assert_eq!(answer.is_ok(), granted, "{namespace} {branches:?}");
            }
        }
        // A variable may be called so.
        assert_eq!(may(&[rule(Some(&["billing"]), None, &["*"])], "root"), Ok(()));
    }

    #[test]
    fn what_only_looks_like_a_granted_id_is_not_granted() {
        let rules = [rule(Some(&["billing"]), None, &["apps/{namespace}/*", "Shared/x"])];
        for id in [
            "apps/billing/%2e%2e",
            "apps/billing/.%2E",
            "apps/billing/%252e%252e",
            "apps/billing/..\\x",
            "apps\\billing/x",
            "APPS/billing/x",
            "shared/x",
            "Shared/x ",
            "Shared/x\n",
            "apps/billing//x",
            "apps/billing/x/",
            "/apps/billing/x",
            "demo:variable:apps/billing/x",
            "apps/billing\u{2215}x",
            "apps/billing/a\0",
            "{namespace}",
        ] {
            assert!(may(&rules, id).is_err(), "{id:?}");
        }
        assert_eq!(may(&rules, "apps/billing/x"), Ok(()));
    }

    #[test]
    fn what_may_be_read_may_not_be_pushed_to_and_the_other_way_round() {
        let labels = BTreeMap::new();
        let who = Consumer { namespace: "billing", labels: &labels };
        let mut rules = [rule(Some(&["billing"]), None, &["read/*"])];
        rules[0].write = Some(vec!["write/*".to_owned()]);
        for (verb, id, granted) in [
            (Verb::Read, "read/a", true),
            (Verb::Push, "read/a", false),
            (Verb::Read, "write/a", false),
            (Verb::Push, "write/a", true),
        ] {
            assert_eq!(check(&rules, who, verb, id, "shared").is_ok(), granted, "{verb:?} {id}");
        }
        let failure = check(&rules, who, Verb::Push, "read/a", "shared").unwrap_err();
        assert!(failure.message.contains("write: [\"read/a\"]"), "{failure}");
    }

    #[test]
    fn a_host_lies_in_a_granted_branch_or_is_refused() {
        let labels = BTreeMap::new();
        let who = Consumer { namespace: "billing", labels: &labels };
        let grants = |branches: &[&str], identities| {
            let mut rule = rule(Some(&["billing"]), None, &["**"]);
            rule.branches = Some(branches.iter().map(|b| (*b).to_owned()).collect());
            rule.identities = identities;
            [rule]
        };
        for (branches, id, granted) in [
            (&["apps/{namespace}"][..], "apps/billing/web", true),
            (&["apps/{namespace}"], "apps/billing/eu/web", true),
            (&["apps/{namespace}"], "apps/billing", false),
            (&["apps/{namespace}"], "apps/billingx/web", false),
            (&["apps/{namespace}"], "apps/shop/web", false),
            (&["apps/{namespace}"], "web", false),
            (&["apps/{namespace}"], "apps/billing/../shop/web", false),
            (&["apps/{namespace}/**"], "apps/billing/web", false),
            (&["apps/{namespace}/**"], "apps/billing/eu/web", true),
            (&["root"], "web", true),
            (&["root"], "apps/shop/web", true),
            (&["**"], "web", false),
            (&[], "apps/billing/web", false),
        ] {
            let rules = grants(branches, None);
            let refused = check_within(&rules, who, "host", id, "shared");
            assert_eq!(refused.is_ok(), granted, "{branches:?} {id}: {refused:?}");
            assert!(!may_rotate_identity(&rules, who, id));
            assert_eq!(
                may_rotate_identity(&grants(branches, Some(true)), who, id),
                granted,
                "{branches:?} {id}"
            );
        }
        let message = check_within(&grants(&[], None), who, "host/apps/shop/web", "apps/shop/web", "shared")
            .unwrap_err()
            .message;
        assert!(
            message.contains("host/apps/shop/web") && message.contains("branches: [\"apps/shop\"]"),
            "{message}"
        );
    }

    #[test]
    fn without_a_rule_for_the_namespace_not_even_a_look_at_hosts_is_granted() {
        let none = BTreeMap::new();
        let who = Consumer { namespace: "ns", labels: &none };
        let theirs = AccessRule { branches: Some(vec!["**".into()]), ..rule(Some(&["other"]), None, &[]) };
        let own = AccessRule { branches: Some(vec!["apps".into()]), ..rule(Some(&["ns"]), None, &[]) };
        let web = [("host/apps/web".to_owned(), "apps/web")];
        let reason = |rules: &[AccessRule], ids: &[(String, &str)]| {
            check_hosts(rules, who, ids, "c").map_err(|failure| failure.reason)
        };
        for rules in [&[][..], std::slice::from_ref(&theirs)] {
            assert_eq!(reason(rules, &[]), Err(Reason::AccessDenied));
            assert_eq!(reason(rules, &web), Err(Reason::AccessDenied));
        }
        assert_eq!(reason(&[theirs.clone(), own.clone()], &[]), Ok(()));
        assert_eq!(reason(&[theirs, own], &web), Ok(()));
    }

    #[test]
    fn identities_are_granted_by_the_rule_that_grants_their_branch() {
        let labels = BTreeMap::new();
        let who = Consumer { namespace: "billing", labels: &labels };
        let with = |branch: &str, identities| {
            let mut rule = rule(Some(&["billing"]), None, &[]);
            (rule.branches, rule.identities) = (Some(vec![branch.to_owned()]), identities);
            rule
        };
        let rules = [with("apps", None), with("ops", Some(true))];
        assert!(!may_rotate_identity(&rules, who, "apps/web") && may_rotate_identity(&rules, who, "ops/web"));
    }

    #[test]
    fn the_missing_rule_is_told() {
        let labels = BTreeMap::new();
        let who = Consumer { namespace: "billing", labels: &labels };
        let failure = check(&[], who, Verb::Load, "apps/billing", "shared").unwrap_err();
        assert!(failure.message.contains("branches: [\"apps/billing\"]"), "{failure}");
    }
}
