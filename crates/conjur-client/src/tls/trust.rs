//! Whom to believe: who is signed by one of the certificates given, and those certificates themselves.
//!
//! Private servers often have a certificate that signs itself, made with OpenSSL's defaults: one of a CA, which the usual
//! rules don't take as a server's. One that was given byte for byte needs no signature. It must still be for the name
//! that was asked for, valid now, and the server must have its key.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error as TlsError, OtherError, SignatureScheme};

use super::{bundle, der};
use crate::error::Error;

/// The shortest RSA key that is taken.
const RSA_BITS: usize = 2048;

/// Why a certificate is not taken, where the usual reasons don't say it well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its RSA key, or one of those that signed it, has only so many bits.
    WeakKey(usize),
    /// It is of version 1, without the names that it is for.
    Version1,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WeakKey(bits) => write!(f, "RSA key of {bits} bits"),
            Self::Version1 => f.write_str("version 1"),
        }
    }
}

impl StdError for Refusal {}

impl From<Refusal> for TlsError {
    fn from(refusal: Refusal) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
    }
}

/// Verifies servers by a CA bundle.
#[derive(Debug)]
pub(crate) struct Trust {
    chain: Arc<WebPkiServerVerifier>,
    given: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// By the certificates of `pem`.
    ///
    /// # Errors
    /// [`Error::Config`] where it holds none, or one that can't be read.
    pub(crate) fn of(pem: &[u8], provider: Arc<CryptoProvider>) -> Result<Self, Error> {
        let given = bundle::certificates(pem)?;
        let roots = Arc::new(bundle::roots(&given)?);
        let chain = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
        let chain =
            chain.map_err(|_| Error::config("the CA bundle holds no certificate that can be trusted"))?;
        Ok(Self { chain, given })
    }

    /// Looks at one that was given itself.
    fn look_at(server: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<(), TlsError> {
        let (not_before, not_after) =
            der::validity(server).ok_or(TlsError::InvalidCertificate(CertificateError::BadEncoding))?;
        if now < not_before {
            let error = CertificateError::NotValidYetContext { time: now, not_before };
            return Err(TlsError::InvalidCertificate(error));
        }
        if now > not_after {
            let error = CertificateError::ExpiredContext { time: now, not_after };
            return Err(TlsError::InvalidCertificate(error));
        }
        verify_server_name(&ParsedCertificate::try_from(server)?, name)
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        if der::is_version_1(server) {
            return Err(Refusal::Version1.into());
        }
        let weak = std::iter::once(server).chain(between).filter_map(|one| der::rsa_bits(one)).min();
        if let Some(bits) = weak.filter(|bits| *bits < RSA_BITS) {
            return Err(Refusal::WeakKey(bits).into());
        }
        if self.given.iter().any(|given| given == server) {
            Self::look_at(server, name, now)?;
            return Ok(ServerCertVerified::assertion());
        }
        self.chain.verify_server_cert(server, between, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        server: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.chain.verify_tls12_signature(message, server, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        server: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.chain.verify_tls13_signature(message, server, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
