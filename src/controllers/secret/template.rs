//! The templates of an object: where they lie, what they say, and the keys that they make.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use futures::FutureExt;

use crate::{
    api::{
        ConjurSecret, Reason, SourceKind,
        secret::{Template, TemplateSource},
    },
    controllers::{
        Context,
        dependencies::{Dependency, DependencyKind, KeptText, Texts},
    },
    heavy::Whose,
    limits::TEMPLATE_CHAIN,
    plan::{
        Failure, LOOK_AGAIN, hash,
        secret::{
            circle::{Circle, Reader},
            sources::Data,
            template::Text,
        },
    },
    runtime::{Key, failure::read_in_room},
    sensitive::Sensitive,
};

/// How many objects of a circle a message names.
const NAMED: usize = 8;

fn from(object: &ConjurSecret) -> &[TemplateSource] {
    let template = object.spec.target.as_ref().and_then(|target| target.template.as_ref());
    template.and_then(|template| template.data_from.as_deref()).unwrap_or_default()
}

fn input(source: &TemplateSource, key: &Key) -> Dependency {
    Dependency::bundle(source.source.kind, &key.namespace, &source.source.name)
}

/// The ConfigMaps and Secrets that an object's templates lie in, each once.
pub fn sources(object: &ConjurSecret, key: &Key) -> Vec<Dependency> {
    let all: BTreeSet<_> = from(object).iter().map(|source| input(source, key)).collect();
    all.into_iter().collect()
}

/// What of an object can be part of a circle of templates: one that is written once is none.
pub fn reader(object: &ConjurSecret, writes: &str, once: bool) -> Option<Reader> {
    let secrets = from(object).iter().filter(|from| from.source.kind == SourceKind::Secret && !once);
    let reads: BTreeSet<_> = secrets.map(|from| from.source.name.clone()).collect();
    (!reads.is_empty()).then(|| Reader { writes: writes.to_owned(), reads: reads.into_iter().collect() })
}

/// Wakes objects of a circle that was broken.
pub fn look_again(objects: Vec<Key>, ctx: &Context) {
    for key in objects {
        ctx.kinds.secrets.wake(key);
    }
}

/// Each write of an object in a circle would be a reason for the next.
fn refuse_circle(key: &Key, ctx: &Context) -> Result<(), Failure> {
    let message = match ctx.memory.circles().of(key) {
        None => return Ok(()),
        Some(Circle::Back(way)) => {
            let shown: Vec<_> = way.iter().take(NAMED).map(String::as_str).collect();
            let more = if way.len() > NAMED { " → …" } else { "" };
            format!(
                "spec.target.template.dataFrom leads back to this object: of the ConjurSecrets {}{more} → {} each reads its \
                 template from the Secret that the next one writes, so that every write would ask for another. Let one \
                 of them read something else",
                shown.join(" → "),
                key.name
            )
        }
        Some(Circle::TooLong) => format!(
            "spec.target.template.dataFrom names a Secret that a ConjurSecret writes, which reads another, and so on over \
             more than {TEMPLATE_CHAIN} ConjurSecrets; let the templates lie nearer"
        ),
    };
    Err(Failure::stalled(Reason::InvalidSpec, message))
}

/// A hash over the connection and the sources of templates; of the connection alone where there are none.
pub fn hash(connection: &str, sources: &[Dependency], versions: &[String]) -> String {
    if sources.is_empty() {
        return connection.to_owned();
    }
    let names: Vec<_> = sources.iter().map(Dependency::to_string).collect();
    let pairs = names.iter().zip(versions).flat_map(|(name, version)| [name.as_str(), version]);
    hash::hash([connection].into_iter().chain(pairs))
}

/// The templates of an object, as they are now.
pub struct Templates {
    /// None where the Secret has the plain keys.
    texts: Option<Vec<Text>>,
    /// Uid and resource version of each source.
    pub versions: Vec<String>,
}

/// Reads the templates of an object.
///
/// # Errors
/// `TemplateNotFound`, naming what is missing; `TemplateInvalid` for one that is not text; `InvalidSpec` where two make one key; the API
/// server's.
pub async fn gather(
    object: &ConjurSecret,
    key: &Key,
    sources: &[Dependency],
    ctx: &Context,
) -> Result<Templates, Failure> {
    let Some(template) = object.spec.target.as_ref().and_then(|target| target.template.as_ref()) else {
        return Ok(Templates { texts: None, versions: Vec::new() });
    };
    let target =
        Dependency::secret(&key.namespace, object.spec.target().name.as_deref().unwrap_or(&key.name));
    if sources.contains(&target) {
        let message = format!(
            "spec.target.template.dataFrom names {target}, which is the target; write the template elsewhere"
        );
        return Err(Failure::stalled(Reason::InvalidSpec, message));
    }
    refuse_circle(key, ctx)?;
    let read = || read_all(object, template, key, sources, ctx).boxed();
    read_in_room(&key.namespace, "the text of the templates", read).await
}

async fn read_all(
    object: &ConjurSecret,
    template: &Template,
    key: &Key,
    sources: &[Dependency],
    ctx: &Context,
) -> Result<(Templates, usize), Failure> {
    let mut made_by = BTreeMap::new();
    let mut texts = Vec::new();
    for (name, text) in template.data.iter().flatten() {
        made_by.insert(name.as_str(), format!("data['{name}']"));
        texts.push(Text::inline(name, text));
    }
    let asked = Instant::now();
    let mut versions = Vec::new();
    let mut kept = BTreeMap::new();
    for source in sources {
        let keys = from(object).iter().filter(|from| input(from, key) == *source);
        let keys = keys.map(|from| from.source.key.as_str()).collect();
        let read = ctx.inputs.texts(source, &keys, asked, &ctx.cluster).await?;
        versions.push(read.version.clone());
        kept.insert(source, read);
    }
    for (at, from) in from(object).iter().enumerate() {
        let source = input(from, key);
        let text = read_text(kept.get(&source), &source, &from.source.key)?;
        let name = from.target_key.as_deref().unwrap_or(&from.source.key);
        if let Some(other) = made_by.insert(name, format!("dataFrom[{at}]")) {
            let message = format!(
                "spec.target.template.{other} and dataFrom[{at}] both make the key '{name}'; give one of them another \
                 key, or targetKey"
            );
            return Err(Failure::stalled(Reason::InvalidSpec, message));
        }
        let said = Some(format!("{source}, key '{}'", from.source.key));
        texts.push(Text {
            key: name.to_owned(),
            text,
            source: said,
            secret: source.kind == DependencyKind::Secret,
        });
    }
    let length = texts.iter().map(|text| text.text.expose().len()).sum();
    Ok((Templates { texts: Some(texts), versions }, length))
}

fn read_text(
    read: Option<&Texts>,
    source: &Dependency,
    key: &str,
) -> Result<Arc<Sensitive<String>>, Failure> {
    let message = match read.filter(|read| !read.version.is_empty()) {
        None => format!("{source}, where a template is to be, does not exist; create it, or correct"),
        Some(read) => match read.by_key.get(key) {
            Some(KeptText::Is(text)) => return Ok(text.clone()),
            Some(KeptText::Binary) => {
                let message = format!("the template in {source} under the key '{key}' is not text (UTF-8)");
                return Err(Failure::stalled(Reason::TemplateInvalid, message));
            }
            Some(KeptText::Absent) | None => {
                format!("{source} has no key '{key}', where a template is to be; add it, or correct")
            }
        },
    };
    let message = format!("{message} spec.target.template.dataFrom");
    Err(Failure::waiting(Reason::TemplateNotFound, LOOK_AGAIN, message))
}

impl Templates {
    /// Looks at what can be told without values.
    ///
    /// # Errors
    /// `TemplateInvalid`, `SetAside`.
    pub async fn check(&self, whose: &Whose, ctx: &Context) -> Result<(), Failure> {
        match &self.texts {
            Some(texts) => ctx.heavy.check_templates(whose, texts).await,
            None => Ok(()),
        }
    }

    /// The data of the Secret: what the templates make of the values, or the values.
    ///
    /// # Errors
    /// `TemplateInvalid`, `SetAside`.
    pub async fn render(&self, whose: &Whose, values: Data, ctx: &Context) -> Result<Data, Failure> {
        match &self.texts {
            Some(texts) => ctx.heavy.render_templates(whose, texts, &values).await,
            None => Ok(values),
        }
    }
}
