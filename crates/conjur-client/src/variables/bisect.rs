//! One batch to its end: every id gets its own answer, and a bad one costs O(log n) requests. Pure: what an answer means
//! for those who were asked for together, and what is to be asked next.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

use super::batch_limits::{Adaptive, batches};
use super::fetched::{Answer, Wanted};
use super::requests::{Batch, Source};
use crate::budget::Party;
use crate::error::Error;
use crate::id::VariableId;
use crate::limits::ANSWER_SMALL;

/// In how many parts the ids of one party are asked for again, where there was no room for the answer to all.
const NO_ROOM_PARTS: usize = 8;

/// An id of a batch, and whose turn it travels by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub party: Party,
    pub id: VariableId,
}

/// What is known of a group before it is asked for.
#[derive(Debug)]
enum Known {
    Nothing,
    /// It gave a 500 and is asked once more.
    BrokeOnce,
    /// It is a part of what found no room for its answer.
    NoRoomOnce,
    /// It is one id, which is asked for by the other request.
    Alone,
    /// At least one of it or of the rest is bad: asking for all of it again would tell nothing. Where it turns out fine,
    /// it is one of the rest, which need not be asked.
    OneIsBad {
        rest: Vec<Member>,
    },
    /// Together with the other half it gave a 500 twice.
    LeftOfBroken {
        right: Vec<Member>,
    },
    /// The same, and this came of the other half.
    RightOfBroken {
        left: Vec<Member>,
        outcome: Box<Batch>,
    },
}

/// Ids that are asked for by one request.
#[derive(Debug)]
pub(super) struct Group {
    pub members: Vec<Member>,
    known: Known,
}

impl Group {
    /// Ids of which nothing is known.
    pub(super) fn new(members: Vec<Member>) -> Self {
        Self { members, known: Known::Nothing }
    }

    /// The id, where it is asked for alone.
    pub(super) fn is_alone(&self) -> Option<&VariableId> {
        self.members.first().filter(|_| matches!(self.known, Known::Alone)).map(|member| &member.id)
    }

    /// What is asked for by its request.
    pub(super) fn ids(&self) -> Vec<VariableId> {
        self.members.iter().map(|member| member.id.clone()).collect()
    }

    /// All that depend on what comes of it.
    pub(super) fn all(&self) -> impl Iterator<Item = &Member> {
        let others: &[Member] = match &self.known {
            Known::OneIsBad { rest: others }
            | Known::LeftOfBroken { right: others }
            | Known::RightOfBroken { left: others, .. } => others,
            Known::Nothing | Known::BrokeOnce | Known::NoRoomOnce | Known::Alone => &[],
        };
        self.members.iter().chain(others)
    }

    /// What of it is asked for by itself, where bad ids of some of its parties are known by now: what is another's waits
    /// for none of them.
    pub(super) fn split(self, suspect: impl Fn(&Party) -> bool) -> Vec<Self> {
        let together = matches!(self.known, Known::Nothing | Known::BrokeOnce | Known::OneIsBad { .. });
        if !together || self.is_of_one() || !self.all().any(|member| suspect(&member.party)) {
            return vec![self];
        }
        let mut trusted = Vec::new();
        let mut others: BTreeMap<Party, Vec<Member>> = BTreeMap::new();
        for member in self.all().cloned() {
            if suspect(&member.party) {
                others.entry(Arc::clone(&member.party)).or_default().push(member);
            } else {
                trusted.push(member);
            }
        }
        let groups = std::iter::once(trusted).chain(others.into_values());
        groups.filter(|members| !members.is_empty()).map(Self::new).collect()
    }

    /// Whether all of it is one party's.
    pub(super) fn is_of_one(&self) -> bool {
        let mut all = self.all();
        all.next().is_none_or(|first| all.all(|member| member.party == first.party))
    }

    /// Leaves out those that no one waits for. Where it was halved, what is known would not hold any more.
    pub(super) fn keep(&mut self, mut awaited: impl FnMut(&VariableId) -> bool) {
        if matches!(self.known, Known::Nothing | Known::NoRoomOnce | Known::Alone) {
            self.members.retain(|member| awaited(&member.id));
        }
    }
}

/// What came of a request.
#[derive(Debug)]
pub(super) enum Seen {
    Together(Batch),
    Alone(Answer),
}

/// What an answer means for those who were asked for.
#[derive(Debug, Default)]
pub(super) struct Settled {
    pub answers: Vec<(VariableId, Answer)>,
    /// What is to be asked next, the first first.
    pub groups: Vec<Group>,
    /// Whose ids are bad.
    pub suspects: Vec<Party>,
    /// The connection's fault: the same would come of everything else that came with it.
    pub failed: Option<Error>,
    /// What is asked next is asked after a pause.
    pub pause: bool,
}

/// Settles what came of a group's request, which was given up before it waited for room where it was `hasty`.
pub(super) fn settle<S: Source>(
    group: Group,
    seen: Seen,
    hasty: bool,
    source: &S,
    limits: &mut Adaptive,
    now: Instant,
) -> Settled {
    let mut settling = Settling { source, limits, hasty, now, done: Settled::default() };
    settling.group(group, seen);
    let mut done = settling.done;
    if let Some(error) = &done.failed {
        let left = std::mem::take(&mut done.groups);
        let left = left.iter().flat_map(Group::all).map(|member| (member.id.clone(), Err(error.clone())));
        done.answers.extend(left);
    }
    done
}

struct Settling<'a, S> {
    source: &'a S,
    limits: &'a mut Adaptive,
    hasty: bool,
    now: Instant,
    done: Settled,
}

/// Whose values are large together, and have to wait for room in memory: not with those of others.
fn whose_are_large(members: &[Member], values: &HashMap<VariableId, Answer>) -> Vec<Party> {
    let mut bytes: HashMap<&Party, usize> = HashMap::new();
    for Member { id, party } in members {
        if let Some(Ok(value)) = values.get(id) {
            *bytes.entry(party).or_default() += value.expose().len();
        }
    }
    let large = bytes.into_iter().filter(|(_, bytes)| *bytes > ANSWER_SMALL);
    large.map(|(party, _)| Arc::clone(party)).collect()
}

impl<S: Source> Settling<'_, S> {
    fn group(&mut self, Group { members, known }: Group, seen: Seen) {
        let batch = match seen {
            Seen::Together(batch) => batch,
            Seen::Alone(answer) => return self.alone(members, &answer),
        };
        match known {
            Known::Nothing | Known::Alone => self.batch(members, batch, false),
            Known::BrokeOnce => self.batch(members, batch, true),
            Known::NoRoomOnce => match batch {
                Batch::Failed(error) if error.is_no_room() && of_one(&members) && !self.hasty => {
                    self.fail(members, &error);
                }
                batch => self.batch(members, batch, false),
            },
            Known::OneIsBad { rest } => {
                let fine = matches!(batch, Batch::Values(_));
                self.batch(members, batch, false);
                if fine {
                    self.one_is_bad(rest);
                } else {
                    self.push(rest, Known::Nothing);
                }
            }
            Known::LeftOfBroken { right } => {
                self.push(right, Known::RightOfBroken { left: members, outcome: Box::new(batch) });
            }
            Known::RightOfBroken { left, outcome } => {
                if matches!((&*outcome, &batch), (Batch::Broken, Batch::Broken)) {
                    let message = format!("{} answers 500 to everything", self.source.url());
                    let error = Error::unavailable(message);
                    self.fail(left, &error);
                    return self.failed(members, error);
                }
                self.batch(left, *outcome, true);
                self.batch(members, batch, true);
            }
        }
    }

    fn batch(&mut self, members: Vec<Member>, outcome: Batch, broke_before: bool) {
        match outcome {
            Batch::Values(values) => self.hand_over(members, values),
            Batch::Missing(missing) => self.missing(members, missing),
            Batch::OneIsBad => self.one_is_bad(members),
            Batch::TooLong | Batch::TooLarge if members.len() == 1 => self.push(members, Known::Alone),
            Batch::TooLong => {
                let source = self.source;
                let weight = |member: &Member| source.weight(&member.id);
                let bytes = members.iter().map(weight).sum();
                let limits = self.limits.too_long(members.len(), bytes, self.now);
                for batch in batches(members, limits, weight) {
                    self.push(batch, Known::Nothing);
                }
            }
            Batch::TooLarge => {
                if of_one(&members) {
                    self.done.suspects.extend(members.first().map(|member| Arc::clone(&member.party)));
                }
                let (left, right) = parts(members);
                self.push(left, Known::Nothing);
                self.push(right, Known::Nothing);
            }
            Batch::Broken if !broke_before => {
                self.done.pause = true;
                self.push(members, Known::BrokeOnce);
            }
            // Alone, a 500 is this id's own (its value can't be decrypted, say), not the server's as a whole.
            Batch::Broken if members.len() == 1 => {
                let Member { id, party } = &members[0];
                let message = format!("{} answers 500 for variable {id}", self.source.url());
                self.done.suspects.push(Arc::clone(party));
                self.fail(members, &Error::Unexpected { status: Some(500), message });
            }
            Batch::Broken => {
                let (left, right) = parts(members);
                self.push(left, Known::LeftOfBroken { right });
            }
            Batch::Failed(error) if error.is_no_room() => self.no_room(members, &error),
            Batch::Failed(error) => self.failed(members, error),
        }
    }

    /// The parties are told from each other first, for each takes its own room. Then one's ids in a few parts: small
    /// answers need none, and what is still too much fails alone.
    fn no_room(&mut self, members: Vec<Member>, error: &Error) {
        if of_one(&members) && self.hasty {
            // The place that is never waited in is not theirs; apart from others they may wait.
            self.done.suspects.extend(members.first().map(|member| Arc::clone(&member.party)));
            return self.push(members, Known::Nothing);
        }
        if members.len() == 1 {
            return self.fail(members, error);
        }
        if !of_one(&members) {
            let mut parties: BTreeMap<Party, Vec<Member>> = BTreeMap::new();
            for member in members {
                parties.entry(Arc::clone(&member.party)).or_default().push(member);
            }
            for theirs in parties.into_values() {
                self.push(theirs, Known::Nothing);
            }
            return;
        }
        self.done.suspects.extend(members.first().map(|member| Arc::clone(&member.party)));
        for part in members.chunks(members.len().div_ceil(NO_ROOM_PARTS)) {
            self.push(part.to_vec(), Known::NoRoomOnce);
        }
    }

    fn hand_over(&mut self, members: Vec<Member>, mut values: HashMap<VariableId, Answer>) {
        self.done.suspects.extend(whose_are_large(&members, &values));
        for Member { id, .. } in members {
            let answer = values.remove(&id).unwrap_or_else(|| {
                let message = format!("{} left variable {id} out of its answer", self.source.url());
                Err(Error::Unexpected { status: Some(200), message })
            });
            self.done.answers.push((id, answer));
        }
    }

    /// Who asked for it asks for the rest of theirs apart: the server names one id at a time.
    fn missing(&mut self, members: Vec<Member>, missing: VariableId) {
        let whose =
            members.iter().find(|member| member.id == missing).map(|member| Arc::clone(&member.party));
        let error = self.source.not_found(&missing);
        let rest = members.into_iter().filter(|member| member.id != missing);
        let (theirs, others) = rest.partition(|member| Some(&member.party) == whose.as_ref());
        self.done.answers.push((missing, Err(error)));
        self.done.suspects.extend(whose);
        self.push(others, Known::Nothing);
        self.push(theirs, Known::Nothing);
    }

    /// Parties are told from each other first, and then their ids.
    fn one_is_bad(&mut self, mut members: Vec<Member>) {
        let Some(first) = members.first() else { return };
        if of_one(&members) {
            self.done.suspects.push(Arc::clone(&first.party));
        }
        if members.len() == 1 {
            // Alone the server tells missing from forbidden, and sends the bytes as they are.
            return self.push(members, Known::Alone);
        }
        members.sort_by(|a, b| a.party.cmp(&b.party));
        let (left, rest) = parts(members);
        self.push(left, Known::OneIsBad { rest });
    }

    fn alone(&mut self, members: Vec<Member>, answer: &Answer) {
        match answer {
            Err(error) if error.is_connection() => self.failed(members, error.clone()),
            Err(error) if error.is_no_room() && self.hasty && of_one(&members) => {
                self.done.suspects.extend(members.first().map(|member| Arc::clone(&member.party)));
                self.push(members, Known::Alone);
            }
            answer => {
                for Member { id, party } in members {
                    if answer.as_ref().is_err_and(Error::is_bad_id) {
                        self.done.suspects.push(party);
                    }
                    self.done.answers.push((id, answer.clone()));
                }
            }
        }
    }

    fn failed(&mut self, members: Vec<Member>, error: Error) {
        self.fail(members, &error);
        self.done.failed = Some(error);
    }

    fn fail(&mut self, members: Vec<Member>, error: &Error) {
        let failed = members.into_iter().map(|member| (member.id, Err(error.clone())));
        self.done.answers.extend(failed);
    }

    fn push(&mut self, members: Vec<Member>, known: Known) {
        if !members.is_empty() {
            self.done.groups.push(Group { members, known });
        }
    }
}

fn of_one(members: &[Member]) -> bool {
    members.windows(2).all(|two| two[0].party == two[1].party)
}

/// Two parts: between two parties where there are several, nearest to the middle; else halves, the left one not the
/// smaller. The right one is empty for a single id.
pub(super) fn parts(mut members: Vec<Member>) -> (Vec<Member>, Vec<Member>) {
    let middle = members.len().div_ceil(2);
    let between = (1..members.len()).filter(|at| members[at - 1].party != members[*at].party);
    let at = between.min_by_key(|at| at.abs_diff(middle)).unwrap_or(middle);
    let right = members.split_off(at);
    (members, right)
}

/// The variable as it is asked for in a group.
pub(super) fn wanted(member: &Member) -> Wanted {
    Wanted::latest(member.id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensitive::Sensitive;
    use crate::variables::fetched::Fetched;

    #[test]
    fn whose_values_are_large_together_asks_apart() {
        let member = |party: &str, id: &str| Member { party: party.into(), id: VariableId::new(id).unwrap() };
        let members = [member("a", "a/1"), member("a", "a/2"), member("b", "b/1"), member("b", "b/2")];
        let value = |of: &Member| {
            let length = if of.id.as_str() == "b/2" { 100 } else { ANSWER_SMALL / 2 + 1 };
            (of.id.clone(), Ok(Arc::new(Fetched::new(Sensitive::new(vec![0; length]), None))))
        };
        let values = members.iter().map(value).collect();
        assert_eq!(whose_are_large(&members, &values), [Party::from("a")]);
    }
}
