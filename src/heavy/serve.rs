//! A worker: this program again, started by itself, which answers one question after the other on its input until that
//! ends. It knows no cluster and no server, and what it opens is nothing.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    process, thread,
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getppid, setrlimit};
use serde::{Deserialize, Serialize};

use super::wire::Message;
use crate::{
    plan::{
        policy::document::{self, Document, DocumentError},
        secret::template::{self, TemplateError, Text},
    },
    sensitive::Sensitive,
};

/// The command that starts a worker; its argument is how many bytes it may take besides those it starts with.
pub const COMMAND: &str = "heavy-worker";
/// What is nested is walked by recursion. What is touched of it counts as memory, the rest is only room.
const STACK: usize = 16 << 20;

/// What a worker is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum WorkerQuestion {
    /// Whether templates can be compiled; their texts are the parts.
    Check { texts: Vec<Head> },
    /// What templates make of values; the parts are the texts, then the values.
    Render { texts: Vec<Head>, keys: Vec<String> },
    /// What a document holds; it is the part.
    Document { branch: String, account: String },
}

/// A template without its text.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) key: String,
    pub(super) source: Option<String>,
    pub(super) secret: bool,
}

/// What a worker answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum WorkerAnswer {
    Checked(Result<(), TemplateError>),
    /// The keys; the parts are their values.
    Rendered(Result<Vec<String>, TemplateError>),
    Document(Result<Document, DocumentError>),
}

/// Answers until the input ends.
///
/// # Errors
/// The limits can't be set, or the other side says what is no question.
pub fn run(bytes: usize) -> io::Result<()> {
    let parent = getppid();
    // Who asks may be killed while this is at work. (The kernel's own signal for that tells of the end of a thread.)
    let watch = move || {
        while getppid() == parent {
            thread::sleep(Duration::from_secs(1));
        }
        process::exit(0)
    };
    thread::Builder::new().name("parent".into()).stack_size(64 * 1024).spawn(watch)?;
    let serve = move || -> io::Result<()> {
        limit(bytes)?;
        let (mut from, mut to) = (io::stdin().lock(), io::stdout().lock());
        serve(&mut from, &mut to)
    };
    let thread = thread::Builder::new().name("heavy".into()).stack_size(STACK).spawn(serve)?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("it panicked")))
}

/// No more memory than it has now and `bytes` more; and no core, which would hold values.
fn limit(bytes: usize) -> io::Result<()> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm.split(' ').next().and_then(|pages| pages.parse().ok()).unwrap_or_default();
    let most = pages.saturating_mul(rustix::param::page_size() as u64).saturating_add(bytes as u64);
    setrlimit(Resource::As, Rlimit { current: Some(most), maximum: Some(most) })?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}

fn serve(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    loop {
        let question = match Message::read(from) {
            Ok(question) => question,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        answer(question)?.write(to)?;
    }
}

fn answer(question: Message) -> io::Result<Message> {
    let head = question.head()?;
    let mut parts = question.parts.into_iter();
    match head {
        WorkerQuestion::Check { texts } => {
            let texts = texts_of(texts, &mut parts)?;
            Message::new(&WorkerAnswer::Checked(template::check(&texts)), Vec::new())
        }
        WorkerQuestion::Render { texts, keys } => {
            let texts = texts_of(texts, &mut parts)?;
            let values: BTreeMap<_, _> = keys.into_iter().zip(parts).collect();
            match template::render(&texts, &values) {
                Ok(made) => {
                    let (keys, parts) = made.into_iter().unzip();
                    Message::new(&WorkerAnswer::Rendered(Ok(keys)), parts)
                }
                Err(error) => Message::new(&WorkerAnswer::Rendered(Err(error)), Vec::new()),
            }
        }
        WorkerQuestion::Document { branch, account } => {
            let text = parts.next().unwrap_or(Sensitive::new(Vec::new()));
            let text = std::str::from_utf8(text.expose()).map_err(io::Error::other)?;
            Message::new(&WorkerAnswer::Document(document::read(text, &branch, &account)), Vec::new())
        }
    }
}

fn texts_of(heads: Vec<Head>, parts: &mut impl Iterator<Item = Sensitive<Vec<u8>>>) -> io::Result<Vec<Text>> {
    let texts = heads.into_iter().zip(parts).map(|(Head { key, source, secret }, mut text)| {
        let text = String::from_utf8(std::mem::take(text.expose_mut())).map_err(io::Error::other)?;
        Ok(Text { key, text: Sensitive::new(text).into(), source, secret })
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(questions: &[Message]) -> Vec<Message> {
        let (mut wire, mut answers) = (Vec::new(), Vec::new());
        for question in questions {
            question.write(&mut wire).unwrap();
        }
        serve(&mut wire.as_slice(), &mut answers).unwrap();
        let mut answers = answers.as_slice();
        questions.iter().map(|_| Message::read(&mut answers).unwrap()).collect()
    }

    fn part(text: &str) -> Sensitive<Vec<u8>> {
        Sensitive::new(text.as_bytes().to_vec())
    }

    fn head(key: &str) -> Head {
        Head { key: key.into(), source: None, secret: false }
    }

    #[test]
    fn each_question_has_its_answer_in_turn() {
        let render = |text| {
            let question = WorkerQuestion::Render { texts: vec![head("k")], keys: vec!["v".into()] };
            Message::new(&question, vec![part(text), part("value")]).unwrap()
        };
        let check = WorkerQuestion::Check { texts: vec![head("a"), head("b")] };
        let document = WorkerQuestion::Document { branch: "app".into(), account: "demo".into() };
        let answers = asked(&[
            render("<{{ v }}>"),
            render("{{ w }}"),
            Message::new(&check, vec![part("{{ fine }}"), part("{{ ")]).unwrap(),
            Message::new(&document, vec![part("- !host web\n")]).unwrap(),
        ]);
        assert!(matches!(answers[0].head().unwrap(), WorkerAnswer::Rendered(Ok(keys)) if keys == ["k"]));
        assert_eq!(answers[0].parts[0].expose(), b"<value>");
        assert!(
            matches!(answers[1].head().unwrap(), WorkerAnswer::Rendered(Err(e)) if e.what.contains("'w' is missing"))
        );
        assert!(matches!(answers[2].head().unwrap(), WorkerAnswer::Checked(Err(e)) if e.key == "b"));
        assert!(
            matches!(answers[3].head().unwrap(), WorkerAnswer::Document(Ok(d)) if d.roles[0].id == "demo:host:app/web")
        );
    }
}
