//! TLS: the server's certificate, and those of its callers.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use tokio_rustls::TlsAcceptor;

use crate::{ClientCertificates, Error, TlsPem};

/// A server's certificate and key, ready to accept with; HTTP/2 for who offers it.
pub(crate) fn acceptor(pem: &TlsPem, clients: &ClientCertificates) -> Result<TlsAcceptor, Error> {
    let certificates = certificates_of(pem.certificate.as_bytes(), "the certificate")?;
    let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes())
        .map_err(|error| bad("the key is no PEM", &error))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| bad("no protocol versions", &error))?
        .with_client_cert_verifier(verifier(clients)?)
        .with_single_cert(certificates, key)
        .map_err(|error| bad("certificate and key", &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Whether the first certificate is good at `now` for a client, by a chain that ends at one of `ca` (PEM).
pub(crate) fn is_signed_by(ca: &[u8], chain: &[CertificateDer<'_>], now: Timestamp) -> bool {
    let Some((end, between)) = chain.split_first() else { return false };
    let Ok(verifier) = signed_by(ca) else { return false };
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    verifier.verify_client_cert(end, between, now).is_ok()
}

fn verifier(clients: &ClientCertificates) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    match clients {
        ClientCertificates::Optional => {
            Ok(Arc::new(Anybody { algorithms: provider().signature_verification_algorithms }))
        }
        ClientCertificates::Required { ca } => signed_by(ca.as_bytes()),
    }
}

fn signed_by(ca: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates_of(ca, "the CA of client certificates")? {
        roots.add(certificate).map_err(|error| bad("the CA of client certificates", &error))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    builder.build().map_err(|error| bad("the CA of client certificates", &error))
}

fn certificates_of(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    certificates.map_err(|error| bad(&format!("{what} is no PEM"), &error))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn bad(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::Tls(format!("{what}: {error}"))
}

/// Asks for a certificate and takes any, or none: that its holder has the key is all that is checked here.
/// Each service of authn-cert has a CA of its own and checks the rest.
#[derive(Debug)]
struct Anybody {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Anybody {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
