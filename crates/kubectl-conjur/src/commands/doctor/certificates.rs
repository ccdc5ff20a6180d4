//! The certificates that a server presents, whoever signed them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;
use x509_parser::{extensions::GeneralName, prelude::*};

const DEADLINE: Duration = Duration::from_secs(10);

/// Takes down what is presented, and says yes to it: nothing is sent over such a connection.
#[derive(Debug)]
struct Recorder {
    seen: Mutex<Vec<CertificateDer<'static>>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let all = [end_entity].into_iter().chain(intermediates).map(|one| one.clone().into_owned());
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = all.collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What a server presents, in words: for whom its certificate is, who issued it, and until when it is valid.
///
/// # Errors
/// Why nothing was presented.
pub async fn presented(url: &Url) -> Result<String, String> {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err("the URL has no host".to_owned());
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let recorder = Arc::new(Recorder { seen: Mutex::default(), provider: Arc::clone(&provider) });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(recorder.clone())
        .with_no_client_auth();
    let name = ServerName::try_from(bare.clone()).map_err(|error| error.to_string())?;
    let shake = async {
        let stream = TcpStream::connect((bare.as_str(), port)).await?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.map(drop)
    };
    let shaken = tokio::time::timeout(DEADLINE, shake).await;
    let seen = recorder.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match (seen.is_empty(), shaken) {
        (false, _) => Ok(in_words(&seen)),
        (true, Ok(Ok(()))) => Err("none were presented".to_owned()),
        (true, Ok(Err(error))) => Err(error.to_string()),
        (true, Err(_)) => Err(format!("no handshake within {DEADLINE:?}")),
    }
}

/// Whom a CA bundle trusts, in words.
pub fn trusted(bundle: &[u8]) -> String {
    let pems = Pem::iter_from_buffer(bundle).filter_map(Result::ok);
    let subjects: Vec<String> = pems
        .filter_map(|pem| pem.parse_x509().ok().map(|certificate| format!("\"{}\"", certificate.subject())))
        .collect();
    match subjects.as_slice() {
        [] => ". The CA bundle holds no certificate".to_owned(),
        all => format!(". The CA bundle trusts {}", all.join(", ")),
    }
}

fn in_words(chain: &[CertificateDer<'_>]) -> String {
    let parsed: Vec<_> =
        chain.iter().filter_map(|one| X509Certificate::from_der(one).ok().map(|(_, it)| it)).collect();
    let Some(leaf) = parsed.first() else { return "Its certificate can't be read".to_owned() };
    let names = leaf.subject_alternative_name().ok().flatten();
    let names: Vec<String> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        })
        .collect();
    let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
    let ends = leaf.validity().not_after.timestamp();
    let ends =
        jiff::Timestamp::from_second(ends).map_or_else(|_| "an unknown time".to_owned(), |at| at.to_string());
    let last = parsed.last().unwrap_or(leaf);
    let authority = last.issuer();
    format!(
        "It presents a certificate for {names}, valid until {ends}, issued by \"{}\"; the authority to trust is \"{authority}\"",
        leaf.issuer()
    )
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(four).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|all| std::net::Ipv6Addr::from(all).to_string())
}
