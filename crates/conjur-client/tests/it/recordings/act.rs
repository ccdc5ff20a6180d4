//! The call of the client that sends what a step sent.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use conjur_client::sensitive::Sensitive;
use conjur_client::{Credentials, Listing, LoadMode, Members, Page, PolicyBranch, RoleId, VariableId};
use percent_encoding::percent_decode_str;

use super::step::Step;

pub enum Act {
    Version,
    WhoAmI,
    Login { login: String, secret: String },
    Authenticate(Credentials),
    Password { login: String, secret: String, new: String },
    RotateOwn { login: String, secret: String },
    Rotate(RoleId),
    Fetch { kind: String, id: String, version: Option<u32> },
    Set { kind: String, id: String },
    Batch(Vec<VariableId>),
    Load { branch: PolicyBranch, mode: LoadMode },
    DryRun { branch: PolicyBranch, mode: LoadMode },
    Effective { branch: PolicyBranch, json: bool },
    Role { kind: String, id: String },
    Members { kind: String, id: String, which: Members },
    Memberships { kind: String, id: String },
    AllMemberships { kind: String, id: String },
    Show { kind: String, id: String },
    List(Listing, Page),
    Count(Listing),
    Check { kind: String, id: String, privilege: String, role: Option<RoleId> },
    Permitted { kind: String, id: String, privilege: String },
    FactoryTokens { factory: String, expiration: jiff::Timestamp, cidrs: Vec<String>, count: u32 },
    Revoke { token: String },
    CreateHost { token: String, id: String, annotations: BTreeMap<String, String> },
    PublicKeys { kind: String, id: String },
}

pub type Pairs = Vec<(String, String)>;

pub fn form(text: &str) -> Pairs {
    url::form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

fn get<'a>(pairs: &'a Pairs, name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Whether the names of `pairs` are among these.
fn only(pairs: &Pairs, names: &[&str]) -> Option<()> {
    pairs.iter().all(|(name, _)| names.contains(&name.as_str())).then_some(())
}

pub fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn basic(step: &Step) -> Option<(String, String)> {
    let pair = STANDARD.decode(step.headers.get("authorization")?.strip_prefix("Basic ")?).ok()?;
    let (login, secret) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
    Some((login.to_owned(), secret.to_owned()))
}

pub fn account(step: &Step) -> String {
    let path = step.path.split('?').next().unwrap();
    let mut parts = path.trim_start_matches('/').split('/');
    let (route, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let account = match route {
        "authn-jwt" => third,
        "authn" | "secrets" | "policies" | "roles" | "resources" | "public_keys" => second,
        _ => None,
    };
    account.unwrap_or("demo").to_owned()
}

/// `None`: no call of the client sends such a request.
pub fn of(step: &Step) -> Option<Act> {
    let (path, query) = step.path.split_once('?').unwrap_or((&step.path, ""));
    let query = form(query);
    if !is_encoded_text(path) {
        return None;
    }
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    // The id of a route that takes one: one segment, or several for those who left its slashes raw.
    let id = |from: usize| parts.get(from..).map(|rest| decoded(&rest.join("/"))).filter(|id| !id.is_empty());
    let kind = |at: usize| parts.get(at).map(|kind| decoded(kind));
    match (step.method.as_str(), parts[0]) {
        ("GET", "") if step.answer.starts_with(b"{") => Some(Act::Version),
        ("GET", "whoami") => Some(Act::WhoAmI),
        (_, "authn") => authn(step, &parts[2..], &query),
        ("POST", "authn-jwt") => jwt(step, &parts),
        (method, "secrets") if parts.len() == 1 => (method == "GET").then(|| batch(&query))?,
        ("GET", "secrets") => {
            only(&query, &["version"])?;
            let version = get(&query, "version").map(str::parse).transpose().ok()?;
            Some(Act::Fetch { kind: kind(2)?, id: id(3)?, version })
        }
        ("POST", "secrets") if query.is_empty() && !chunked_or_zipped(step) => {
            Some(Act::Set { kind: kind(2)?, id: id(3)? })
        }
        (method, "policies") => {
            let branch = PolicyBranch::new(&id(3)?).ok().filter(|_| parts[2] == "policy")?;
            policy(method, branch, step, &query)
        }
        ("GET", "roles") => role(kind(2)?, id(3)?, &query),
        ("GET", "resources") => match id(3) {
            Some(id) => resource(kind(2)?, id, &query),
            None if parts.len() > 1 => list(kind(2), &query),
            None => None,
        },
        ("POST", "host_factory_tokens") => factory_tokens(step),
        ("DELETE", "host_factory_tokens") => Some(Act::Revoke { token: id(1)? }),
        ("POST", "host_factories") => create_host(step, query),
        ("GET", "public_keys") => Some(Act::PublicKeys { kind: kind(2)?, id: id(3)? }),
        _ => None,
    }
}

/// Whether every `%` has its two digits, and all is UTF-8.
fn is_encoded_text(path: &str) -> bool {
    let digits = |text: &str| text.len() >= 2 && text.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    path.split('%').skip(1).all(digits) && percent_decode_str(path).decode_utf8().is_ok()
}

fn chunked_or_zipped(step: &Step) -> bool {
    step.headers.contains_key("transfer-encoding") || step.headers.contains_key("content-encoding")
}

fn authn(step: &Step, parts: &[&str], query: &Pairs) -> Option<Act> {
    match (step.method.as_str(), parts) {
        ("GET", ["login"]) => basic(step).map(|(login, secret)| Act::Login { login, secret }),
        ("PUT", ["password"]) => {
            let (login, secret) = basic(step)?;
            Some(Act::Password { login, secret, new: String::from_utf8(step.body.clone()).ok()? })
        }
        ("PUT", ["api_key"]) if query.is_empty() => {
            basic(step).map(|(login, secret)| Act::RotateOwn { login, secret })
        }
        ("PUT", ["api_key"]) if step.role.is_some() => {
            let role = get(query, "role")?;
            let full = if role.split(':').count() < 3 { format!("demo:{role}") } else { role.to_owned() };
            let role: RoleId = full.parse().ok()?;
            (step.role.as_deref() != Some(role.login().as_str())).then_some(Act::Rotate(role))
        }
        ("POST", [login, "authenticate"]) if !step.body.is_empty() && may_be_sent(&decoded(login)) => {
            let api_key = Sensitive::new(String::from_utf8(step.body.clone()).ok()?);
            Some(Act::Authenticate(Credentials::ApiKey { login: decoded(login), api_key }))
        }
        _ => None,
    }
}

fn jwt(step: &Step, parts: &[&str]) -> Option<Act> {
    let pairs = form(std::str::from_utf8(&step.body).ok()?);
    let jwt = get(&pairs, "jwt")?.to_owned();
    let host_id = match parts[3..] {
        ["authenticate"] => None,
        [host, "authenticate"] => Some(decoded(host)),
        _ => return None,
    };
    Some(Act::Authenticate(Credentials::Jwt {
        service_id: parts[1].to_owned(),
        host_id,
        source: Arc::new(move || ready(Ok(Sensitive::new(jwt.clone())))),
    }))
}

fn batch(query: &Pairs) -> Option<Act> {
    let mut ids = Vec::new();
    for id in get(query, "variable_ids")?.split(',') {
        let id = VariableId::new(id.strip_prefix("demo:variable:")?).ok()?;
        if ids.contains(&id) {
            return None;
        }
        ids.push(id);
    }
    Some(Act::Batch(ids))
}

fn policy(method: &str, branch: PolicyBranch, step: &Step, query: &Pairs) -> Option<Act> {
    let mode = match method {
        "GET" if query.is_empty() => {
            let json = step.headers.get("content-type").is_some_and(|kind| kind == "application/json");
            return Some(Act::Effective { branch, json });
        }
        "POST" => LoadMode::Append,
        "PATCH" => LoadMode::Update,
        "PUT" => LoadMode::Replace,
        _ => return None,
    };
    match get(query, "dryRun") {
        None => Some(Act::Load { branch, mode }),
        Some("true") => Some(Act::DryRun { branch, mode }),
        Some(_) => None,
    }
}

fn role(kind: String, id: String, query: &Pairs) -> Option<Act> {
    let Some((first, _)) = query.first() else { return Some(Act::Role { kind, id }) };
    match first.as_str() {
        "members" => {
            only(query, &["members", "search", "kind", "limit"])?;
            let page = get(query, "limit").map(|limit| Page { limit: limit.parse().unwrap(), offset: 0 });
            let text = |name| get(query, name).map(str::to_owned);
            Some(Act::Members {
                kind,
                id,
                which: Members { kind: text("kind"), search: text("search"), page },
            })
        }
        "memberships" => only(query, &["memberships"]).map(|()| Act::Memberships { kind, id }),
        "all" => only(query, &["all"]).map(|()| Act::AllMemberships { kind, id }),
        _ => None,
    }
}

fn resource(kind: String, id: String, query: &Pairs) -> Option<Act> {
    if query.is_empty() {
        return Some(Act::Show { kind, id });
    }
    let privilege = get(query, "privilege")?.to_owned();
    if get(query, "permitted_roles") == Some("true") {
        return Some(Act::Permitted { kind, id, privilege });
    }
    let role = get(query, "role").map(str::parse).transpose().ok()?;
    (get(query, "check") == Some("true")).then_some(Act::Check { kind, id, privilege, role })
}

fn list(kind: Option<String>, query: &Pairs) -> Option<Act> {
    only(query, &["limit", "offset", "search", "owner", "acting_as", "kind", "count"])?;
    let role = |name| get(query, name).map(str::parse::<RoleId>).transpose().ok();
    let listing = Listing {
        kind: kind.or_else(|| get(query, "kind").map(str::to_owned)),
        search: get(query, "search").map(str::to_owned),
        owner: role("owner")?,
        acting_as: role("acting_as")?,
    };
    if get(query, "count").is_some() {
        return Some(Act::Count(listing));
    }
    let number = |name| get(query, name).map(str::parse::<u32>).transpose().ok();
    let page = match (number("limit")?, number("offset")?) {
        (Some(limit), offset) => Page { limit, offset: offset.unwrap_or(0) },
        (None, None) => Page::FIRST,
        // Without a limit the server takes 10.
        (None, Some(_)) => return None,
    };
    Some(Act::List(listing, page))
}

fn factory_tokens(step: &Step) -> Option<Act> {
    let pairs = form(std::str::from_utf8(&step.body).ok()?);
    let expiration = get(&pairs, "expiration")?;
    let cidrs: Vec<String> =
        pairs.iter().filter(|(name, _)| name == "cidr[]").map(|(_, cidr)| cidr.clone()).collect();
    only(&pairs, &["expiration", "host_factory", "count", "cidr[]"])?;
    Some(Act::FactoryTokens {
        factory: get(&pairs, "host_factory")?.strip_prefix("demo:host_factory:")?.to_owned(),
        expiration: expiration.parse().ok()?,
        cidrs,
        count: get(&pairs, "count").unwrap_or("1").parse().ok()?,
    })
}

fn create_host(step: &Step, mut pairs: Pairs) -> Option<Act> {
    let token = step.headers.get("authorization")?.strip_prefix("Token token=\"")?.strip_suffix('"')?;
    pairs.extend(form(std::str::from_utf8(&step.body).ok()?));
    let id = get(&pairs, "id")?.to_owned();
    let annotations = pairs.into_iter().filter_map(|(name, value)| {
        Some((name.strip_prefix("annotations[")?.strip_suffix(']')?.to_owned(), value))
    });
    let annotations = annotations.collect();
    step.role.is_none().then(|| Act::CreateHost { token: token.to_owned(), id, annotations })
}

/// Whether the client takes it for a login at all.
fn may_be_sent(login: &str) -> bool {
    !login.contains('/') || login.starts_with("host/")
}
