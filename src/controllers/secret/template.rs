//! The templates of a ConjurSecret: those that read from one another's Secrets in a circle are refused.

use std::collections::BTreeSet;

use crate::{
    api::{
        ConjurSecret, Reason, SourceKind,
        secret::{Template, TemplateSource},
    },
    controllers::{
        Context,
        dependencies::Dependency,
        template::{self, Templates},
    },
    limits::TEMPLATE_CHAIN,
    plan::{
        Failure,
        secret::circle::{Circle, Reader},
    },
    runtime::Key,
};

pub use crate::controllers::template::hash;

/// How many objects of a circle a message names.
const NAMED: usize = 8;

fn of(object: &ConjurSecret) -> Option<&Template> {
    object.spec.target.as_ref().and_then(|target| target.template.as_ref())
}

fn from(object: &ConjurSecret) -> &[TemplateSource] {
    template::elsewhere(of(object))
}

/// The ConfigMaps and Secrets that an object's templates lie in, each once.
pub fn sources(object: &ConjurSecret, key: &Key) -> Vec<Dependency> {
    template::sources(of(object), key)
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

/// Reads the templates of an object.
///
/// # Errors
/// As [`template::gather`]; `InvalidSpec` for a circle.
pub async fn gather(
    object: &ConjurSecret,
    key: &Key,
    sources: &[Dependency],
    ctx: &Context,
) -> Result<Templates, Failure> {
    let template = of(object);
    let target = object.spec.target().name;
    let target = target.as_deref().unwrap_or(&key.name);
    if template.is_some() {
        // Before the circle, of which it is the shortest, and whose message says less.
        template::refuse_target(target, key, sources)?;
        refuse_circle(key, ctx)?;
    }
    template::gather(template, target, key, sources, ctx).await
}
