//! How large what a client is made of may be. It stays in memory for as long as the client does, and whoever may write a
//! Secret could fill it a thousand times over.

use crate::plan::Failure;
use crate::{
    api::Reason,
    limits::{self, Limit},
};

/// What a client is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ingredient {
    /// A login, a key, a password or a token.
    Credential,
    /// The certificates that are trusted.
    CaBundle,
    /// A client certificate, those between it and its authority, and its key, together.
    ClientCertificate,
}

impl Ingredient {
    /// Refuses more bytes than any that is needed has. `what` says where it lies; nothing is said of what it holds.
    ///
    /// # Errors
    /// `InvalidSpec`, naming it, its size and the way out.
    pub fn check(self, what: &str, bytes: usize) -> Result<(), Failure> {
        let (bound, limit, way_out) = match self {
            Self::Credential => (
                limits::CREDENTIAL_BYTES,
                Limit::CredentialBytes,
                "a login, key, password or token: put only that there, or correct the reference",
            ),
            Self::CaBundle => (
                limits::CA_BUNDLE_BYTES,
                Limit::CaBundleBytes,
                "a CA bundle: give only the certificates of the authorities that sign your Conjur's own, without those of \
                 the system",
            ),
            Self::ClientCertificate => (
                limits::CLIENT_CERTIFICATE_BYTES,
                Limit::ClientCertificateBytes,
                "a client certificate and its key: give only the certificate, those between it and its authority, and the \
                 key",
            ),
        };
        if bytes <= bound {
            return Ok(());
        }
        limits::hit(limit);
        let (has, may) = (bytes.div_ceil(1024), bound / 1024);
        Err(Failure::stalled(
            Reason::InvalidSpec,
            format!("{what}: {has} KiB is too much, and {may} KiB the most, for {way_out}"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Class;

    #[test]
    fn what_is_too_large_is_refused_by_name_and_size() {
        for (ingredient, bound, word) in [
            (Ingredient::Credential, 16 * 1024, "password"),
            (Ingredient::CaBundle, 256 * 1024, "CA bundle"),
            (Ingredient::ClientCertificate, 64 * 1024, "client certificate"),
        ] {
            assert_eq!(ingredient.check("Secret n/s", bound), Ok(()));
            let failure = ingredient.check("Secret n/s", bound + 1).expect_err("a refusal");
            assert_eq!((failure.class, failure.reason), (Class::Stalled, Reason::InvalidSpec));
            let size = format!("Secret n/s: {} KiB is too much, and {} KiB", bound / 1024 + 1, bound / 1024);
            assert!(failure.message.starts_with(&size) && failure.message.contains(word), "{failure}");
        }
    }
}
