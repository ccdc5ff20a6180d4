//! The templates of an object's target: where they lie, what they say, and the keys that they make; for whatever kind has one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use futures::FutureExt;

use super::{
    Context,
    dependencies::{Dependency, DependencyKind, KeptText, Texts},
};
use crate::{
    api::{
        Reason,
        secret::{Template, TemplateSource},
    },
    heavy::Whose,
    plan::{
        Failure, LOOK_AGAIN, hash,
        secret::{sources::Data, template::Text},
    },
    runtime::{Key, failure::read_in_room},
    sensitive::Sensitive,
};

/// What of a template lies elsewhere.
pub fn elsewhere(template: Option<&Template>) -> &[TemplateSource] {
    template.and_then(|template| template.data_from.as_deref()).unwrap_or_default()
}

fn input(source: &TemplateSource, key: &Key) -> Dependency {
    Dependency::bundle(source.source.kind, &key.namespace, &source.source.name)
}

/// The ConfigMaps and Secrets that the templates of an object lie in, each once.
pub fn sources(template: Option<&Template>, key: &Key) -> Vec<Dependency> {
    let all: BTreeSet<_> = elsewhere(template).iter().map(|source| input(source, key)).collect();
    all.into_iter().collect()
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

/// Reads the templates of an object, whose Secret has the name `target`.
///
/// # Errors
/// `TemplateNotFound`, naming what is missing; `TemplateInvalid` for one that is not text; `InvalidSpec` where two make one key, or one lies
/// in the target; the API server's.
pub async fn gather(
    template: Option<&Template>,
    target: &str,
    key: &Key,
    sources: &[Dependency],
    ctx: &Context,
) -> Result<Templates, Failure> {
    let Some(template) = template else {
        return Ok(Templates { texts: None, versions: Vec::new() });
    };
    refuse_target(target, key, sources)?;
    let read = || read_all(template, key, sources, ctx).boxed();
    read_in_room(&key.namespace, "the text of the templates", read).await
}

/// Refuses a template that lies in the Secret which it makes.
///
/// # Errors
/// `InvalidSpec`.
pub fn refuse_target(target: &str, key: &Key, sources: &[Dependency]) -> Result<(), Failure> {
    let target = Dependency::secret(&key.namespace, target);
    if !sources.contains(&target) {
        return Ok(());
    }
    let message = format!(
        "spec.target.template.dataFrom names {target}, which is the target; write the template elsewhere"
    );
    Err(Failure::stalled(Reason::InvalidSpec, message))
}

async fn read_all(
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
        let keys = elsewhere(Some(template)).iter().filter(|from| input(from, key) == *source);
        let keys = keys.map(|from| from.source.key.as_str()).collect();
        let read = ctx.inputs.texts(source, &keys, asked, &ctx.cluster).await?;
        versions.push(read.version.clone());
        kept.insert(source, read);
    }
    for (at, from) in elsewhere(Some(template)).iter().enumerate() {
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
    /// The keys that they make; none where there is no template.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().flatten().map(|text| text.key.as_str())
    }

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
