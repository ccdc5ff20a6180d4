//! Which roots are trusted, and what a failed handshake means.

use std::error::Error as StdError;

use reqwest::Certificate;
use rustls::{AlertDescription, CertificateError, Error as TlsError, InvalidMessage};

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

/// The TLS failure within `error`, if that is what it is.
pub(crate) fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a TlsError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<TlsError>() {
            return Some(tls);
        }
        // io::Error hides what it wraps: its source() is already the source of that.
        if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            if let Some(tls) = find(inner) {
                return Some(tls);
            }
        }
        next = error.source();
    }
    None
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
        other => format!("the TLS handshake with {url} failed: {other}"),
    }
}
