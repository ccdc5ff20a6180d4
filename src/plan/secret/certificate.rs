//! When the certificates end that a Secret holds.

use std::collections::BTreeMap;

use crate::{limits::CERTIFICATE_READ_BYTES, sensitive::Sensitive};

/// Where Secrets of type `kubernetes.io/tls` keep their chain, and others by the same custom.
const KEY: &str = "tls.crt";

/// When the first certificate of the chain in `tls.crt` ends, in seconds since 1970: one of its issuers may end before it.
/// None where there is no chain, or one that can't be read or is longer than is looked at.
pub fn ends(data: &BTreeMap<String, Sensitive<Vec<u8>>>) -> Option<i64> {
    let chain = data.get(KEY)?.expose();
    if chain.len() > CERTIFICATE_READ_BYTES {
        return None;
    }
    let blocks = pem::parse_many(chain).ok()?;
    let certificates = blocks.iter().filter(|block| block.tag() == "CERTIFICATE");
    let ends = certificates.map(|block| {
        let (_, certificate) = x509_parser::parse_x509_certificate(block.contents()).ok()?;
        Some(certificate.validity().not_after.timestamp())
    });
    ends.collect::<Option<Vec<i64>>>()?.into_iter().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two certificates that end on the first of January, of 2031 and of 2041.
    fn chain() -> (String, String) {
        let make = |year| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            params.self_signed(&key).unwrap().pem()
        };
        (make(2041), make(2031))
    }

    #[test]
    fn the_first_to_end_of_a_chain_counts() {
        let (leaf, issuer) = chain();
        let (in_2031, in_2041) = (1_924_992_000, 2_240_611_200);
        let both = format!("{leaf}{issuer}");
        let cut = leaf.replace("MII", "MIA");
        let long = "x".repeat(CERTIFICATE_READ_BYTES + 1);
        for (key, text, expected) in [
            ("tls.crt", leaf.as_str(), Some(in_2041)),
            ("tls.crt", &both, Some(in_2031)),
            ("cert.pem", &leaf, None),
            ("tls.crt", "", None),
            ("tls.crt", "no certificate", None),
            ("tls.crt", &cut, None),
            ("tls.crt", &long, None),
        ] {
            let data = BTreeMap::from([(key.to_owned(), Sensitive::new(text.as_bytes().to_vec()))]);
            assert_eq!(ends(&data), expected, "{key} {}", text.len());
        }
    }
}
