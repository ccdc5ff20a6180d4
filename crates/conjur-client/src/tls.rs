//! Which roots are trusted, and what a failed handshake means.

pub(super) mod bundle;
pub(super) mod der;
mod explain;
pub(super) mod trust;

use std::error::Error as StdError;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{AlertDescription, ClientConfig, Error as TlsError, RootCertStore};
use rustls_platform_verifier::Verifier;

use self::trust::Trust;
use super::config::{ClientIdentity, Config};
use super::error::Error;
use crate::limits;
use crate::lock::lock;

pub(crate) use self::explain::explain;

/// What may be spoken inside of TLS, the best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Whose signature makes a server's certificate good.
#[derive(Clone, Copy)]
pub(crate) enum Roots<'a> {
    /// Exactly what a CA bundle holds: who is signed by one of its certificates, and those themselves.
    Bundle(&'a [u8]),
    /// Whom this system trusts.
    System,
    /// No one's: there is no TLS, and the system's need not be there.
    Nobody,
}

impl<'a> Roots<'a> {
    /// As a connection says.
    pub(crate) fn of(config: &'a Config) -> Self {
        match &config.ca_bundle {
            Some(bundle) => Self::Bundle(bundle),
            None if config.url.scheme() == "http" => Self::Nobody,
            None => Self::System,
        }
    }
}

/// How TLS is spoken with a server: whom it must be signed by, and what is presented to it.
///
/// # Errors
/// [`Error::Config`] where the bundle holds no certificate, or one that can't be read; where the system trusts no one;
/// where the client certificate can't be read, or its key is another's.
pub(crate) fn settings(roots: Roots<'_>, identity: Option<&ClientIdentity>) -> Result<ClientConfig, Error> {
    let provider =
        CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()));
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions();
    let builder =
        builder.map_err(|error| Error::config("this build has no version of TLS").because(error))?;
    let builder = match roots {
        Roots::Bundle(pem) => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Trust::of(pem, provider)?))
        }
        Roots::System => builder.dangerous().with_custom_certificate_verifier(of_system(provider)?),
        Roots::Nobody => builder.with_root_certificates(RootCertStore::empty()),
    };
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let certificates = bundle::certificates(&pem.certificate).map_err(|_| unreadable_identity())?;
            let key = PrivateKeyDer::from_pem_slice(pem.key.expose()).map_err(|_| unreadable_identity())?;
            builder
                .with_client_auth_cert(certificates, key)
                .map_err(|error| of_identity(&error).because(error))?
        }
    };
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}

/// The system's roots, read anew where that is long ago: thousands of clients share one copy of them.
fn of_system(provider: Arc<CryptoProvider>) -> Result<Arc<Verifier>, Error> {
    static LAST: Mutex<Option<(Instant, Arc<Verifier>)>> = Mutex::new(None);
    let mut last = lock(&LAST);
    if let Some((_, roots)) = last.as_ref().filter(|(read, _)| read.elapsed() < limits::SYSTEM_ROOTS_AGE) {
        return Ok(Arc::clone(roots));
    }
    let roots = Verifier::new(provider).map_err(|error| {
        Error::config(format!("the certificates that this system trusts can't be read: {error}"))
            .because(error)
    })?;
    let roots = Arc::new(roots);
    *last = Some((Instant::now(), Arc::clone(&roots)));
    Ok(roots)
}

fn unreadable_identity() -> Error {
    Error::config("the client certificate and its key can't be read: both must be PEM, the key unencrypted")
}

/// Why a client certificate can't be presented.
fn of_identity(error: &TlsError) -> Error {
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
