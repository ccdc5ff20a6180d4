//! What workers are asked, and what is said where they have no answer.

use std::collections::HashSet;

use super::{
    Heavy, HeavyError, Whose,
    serve::{Head, WorkerAnswer, WorkerQuestion},
    wire,
    worker::Allowance,
};
use crate::{
    api::Reason,
    limits,
    plan::{
        Failure,
        policy::document::{self, Document, DocumentError},
        secret::{
            sources::Data,
            template::{self, Light, Text},
        },
    },
    sensitive::Sensitive,
};

const TEMPLATES: Allowance =
    Allowance { bytes: limits::HEAVY_WORKER_BYTES, time: limits::TEMPLATES_DEADLINE };

impl Heavy {
    /// Finds what is wrong with templates before there are values; each text once, however many keys it makes.
    ///
    /// # Errors
    /// `TemplateInvalid`; `SetAside`.
    pub async fn check_templates(&self, whose: &Whose, texts: &[Text]) -> Result<(), Failure> {
        let mut seen = HashSet::new();
        let heavy = texts.iter().filter(|text| !template::is_light(&text.text, 0));
        let heavy: Vec<_> = heavy.filter(|text| seen.insert(text.text.expose().as_str())).collect();
        template::check(texts.iter().filter(|text| template::is_light(&text.text, 0)))?;
        if heavy.is_empty() {
            return Ok(());
        }
        let question = WorkerQuestion::Check { texts: heavy.iter().map(|text| head(text)).collect() };
        let parts = heavy.iter().map(|text| part(text)).collect();
        match self.answer(whose, TEMPLATES, &question, parts).await {
            Ok((WorkerAnswer::Checked(checked), _)) => Ok(checked?),
            Ok(_) => Err(unexpected()),
            Err(error) => Err(of_templates(&error)),
        }
    }

    /// What templates make of values.
    ///
    /// # Errors
    /// `TemplateInvalid`; `SetAside`.
    pub async fn render_templates(
        &self,
        whose: &Whose,
        texts: &[Text],
        values: &Data,
    ) -> Result<Data, Failure> {
        match template::render_light(texts, values)? {
            Light::Done(made) => return Ok(made),
            Light::TooHeavy => {}
        }
        let question = WorkerQuestion::Render {
            texts: texts.iter().map(head).collect(),
            keys: values.keys().cloned().collect(),
        };
        let values = values.values().map(|value| value.expose().as_slice());
        let parts = texts.iter().map(part).chain(values).collect();
        match self.answer(whose, TEMPLATES, &question, parts).await {
            Ok((WorkerAnswer::Rendered(made), parts)) => Ok(made?.into_iter().zip(parts).collect()),
            Ok(_) => Err(unexpected()),
            Err(error) => Err(of_templates(&error)),
        }
    }

    /// Reads a policy document.
    ///
    /// # Errors
    /// What is wrong with it, the outer one where it could not be read at all: `PolicyInvalid`, `SetAside`.
    pub async fn read_document(
        &self,
        whose: &Whose,
        text: &str,
        branch: &str,
        account: &str,
    ) -> Result<Result<Document, DocumentError>, Failure> {
        if text.len() <= limits::LIGHT_BYTES {
            return Ok(document::read(text, branch, account));
        }
        // A large one has all the bytes, so that it is alone.
        let is_large = text.len() > limits::DOCUMENT_ALONE_BYTES;
        let bytes = if is_large { limits::HEAVY_BYTES } else { limits::HEAVY_WORKER_BYTES };
        let may = Allowance { bytes, time: limits::DOCUMENT_DEADLINE };
        let question = WorkerQuestion::Document { branch: branch.to_owned(), account: account.to_owned() };
        match self.answer(whose, may, &question, vec![text.as_bytes()]).await {
            Ok((WorkerAnswer::Document(read), _)) => Ok(read),
            Ok(_) => Err(unexpected()),
            Err(error) => Err(of_document(&error)),
        }
    }

    async fn answer(
        &self,
        whose: &Whose,
        may: Allowance,
        question: &WorkerQuestion,
        parts: Vec<&[u8]>,
    ) -> Result<(WorkerAnswer, Vec<Sensitive<Vec<u8>>>), HeavyError> {
        let no_worker = |error: std::io::Error| HeavyError::NoWorker(error.to_string());
        let question = wire::BorrowedMessage::new(question, parts).map_err(no_worker)?;
        let answer = self.ask(whose, may, &question).await?;
        Ok((answer.head().map_err(no_worker)?, answer.parts))
    }
}

fn head(text: &Text) -> Head {
    Head { key: text.key.clone(), source: text.source.clone(), secret: text.secret }
}

fn part(text: &Text) -> &[u8] {
    text.text.expose().as_bytes()
}

fn unexpected() -> Failure {
    no_worker("it answered another question")
}

fn no_worker(why: &str) -> Failure {
    Failure::transient(
        Reason::ApiServerError,
        format!("the worker process for templates and documents failed: {why}; it is tried again"),
    )
}

fn of_templates(error: &HeavyError) -> Failure {
    match error {
        HeavyError::TooLong(time) => Failure::stalled(
            Reason::TemplateInvalid,
            format!(
                "the templates took longer than {time:?} together, and were ended: loop over less, or make less of it"
            ),
        ),
        HeavyError::SetAside => set_aside(
            "the templates of this object: values that are nested in each other without end, or more than 32 MiB of them. \
             Make less of it",
        ),
        HeavyError::NoWorker(why) => no_worker(why),
    }
}

fn of_document(error: &HeavyError) -> Failure {
    match error {
        HeavyError::TooLong(time) => Failure::stalled(
            Reason::PolicyInvalid,
            format!("the document took longer than {time:?} to read: split it over several ConjurPolicies"),
        ),
        HeavyError::SetAside => {
            set_aside("the document of this object: split it over several ConjurPolicies")
        }
        HeavyError::NoWorker(why) => no_worker(why),
    }
}

/// Neither the count of deaths nor the time left may stand here: each look would be another message.
fn set_aside(what: &str) -> Failure {
    Failure::stalled(
        Reason::SetAside,
        format!(
            "worker processes crashed on {what}. It is tried again after an edit of it or of what it reads, by a new sync-now, \
             and once an hour"
        ),
    )
}
