//! Which variables a ConjurPush names: from its spec and the keys of its Secrets. No value takes part.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    api::{
        ConjurPushSpec, Reason,
        push::{MOST_VARIABLES, PushEntry},
    },
    limits::FOUND_ID_BYTES,
    plan::{
        Failure, LOOK_AGAIN,
        policy::statements::path_in,
        secret::sources::{
            pattern::Budget,
            rename::{Renaming, shown},
        },
    },
    segments::is_dots,
};

/// A Secret, by its name and keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceKeys<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its keys, in order.
    pub keys: Vec<&'a str>,
    /// Nothing of it is pushed; its variables are named all the same, so that none is taken for one that nothing names.
    pub is_left_out: bool,
}

/// What a variable gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueFrom {
    /// The value under the key of this number of the Secret's.
    Key(usize),
    /// What the template of the entry of this number makes of the Secret.
    Template(usize),
}

/// One variable that an object pushes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedValue {
    /// The number of the Secret.
    pub source: usize,
    /// What of it.
    pub from: ValueFrom,
}

/// What an object pushes, as far as that can be told without values.
#[derive(Debug, Default)]
pub struct PlannedPush {
    /// By the id of the variable.
    pub values: BTreeMap<String, PlannedValue>,
    /// Ids of all variables that the spec names, also of those that can't be pushed now.
    pub named: BTreeSet<String>,
    /// What can't be pushed of it, and why.
    pub problems: Vec<Failure>,
    /// Secrets of a selector that lack a key, and are left out: the number of each, and the key.
    pub lacking: Vec<(usize, String)>,
    /// The numbers of Secrets of which a value stands in the way of another's: when that goes, they are as they were.
    pub dropped: BTreeSet<usize>,
}

/// Finds out which variables an object pushes to. `is_selected`: the Secrets were found by a selector.
///
/// # Errors
/// `InvalidSpec` for a rule of `rewrite` that can't be, and for more variables than one object may have.
pub fn entries(
    spec: &ConjurPushSpec,
    namespace: &str,
    sources: &[SourceKeys],
    is_selected: bool,
) -> Result<PlannedPush, Failure> {
    check_sizes(spec, namespace, sources)?;
    let mut plan = PlannedPush::default();
    let mut wanted: BTreeMap<String, Vec<(PlannedValue, String)>> = BTreeMap::new();
    let prefix = spec.prefix.as_deref().unwrap_or_default();
    let renaming = Renaming::of(spec.rewrite.as_deref().unwrap_or_default(), &mut Budget::default())
        .map_err(|(at, field, why)| invalid(format!("spec.rewrite[{at}].{field}: {why}")))?;
    for (at, source) in sources.iter().enumerate() {
        let fill = |text: &str| text.replace("{namespace}", namespace).replace("{secret}", source.name);
        let mut add = |id: String, from: ValueFrom, place: String| {
            let place = format!("{place} of Secret {}", source.name);
            wanted.entry(id).or_default().push((PlannedValue { source: at, from }, place));
        };
        if spec.data.is_none() {
            for (number, key) in source.keys.iter().enumerate() {
                let renamed = renaming.apply((*key).to_owned()).map_err(|at| {
                    invalid(format!("spec.rewrite[{at}] makes an endless name of the key {}", shown(key)))
                })?;
                let id = format!("{}{renamed}", fill(prefix));
                plan.named.insert(id.clone());
                if !source.is_left_out {
                    add(id, ValueFrom::Key(number), format!("key {}", shown(key)));
                }
            }
            continue;
        }
        let lacks = |entry: &PushEntry| {
            entry.key.as_deref().filter(|key| source.keys.binary_search(key).is_err()).map(str::to_owned)
        };
        let lacking = spec.entries().iter().find_map(lacks).filter(|_| is_selected);
        for (number, entry) in spec.entries().iter().enumerate() {
            let id = format!("{}{}", fill(prefix), fill(&entry.variable));
            plan.named.insert(id.clone());
            if lacking.is_some() || source.is_left_out {
                continue;
            }
            let key = entry.key.as_deref();
            match key.map(|key| source.keys.binary_search(&key).map_err(|_| key)) {
                None => add(id, ValueFrom::Template(number), format!("spec.data[{number}]")),
                Some(Ok(at)) => add(id, ValueFrom::Key(at), format!("spec.data[{number}]")),
                Some(Err(key)) => plan.problems.push(lacks_key(source.name, number, key, &id)),
            }
        }
        plan.lacking.extend(lacking.filter(|_| !source.is_left_out).map(|key| (at, key)));
    }
    if wanted.len() > MOST_VARIABLES {
        return Err(too_many(wanted.len()));
    }
    for (id, mut places) in wanted {
        match (check(&id, spec), places.len()) {
            (Err(why), _) => plan.problems.push(invalid(format!("{}: {why}", places[0].1))),
            (Ok(()), 1) => plan.values.extend(places.pop().map(|(value, _)| (id, value))),
            (Ok(()), _) => {
                plan.dropped.extend(places.iter().map(|(value, _)| value.source));
                plan.problems.push(invalid(format!(
                    "{} and {} both push to variable {id}, so neither is pushed; give one of them another id",
                    places[0].1, places[1].1
                )));
            }
        }
    }
    Ok(plan)
}

/// Refuses what would make more or longer ids than there may be, before one is made.
fn check_sizes(spec: &ConjurPushSpec, namespace: &str, sources: &[SourceKeys]) -> Result<(), Failure> {
    let count = match spec.data {
        None => sources.iter().filter(|source| !source.is_left_out).map(|source| source.keys.len()).sum(),
        Some(_) => sources.iter().filter(|source| !source.is_left_out).count() * spec.entries().len(),
    };
    if count > MOST_VARIABLES {
        return Err(too_many(count));
    }
    let longest = sources.iter().map(|source| source.name.len()).max().unwrap_or_default();
    let filled = |text: &str| {
        text.len()
            + text.matches("{secret}").count() * longest
            + text.matches("{namespace}").count() * namespace.len()
    };
    let texts = spec.entries().iter().map(|entry| filled(&entry.variable));
    let bytes = filled(spec.prefix.as_deref().unwrap_or_default()) + texts.max().unwrap_or_default();
    if bytes > 2 * FOUND_ID_BYTES {
        let message = format!(
            "spec.prefix and the variables of spec.data make ids of up to {bytes} bytes, of at most {FOUND_ID_BYTES}: name \
             {{secret}} and {{namespace}} less often"
        );
        return Err(invalid(message));
    }
    Ok(())
}

fn too_many(count: usize) -> Failure {
    invalid(format!(
        "this object names {count} variables, of at most {MOST_VARIABLES}: divide them among several objects"
    ))
}

fn lacks_key(secret: &str, number: usize, key: &str, id: &str) -> Failure {
    let message = format!(
        "Secret {secret} has no key {}, which spec.data[{number}] pushes to {}; add it, or correct spec.data[{number}].key",
        shown(key),
        shown(id)
    );
    Failure::waiting(Reason::SourceNotFound, LOOK_AGAIN, message)
}

/// Why an id can't be pushed to.
fn check(id: &str, spec: &ConjurPushSpec) -> Result<(), String> {
    let shown = shown(id);
    if id.len() > FOUND_ID_BYTES {
        return Err(format!("the id {shown} is longer than {FOUND_ID_BYTES} bytes"));
    }
    if id.contains(char::is_control) {
        return Err(format!("the id {shown} has a control character"));
    }
    if id.split('/').any(str::is_empty) || id.split(['/', '\\']).any(is_dots) {
        return Err(format!(
            "the id {shown} has a segment that is empty, '.' or '..'; correct prefix, variable or rewrite"
        ));
    }
    if id.contains(['{', '}']) {
        return Err(format!(
            "the id {shown} has a brace; of names in braces only {{namespace}} and {{secret}} are known"
        ));
    }
    let branch = spec.create_variables.as_ref().map(|create| create.branch.as_str());
    match branch.filter(|branch| path_in(id, branch).is_none()) {
        Some(branch) => Err(format!(
            "the id {shown} does not lie below the branch {branch} of spec.createVariables; begin it with {branch}/, or name \
             another branch"
        )),
        None => Ok(()),
    }
}

fn invalid(message: String) -> Failure {
    Failure::stalled(Reason::InvalidSpec, message)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(more: &Value) -> ConjurPushSpec {
        let mut spec =
            json!({ "connectionRef": { "name": "c" }, "source": { "secretRef": { "name": "s" } } });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    fn planned(more: &Value, sources: &[(&'static str, &[&'static str])], selected: bool) -> PlannedPush {
        let sources: Vec<_> = sources
            .iter()
            .map(|(name, keys)| SourceKeys { name, keys: keys.to_vec(), is_left_out: false })
            .collect();
        entries(&spec(more), "ns", &sources, selected).unwrap()
    }

    fn ids(plan: &PlannedPush) -> Vec<&str> {
        plan.values.keys().map(String::as_str).collect()
    }

    #[test]
    fn each_key_becomes_a_variable_behind_the_prefix() {
        let plan = planned(&json!({ "prefix": "litellm/" }), &[("s", &["a", "b"])], false);
        assert_eq!(ids(&plan), ["litellm/a", "litellm/b"]);
        assert_eq!(plan.values["litellm/b"], PlannedValue { source: 0, from: ValueFrom::Key(1) });
        let plan = planned(&json!({ "prefix": "{namespace}/{secret}." }), &[("s", &["a"])], false);
        assert_eq!(ids(&plan), ["ns/s.a"]);
        let rules = json!([{ "pattern": "^(.*)_KEY$", "replacement": "${1}" }]);
        let plan = planned(&json!({ "rewrite": rules }), &[("s", &["OPENAI_KEY", "other"])], false);
        assert_eq!(ids(&plan), ["OPENAI", "other"]);
    }

    #[test]
    fn entries_name_their_variables() {
        let data = json!([
            { "key": "a", "variable": "x/{secret}" },
            { "template": "{{ a }}", "variable": "t" },
            { "key": "missing", "variable": "m" },
        ]);
        let plan = planned(&json!({ "prefix": "p/", "data": data }), &[("s", &["a"])], false);
        assert_eq!(ids(&plan), ["p/t", "p/x/s"]);
        assert_eq!(plan.values["p/t"].from, ValueFrom::Template(1));
        assert_eq!(plan.problems.len(), 1);
        assert_eq!(plan.problems[0].reason, Reason::SourceNotFound);
        assert!(plan.problems[0].message.contains("'missing'"), "{}", plan.problems[0]);
    }

    #[test]
    fn of_selected_secrets_one_that_lacks_a_key_is_left_out() {
        let data =
            json!([{ "key": "a", "variable": "{secret}/a" }, { "key": "b", "variable": "{secret}/b" }]);
        let plan = planned(&json!({ "data": data }), &[("one", &["a"]), ("two", &["a", "b"])], true);
        assert_eq!(ids(&plan), ["two/a", "two/b"]);
        assert_eq!(plan.named.len(), 4, "what is left out for now is not taken for gone");
        assert_eq!((plan.lacking, plan.problems), (vec![(0, "b".to_owned())], vec![]));
    }

    #[test]
    fn a_secret_that_is_left_out_names_its_variables_and_pushes_none() {
        let sources = [SourceKeys { name: "s", keys: vec!["a"], is_left_out: true }];
        for more in [json!({}), json!({ "data": [{ "key": "a", "variable": "a" }] })] {
            let plan = entries(&spec(&more), "ns", &sources, true).unwrap();
            assert_eq!((plan.values.len(), plan.named.len(), plan.problems.len()), (0, 1, 0));
        }
    }

    #[test]
    fn of_two_values_for_one_variable_neither_is_pushed_and_the_others_are() {
        let rules = json!([{ "pattern": "^[ab]$", "replacement": "x" }]);
        let plan = planned(&json!({ "rewrite": rules }), &[("s", &["a", "b", "c"])], false);
        assert_eq!(ids(&plan), ["c"]);
        let message = &plan.problems[0].message;
        assert!(message.contains("'a'") && message.contains("'b'"), "{message}");
    }

    #[test]
    fn what_is_no_id_is_named_and_the_others_are_pushed() {
        for (variable, word) in [
            ("a/./b", "'.'"),
            ("../b", "'..'"),
            ("a\\..\\b", "'..'"),
            ("{name}/x", "brace"),
            ("a\nb", "control"),
            ("other/x", "litellm"),
            ("litellm", "below the branch"),
        ] {
            let data =
                json!([{ "key": "a", "variable": variable }, { "key": "a", "variable": "litellm/ok" }]);
            let create = json!({ "branch": "litellm" });
            let create =
                if word.contains("litellm") || word.contains("branch") { create } else { Value::Null };
            let plan = planned(&json!({ "data": data, "createVariables": create }), &[("s", &["a"])], false);
            assert_eq!(ids(&plan), ["litellm/ok"], "{variable}");
            assert!(plan.problems[0].message.contains(word), "{}", plan.problems[0]);
        }
    }

    #[test]
    fn no_id_is_made_that_would_be_far_too_long() {
        let name: &'static str = Box::leak("s".repeat(253).into_boxed_str());
        let sources = [SourceKeys { name, keys: vec!["a"], is_left_out: false }];
        let prefix = "{secret}".repeat(100);
        let failure = entries(&spec(&json!({ "prefix": prefix })), "ns", &sources, true).unwrap_err();
        assert!(failure.message.contains("bytes"), "{failure}");
    }

    #[test]
    fn an_object_has_a_thousand_variables_at_most() {
        let keys: Vec<String> = (0..=MOST_VARIABLES).map(|n| format!("k{n:04}")).collect();
        let of = |count: usize| {
            let keys = keys[..count].iter().map(String::as_str).collect();
            entries(&spec(&json!({})), "ns", &[SourceKeys { name: "s", keys, is_left_out: false }], false)
        };
        assert_eq!(of(MOST_VARIABLES).unwrap().values.len(), MOST_VARIABLES);
        let failure = of(MOST_VARIABLES + 1).unwrap_err();
        assert!(failure.message.contains("1001"), "{failure}");
    }
}
