//! The two requests, and what their answers mean for a batch.

use std::collections::HashMap;
use std::fmt::Write;
use std::future::Future;
use std::sync::Arc;

use ::http::header::{ACCEPT_ENCODING, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::fetched::{Answer, Fetched, Wanted};
use crate::budget::Party;
use crate::error::Error;
use crate::gate::{Parties, Priority};
use crate::http::Call;
use crate::id::{self, VariableId};
use crate::limits::BATCH_ANSWER_BYTES;
use crate::memory_budget::{Share, Sum};
use crate::observe::Endpoint;
use crate::request_id::{self, RequestId};
use crate::response;
use crate::sensitive::Sensitive;
use crate::session::{BODY_LIMIT, Session, unreadable};

/// What a batch came to. A fault tells what to do about it.
#[derive(Debug)]
pub(super) enum Batch {
    /// What the answer held, for each id in it.
    Values(HashMap<VariableId, Answer>),
    /// 404 naming this one.
    Missing(VariableId),
    /// 403, 422, or a 404 or 406 naming none that was asked for: at least one of them, no one knows which.
    OneIsBad,
    /// 414, 431, or 400 with an empty body: the query is too long for someone on the way.
    TooLong,
    /// The answer is over what is read.
    TooLarge,
    /// 500.
    Broken,
    /// The connection's fault, or an answer that isn't Conjur's: the same would come of every id.
    Failed(Error),
}

/// Where values come from. The collector is written against this, so that its decisions are tested without sockets.
pub(super) trait Source: Send + Sync + 'static {
    /// One batch of distinct ids.
    fn batch(
        &self,
        ids: &[VariableId],
        priority: Priority,
        parties: &Parties,
    ) -> impl Future<Output = Batch> + Send;
    /// One alone.
    fn single(
        &self,
        wanted: &Wanted,
        priority: Priority,
        parties: &Parties,
    ) -> impl Future<Output = Answer> + Send;
    /// What an id adds to a query, in bytes.
    fn weight(&self, id: &VariableId) -> usize;
    /// What the answer for a missing id is.
    fn not_found(&self, id: &VariableId) -> Error;
    /// The server's URL, for messages.
    fn url(&self) -> &str;
    /// What counts the values that a party asks for.
    fn sum(&self, party: &Party) -> Sum;
}

const QUERY: &str = "secrets?variable_ids=";

impl Session {
    fn write_full_id(&self, to: &mut String, id: &VariableId) {
        // Writing to a String can't fail.
        write!(to, "{}:variable:{}", id::query(&self.account), id::query(id.as_str())).ok();
    }

    fn full_id(&self, id: &VariableId) -> String {
        format!("{}:variable:{id}", self.account)
    }
}

impl Source for Session {
    async fn batch(&self, ids: &[VariableId], priority: Priority, parties: &Parties) -> Batch {
        let mut path = QUERY.to_owned();
        for (index, id) in ids.iter().enumerate() {
            if index > 0 {
                path.push(',');
            }
            self.write_full_id(&mut path, id);
        }
        let call = Call {
            // Exactly this: `gzip, base64` is ignored, and without it a value that is not UTF-8 fails the batch.
            headers: vec![(ACCEPT_ENCODING, HeaderValue::from_static("base64"))],
            priority,
            parties: parties.clone(),
            limit: BATCH_ANSWER_BYTES,
            ..self.get(Endpoint::SecretBatch, path)
        };
        self.transport.asks_for(ids.len());
        let asked = async {
            match self.call(&call).await {
                Ok(mut answer) => {
                    let share = answer.share.take();
                    read_batch(self, &answer, ids, share)
                }
                Err(fault) if matches!(fault.error, Error::TooLarge { .. }) => Batch::TooLarge,
                Err(fault) => Batch::Failed(fault.error),
            }
        };
        request_id::scope(RequestId::new(), asked).await
    }

    async fn single(&self, wanted: &Wanted, priority: Priority, parties: &Parties) -> Answer {
        let session = self.on_behalf_of(parties.clone());
        let asked = session.secret("variable", wanted.id.as_str(), wanted.version, priority, BODY_LIMIT);
        request_id::scope(RequestId::new(), asked).await
    }

    fn weight(&self, id: &VariableId) -> usize {
        let mut text = String::new();
        self.write_full_id(&mut text, id);
        text.len() + 1
    }

    fn not_found(&self, id: &VariableId) -> Error {
        let target = format!("variable {id}");
        let message =
            format!("{target} is missing, has no value, or is not visible to {}", self.tokens.login());
        Error::NotFound { target, message }
    }

    fn url(&self) -> &str {
        self.transport.url()
    }

    fn sum(&self, party: &Party) -> Sum {
        Self::sum(self, &Parties::of([Arc::clone(party)]))
    }
}

fn read_batch(
    session: &Session,
    answer: &response::HttpAnswer,
    ids: &[VariableId],
    share: Option<Share>,
) -> Batch {
    match answer.status {
        200 => match values(session, answer, ids, share) {
            Ok(values) => Batch::Values(values),
            Err(error) => Batch::Failed(error),
        },
        403 | 406 | 422 => Batch::OneIsBad,
        404 => match response::message_of(answer) {
            Some(message) => named(session, &message, ids).map_or(Batch::OneIsBad, Batch::Missing),
            None => Batch::Failed(refusal(session, answer)),
        },
        414 | 431 => Batch::TooLong,
        400 if answer.body.expose().is_empty() => Batch::TooLong,
        500 => Batch::Broken,
        _ => Batch::Failed(refusal(session, answer)),
    }
}

fn refusal(session: &Session, answer: &response::HttpAnswer) -> Error {
    response::from_answer(answer, session.about("a batch of variables", "the execute privilege on it"))
}

/// Which id a 404 names: `CONJ00076E Variable demo:variable:app/nope is empty or not found.` (recording 315). The
/// longest that fits, for an id may contain another.
fn named(session: &Session, message: &str, ids: &[VariableId]) -> Option<VariableId> {
    let matches = |id: &&VariableId| {
        let after = message.split_once(&session.full_id(id)).map(|(_, after)| after.chars().next());
        after.is_some_and(|next| next.is_none_or(char::is_whitespace))
    };
    ids.iter().filter(matches).max_by_key(|id| id.as_str().len()).cloned()
}

/// The values of a batch. serde_json unescapes strings (the newlines of base64) in a scratch buffer of its own, which
/// is freed without being wiped.
fn values(
    session: &Session,
    answer: &response::HttpAnswer,
    ids: &[VariableId],
    mut share: Option<Share>,
) -> Result<HashMap<VariableId, Answer>, Error> {
    let about = session.about("a batch of variables", "it");
    let encoded = match answer.encoding() {
        Some("base64") => true,
        None => false,
        Some(_) => {
            let message = response::not_an_api(answer, about);
            return Err(Error::Unexpected { status: Some(answer.status), message });
        }
    };
    let mut texts: HashMap<String, Sensitive<String>> =
        serde_json::from_slice(answer.body.expose()).map_err(|error| unreadable(answer, about, &error))?;
    let mut values = HashMap::with_capacity(texts.len());
    for id in ids {
        let Some(mut text) = texts.remove(&session.full_id(id)) else { continue };
        let value = if encoded {
            decode(&mut text)
        } else {
            Some(Sensitive::new(std::mem::take(text.expose_mut()).into_bytes()))
        };
        let fetched = |value: Sensitive<Vec<u8>>| {
            let share = share.as_mut().and_then(|share| share.for_value(value.expose().len()));
            Arc::new(Fetched::new(value, share))
        };
        let answer = value.map(fetched).ok_or_else(|| {
            let message = format!("{} answered with a value of variable {id} that is not base64", about.url);
            Error::Unexpected { status: Some(answer.status), message }
        });
        values.insert(id.clone(), answer);
    }
    Ok(values)
}

/// Base64 with a newline every 60 characters (recording 333), decoded into a buffer that never grows.
fn decode(text: &mut Sensitive<String>) -> Option<Sensitive<Vec<u8>>> {
    text.expose_mut().retain(|c| !c.is_ascii_whitespace());
    let text = text.expose();
    let mut value = Sensitive::new(vec![0; base64::decoded_len_estimate(text.len())]);
    let length = STANDARD.decode_slice(text, value.expose_mut()).ok()?;
    value.expose_mut().truncate(length);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_with_newlines_is_decoded() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut text = String::new();
        for (index, c) in STANDARD.encode(&bytes).chars().enumerate() {
            if index > 0 && index % 60 == 0 {
                text.push('\n');
            }
            text.push(c);
        }
        text.push('\n');
        assert_eq!(decode(&mut Sensitive::new(text)).unwrap().expose(), &bytes);
        assert!(decode(&mut Sensitive::new("not base64!".to_owned())).is_none());
        assert_eq!(decode(&mut Sensitive::new(String::new())).unwrap().expose(), b"");
    }
}
