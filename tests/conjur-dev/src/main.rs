//! `conjur-dev`: the development server as a process. Listens until SIGTERM or SIGINT.

#![allow(clippy::print_stdout, reason = "the line with the URL is what the program is asked for")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use conjur_dev::{ClientCertificates, Options, Server, TlsPem};
use tokio::signal::unix::{SignalKind, signal};

/// A Conjur server in memory, for development and tests. Not for real secrets.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Serve HTTPS with this certificate chain (PEM).
    #[arg(long, requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate (PEM).
    #[arg(long, requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Refuse connections without a client certificate that this CA (PEM) signed. Without it certificates
    /// are asked for, and any or none will do.
    #[arg(long, requires = "tls_cert")]
    client_ca: Option<PathBuf>,
    /// An authenticator that is enabled from the start (`authn-jwt/k8s`); may be given more than once.
    #[arg(long = "authenticator")]
    authenticators: Vec<String>,
    /// The account.
    #[arg(long, default_value = "demo")]
    account: String,
    /// Holds the API key of `admin`; without it a random one is made.
    #[arg(long)]
    admin_key_file: Option<PathBuf>,
    /// A document to load into the root policy at the start.
    #[arg(long)]
    policy: Option<PathBuf>,
    /// Written once the server listens: JSON with `url`, `account`, `adminKey`.
    #[arg(long)]
    ready_file: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("conjur-dev: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let tls = match (&arguments.tls_cert, &arguments.tls_key) {
        (Some(certificate), Some(key)) => Some(TlsPem { certificate: read(certificate)?, key: read(key)? }),
        _ => None,
    };
    let admin_key = match &arguments.admin_key_file {
        Some(path) => Some(read(path)?.trim().to_owned()),
        None => None,
    };
    let client_certificates = match &arguments.client_ca {
        Some(path) => ClientCertificates::Required { ca: read(path)? },
        None => ClientCertificates::Optional,
    };
    let options = Options {
        account: arguments.account,
        tls,
        client_certificates,
        authenticators: arguments.authenticators,
        admin_key,
        listen: arguments.listen,
        ..Options::default()
    };
    let server = Server::start(options).await.map_err(|error| error.to_string())?;
    if let Some(path) = &arguments.policy {
        server.load_root(&read(path)?).await.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    println!("{}", server.url());
    if let Some(path) = &arguments.ready_file {
        announce(&server, path)?;
    }
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(|error| error.to_string())?,
    }
    server.stop().await;
    Ok(())
}

/// Writes the ready file whole: who waits for it never reads half.
fn announce(server: &Server, path: &Path) -> Result<(), String> {
    let ready = serde_json::json!({
        "url": server.url(), "account": server.account(), "adminKey": server.admin_key(),
    });
    let part = path.with_extension("part");
    std::fs::write(&part, ready.to_string())
        .and_then(|()| std::fs::rename(&part, path))
        .map_err(|error| format!("can't write {}: {error}", path.display()))
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("can't read {}: {error}", path.display()))
}
