//! `roles/{account}/{kind}/{id}`: a role, who holds it and what it holds.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::reply::Reply;
use super::request::Request;
use super::resources::{page, words_of};
use super::{Caller, full_id, show};
use crate::engine::Engine;
use crate::model::{Membership, Model, kind_of, written};

const KINDS: [&str; 6] = ["user", "host", "group", "layer", "policy", "host_factory"];

/// A membership with its ends: member, role.
type Edge<'m> = (&'m (String, String), &'m Membership);

pub(super) fn answer(
    engine: &Engine,
    request: &Request,
    caller: &Caller,
    account: &str,
    kind: &str,
    id: &str,
) -> Reply {
    if !KINDS.contains(&kind) {
        return Reply::html(404);
    }
    let mut model = engine.model();
    let id = format!("{account}:{kind}:{id}");
    // A role that one can't see is not there, not even one's own (recordings 395, 396).
    if model.visible(&caller.role, &id).is_none() || !model.roles.contains_key(&id) {
        return Reply::not_found(&id);
    }
    match request.method() {
        "GET" => get(&model, request, &id),
        "POST" if request.has_query("members") => change(&mut model, request, account, &id, true),
        "DELETE" if request.has_query("members") => change(&mut model, request, account, &id, false),
        _ => Reply::html(404),
    }
}

fn get(model: &Model, request: &Request, id: &str) -> Reply {
    if request.has_query("members") {
        return edges(request, members(model, id), |(member, _)| member);
    }
    if request.has_query("memberships") {
        let held = model.memberships.iter().filter(|((member, _), _)| member == id).collect();
        return edges(request, held, |(_, role)| role);
    }
    if request.has_query("all") {
        let mut roles = model.all_roles(id);
        if let Some(filter) = request.query("filter").or_else(|| request.query("filter[]")) {
            roles.retain(|role| *role == filter);
        }
        return if request.has_query("count") {
            Reply::json(200, &json!({"count": roles.len()}))
        } else {
            Reply::json(200, &json!(roles))
        };
    }
    if request.has_query("graph") {
        return Reply::json(200, &graph(model, id));
    }
    let Some(role) = model.roles.get(id) else { return Reply::not_found(id) };
    let mut shown = Map::new();
    shown.insert("created_at".into(), written(role.created_at).into());
    shown.insert("id".into(), id.into());
    show::with_policy(&mut shown, role.policy.as_deref());
    shown.insert("members".into(), members(model, id).into_iter().map(edge).collect());
    Reply::json(200, &Value::Object(shown))
}

fn members<'m>(model: &'m Model, id: &str) -> Vec<Edge<'m>> {
    model.memberships.iter().filter(|((_, role), _)| role == id).collect()
}

fn edge(((member, role), membership): Edge<'_>) -> Value {
    let mut shown = Map::new();
    shown.insert("admin_option".into(), membership.admin_option.into());
    shown.insert("ownership".into(), membership.ownership.into());
    shown.insert("role".into(), role.clone().into());
    shown.insert("member".into(), member.clone().into());
    show::with_policy(&mut shown, membership.policy.as_deref());
    Value::Object(shown)
}

/// Edges by kind and words of their far end (recordings 383–388).
fn edges(request: &Request, mut found: Vec<Edge<'_>>, far: fn(&(String, String)) -> &String) -> Reply {
    if let Some(kind) = request.query("kind") {
        found.retain(|(ends, _)| kind_of(far(ends)) == kind);
    }
    if let Some(search) = request.query("search") {
        let words = words_of(&search);
        found.retain(|(ends, _)| {
            let known = words_of(far(ends));
            words.iter().all(|word| known.contains(word))
        });
    }
    if request.has_query("count") {
        return Reply::json(200, &json!({"count": found.len()}));
    }
    match page(request, found.len()) {
        Err(reply) => reply,
        Ok((offset, limit)) => {
            Reply::json(200, &found.into_iter().skip(offset).take(limit).map(edge).collect())
        }
    }
}

/// What the role holds, those roles' direct members, and all below the role itself (recording 392).
fn graph(model: &Model, id: &str) -> Value {
    let above = model.all_roles(id);
    let mut below = BTreeSet::from([id]);
    loop {
        let more = model.memberships.keys().filter(|(_, role)| below.contains(role.as_str()));
        let more: Vec<&str> = more.map(|(member, _)| member.as_str()).collect();
        let before = below.len();
        below.extend(more);
        if below.len() == before {
            break;
        }
    }
    let edges = model.memberships.keys().map(|(member, role)| (role, member));
    let wanted: BTreeSet<_> =
        edges.filter(|(role, _)| above.contains(*role) || below.contains(role.as_str())).collect();
    wanted.into_iter().map(|(parent, child)| json!({"parent": parent, "child": child})).collect()
}

/// Recordings 401–406.
fn change(model: &mut Model, request: &Request, account: &str, id: &str, add: bool) -> Reply {
    let Some(member) = request.query("member").map(|member| full_id(account, &member)) else {
        return Reply::error(422, "argument_error", "member");
    };
    let there = model.roles.contains_key(&member);
    if there && add {
        model.grant(id, &member, None);
        return Reply::bare(204);
    }
    if there && model.memberships.remove(&(member.clone(), id.to_owned())).is_some() {
        return Reply::bare(204);
    }
    Reply::not_found(&member)
}
