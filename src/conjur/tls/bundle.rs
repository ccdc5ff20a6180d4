//! CA bundles as people make them: joined, indented, with comments, with Windows' line ends, with a mark of UTF-8.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::der;
use crate::conjur::error::Error;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";

/// One block: what it says it is, and what is between its lines.
struct Block<'a> {
    label: &'a str,
    body: &'a str,
    /// Whether it has an end.
    ends: bool,
}

/// The certificates of a PEM bundle. Blocks that are none are left alone.
///
/// # Errors
/// [`Error::Config`] with the number of the block that can't be read, or with what is there where no certificate is.
pub(in crate::conjur) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = String::from_utf8_lossy(pem);
    let (mut found, mut others) = (Vec::new(), Vec::new());
    for block in blocks(&text) {
        if matches!(block.label, "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE") {
            let number = found.len() + 1;
            found.push(certificate(&block).map_err(|why| {
                Error::config(format!("certificate {number} of the CA bundle {why}: copy it there again"))
            })?);
        } else {
            others.push(block.label);
        }
    }
    if found.is_empty() {
        return Err(Error::config(nothing_in(pem, &others)));
    }
    Ok(found)
}

/// The same, as what is trusted to sign.
///
/// # Errors
/// [`Error::Config`] with the number of the one that can't be read.
pub(in crate::conjur) fn roots(certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for (number, certificate) in (1..).zip(certificates) {
        roots.add(certificate.clone()).map_err(|_| {
            let what = "is not a certificate that can be read";
            Error::config(format!("certificate {number} of the CA bundle {what}: copy it there again"))
        })?;
    }
    Ok(roots)
}

fn blocks(text: &str) -> impl Iterator<Item = Block<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(BEGIN)?;
        rest = after;
        let (label, after) = after.split_once("-----")?;
        // One without an end ends where the next begins.
        let next = after.find(BEGIN).unwrap_or(after.len());
        let end = after.find(END).filter(|end| *end < next);
        let body = &after[..end.unwrap_or(next)];
        rest = &after[end.unwrap_or(next)..];
        Some(Block { label: label.trim(), body, ends: end.is_some() })
    })
}

fn certificate(block: &Block<'_>) -> Result<CertificateDer<'static>, &'static str> {
    if !block.ends {
        return Err("has no line `-----END CERTIFICATE-----`");
    }
    // Whoever quoted a bundle twice has the line ends as two signs.
    let text = block.body.replace("\\r", "").replace("\\n", "");
    let text: String = text.chars().filter(|c| !c.is_whitespace() && *c != '\u{feff}').collect();
    let bytes = BASE64.decode(text.as_bytes()).map_err(|_| "is not valid base64")?;
    let der = der::first(&bytes).ok_or("is not a certificate that can be read")?;
    Ok(CertificateDer::from(der.to_vec()))
}

/// What to say of a bundle without a certificate. Nothing of its text, for somebody may have taken a key for it.
fn nothing_in(pem: &[u8], others: &[&str]) -> String {
    let what = if pem.iter().all(u8::is_ascii_whitespace) {
        "is empty"
    } else if others.iter().any(|label| label.contains("PRIVATE KEY")) {
        "holds a private key and no certificate"
    } else if others.iter().any(|label| label.contains("REQUEST")) {
        "holds a certificate request and no certificate"
    } else if others.iter().any(|label| label.contains("PKCS7")) {
        "is PKCS#7 (unpack it with `openssl pkcs7 -print_certs`) and holds no certificate"
    } else if pem.starts_with(&[0xff, 0xfe]) || pem.starts_with(&[0xfe, 0xff]) {
        "is UTF-16 (save it as UTF-8) and holds no certificate"
    } else if pem.starts_with(&[0x30, 0x82]) {
        "is binary (convert it with `openssl x509 -inform der`) and holds no certificate"
    } else {
        "holds no certificate"
    };
    format!("the CA bundle {what}: it must contain at least one PEM block `-----BEGIN CERTIFICATE-----`")
}
