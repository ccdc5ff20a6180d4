//! Handshakes that fail, each with a message that says what to look at.

use std::io::{Read, Write};
use std::net::TcpListener;

use rcgen::{CertificateParams, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;

use super::*;

struct Ca {
    pem: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

fn ca() -> Ca {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem().into_bytes();
    Ca { pem, issuer: Issuer::new(params, key) }
}

/// Serves `GET /` over TLS with a certificate for `name` until the process ends.
fn serve(ca: &Ca, name: &str, expired: bool) -> String {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    if expired {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    }
    let certificate = params.signed_by(&key, &ca.issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, socket);
            let body = "{\"version\":\"1.24.0\"}";
            if stream.read(&mut [0; 4096]).is_ok() {
                write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).ok();
                stream.conn.send_close_notify();
                stream.flush().ok();
            }
        }
    });
    url
}

async fn version(url: &str, roots: &Ca) -> Result<Option<String>, Error> {
    client(Config { ca_bundle: Some(roots.pem.clone()), ..config(url) }).server_version().await
}

async fn refusal(url: &str, roots: &Ca) -> String {
    match version(url, roots).await {
        Err(error @ Error::Tls { .. }) => {
            assert!(error.is_connection());
            error.to_string()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn exactly_the_roots_given_are_trusted() {
    let (ours, other) = (ca(), ca());
    let url = serve(&ours, "127.0.0.1", false);
    assert_eq!(version(&url, &ours).await.unwrap().as_deref(), Some("1.24.0"));
    let message = refusal(&url, &other).await;
    assert!(message.contains("is not signed by the CA bundle given"), "{message}");
}

#[tokio::test]
async fn an_expired_certificate_and_one_for_another_name_are_told_apart() {
    let ca = ca();
    let message = refusal(&serve(&ca, "127.0.0.1", true), &ca).await;
    assert!(message.contains("has expired"), "{message}");
    let message = refusal(&serve(&ca, "conjur.example.com", false), &ca).await;
    assert!(message.contains("for another name") && message.contains("conjur.example.com"), "{message}");
}

#[tokio::test]
async fn https_to_a_port_without_tls_says_so() {
    let server = server().await;
    let message = refusal(&server.uri().replace("http://", "https://"), &ca()).await;
    assert!(message.contains("does not speak TLS"), "{message}");
}
