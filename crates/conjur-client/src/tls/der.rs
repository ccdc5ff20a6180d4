//! The little of a certificate's DER that nothing else tells: when it is valid, and how large its RSA key is.

use std::time::Duration;

use rustls::pki_types::UnixTime;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// 1.2.840.113549.1.1.1
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// What is read one after the other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element: its tag and its content.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            let octets = usize::from(first & 0x7f);
            if !(1..=4).contains(&octets) {
                return None;
            }
            let (bytes, after) = rest.split_at_checked(octets)?;
            length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            rest = after;
        }
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    fn expect(&mut self, expected: u8) -> Option<&'a [u8]> {
        self.next().filter(|(tag, _)| *tag == expected).map(|(_, content)| content)
    }
}

/// The first element of `bytes`, with its tag and length: what OpenSSL's "trusted" certificates have something behind.
pub(crate) fn first(bytes: &[u8]) -> Option<&[u8]> {
    let mut der = Der(bytes);
    der.expect(SEQUENCE)?;
    bytes.get(..bytes.len() - der.0.len())
}

/// What comes after the serial number and the algorithm.
fn from_issuer(certificate: &[u8]) -> Option<Der<'_>> {
    let mut certificate = Der(Der(certificate).expect(SEQUENCE)?);
    let mut fields = Der(certificate.expect(SEQUENCE)?);
    if fields.0.first() == Some(&VERSION) {
        fields.next()?;
    }
    fields.expect(INTEGER)?;
    fields.expect(SEQUENCE)?;
    Some(fields)
}

/// Whether it is of version 1, which knows no names but the common one.
pub(crate) fn is_version_1(certificate: &[u8]) -> bool {
    let fields = Der(certificate).expect(SEQUENCE).and_then(|content| Der(content).expect(SEQUENCE));
    fields.is_some_and(|fields| fields.first() == Some(&INTEGER))
}

/// From when until when it is valid.
pub(crate) fn validity(certificate: &[u8]) -> Option<(UnixTime, UnixTime)> {
    let mut fields = from_issuer(certificate)?;
    fields.expect(SEQUENCE)?;
    let mut times = Der(fields.expect(SEQUENCE)?);
    Some((time(times.next()?)?, time(times.next()?)?))
}

fn time((tag, text): (u8, &[u8])) -> Option<UnixTime> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i16 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    if rest.len() != 10 || !rest.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let two = |at: usize| rest.get(at..at + 2)?.parse::<i8>().ok();
    let at = jiff::civil::DateTime::new(year, two(0)?, two(2)?, two(4)?, two(6)?, two(8)?, 0).ok()?;
    let seconds = at.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second();
    Some(UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))))
}

/// How many bits its RSA key has, where it is one.
pub(crate) fn rsa_bits(certificate: &[u8]) -> Option<usize> {
    let mut fields = from_issuer(certificate)?;
    for _issuer_validity_and_subject in 0..3 {
        fields.expect(SEQUENCE)?;
    }
    let mut key = Der(fields.expect(SEQUENCE)?);
    if Der(key.expect(SEQUENCE)?).expect(OID)? != RSA {
        return None;
    }
    let (_unused_bits, key) = key.expect(BIT_STRING)?.split_first()?;
    let modulus = Der(Der(key).expect(SEQUENCE)?).expect(INTEGER)?;
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let modulus = modulus.get(zeros..)?;
    let first = modulus.first()?;
    Some(modulus.len() * 8 - first.leading_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn seconds(time: UnixTime) -> i64 {
        i64::try_from(time.as_secs()).unwrap()
    }

    #[test]
    fn the_times_of_a_certificate_are_read_in_both_of_their_forms() {
        let key = KeyPair::generate().unwrap();
        for (from, until) in [(1975, 2049), (1999, 2050), (2000, 4000)] {
            let mut params = CertificateParams::new(vec!["a".to_owned()]).unwrap();
            (params.not_before, params.not_after) = (date_time_ymd(from, 1, 2), date_time_ymd(until, 12, 30));
            let expected = (params.not_before.unix_timestamp(), params.not_after.unix_timestamp());
            let certificate = params.self_signed(&key).unwrap();
            let (from, until) = validity(certificate.der()).unwrap();
            assert_eq!((seconds(from), seconds(until)), expected);
            assert_eq!(rsa_bits(certificate.der()), None);
            assert!(!is_version_1(certificate.der()));
        }
    }

    #[test]
    fn lengths_that_lie_are_no_elements() {
        for bytes in
            [&[0x30][..], &[0x30, 0x80], &[0x30, 0x85, 1, 1, 1, 1, 1], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]]
        {
            assert_eq!(first(bytes), None, "{bytes:x?}");
        }
        assert_eq!(first(&[0x30, 1, 7, 9]), Some(&[0x30, 1, 7][..]));
    }

    proptest! {
        #[test]
        fn anything_may_be_taken_for_a_certificate(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0_usize..900, to: u8) {
            let mut made = include_bytes!("../tests/certificates/leaf.pem").to_vec();
            if let Some(byte) = made.get_mut(at) {
                *byte = to;
            }
            let made = crate::tls::bundle::certificates(&made).unwrap_or_default();
            for bytes in std::iter::once(bytes.as_slice()).chain(made.iter().map(AsRef::as_ref)) {
                let _ = (validity(bytes), rsa_bits(bytes), is_version_1(bytes), first(bytes));
            }
        }
    }
}
