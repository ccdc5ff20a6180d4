//! Which roots are trusted, and what a failed handshake means.

pub(super) mod bundle;
pub(super) mod der;
mod explain;
pub(super) mod trust;

use std::error::Error as StdError;
use std::sync::Arc;

use reqwest::Identity;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{AlertDescription, ClientConfig, Error as TlsError};
use zeroize::Zeroizing;

use self::trust::Trust;
use super::config::ClientIdentity;
use super::error::Error;

pub(crate) use self::explain::explain;

/// What may be spoken inside of TLS, the best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// TLS that trusts exactly what a CA bundle holds: who is signed by one of its certificates, and those themselves.
///
/// # Errors
/// [`Error::Config`] where the bundle holds no certificate, or one that can't be read; where the client certificate can't
/// be read, or its key is another's.
pub(crate) fn trusting(bundle: &[u8], identity: Option<&ClientIdentity>) -> Result<ClientConfig, Error> {
    let provider =
        CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()));
    let trust = Trust::of(bundle, Arc::clone(&provider))?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|_| Error::config("this build of the operator has no version of TLS"))?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(trust));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let certificates = bundle::certificates(&pem.certificate).map_err(|_| unreadable_identity())?;
            let key = PrivateKeyDer::from_pem_slice(pem.key.expose()).map_err(|_| unreadable_identity())?;
            builder.with_client_auth_cert(certificates, key).map_err(|error| of_identity(&error))?
        }
    };
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}

/// A client certificate, ready to be presented.
///
/// # Errors
/// [`Error::Config`] where either part can't be read.
pub(crate) fn identity(pem: &ClientIdentity) -> Result<Identity, Error> {
    let mut both = Zeroizing::new(Vec::with_capacity(pem.key.expose().len() + pem.certificate.len() + 1));
    both.extend_from_slice(pem.key.expose());
    both.push(b'\n');
    both.extend_from_slice(&pem.certificate);
    Identity::from_pem(&both).map_err(|_| unreadable_identity())
}

fn unreadable_identity() -> Error {
    Error::config("the client certificate and its key can't be read: both must be PEM, the key unencrypted")
}

/// Why a client certificate can't be presented.
pub(crate) fn of_identity(error: &TlsError) -> Error {
    match error {
        TlsError::InconsistentKeys(_) => Error::config(
            "the client certificate and its key do not belong together: give the key that the certificate was made for",
        ),
        _ => Error::config(
            "the client certificate can't be presented: its key must be RSA of 2048 bits or more, ECDSA or Ed25519",
        ),
    }
}

/// The TLS failure within `error`, if that is what it is.
pub(crate) fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a TlsError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<TlsError>() {
            return Some(tls);
        }
        // io::Error hides what it wraps: its source() is already the source of that.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(tls) = inner.and_then(|inner| find(inner)) {
            return Some(tls);
        }
        next = error.source();
    }
    None
}

/// The alerts that tell of a client certificate; `DecryptError` is one signed by another CA of the same name.
const OF_CERTIFICATES: [AlertDescription; 9] = [
    AlertDescription::CertificateRequired,
    AlertDescription::UnknownCA,
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateUnknown,
    AlertDescription::AccessDenied,
    AlertDescription::DecryptError,
];

/// An alert that came after the handshake, as they do with TLS 1.3: over HTTP/2 only its text is left.
pub(crate) fn alert_in(text: &str) -> Option<TlsError> {
    let name = text.strip_prefix("received fatal alert: ")?;
    let known = OF_CERTIFICATES.into_iter().find(|alert| name.starts_with(&format!("{alert:?}")));
    known.map(TlsError::AlertReceived)
}
