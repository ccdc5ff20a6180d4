//! Keys and certificates made in code, so that nobody needs openssl.

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use crate::Result;

/// A certificate authority that lives in memory.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its private key, both as PEM.
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl Authority {
    /// A new authority, with `name` as its common name.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().context("making a key")?;
        Ok(Self(CertifiedIssuer::self_signed(params, key).context("signing the authority's certificate")?))
    }

    /// The authority's own certificate as PEM: what clients have to trust.
    pub fn certificate(&self) -> String {
        let own: &Certificate = self.0.as_ref();
        own.pem()
    }

    /// A server certificate for `names`, DNS names and IP addresses.
    pub fn issue(&self, names: &[&str]) -> Result<Identity> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let params = CertificateParams::new(names).context("naming the server")?;
        self.sign(params, "server", ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client's certificate with this common name.
    pub fn issue_client(&self, name: &str) -> Result<Identity> {
        let params = CertificateParams::new(Vec::<String>::new()).context("naming the client")?;
        self.sign(params, name, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A client's certificate of a member of a group, which Kubernetes reads from the organization.
    pub fn issue_member(&self, name: &str, group: &str) -> Result<Identity> {
        let mut params = CertificateParams::new(Vec::<String>::new()).context("naming the client")?;
        params.distinguished_name.push(DnType::OrganizationName, group);
        self.sign(params, name, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Identity> {
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().context("making a key")?;
        let certificate = params.signed_by(&key, &self.0).context("signing a certificate")?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// A key pair for signing tokens: the private and the public key as PEM.
pub(crate) fn signing_key() -> Result<(String, String)> {
    let key = KeyPair::generate().context("making a key")?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}
