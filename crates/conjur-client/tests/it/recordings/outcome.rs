//! What the client makes of an answer, and what it should.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use conjur_client::sensitive::Sensitive;
use conjur_client::{
    Check, Client, DryRun, Error, Freshness, Item, LoadError, Membership, Priority, Resource, Wanted,
};
use serde_json::{Value, json};
use wiremock::Request;

use super::act::Act;
use super::step::Step;

/// A success as JSON, or the name of an error.
pub type Result = std::result::Result<Value, String>;

fn secret(text: &str) -> Sensitive<String> {
    Sensitive::new(text.to_owned())
}

fn name(error: &Error) -> String {
    match error {
        Error::Config { .. } => "Config",
        Error::HostDenied { .. } => "HostDenied",
        Error::Unauthenticated { .. } => "Unauthenticated",
        Error::Forbidden { .. } => "Forbidden",
        Error::NotFound { .. } => "NotFound",
        Error::Invalid { .. } => "Invalid",
        Error::Conflict { retry_after, .. } => return format!("Conflict after {retry_after:?}"),
        Error::RateLimited { .. } => "RateLimited",
        Error::Unavailable { .. } => "Unavailable",
        Error::Tls { .. } => "Tls",
        Error::TooLarge { .. } => "TooLarge",
        Error::Unexpected { .. } => "Unexpected",
        Error::NoRoom { .. } => "NoRoom",
        Error::NoRoute { .. } => "NoRoute",
        Error::Unsupported { .. } => "Unsupported",
        Error::ContractVersion { .. } => "ContractVersion",
        error => panic!("what is {error:?}?"),
    }
    .to_owned()
}

pub async fn run(client: &Client, act: &Act, step: &Step) -> Result {
    if let Act::Load { branch, mode } = act {
        return match client.load_policy(branch, *mode, &step.body).await {
            Ok(loaded) => {
                let keys: BTreeMap<String, &String> =
                    loaded.created_roles.iter().map(|(role, key)| (role.to_string(), key.expose())).collect();
                Ok(json!({"version": loaded.version, "keys": keys}))
            }
            Err(LoadError::Refused(error)) => Err(name(&error)),
            Err(LoadError::Unknown(error)) => Err(format!("unknown: {}", name(&error))),
        };
    }
    call(client, act, step).await.map_err(|error| name(&error))
}

async fn call(client: &Client, act: &Act, step: &Step) -> std::result::Result<Value, Error> {
    Ok(match act {
        Act::Version => json!(client.server_version().await?),
        Act::WhoAmI => client.whoami().await.map(|who| json!([who.account, who.username]))?,
        Act::Authenticate(_) => client.whoami().await.map(|_| Value::Null)?,
        Act::Login { login, secret: by } => json!(client.login(login, &secret(by)).await?.expose()),
        Act::Password { login, secret: by, new } => {
            json!(client.change_password(login, &secret(by), &secret(new)).await?)
        }
        Act::RotateOwn { login, secret: by } => {
            json!(client.rotate_own_api_key(login, &secret(by)).await?.expose())
        }
        Act::Rotate(role) => json!(client.rotate_api_key(role).await?.expose()),
        Act::Fetch { kind, id, version } => {
            json!(STANDARD.encode(client.fetch_secret(kind, id, *version).await?.expose()))
        }
        Act::Set { kind, id } => json!(client.set_secret(kind, id, &step.body).await?),
        Act::Batch(ids) => {
            let wanted: Vec<Wanted> = ids.iter().cloned().map(Wanted::latest).collect();
            let answers = client.fetch_variables(&wanted, Priority::Foreground, Freshness::Remembered).await;
            let shown = answers.into_iter().map(|(wanted, answer)| {
                let shown = match answer {
                    Ok(value) => STANDARD.encode(value.expose()),
                    Err(error) => name(&error),
                };
                (wanted.id.to_string(), json!(shown))
            });
            Value::Object(shown.collect())
        }
        Act::DryRun { branch, mode } => dry_run(client.dry_run_policy(branch, *mode, &step.body).await?),
        Act::Effective { branch, json: true } => client.effective_policy_json(branch).await?,
        Act::Effective { branch, json: false } => json!(client.effective_policy(branch).await?),
        Act::List(listing, page) => {
            client.list(listing, *page).await?.iter().map(resource).collect::<Vec<_>>().into()
        }
        Act::Count(listing) => json!(client.count_resources(listing).await?),
        Act::Show { kind, id } => {
            client.show_resource(kind, id).await?.as_ref().map_or(Value::Null, resource)
        }
        Act::Check { kind, id, privilege, role } => {
            json!(format!("{:?}", client.check_permission(kind, id, privilege, role.as_ref()).await?))
        }
        _ => return roles_and_hosts(client, act).await,
    })
}

async fn roles_and_hosts(client: &Client, act: &Act) -> std::result::Result<Value, Error> {
    let texts =
        |roles: Vec<conjur_client::RoleId>| roles.iter().map(ToString::to_string).collect::<Vec<_>>().into();
    let members = |found: Vec<Membership>| found.iter().map(membership).collect::<Vec<_>>().into();
    Ok(match act {
        Act::Role { kind, id } => client.show_role(kind, id).await?.map_or(Value::Null, |role| {
            let members: Vec<Value> = role.members.iter().map(membership).collect();
            json!({"id": role.id.to_string(), "created_at": role.created_at, "policy": role.policy, "members": members})
        }),
        Act::Members { kind, id, which } => members(client.role_members(kind, id, which).await?),
        Act::Memberships { kind, id } => {
            members(client.role_memberships(kind, id, &conjur_client::Members::default()).await?)
        }
        Act::AllMemberships { kind, id } => texts(client.all_role_memberships(kind, id).await?),
        Act::Permitted { kind, id, privilege } => texts(client.permitted_roles(kind, id, privilege).await?),
        Act::FactoryTokens { factory, expiration, cidrs, count } => {
            let tokens = client.create_host_factory_tokens(factory, *expiration, cidrs, *count).await?;
            let shown = tokens.iter().map(|token| {
                json!({"token": token.token.expose(), "cidr": token.cidrs, "expiration": token.expiration.to_string()})
            });
            shown.collect::<Vec<_>>().into()
        }
        Act::Revoke { token } => json!(client.revoke_host_factory_token(&secret(token)).await?),
        Act::CreateHost { token, id, annotations } => {
            let host = client.create_host(&secret(token), id, annotations).await?;
            json!([host.id.to_string(), host.api_key.expose(), host.owner, host.created_at])
        }
        Act::PublicKeys { kind, id } => json!(client.public_keys(kind, id).await?),
        _ => unreachable!("asked for above"),
    })
}

fn dry_run(run: DryRun) -> Value {
    let ids = |items: &[Item]| items.iter().map(|item| item.identifier.clone()).collect::<Vec<_>>();
    match run {
        DryRun::Valid(changes) => {
            json!([ids(&changes.created), ids(&changes.before), ids(&changes.after), ids(&changes.deleted)])
        }
        DryRun::Invalid(flaws) => {
            let flaws = flaws.iter().map(|flaw| json!([flaw.line, flaw.column, flaw.message]));
            flaws.collect::<Vec<_>>().into()
        }
    }
}

fn membership(found: &Membership) -> Value {
    json!({
        "role": found.role.to_string(), "member": found.member.to_string(), "admin_option": found.admin_option,
        "ownership": found.ownership, "policy": found.policy,
    })
}

fn resource(found: &Resource) -> Value {
    let annotations: Vec<Value> =
        found.annotations.iter().map(|one| json!({"name": one.name, "value": one.value})).collect();
    let permissions: Vec<Value> = found
        .permissions
        .iter()
        .map(|one| json!({"privilege": one.privilege, "role": one.role.to_string(), "policy": one.policy}))
        .collect();
    let versions: Vec<u32> = found.secrets.iter().map(|secret| secret.version).collect();
    json!({
        "id": found.id, "owner": found.owner, "created_at": found.created_at, "policy": found.policy,
        "annotations": annotations, "permissions": permissions, "versions": versions,
        "restricted_to": found.restricted_to,
    })
}

/// What a server leaves out, the client takes for null.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, field)| !field.is_null());
            Value::Object(kept.map(|(name, field)| (name, without_nulls(field))).collect())
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        value => value,
    }
}

/// The same of what was recorded.
fn recorded_resource(of: &Value) -> Value {
    let list = |name: &str| of[name].as_array().cloned().unwrap_or_default();
    let annotations: Vec<Value> =
        list("annotations").iter().map(|one| json!({"name": one["name"], "value": one["value"]})).collect();
    let versions: Vec<Value> = list("secrets").iter().map(|secret| secret["version"].clone()).collect();
    json!({
        "id": of["id"], "owner": of["owner"], "created_at": of["created_at"], "policy": of["policy"],
        "annotations": annotations, "permissions": list("permissions"), "versions": versions,
        "restricted_to": list("restricted_to"),
    })
}

pub fn differences(step: &Step, act: &Act, result: &Result, requests: &[Request]) -> Vec<String> {
    if let Act::Batch(_) = act
        && step.status != 200
    {
        return failed_batch(step, result, requests);
    }
    let expected = if (200..300).contains(&step.status) && !(step.cut && parses(act)) {
        Ok(success(step, act))
    } else {
        failure(step, act)
    };
    if result.clone().map(without_nulls) == expected.clone().map(without_nulls) {
        return Vec::new();
    }
    vec![format!("{step}: the client makes {result:?} of it instead of {expected:?}")]
}

/// Whether a body that was cut can't be read at all.
fn parses(act: &Act) -> bool {
    !matches!(act, Act::Fetch { .. } | Act::Effective { json: false, .. } | Act::Batch(_) | Act::Set { .. })
}

fn success(step: &Step, act: &Act) -> Value {
    let text = || String::from_utf8_lossy(&step.answer).into_owned();
    let body = step.json().unwrap_or_default();
    let each =
        |make: fn(&Value) -> Value| body.as_array().unwrap().iter().map(make).collect::<Vec<_>>().into();
    match act {
        Act::Version => body["version"].clone(),
        Act::WhoAmI => json!([body["account"], body["username"]]),
        Act::Login { .. } | Act::RotateOwn { .. } | Act::Rotate(_) | Act::Effective { json: false, .. } => {
            json!(text())
        }
        Act::Authenticate(_) | Act::Password { .. } | Act::Set { .. } | Act::Revoke { .. } => Value::Null,
        Act::Fetch { .. } => json!(STANDARD.encode(&step.answer)),
        Act::Batch(ids) => {
            let encoded = step.answered.get("content-encoding").is_some_and(|encoding| encoding == "base64");
            let value = |id: &conjur_client::VariableId| {
                if step.cut {
                    return STANDARD.encode(format!("value of {id}"));
                }
                let text = body[format!("demo:variable:{id}")].as_str().unwrap();
                if encoded { text.replace('\n', "") } else { STANDARD.encode(text) }
            };
            Value::Object(ids.iter().map(|id| (id.to_string(), json!(value(id)))).collect())
        }
        Act::Load { .. } => {
            let roles = body["created_roles"].as_object().unwrap();
            let keys: BTreeMap<&String, &Value> =
                roles.iter().map(|(role, made)| (role, &made["api_key"])).collect();
            json!({"version": body["version"], "keys": keys})
        }
        Act::DryRun { .. } => {
            let ids = |list: &Value| -> Vec<Value> {
                list["items"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|item| item["identifier"]["identifier"].clone())
                    .collect()
            };
            let updated = &body["updated"];
            json!([
                ids(&body["created"]),
                ids(&updated["before"]),
                ids(&updated["after"]),
                ids(&body["deleted"])
            ])
        }
        Act::Effective { json: true, .. }
        | Act::Role { .. }
        | Act::Members { .. }
        | Act::Memberships { .. }
        | Act::AllMemberships { .. }
        | Act::FactoryTokens { .. }
        | Act::Permitted { .. } => body,
        Act::Show { .. } => recorded_resource(&body),
        Act::List(..) => each(recorded_resource),
        Act::Count(_) => body["count"].clone(),
        Act::Check { .. } => json!(format!("{:?}", Check::Granted)),
        Act::CreateHost { .. } => json!([body["id"], body["api_key"], body["owner"], body["created_at"]]),
        Act::PublicKeys { .. } => text().lines().filter(|line| !line.is_empty()).collect(),
    }
}

fn failure(step: &Step, act: &Act) -> Result {
    let loading = matches!(act, Act::Load { .. });
    let error = match step.status {
        404 if matches!(act, Act::Check { .. }) => {
            let check = if step.is_conjur_error() { Check::NoResource } else { Check::Denied };
            return Ok(json!(format!("{check:?}")));
        }
        404 if step.is_conjur_error() && matches!(act, Act::Show { .. } | Act::Role { .. }) => {
            return Ok(Value::Null);
        }
        422 if matches!(act, Act::DryRun { .. }) => {
            let body = step.json().unwrap();
            let flaws = body["errors"].as_array().unwrap().iter();
            return Ok(flaws
                .map(|flaw| json!([flaw["line"], flaw["column"], on_one_line(&flaw["message"])]))
                .collect::<Vec<_>>()
                .into());
        }
        401 => "Unauthenticated".to_owned(),
        403 => "Forbidden".to_owned(),
        404 if step.is_conjur_error() => "NotFound".to_owned(),
        409 => {
            let seconds = step.answered["retry-after"].parse().unwrap();
            format!("Conflict after {:?}", Some(std::time::Duration::from_secs(seconds)))
        }
        400 | 406 | 422 => "Invalid".to_owned(),
        404 => "NoRoute".to_owned(),
        200 | 304 | 500 => "Unexpected".to_owned(),
        status => format!("nothing is expected of {status}"),
    };
    Err(if loading && step.status >= 500 { format!("unknown: {error}") } else { error })
}

/// A bad id has its own answer, found by further requests; the others have their values.
fn failed_batch(step: &Step, result: &Result, requests: &[Request]) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(Value::Object(answers)) = result else { return vec![format!("{step}: {result:?}")] };
    let alone: Vec<_> = requests.iter().filter(|request| request.url.path() != "/secrets").collect();
    let later = STANDARD.encode("later");
    for (id, answer) in answers {
        let named = String::from_utf8_lossy(&step.answer).contains(&format!("demo:variable:{id} "));
        let expected = match step.status {
            401 => "Unauthenticated",
            404 if named => "NotFound",
            // One of them is bad, and the last one that is left is asked for alone.
            403 | 406 if answer == "NotFound" && !alone.is_empty() => "NotFound",
            _ => later.as_str(),
        };
        if answer != expected {
            found.push(format!("{step}: {id} is {answer}, not {expected}"));
        }
    }
    let names_one = matches!(step.status, 404) && answers.values().all(|answer| answer != "NotFound");
    let isolated = matches!(step.status, 403 | 406) && alone.len() != 1 && answers.len() > 1;
    if names_one || isolated {
        found.push(format!("{step}: the bad one was not found: {answers:?}"));
    }
    found
}

/// A server's words, as the client keeps them.
fn on_one_line(words: &Value) -> Value {
    words.as_str().map_or_else(|| words.clone(), |words| words.replace('\n', " ").into())
}
