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
    serve_with(certificate.der().clone(), &key)
}

fn serve_with(certificate: rustls::pki_types::CertificateDer<'static>, key: &KeyPair) -> String {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
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

#[cfg(feature = "fips")]
#[test]
fn the_provider_is_the_fips_module() {
    assert!(rustls::crypto::aws_lc_rs::default_provider().fips());
}

/// Certificates that OpenSSL made, for `localhost`: what other tools can't make, or make otherwise.
mod made_by_openssl {
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;
    use crate::tls::{self, trust::Trust};

    macro_rules! pem {
        ($name:literal) => {
            include_bytes!(concat!("certificates/", $name, ".pem")).as_slice()
        };
    }

    /// 2030-01-01, within the life of all of them.
    const NOW: u64 = 1_893_456_000;

    /// What comes of a server with the first certificate of `shown`, where `bundle` is trusted.
    fn verdict(shown: &[u8], bundle: &[u8], name: &str, now: u64) -> Result<(), String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let trust = Trust::of(bundle, provider).unwrap();
        let shown = tls::bundle::certificates(shown).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        let name = ServerName::try_from(name).unwrap();
        let verdict = trust.verify_server_cert(&shown[0], &shown[1..], &name, &[], now);
        verdict.map(drop).map_err(|error| tls::explain("https://c/", &error, true))
    }

    #[test]
    fn what_is_in_the_bundle_is_trusted_as_the_servers() {
        for (shown, bundle) in [
            (pem!("self-signed"), pem!("self-signed")),
            (pem!("leaf"), pem!("leaf")),
            (pem!("leaf"), pem!("ca")),
            (pem!("signed-ca"), pem!("signed-ca")),
            (pem!("client-only"), pem!("client-only")),
            (pem!("self-signed"), pem!("trusted")),
            (pem!("narrow-leaf"), pem!("narrow-leaf")),
        ] {
            assert_eq!(verdict(shown, bundle, "localhost", NOW), Ok(()));
            let message = verdict(shown, bundle, "conjur.example.com", NOW).unwrap_err();
            assert!(message.contains("another name") && message.contains("localhost"), "{message}");
            let message = verdict(shown, bundle, "localhost", 1_000_000_000).unwrap_err();
            assert!(message.contains("not valid yet"), "{message}");
            let message = verdict(shown, bundle, "localhost", 9_000_000_000).unwrap_err();
            assert!(message.contains("has expired"), "{message}");
        }
    }

    #[test]
    fn every_refusal_is_a_sentence_with_a_way_out() {
        for (shown, bundle, expected) in [
            (pem!("leaf"), pem!("self-signed"), "or the server's certificate itself"),
            (pem!("self-signed"), pem!("ca"), "or put it itself into spec.tls.caBundle"),
            (pem!("signed-ca"), pem!("ca"), "basicConstraints=CA:FALSE"),
            (pem!("weak"), pem!("weak"), "1024 bits"),
            (pem!("weak"), pem!("ca"), "1024 bits"),
            (pem!("v1"), pem!("ca"), "version 1"),
            (pem!("v1"), pem!("v1"), "version 1"),
            (pem!("cn-only"), pem!("ca"), "subjectAltName=DNS:localhost"),
            (pem!("cn-only"), pem!("cn-only"), "subjectAltName=DNS:localhost"),
            (pem!("sha1"), pem!("ca"), "SHA-256"),
            (pem!("client-only"), pem!("ca"), "serverAuth"),
            (pem!("critical"), pem!("ca"), "critical extension"),
            (pem!("narrow-leaf"), pem!("narrow-ca"), "name constraints"),
        ] {
            let message = verdict(shown, bundle, "localhost", NOW).unwrap_err();
            assert!(message.contains(expected), "{expected}: {message}");
            assert!(
                !message.contains("Error") && !message.contains('{') && !message.contains("Other("),
                "{message}"
            );
        }
        let message = verdict(pem!("cn-only"), pem!("ca"), "127.0.0.1", NOW).unwrap_err();
        assert!(message.contains("subjectAltName=IP:127.0.0.1"), "{message}");
    }

    #[test]
    fn a_bundle_is_read_as_people_make_it() {
        let text = |pem: &[u8]| std::str::from_utf8(pem).unwrap().trim_end().to_owned();
        let (a, b) = (text(pem!("self-signed")), text(pem!("ca")));
        let joined = format!("{a}{b}");
        assert!(joined.contains("-----END CERTIFICATE----------BEGIN CERTIFICATE-----"));
        for bundle in [
            joined.clone(),
            joined.replace('\n', "\r\n"),
            joined.replace('\n', "\r"),
            joined.replace('\n', "\\n"),
            joined.replace('\n', ""),
            joined.replace('\n', "\n    "),
            format!("\u{feff}{joined}"),
            format!("Bag Attributes\n friendlyName: x\nsubject=/CN=x\n{a}\n# the other\n{b}\ntrailing"),
            format!("{}\n{b}", a.replace("CERTIFICATE", "TRUSTED CERTIFICATE")),
            format!("{}\n{b}", a.replace("CERTIFICATE", "X509 CERTIFICATE")),
            format!("{a}\n-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n{b}"),
            format!("{a}\n{}", b.trim_end_matches('-')),
        ] {
            let found = tls::bundle::certificates(bundle.as_bytes());
            assert_eq!(found.map(|found| found.len()), Ok(2), "{bundle}");
        }
    }

    #[test]
    fn a_bundle_that_cannot_be_read_says_where() {
        let text = |pem: &[u8]| std::str::from_utf8(pem).unwrap().to_owned();
        let (a, b) = (text(pem!("self-signed")), text(pem!("ca")));
        let of = |bundle: &[u8]| {
            let certificates = tls::bundle::certificates(bundle);
            certificates.and_then(|found| tls::bundle::roots(&found)).err().unwrap().to_string()
        };
        let key = "-----BEGIN PRIVATE KEY-----\nk3y\n-----END PRIVATE KEY-----\n";
        for (bundle, expected) in [
            (String::new(), "is empty"),
            (" \n".to_owned(), "is empty"),
            ("nothing".to_owned(), "holds no certificate"),
            (key.to_owned(), "holds a private key and no certificate"),
            (
                format!("{a}{}", b.replacen("MII", "!II", 1)),
                "certificate 2 of the CA bundle is not valid base64",
            ),
            (
                format!("{a}{}", b.replacen("MII", "AAA", 1)),
                "certificate 2 of the CA bundle is not a certificate",
            ),
            (
                format!("{}{b}", a.replace("-----END CERTIFICATE-----", "")),
                "certificate 1 of the CA bundle has no line",
            ),
            (
                format!("{a}{}", b.replace("-----END", "-----NED")),
                "certificate 2 of the CA bundle has no line",
            ),
            (
                "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----".to_owned(),
                "certificate 1 of the CA bundle is not",
            ),
            (a.replace("CERTIFICATE", "PKCS7"), "PKCS#7"),
            (a.replace("CERTIFICATE", "CERTIFICATE REQUEST"), "certificate request"),
        ] {
            let message = of(bundle.as_bytes());
            assert!(message.contains(expected), "{expected}: {message}");
            assert!(!message.contains("k3y"), "{message}");
        }
        assert!(of(&[0xff, 0xfe, 0x2d, 0]).contains("UTF-16"));
        assert!(
            of(&tls::bundle::certificates(a.as_bytes()).unwrap()[0]).contains("openssl x509 -inform der")
        );
        // Cut off within a certificate: its DER says that there is more.
        let cut: String =
            a.lines().enumerate().filter(|(at, _)| *at != 5).flat_map(|(_, line)| [line, "\n"]).collect();
        assert!(of(cut.as_bytes()).contains("certificate 1 of the CA bundle"));
    }
}

/// The same over a socket: the server has the certificate that signs itself, made as OpenSSL does it by default.
#[tokio::test]
async fn a_server_whose_certificate_signs_itself_is_trusted_by_that_certificate() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let itself = params.self_signed(&key).unwrap();
    let url = serve_with(itself.der().clone(), &key);
    let given = Ca { pem: itself.pem().into_bytes(), issuer: Issuer::new(params, key) };
    assert_eq!(version(&url, &given).await.unwrap().as_deref(), Some("1.24.0"));
    let message = refusal(&url, &ca()).await;
    assert!(message.contains("or put it itself into spec.tls.caBundle"), "{message}");
}
