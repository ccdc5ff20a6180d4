//! What a failed handshake means: what is wrong, and what to do about it.

use rustls::pki_types::ServerName;
use rustls::{
    AlertDescription, CertificateError, Error as TlsError, InvalidMessage, OtherError, PeerIncompatible,
};

use super::OF_CERTIFICATES;
use super::trust::Refusal;
use crate::words::words;

/// A sentence for a person: what is wrong and what to look at.
pub(crate) fn explain(url: &str, error: &TlsError, own_roots: bool) -> String {
    match error {
        TlsError::InvalidCertificate(certificate) => of_certificate(url, certificate, own_roots),
        TlsError::AlertReceived(alert) => of_alert(url, *alert),
        TlsError::InvalidMessage(InvalidMessage::InvalidContentType) => {
            format!("{url} does not speak TLS: is it http://, or another port?")
        }
        TlsError::PeerIncompatible(why) => of_versions(url, why),
        TlsError::NoCertificatesPresented => {
            format!("{url} shows no certificate: give it one, and look at what terminates TLS there")
        }
        TlsError::NoApplicationProtocol => {
            format!("{url} speaks TLS, but not HTTP: is it another service's port?")
        }
        TlsError::UnsupportedNameType => {
            format!("{url} has a host that no certificate can be for: use a name or an address")
        }
        TlsError::FailedToGetCurrentTime | TlsError::FailedToGetRandomBytes => {
            format!("the TLS handshake with {url} failed for want of a clock or of random bytes on this system")
        }
        TlsError::InvalidMessage(_)
        | TlsError::InappropriateMessage { .. }
        | TlsError::InappropriateHandshakeMessage { .. }
        | TlsError::PeerMisbehaved(_)
        | TlsError::DecryptError
        | TlsError::PeerSentOversizedRecord => format!(
            "{url} does not keep to the TLS protocol: look at what is between (a proxy, a load balancer), and try \
             `openssl s_client -connect` from a Pod"
        ),
        TlsError::InconsistentKeys(_) => {
            "the client certificate and its key do not belong together: give the key that the certificate was made for"
                .to_owned()
        }
        _ => format!(
            "the TLS handshake with {url} failed: try `openssl s_client -connect` from a Pod to see what it answers"
        ),
    }
}

fn of_certificate(url: &str, error: &CertificateError, own_roots: bool) -> String {
    let signer = if own_roots { "the CA bundle given" } else { "a root that this system trusts" };
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "the certificate of {url} is not signed by {signer}{}",
            if own_roots {
                ": put its issuer there (and let the server send those between), or the server's certificate itself"
            } else {
                ": give its issuer in spec.tls.caBundle"
            }
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("the certificate of {url} has expired: renew it")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!(
                "the certificate of {url} is not valid yet; is the clock right, here and where it was made?"
            )
        }
        CertificateError::NotValidForName => format!("the certificate of {url} is for another name"),
        CertificateError::NotValidForNameContext { expected, presented } => of_name(url, expected, presented),
        CertificateError::Revoked => format!("the certificate of {url} is revoked: renew it"),
        CertificateError::BadEncoding => {
            format!("the certificate of {url} can't be read: make it anew")
        }
        CertificateError::UnhandledCriticalExtension => critical(url),
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => format!(
            "the certificate of {url}, or one that signed it, is signed by an algorithm that is not taken (SHA-1, say): \
             make it anew with SHA-256"
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => format!(
            "the certificate of {url} is not for servers: make it with the extended key usage serverAuth, or with none"
        ),
        CertificateError::Other(other) => of_other(url, other),
        CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. }
        | CertificateError::InvalidOcspResponse => {
            format!("whether the certificate of {url} is revoked could not be told: look at its issuer")
        }
        _ => {
            format!("the certificate of {url} is not accepted: look at it with `openssl s_client -showcerts`")
        }
    }
}

/// Private types of the verifier's and of this client's own.
fn of_other(url: &str, other: &OtherError) -> String {
    match other.0.downcast_ref::<Refusal>() {
        Some(Refusal::WeakKey(bits)) => format!(
            "the certificate of {url}, or one that signed it, has an RSA key of {bits} bits: make it anew with 2048 or more"
        ),
        Some(Refusal::Version1) => format!(
            "the certificate of {url} is of version 1, which has no names to compare: make it anew with \
             `-addext subjectAltName=DNS:<host>`"
        ),
        // The other reasons have no types of their own; their texts are names.
        None => match other.to_string().as_str() {
            "CaUsedAsEndEntity" => format!(
                "the certificate of {url} is one of a CA (basicConstraints=CA:TRUE), not of a server: make it with \
                 basicConstraints=CA:FALSE, or put it itself into spec.tls.caBundle"
            ),
            "EndEntityUsedAsCa" | "NotCa" => format!(
                "the certificate of {url} is signed by one that is not of a CA: make the signer with \
                 basicConstraints=CA:TRUE, or put the server's certificate itself into spec.tls.caBundle"
            ),
            "NameConstraintViolation" => format!(
                "the certificate of {url} is for a name that its issuer may not sign for (name constraints): let another \
                 CA sign it, or put it itself into spec.tls.caBundle"
            ),
            "PathLenConstraintViolated" => format!(
                "between the certificate of {url} and its root are more than the root allows (pathlen): let a CA sign it \
                 that may"
            ),
            "UnsupportedCriticalExtension" => critical(url),
            "InvalidSerialNumber" => format!(
                "the certificate of {url}, or one that signed it, has a serial number that is none: make it anew with one \
                 of 1 to 20 bytes"
            ),
            "UnsupportedCertVersion" => format!(
                "the certificate of {url}, or one that signed it, is of version 1: make it anew with `-addext \
                 subjectAltName=DNS:<host>`"
            ),
            _ => format!(
                "the certificate of {url} breaks a rule of X.509: make it anew, or look at it with `openssl x509 -text`"
            ),
        },
    }
}

fn critical(url: &str) -> String {
    format!(
        "the certificate of {url} has a critical extension that is not known: make it without, or not critical"
    )
}

fn of_name(url: &str, expected: &ServerName<'_>, presented: &[String]) -> String {
    let expected = expected.to_str();
    if presented.is_empty() {
        return format!(
            "the certificate of {url} has no subjectAltName, and a common name does not count: make it anew with \
             subjectAltName={}{expected}",
            if expected.parse::<std::net::IpAddr>().is_ok() { "IP:" } else { "DNS:" }
        );
    }
    let shown: Vec<String> = presented.iter().take(8).map(|name| name_of(name)).collect();
    let more = if presented.len() > shown.len() { " and others" } else { "" };
    format!(
        "the certificate of {url} is for another name: it is for {}{more}, not {expected}; use such a name in the URL, or \
         add {expected} to its subjectAltName",
        words(&shown.join(", "))
    )
}

/// A name as the verifier has it, `DnsName("a")` or `IpAddress(127.0.0.1)`, as people write it.
fn name_of(presented: &str) -> String {
    let inner = presented.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(presented);
    inner.trim_matches('"').to_owned()
}

fn of_alert(url: &str, alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
            format!("{url} wants a client certificate: give one in spec.tls.clientCertificateSecretRef")
        }
        alert if OF_CERTIFICATES.contains(&alert) => format!(
            "{url} does not accept the client certificate{}: look at whether the server trusts its issuer",
            match alert {
                AlertDescription::CertificateExpired => " (it has expired)",
                AlertDescription::CertificateRevoked => " (it is revoked)",
                AlertDescription::UnknownCA => " (its issuer is unknown there)",
                AlertDescription::UnsupportedCertificate => " (it is of a kind that is not taken there)",
                AlertDescription::AccessDenied => " (it has no access)",
                _ => "",
            }
        ),
        AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity => old(url),
        AlertDescription::HandshakeFailure => format!(
            "{url} found nothing in common in the TLS handshake: it may want a client certificate, or know only old \
             versions and ciphers"
        ),
        AlertDescription::UnrecognisedName => {
            format!("{url} knows no server of that name: look at the host in the URL")
        }
        AlertDescription::NoApplicationProtocol => {
            format!("{url} speaks TLS, but not HTTP: is it another service's port?")
        }
        _ => format!(
            "{url} broke the TLS handshake off: look at its log, and try `openssl s_client -connect` from a Pod"
        ),
    }
}

fn of_versions(url: &str, why: &PeerIncompatible) -> String {
    match why {
        PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::NoCipherSuitesInCommon => old(url),
        _ => format!(
            "{url} and this client have no way of TLS in common: let the server speak TLS 1.2 or 1.3 with its usual ciphers"
        ),
    }
}

fn old(url: &str) -> String {
    format!("{url} speaks only old versions of TLS, or weak ciphers: let it speak TLS 1.2 or 1.3")
}
