//! A way to the API server on which requests and answers get lost: a proxy on the loopback interface that speaks TLS
//! and HTTP/1.1 on both sides.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::pki::Authority;
use crate::{ControlPlane, Result};

/// More connections than these are not taken.
const CONNECTIONS: usize = 256;
const BUFFER: usize = 64 * 1024;

/// What gets lost with the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The request: it never reaches the API server.
    Request,
    /// The answer: what was asked for was done.
    Answer,
    /// The second half of the answer's first piece, and what follows it.
    HalfTheAnswer,
}

/// Where an API server is, and who vouches for it.
#[derive(Debug, Clone)]
pub struct Address {
    pub(crate) url: String,
    pub(crate) authority: String,
}

type Rule = Box<dyn FnMut(&str, &str) -> Option<Loss> + Send>;

#[derive(Default)]
struct Control {
    rule: Option<Rule>,
    struck: usize,
}

/// The proxy. Dropping it ends it and its connections.
pub struct ApiPath {
    address: Address,
    control: Arc<Mutex<Control>>,
    task: JoinHandle<()>,
}

impl ApiPath {
    /// Starts one to the API server; it loses nothing before [`ApiPath::lose`].
    pub async fn start(cluster: &ControlPlane) -> Result<Self> {
        let authority = Authority::new("testbed way to Kubernetes")?;
        let acceptor = acceptor(&authority)?;
        let connector = connector(cluster.authority())?;
        let upstream = cluster.url().trim_start_matches("https://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listening")?;
        let url = format!("https://{}", listener.local_addr().context("listening")?);
        let control = Arc::new(Mutex::new(Control::default()));
        let controlled = Arc::clone(&control);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else { continue };
                        if connections.len() < CONNECTIONS {
                            let way = (acceptor.clone(), connector.clone(), upstream.clone());
                            let control = Arc::clone(&controlled);
                            // How a connection ends is for its two ends to see.
                            connections.spawn(async move { drop(carry(stream, way, control).await) });
                        }
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self { address: Address { url, authority: authority.certificate() }, control, task })
    }

    /// Where it is.
    pub fn address(&self) -> Address {
        self.address.clone()
    }

    /// From now on, `rule` says of each request, by method and path with its query, what gets lost.
    pub fn lose(&self, rule: impl FnMut(&str, &str) -> Option<Loss> + Send + 'static) {
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        control.rule = Some(Box::new(rule));
    }

    /// From now on nothing gets lost.
    pub fn lose_nothing(&self) {
        self.lose(|_, _| None);
    }

    /// How many requests were struck so far.
    pub fn struck(&self) -> usize {
        self.control.lock().unwrap_or_else(PoisonError::into_inner).struck
    }
}

impl Drop for ApiPath {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn decide(control: &Mutex<Control>, request: &[u8]) -> Option<Loss> {
    let end = request.iter().position(|byte| *byte == b'\r')?;
    let line = std::str::from_utf8(request.get(..end)?).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?, words.next()?);
    let mut control = control.lock().unwrap_or_else(PoisonError::into_inner);
    let loss = control.rule.as_mut()?(method, path);
    control.struck += usize::from(loss.is_some());
    loss
}

/// Carries one connection's requests, one after the other, until one of them is struck or an end closes.
async fn carry(
    client: TcpStream,
    (acceptor, connector, upstream): (TlsAcceptor, TlsConnector, String),
    control: Arc<Mutex<Control>>,
) -> Result<()> {
    client.set_nodelay(true)?;
    let mut client = acceptor.accept(client).await?;
    let server = TcpStream::connect(&upstream).await?;
    server.set_nodelay(true)?;
    let mut server = connector.connect(ServerName::try_from("127.0.0.1")?, server).await?;
    let (mut asked, mut answered) = (vec![0; BUFFER], vec![0; BUFFER]);
    let (mut is_answered, mut loss) = (true, None);
    loop {
        tokio::select! {
            count = client.read(&mut asked) => {
                let piece = &asked[..count?];
                if piece.is_empty() {
                    break;
                }
                if is_answered {
                    (is_answered, loss) = (false, decide(&control, piece));
                }
                if loss == Some(Loss::Request) {
                    break;
                }
                server.write_all(piece).await?;
                server.flush().await?;
            }
            count = server.read(&mut answered) => {
                let piece = &answered[..count?];
                let passed_on = match loss {
                    Some(Loss::Answer) => 0,
                    Some(_) => piece.len() / 2,
                    None => piece.len(),
                };
                client.write_all(&piece[..passed_on]).await?;
                client.flush().await?;
                if piece.is_empty() || loss.is_some() {
                    break;
                }
                is_answered = true;
            }
        }
    }
    Ok(())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    let certificates: std::result::Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    certificates.context("reading a certificate")
}

/// Without ALPN all speak HTTP/1.1.
fn acceptor(authority: &Authority) -> Result<TlsAcceptor> {
    let identity = authority.issue(&["127.0.0.1"])?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).context("reading a key")?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates(&identity.certificate)?, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn connector(authority: &str) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authority)? {
        roots.add(certificate)?;
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
