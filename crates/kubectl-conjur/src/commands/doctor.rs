//! `doctor`: the way to Conjur step by step, as a connection of the cluster has it or as the environment says: reach, TLS,
//! version, login, clock, list, read, and write where that is asked for.

mod certificates;

use std::{collections::BTreeSet, time::Duration};

use conjur_client::{
    Capability, Client, Credentials, Error as ConjurError, Freshness, Listing, Page, Priority, Support,
    VariableId, Wanted,
};
use jiff::Timestamp;
use tokio::net::{TcpStream, lookup_host};

use crate::{
    Ended, Error,
    cli::{DoctorArgs, Form},
    cluster::{Cluster, Kind, Seen},
    connect::{self, Conjur},
    links,
    steps::{State, Steps},
};

/// The step with what the operator says.
const OPERATOR: &str = "operator";
/// So many variables are tried until one can be read.
const TRIED: u32 = 5;
/// How long a connection to an address may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How far the clocks may be apart before that is worth a word: a JWT may not be older or younger than this.
const CLOCK: i64 = 30;

pub async fn run(
    args: &DoctorArgs,
    cluster: impl AsyncFn() -> Result<Cluster, Error>,
    form: Option<Form>,
) -> Result<Ended, Error> {
    let mut steps = Steps::default();
    let (conjur, read, around) = if args.env {
        (Conjur::of_environment()?, None, Around::default())
    } else {
        let cluster = cluster().await?;
        let connection = connect::connection(&cluster, args.connection.as_deref()).await?;
        told_by_operator(&connection, &mut steps);
        let read = used(&cluster, &connection).await;
        match Conjur::of_connection(&cluster, &connection, &cluster.namespace).await {
            Ok(conjur) => (conjur, read, Around::of(&cluster, &connection).await),
            Err(error) => {
                let fix = format!(
                    "Correct {}, or ask for the right to read what it refers to",
                    connection.short_name()
                );
                steps.bad("settings", error.to_string(), fix);
                return end(&steps, &connection.short_name(), &connection.full_name(), form);
            }
        }
    };
    let about = format!("{}: {} (account {})", conjur.from, conjur.config.url, conjur.config.account);
    look(&conjur, args, read, &around, &mut steps).await;
    let bad: Vec<_> = steps.all.iter().filter(|step| step.state == State::Bad).collect();
    if bad.len() == 1 && bad[0].name == OPERATOR {
        let fix = format!("{} has it try again at once", around.sync);
        steps.bad(
            "now",
            "from here all is well: what the operator said is older, or it sees another network",
            fix,
        );
    }
    end(&steps, &about, &around.name, form)
}

/// What the cluster tells beside the connection itself.
#[derive(Default)]
struct Around {
    /// As kubectl takes it.
    name: String,
    /// The command that has the operator try it.
    sync: String,
    /// What is told of connections to the same server that work; empty where nothing is.
    others: String,
}

impl Around {
    async fn of(cluster: &Cluster, connection: &Seen) -> Self {
        let kinds = [Kind::ClusterConnection, Kind::Connection];
        let all = match cluster.list_seen(&kinds, None).await {
            Ok((all, unseen)) if unseen.is_empty() => all,
            _ => cluster
                .list_seen(&kinds, Some(&cluster.namespace))
                .await
                .map(|(all, _)| all)
                .unwrap_or_default(),
        };
        Self {
            name: connection.full_name(),
            sync: connection.command("sync"),
            others: other_accounts(connection, &all),
        }
    }
}

/// Which accounts the connections to the same server use that work, where none of them uses this one's.
fn other_accounts(connection: &Seen, all: &[Seen]) -> String {
    let (url, account) = (&connection.spec()["url"], &connection.spec()["account"]);
    let working = all.iter().filter(|seen| seen.is_ready() && &seen.spec()["url"] == url);
    let accounts: BTreeSet<&str> = working.filter_map(|seen| seen.spec()["account"].as_str()).collect();
    let used = account.as_str().unwrap_or_default();
    if accounts.is_empty() || accounts.contains(used) {
        return String::new();
    }
    let accounts: Vec<_> = accounts.into_iter().collect();
    format!(
        " Connections to the same server that work use the account {}, and this one {used}.",
        accounts.join(", ")
    )
}

fn end(steps: &Steps, about: &str, name: &str, form: Option<Form>) -> Result<Ended, Error> {
    steps.shown(about, name).print(form)?;
    Ok(steps.ended())
}

fn told_by_operator(connection: &Seen, steps: &mut Steps) {
    match connection.condition("Ready") {
        Some(("True", _, message)) => steps.good(OPERATOR, message),
        Some((_, reason, message)) => steps.bad(
            OPERATOR,
            format!("{reason}: {message}"),
            "What follows is seen from here; the operator's network and rights may be others",
        ),
        None => steps.unknown(OPERATOR, "has not looked at it yet"),
    }
}

/// A variable that an object reads through the connection.
async fn used(cluster: &Cluster, connection: &Seen) -> Option<String> {
    let all = cluster.list(&[Kind::Secret], Some(&cluster.namespace)).await.ok()?;
    let mut of_it = all.iter().filter(|seen| seen.connection() == Some((connection.kind, connection.name())));
    of_it.find_map(|seen| links::of(seen)?.variables.first().map(|(id, _)| id.clone()))
}

async fn look(conjur: &Conjur, args: &DoctorArgs, read: Option<String>, around: &Around, steps: &mut Steps) {
    if !reach(conjur, steps).await || !version(conjur, steps).await {
        return;
    }
    // Before the login, which it may be the fault of.
    clock(conjur, steps).await;
    if !login(conjur, around, steps).await {
        return;
    }
    let listed = list(&conjur.client, steps).await;
    let any = read.into_iter().chain(listed).collect();
    read_one(&conjur.client, args.variable.as_deref(), any, steps).await;
    match &args.write {
        Some(id) => write(&conjur.client, id, steps).await,
        None => steps.skipped("write", "not tried; --write VARIABLE writes a variable's own value again"),
    }
}

/// The name's addresses, and whether one of them answers.
async fn reach(conjur: &Conjur, steps: &mut Steps) -> bool {
    let url = &conjur.config.url;
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        steps.bad("reach", format!("{url} has no host"), "Correct the URL");
        return false;
    };
    // What stands between may be a proxy, through which the client goes.
    let proxied = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    if proxied {
        steps.skipped("reach", "a proxy stands between, by the environment");
        return true;
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = match lookup_host((bare, port)).await {
        Ok(found) => found.collect::<Vec<_>>(),
        Err(error) => {
            steps.bad(
                "reach",
                format!("the name {host} can't be resolved: {error}"),
                "Correct the URL's host, or the DNS of this machine",
            );
            return false;
        }
    };
    let mut last = String::new();
    for address in &addresses {
        match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(_)) => {
                steps.good("reach", format!("{host} is {address}, which takes connections"));
                return true;
            }
            Ok(Err(error)) => last = format!("{address}: {error}"),
            Err(_) => last = format!("{address}: no answer within {CONNECT:?}"),
        }
    }
    steps.bad(
        "reach",
        format!("no address of {host} takes connections; {last}"),
        "Look at firewalls and network policies on the way, and at the URL's port",
    );
    false
}

/// Over TLS, without a login.
async fn version(conjur: &Conjur, steps: &mut Steps) -> bool {
    let is_tls = conjur.config.url.scheme() == "https";
    if !is_tls {
        steps.bad("TLS", "the URL is plain http: secrets cross the network unencrypted", "Use https://");
    }
    let asked = match conjur.anonymous() {
        Ok(client) => client.server_version().await,
        Err(error) => Err(error),
    };
    if is_tls {
        let chain = certificates::presented(&conjur.config.url).await;
        let chain = chain.map_or_else(
            |error| format!("; its certificates can't be shown: {error}"),
            |chain| format!(". {chain}"),
        );
        match &asked {
            Err(error @ (ConjurError::Tls { .. } | ConjurError::Config { .. })) => {
                let trusted =
                    conjur.config.ca_bundle.as_deref().map(certificates::trusted).unwrap_or_default();
                steps.bad("TLS", format!("{error}{chain}{trusted}"), tls_fix(&error.to_string()));
                return false;
            }
            Err(_) => steps.unknown("TLS", format!("the handshake was not seen to succeed{chain}")),
            Ok(_) if conjur.config.ca_bundle.is_some() => {
                steps.good("TLS", format!("trusted by the CA bundle{chain}"));
            }
            Ok(_) => steps.good("TLS", format!("trusted by this machine's own roots{chain}")),
        }
    }
    match asked {
        Ok(version) => {
            let lacks: Vec<_> = Capability::ALL
                .into_iter()
                .filter(|what| what.on(version.as_deref()) == Support::Lacks)
                .map(lacking)
                .collect();
            let named = version.map_or_else(
                || "does not say its version".to_owned(),
                |version| format!("version {version}"),
            );
            let lacks =
                if lacks.is_empty() { String::new() } else { format!("; it lacks {}", lacks.join(" and ")) };
            steps.good("server", format!("{named}{lacks}"));
            true
        }
        Err(error) => {
            steps.bad(
                "server",
                error.to_string(),
                "Is this the URL of Conjur's API? The hosted service has it below /api",
            );
            false
        }
    }
}

/// What to do, by what the client says of the handshake.
fn tls_fix(said: &str) -> &'static str {
    if said.contains("not signed by") {
        "Put the certificate of the authority to trust into spec.tls.caBundle, or into what caBundleFrom names"
    } else if said.contains("expired") || said.contains("not valid") {
        "Renew the certificate, or set the clock that is wrong"
    } else {
        "The first sentence says what to mend: in the URL, in the connection, or at the server"
    }
}

/// What a server that lacks it can't do.
fn lacking(what: Capability) -> &'static str {
    match what {
        Capability::DryRun => "dry runs, so that plans and drift can't be seen",
        Capability::PublicKeys => "public keys, so that dataFrom.publicKeys fails",
        Capability::EqualValueIsNoVersion => {
            "the comparison of values, so that an equal value is a new version"
        }
        _ => "something else",
    }
}

async fn login(conjur: &Conjur, around: &Around, steps: &mut Steps) -> bool {
    match conjur.client.whoami().await {
        Ok(who) => {
            steps.good("login", format!("accepted as {}", who.username));
            true
        }
        Err(error) => {
            let fix = match (&error, &conjur.config.credentials) {
                (
                    ConjurError::Unauthenticated { .. },
                    Credentials::Jwt { .. } | Credentials::Certificate { .. },
                ) => {
                    "See that the authenticator is enabled (CONJUR_AUTHENTICATORS), that the host may authenticate with its \
                     webservice, that its annotations match the token or certificate, and that the clocks agree"
                }
                (ConjurError::Unauthenticated { .. }, _) => {
                    "Conjur says the same of a wrong account, a wrong login and a wrong key: compare all three with Conjur's, \
                     character by character. A host's login begins with host/"
                }
                (ConjurError::NoRoute { .. } | ConjurError::Unexpected { .. }, _) => {
                    "Is this the URL of Conjur's API? The hosted service has it below /api"
                }
                _ => "What Conjur's own log says at this time tells more",
            };
            let fix = match around.sync.as_str() {
                "" => format!("{fix}."),
                sync => format!(
                    "{fix}.{}\nWhen it is mended, {sync} has the operator try it at once",
                    around.others
                ),
            };
            steps.bad("login", error.to_string(), fix);
            false
        }
    }
}

async fn clock(conjur: &Conjur, steps: &mut Steps) {
    let asked = match conjur.anonymous() {
        Ok(client) => client.front_date().await,
        Err(error) => Err(error),
    };
    let server = match asked {
        Ok(Some(server)) => server,
        Ok(None) => return steps.unknown("clock", "the server's answers have no date"),
        Err(error) => return steps.unknown("clock", error.to_string()),
    };
    let apart = Timestamp::now().as_second() - server.as_second();
    if apart.abs() > CLOCK {
        let which = if apart > 0 { "ahead of" } else { "behind" };
        let message = format!("this machine is {} s {which} the server", apart.abs());
        let fix = "Set the clock that is wrong, by NTP: JWTs, tokens and certificates are refused where clocks are apart";
        steps.bad("clock", message, fix);
    } else {
        steps.good("clock", "this machine and the server agree");
    }
}

/// How many variables are seen; gives the first ones.
async fn list(client: &Client, steps: &mut Steps) -> Vec<String> {
    let listing = Listing::of_kind("variable");
    match client.list(&listing, Page { limit: TRIED, offset: 0 }).await {
        Ok(found) if found.is_empty() => {
            steps.unknown(
                "list",
                "no variable is visible, which is right for an identity that only loads policy",
            );
            Vec::new()
        }
        Ok(found) => {
            let count = client.count_resources(&listing).await.ok();
            let count = count.map_or_else(|| found.len().to_string(), |count| count.to_string());
            steps.good("list", format!("{count} variables are visible"));
            found.iter().filter_map(|one| one.id.splitn(3, ':').nth(2).map(str::to_owned)).collect()
        }
        Err(error) => {
            steps.unknown("list", error.to_string());
            Vec::new()
        }
    }
}

/// Reads a value, of which nothing is shown: of the variable that is asked for, or else of any that can be read.
async fn read_one(client: &Client, asked: Option<&str>, any: Vec<String>, steps: &mut Steps) {
    if let Some(id) = asked {
        return match value(client, id).await {
            Ok(value) => steps.good("read", format!("{id}: {} bytes", value.expose().len())),
            Err(error) => {
                let fix = format!("kubectl conjur explain --variable {id} says what is missing");
                steps.bad("read", error.to_string(), fix);
            }
        };
    }
    let mut last = "there is no variable to read".to_owned();
    for id in any {
        match value(client, &id).await {
            Ok(value) => return steps.good("read", format!("{id}: {} bytes", value.expose().len())),
            // One that is visible need not be readable, nor hold a value.
            Err(error) => last = error.to_string(),
        }
    }
    steps.unknown("read", format!("{last}; --variable names one that should be readable"));
}

async fn value(client: &Client, id: &str) -> Result<conjur_client::Value, ConjurError> {
    let id = VariableId::new(id).map_err(|error| ConjurError::config(error.to_string()))?;
    let wanted = Wanted::latest(id);
    let mut answers = client
        .fetch_variables(
            std::slice::from_ref(&wanted),
            Priority::Foreground,
            Freshness::NoOlderThan(Duration::ZERO),
        )
        .await;
    answers.remove(&wanted).unwrap_or_else(|| Err(ConjurError::unavailable("the server gave no answer")))
}

/// Writes a variable's own value again, so that nothing is lost.
async fn write(client: &Client, id: &str, steps: &mut Steps) {
    let present = match value(client, id).await {
        Ok(present) => present,
        Err(error) => {
            let message =
                format!("not tried, for the present value of {id} can't be read and written again: {error}");
            return steps.unknown("write", message);
        }
    };
    match client.set_secret("variable", id, present.expose()).await {
        Ok(()) => steps.good("write", format!("{id}: its own value was written again")),
        Err(error) => {
            steps.bad("write", error.to_string(), format!("Permit update on !variable {id} to the identity"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_account_that_no_other_connection_to_the_server_uses_is_told() {
        let seen = |account: &str, ready: &str| {
            let object = json!({ "metadata": { "name": "c", "namespace": "n", "generation": 1 },
                "spec": { "url": "https://conjur", "account": account },
                "status": { "observedGeneration": 1, "conditions": [{ "type": "Ready", "status": ready }] } });
            Seen { kind: Kind::Connection, object: serde_json::from_value(object).unwrap() }
        };
        let wrong = seen("my-org", "False");
        let told = other_accounts(&wrong, &[seen("myorg", "True"), seen("other", "False")]);
        assert!(told.contains("use the account myorg, and this one my-org"), "{told}");
        assert_eq!(other_accounts(&wrong, &[seen("my-org", "True")]), "");
        assert_eq!(other_accounts(&wrong, &[]), "");
    }
}
