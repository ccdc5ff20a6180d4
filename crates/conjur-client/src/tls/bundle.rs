//! CA bundles as people make them: joined, indented, with comments, with Windows' line ends, with a mark of UTF-8.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::der;
use crate::error::Error;
use crate::limits::{self, Limit};

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";

const ONLY_NEEDED: &str = "give it only the certificates of the authorities that sign your Conjur's own, without those of the system";

/// What to say of a bundle of so many bytes.
fn too_large(bytes: usize) -> String {
    let (has, may) = (bytes.div_ceil(1024), limits::CA_BUNDLE_BYTES / 1024);
    format!("the CA bundle has {has} KiB, and may have {may} KiB: {ONLY_NEEDED}")
}

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
/// [`Error::Config`] with the number of the block that can't be read, or with what is there where no certificate is; with its
/// size where it is larger than any that is needed.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    if pem.len() > limits::CA_BUNDLE_BYTES {
        limits::hit(Limit::CaBundleBytes);
        return Err(Error::config(too_large(pem.len())));
    }
    let text = String::from_utf8_lossy(pem);
    let (mut found, mut others) = (Vec::new(), Vec::new());
    for (nth, block) in blocks(&text).enumerate() {
        if nth == limits::CA_BUNDLE_BLOCKS {
            limits::hit(Limit::CaBundleBlocks);
            return Err(Error::config(format!(
                "the CA bundle has more than {} PEM blocks, which is the most that it may have: {ONLY_NEEDED}",
                limits::CA_BUNDLE_BLOCKS
            )));
        }
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
pub(crate) fn roots(certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, Error> {
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
        // Looked for no further than that: a bundle of beginnings would be read once more for each of them.
        let end = after[..next].find(END);
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

/// What to say of a bundle without a certificate. Nothing of its text, for someone may have taken a key for it.
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_bundle_of_beginnings_is_read_once_and_not_once_for_each() {
        // Four times what is taken: what is linear takes some milliseconds there.
        let beginnings = "-----BEGIN X-----\n".repeat(4 * limits::CA_BUNDLE_BYTES / 18);
        let since = Instant::now();
        let all = blocks(&beginnings).collect::<Vec<_>>();
        assert!(all.len() > 50_000 && all.iter().all(|block| !block.ends));
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    }

    #[test]
    fn a_block_without_an_end_does_not_take_the_next_ones() {
        let text = "-----BEGIN A-----\none\n-----BEGIN B-----\ntwo\n-----END B-----\n";
        let all: Vec<_> = blocks(text).map(|block| (block.label, block.body, block.ends)).collect();
        assert_eq!(all, [("A", "\none\n", false), ("B", "\ntwo\n", true)]);
    }

    #[test]
    fn a_bundle_that_is_too_large_is_refused_with_its_size_and_the_way_out() {
        let told = |pem: &[u8]| certificates(pem).expect_err("a refusal").to_string();
        let bytes = told(&vec![b' '; limits::CA_BUNDLE_BYTES + 1]);
        assert!(bytes.contains("has 257 KiB, and may have 256 KiB: give it only"), "{bytes}");
        assert!(told(&vec![b' '; limits::CA_BUNDLE_BYTES]).contains("is empty"));
        let blocks = |count: usize| told("-----BEGIN KEY-----\n-----END KEY-----\n".repeat(count).as_bytes());
        let many = blocks(limits::CA_BUNDLE_BLOCKS + 1);
        assert!(many.contains("more than 512 PEM blocks") && many.contains(ONLY_NEEDED), "{many}");
        assert!(blocks(limits::CA_BUNDLE_BLOCKS).contains("holds no certificate"));
    }
}
