//! From the sources of a spec to the data of a Secret, through the shared client.

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    fmt::Write as _,
    hash::{Hash, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{cache::Unconfirmed, trouble::Trouble};
use crate::{
    api::{
        ConjurSecret, Reason,
        secret::{MissingVariable, PublicKeysKind},
    },
    conjur::{Answer, Catalogue, Error, Freshness, Lane, VariableId, Wanted},
    controllers::{
        Context,
        connection::{access::BoundConnection, pool::ReadyConnection},
    },
    limits::FOUND_ID_BYTES,
    plan::{
        Class, Failure, LOOK_AGAIN,
        schedule::Cause,
        secret::sources::{Ask, BuiltData, Data, Got, LeftOut, Problem, Resolved, Sources},
    },
    runtime::{Key, ReconcileError},
};

/// A new object takes a remembered "missing" for an answer only if it is this young.
const FRESH: Duration = Duration::from_secs(5);
/// A new object takes a list that was begun at most this long before it, so that those that come one after the other
/// share it. What was made in between may not be in it: where nothing is found, it is looked at anew at once, and else
/// after the same time ([`Unconfirmed`]).
pub const FRESH_LIST: Duration = Duration::from_secs(5);
/// Most variables that a message names.
const NAMED: usize = 5;
/// Most variables that the status names.
const LISTED: usize = 256;

/// What an object asks for, as far as its spec tells.
pub struct Plan<'a> {
    sources: Sources<'a>,
    named: Vec<Wanted>,
    interval: Duration,
    plain: bool,
}

/// All that an object asks for, with what its finds brought.
pub struct Gathered<'a> {
    resolved: Resolved<'a>,
    wanted: Vec<Wanted>,
    interval: Duration,
    /// The keys go into the Secret as they are, not through templates.
    plain: bool,
    /// A list that was begun before it was asked for took part in it.
    pub from_before: bool,
    /// What the finds brought that can't be asked for.
    pub left_out: LeftOut,
    /// What may be wrong with the spec where nothing is found, or not what it names.
    hint: Option<String>,
}

/// What Conjur gave.
pub struct Fetched {
    /// Key → value; never empty.
    pub data: Data,
    /// What the finds brought and is not in it.
    pub left_out: LeftOut,
    /// Whether there was a value, for each of [`Gathered::wanted`].
    pub brought: Vec<bool>,
}

/// Reads the sources of a spec. No IO.
///
/// # Errors
/// `InvalidSpec`, naming the field.
pub fn plan(object: &ConjurSecret) -> Result<Plan<'_>, Failure> {
    let sources = Sources::of(object.spec.entries(), object.spec.sources())?;
    let named = sources.named().map(wanted).collect::<Result<_, _>>()?;
    let plain = object.spec.target.as_ref().is_none_or(|target| target.template.is_none());
    Ok(Plan { sources, named, interval: object.spec.interval(), plain })
}

fn wanted(ask: Ask) -> Result<Wanted, Failure> {
    let id = VariableId::new(ask.variable)
        .map_err(|error| Failure::stalled(Reason::InvalidSpec, format!("{}.variable: {error}", ask.place)))?;
    Ok(Wanted { id, version: ask.version })
}

/// Whether a variable that a list brings can be asked for.
fn can_be_fetched(id: &str) -> bool {
    id.len() <= FOUND_ID_BYTES && VariableId::new(id).is_ok()
}

impl<'a> Plan<'a> {
    /// The ids that the spec names.
    pub fn ids(&self) -> Vec<&str> {
        self.named.iter().map(|wanted| wanted.id.as_str()).collect()
    }

    /// Evaluates the finds, with lists that all objects of the connection share. What the object's namespace may not
    /// read, and what has no value yet, is not found.
    ///
    /// # Errors
    /// `InvalidSpec` where too much is found; the list's failure, or the connection's.
    pub async fn gather(
        self,
        user: &Key,
        lists: Freshness,
        lane: Lane,
        named: &BoundConnection,
        through: &ReadyConnection,
        ctx: &Context,
    ) -> Result<Gathered<'a>, ReconcileError> {
        let asked = Instant::now();
        let mut known: HashMap<Option<&str>, Arc<Catalogue>> = HashMap::new();
        let patterns = self.sources.patterns_may_take();
        ctx.heavy.run(&user.namespace, patterns, || self.sources.check_patterns()).await?;
        let (mut found, mut left_out) = (Vec::new(), LeftOut::default());
        for (place, criteria) in self.sources.finds() {
            let mut freshness = lists;
            let ids = loop {
                let sufficient = |list: &&Arc<Catalogue>| freshness == lists || list.began() >= asked;
                let list = if let Some(list) = known.get(&criteria.search).filter(sufficient) {
                    list.clone()
                } else {
                    let list = through.client.list_variables(criteria.search, lane, freshness).await;
                    let list = list.map_err(|error| {
                        let mut trouble = failed(&error, through, ctx);
                        trouble.failure.message = format!("{place}: {}", trouble.failure.message);
                        trouble
                    })?;
                    known.insert(criteria.search, list.clone());
                    list
                };
                let find = || -> Result<_, Failure> {
                    let matcher = criteria.matcher(place)?;
                    let mut found = Vec::new();
                    for v in list.below(criteria.prefix()).iter().filter(|v| v.mark().version.is_some()) {
                        if matcher.takes(v.id(), |name| v.annotation(name))? {
                            found.push(v.id());
                        }
                    }
                    Ok(found)
                };
                let taken = ctx.heavy.run(&user.namespace, patterns, find).await?;
                let (ids, odd) = taken.into_iter().partition::<Vec<_>, _>(|id| can_be_fetched(id));
                let ids = named.readable(ids.into_iter(), user, ctx);
                // What is to be found may have been made just now.
                let look_anew =
                    ids.is_empty() && matches!(lists, Freshness::NoOlderThan(_)) && list.began() < asked;
                if !look_anew {
                    named.covered(odd.into_iter(), user, ctx, |id| left_out.add(id));
                    break ids;
                }
                freshness = Freshness::Since(asked);
            };
            found.push(ids);
        }
        let from_before = known.values().any(|list| list.began() < asked);
        let (interval, plain) = (self.interval, self.plain);
        let hint = self.sources.full_id(&through.account);
        let resolved = self.sources.resolve(found)?;
        let wanted = resolved.asks().map(wanted).collect::<Result<_, _>>()?;
        Ok(Gathered { resolved, wanted, interval, plain, from_before, left_out, hint })
    }
}

/// How old the lists may be that an object's finds look through. `periodic`: it is looked at again by itself.
pub fn lists(cause: Cause, periodic: bool, unconfirmed: Option<&Unconfirmed>) -> Freshness {
    match unconfirmed {
        Some(unconfirmed) if cause == Cause::Slot => Freshness::Since(unconfirmed.asked),
        _ => freshness(cause, if periodic { FRESH_LIST } else { Duration::ZERO }),
    }
}

impl Gathered<'_> {
    /// All variables that the Secret is made of, found ones too.
    pub fn wanted(&self) -> &[Wanted] {
        &self.wanted
    }

    /// A hash of them.
    pub fn wanted_hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for wanted in &self.wanted {
            (wanted.id.as_str(), wanted.version).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Whether all that the Secret is made of are variables: public keys have no versions.
    pub fn only_variables(&self) -> bool {
        self.resolved.public_keys().next().is_none()
    }

    /// Fetches the values, and makes the Secret's data of them. They are not from before `read`, where that is given.
    ///
    /// # Errors
    /// `VariableNotFound` or `VariableForbidden`, naming each in the message and in `status.missing`; `InvalidValue`,
    /// `InvalidSpec`, `NoKeys`; the connection's failure.
    pub async fn fetch(
        &self,
        cause: Cause,
        lane: Lane,
        read: Option<Instant>,
        namespace: &str,
        through: &ReadyConnection,
        ctx: &Context,
    ) -> Result<Fetched, Trouble> {
        let freshness = freshness(cause, FRESH);
        let freshness = read.map_or(freshness, |at| freshness.and_since(at));
        let answers = through.client.fetch_variables(&self.wanted, lane, freshness).await;
        let got = self.wanted.iter().map(|wanted| got(wanted, answers.get(wanted), through, ctx));
        let got = got.collect::<Result<Vec<_>, ReconcileError>>()?;
        let keys = self.fetch_public_keys(through, ctx).await?;
        let bytes = self.bytes(&got);
        let build = || self.resolved.data(&got, &keys, self.plain, self.left_out.clone());
        let made = ctx.heavy.run(namespace, bytes, build).await;
        let BuiltData { data, left_out } = made.map_err(|problem| {
            // The client looks at missing variables by itself, and at nothing else.
            let tells_itself = matches!(problem, Problem::Missing(_)) && self.only_variables();
            let again = if tells_itself { LOOK_AGAIN } else { self.interval.min(LOOK_AGAIN) };
            self.with_hint(tell(problem, again))
        })?;
        Ok(Fetched { data, left_out, brought: got.iter().map(|got| matches!(got, Got::Value(_))).collect() })
    }

    /// Adds what may help where nothing is there.
    fn with_hint(&self, mut trouble: Trouble) -> Trouble {
        let failure = &mut trouble.error.failure;
        if let Some(hint) = &self.hint
            && matches!(failure.reason, Reason::NoKeys | Reason::VariableNotFound)
        {
            failure.message = format!("{}. {hint}", failure.message);
        }
        trouble
    }

    /// What making the data may take: the values once more, their JSON as often as it is looked through, and the rules.
    fn bytes(&self, got: &[Got]) -> usize {
        let values = got.iter().map(|got| match got {
            Got::Value(value) => value.len(),
            Got::NotFound(_) | Got::Forbidden(_) => 0,
        });
        values.sum::<usize>().saturating_add(self.resolved.patterns_may_take())
    }

    async fn fetch_public_keys(
        &self,
        through: &ReadyConnection,
        ctx: &Context,
    ) -> Result<Vec<Vec<String>>, ReconcileError> {
        let mut all = Vec::new();
        for (place, keys) in self.resolved.public_keys() {
            let kind = match keys.kind {
                PublicKeysKind::User => "user",
                PublicKeysKind::Host => "host",
            };
            all.push(match through.client.public_keys(kind, &keys.id).await {
                Ok(lines) => lines,
                Err(Error::NoRoute { .. }) => {
                    let message = format!(
                        "{place}: this server keeps no public keys for kind {kind}; ask for those of a user"
                    );
                    return Err(Failure::stalled(Reason::InvalidSpec, message).into());
                }
                Err(error @ Error::Unsupported { .. }) => {
                    return Err(Failure::stalled(Reason::Unsupported, format!("{place}: {error}")).into());
                }
                Err(error) => return Err(failed(&error, through, ctx)),
            });
        }
        Ok(all)
    }
}

/// What is known before may be this old, where someone waits for the answer.
fn freshness(cause: Cause, new: Duration) -> Freshness {
    match cause {
        Cause::SyncNow => Freshness::NoOlderThan(Duration::ZERO),
        Cause::Generation => Freshness::NoOlderThan(new),
        _ => Freshness::Remembered,
    }
}

fn got<'v>(
    wanted: &Wanted,
    answer: Option<&'v Answer>,
    through: &ReadyConnection,
    ctx: &Context,
) -> Result<Got<'v>, ReconcileError> {
    match answer {
        Some(Ok(value)) => Ok(Got::Value(value.expose())),
        Some(Err(error @ Error::NotFound { .. })) => Ok(Got::NotFound(error.to_string())),
        Some(Err(error @ Error::Forbidden { .. })) => Ok(Got::Forbidden(error.to_string())),
        Some(Err(error)) => Err(failed(error, through, ctx)),
        None => {
            let message = format!("the client gave no answer for variable {}", wanted.id);
            Err(Failure::transient(Reason::ConjurUnavailable, message).into())
        }
    }
}

/// A call failed: where that is the connection's fault, it is tried by itself from now on.
pub fn failed(error: &Error, through: &ReadyConnection, ctx: &Context) -> ReconcileError {
    ctx.clients.call_failed(through, error);
    let mut failure = Failure::from(error.clone());
    if error.is_connection() {
        failure.message = format!("{}; {} is tried until it works", failure.message, through.connection);
    }
    failure.into()
}

/// What waits is looked at after `again`.
fn tell(problem: Problem, again: Duration) -> Trouble {
    let missing = match problem {
        Problem::Missing(missing) => missing,
        Problem::Failure(mut failure) => {
            if matches!(failure.class, Class::Waiting(_)) {
                failure.class = Class::Waiting(again);
            }
            return failure.into();
        }
    };
    let listed = missing.iter().take(LISTED).map(|missing| MissingVariable {
        variable: missing.variable.clone(),
        reason: if missing.forbidden { "Forbidden" } else { "NotFound" }.to_owned(),
    });
    let listed = listed.collect();
    let overall = if missing.iter().all(|missing| missing.forbidden) {
        Reason::VariableForbidden
    } else {
        Reason::VariableNotFound
    };
    let mut message =
        missing.iter().take(NAMED).map(|missing| missing.message.as_str()).collect::<Vec<_>>().join("; ");
    if missing.len() > NAMED {
        let more = missing.len() - NAMED;
        let _ = write!(message, "; and {more} more, see status.missing");
    }
    Trouble { missing: Some(listed), ..Failure::waiting(overall, again, message).into() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::plan::secret::sources::Missing;

    #[test]
    fn a_new_object_shares_a_list_only_where_it_is_looked_at_once_more() {
        let asked = Instant::now();
        let unconfirmed = Unconfirmed { asked, again: jiff::Timestamp::UNIX_EPOCH, wanted: 0 };
        let no_older = Freshness::NoOlderThan;
        for (cause, periodic, unconfirmed, expected) in [
            (Cause::Generation, true, None, no_older(FRESH_LIST)),
            (Cause::Generation, false, None, no_older(Duration::ZERO)),
            (Cause::Generation, true, Some(&unconfirmed), no_older(FRESH_LIST)),
            (Cause::SyncNow, true, Some(&unconfirmed), no_older(Duration::ZERO)),
            (Cause::Slot, true, None, Freshness::Remembered),
            (Cause::Slot, true, Some(&unconfirmed), Freshness::Since(asked)),
        ] {
            assert_eq!(lists(cause, periodic, unconfirmed), expected, "{cause:?}");
        }
    }

    fn object(data: &Value) -> ConjurSecret {
        let spec = json!({ "connectionRef": { "name": "conjur" }, "data": data });
        serde_json::from_value(json!({ "metadata": { "name": "s" }, "spec": spec })).unwrap()
    }

    #[test]
    fn an_id_that_cannot_be_is_refused_naming_the_entry() {
        let data = json!([{ "key": "a", "variable": "x" }, { "key": "b", "variable": "x/../y" }]);
        let object = object(&data);
        let Err(failure) = plan(&object) else { panic!("it was taken") };
        assert_eq!(failure.reason, Reason::InvalidSpec);
        assert!(failure.message.starts_with("spec.data[1].variable"), "{failure}");
    }

    #[test]
    fn what_a_list_brings_is_asked_for_only_where_its_id_can_be() {
        for odd in
            ["a//b", "/a", "tail/", "a/../b", ".", "a/./b", "a\nb", "", &"x".repeat(FOUND_ID_BYTES + 1)]
        {
            assert!(!can_be_fetched(odd), "{odd:?}");
        }
        for sound in ["a", "a b/ü,+%", "..a/b..", &"x".repeat(FOUND_ID_BYTES)] {
            assert!(can_be_fetched(sound), "{sound:?}");
        }
    }

    #[test]
    fn what_is_missing_is_named_with_its_reason() {
        let missing = |at: usize, forbidden| Missing {
            variable: format!("v{at}"),
            forbidden,
            message: format!("variable v{at} is missing"),
        };
        let trouble = tell(Problem::Missing((0..7).map(|at| missing(at, at == 5)).collect()), LOOK_AGAIN);
        let failure = &trouble.error.failure;
        assert_eq!(failure.reason, Reason::VariableNotFound);
        assert!(failure.message.ends_with("and 2 more, see status.missing"), "{failure}");
        let named = |variable: &str, reason: &str| MissingVariable {
            variable: variable.into(),
            reason: reason.into(),
        };
        assert_eq!(trouble.missing.unwrap()[5..], [named("v5", "Forbidden"), named("v6", "NotFound")]);
        let trouble = tell(Problem::Missing((0..1_000).map(|at| missing(at, true)).collect()), LOOK_AGAIN);
        assert_eq!(trouble.error.failure.reason, Reason::VariableForbidden);
        assert_eq!(trouble.missing.unwrap().len(), LISTED);
    }

    #[test]
    fn what_does_not_announce_itself_is_looked_at_at_the_next_refresh() {
        let failure = Failure::waiting(Reason::NoKeys, LOOK_AGAIN, "nothing was found");
        let trouble = tell(Problem::Failure(failure), Duration::from_secs(10));
        assert_eq!(trouble.error.failure.class, Class::Waiting(Duration::from_secs(10)));
    }
}
