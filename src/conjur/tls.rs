//! Which roots are trusted, and what a failed handshake means.

use std::error::Error as StdError;

use reqwest::{Certificate, Identity};
use rustls::{AlertDescription, CertificateError, Error as TlsError, InvalidMessage};
use zeroize::Zeroizing;

use super::config::ClientIdentity;
use super::error::Error;

/// The certificates of a PEM bundle.
///
/// # Errors
/// [`Error::Config`] where it holds no certificate, or one that can't be read.
pub(crate) fn roots(pem: &[u8]) -> Result<Vec<Certificate>, Error> {
    let certificates = Certificate::from_pem_bundle(pem)
        .map_err(|_| Error::config("the CA bundle holds a certificate that is not valid PEM"))?;
    if certificates.is_empty() {
        return Err(Error::config(
            "the CA bundle holds no certificate: it must contain at least one PEM block `-----BEGIN CERTIFICATE-----`",
        ));
    }
    Ok(certificates)
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
    Identity::from_pem(&both).map_err(|_| {
        Error::config(
            "the client certificate and its key can't be read: both must be PEM, the key unencrypted",
        )
    })
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

/// A sentence for a person: what is wrong and what to look at.
pub(crate) fn explain(url: &str, error: &TlsError, own_roots: bool) -> String {
    let signer = if own_roots { "the CA bundle given" } else { "a root that this system trusts" };
    match error {
        TlsError::InvalidCertificate(certificate) => match certificate {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                format!("the certificate of {url} is not signed by {signer}")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("the certificate of {url} has expired")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!("the certificate of {url} is not valid yet; is the clock right?")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("the certificate of {url} is for another name: {certificate}")
            }
            CertificateError::Revoked => format!("the certificate of {url} is revoked"),
            other => format!("the certificate of {url} is not accepted: {other}"),
        },
        TlsError::InvalidMessage(InvalidMessage::InvalidContentType) => {
            format!("{url} does not speak TLS: is it http://, or another port?")
        }
        TlsError::AlertReceived(AlertDescription::CertificateRequired) => {
            format!("{url} wants a client certificate")
        }
        TlsError::AlertReceived(alert) if OF_CERTIFICATES.contains(alert) => {
            format!("{url} does not accept the client certificate: {alert:?}")
        }
        other => format!("the TLS handshake with {url} failed: {other}"),
    }
}
