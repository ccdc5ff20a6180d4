//! authn-cert: the certificate of the TLS connection becomes a host's access token. It is younger than the
//! recordings; what it does is what the vendor's guide to certificate authentication says.

use std::net::IpAddr;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Refusal, Service, host_of};
use crate::engine::Engine;
use crate::http::request::Request;
use crate::model::Model;
use crate::tls;

/// Variables that would restrict certificates further and are not built: a service that has one is refused,
/// rather than left open.
const NOT_BUILT: [&str; 6] = ["crl", "crl-url", "san-uri", "san-dns", "san-ip", "cn"];

/// What a certificate says of its holder.
#[derive(Default)]
struct Holder {
    names: Vec<String>,
    uris: Vec<String>,
    dns: Vec<String>,
    addresses: Vec<IpAddr>,
}

/// The login of the host that the connection's certificate is for.
pub(super) fn log_in(
    engine: &Engine,
    request: &Request,
    service: &Service<'_>,
    login: Option<&str>,
) -> Result<String, Refusal> {
    let model = engine.model();
    certified(engine, &model, request, service, login).ok_or(Refusal::Denied)
}

fn certified(
    engine: &Engine,
    model: &Model,
    request: &Request,
    service: &Service<'_>,
    login: Option<&str>,
) -> Option<String> {
    let ca = service.value(model, "ca-cert")?;
    let refused = NOT_BUILT.iter().any(|name| service.value(model, name).is_some());
    if refused
        || !service.is_ready(engine, model)
        || !tls::is_signed_by(ca.as_bytes(), &request.certificates, engine.now())
    {
        return None;
    }
    let holder = Holder::of(request.certificates.first()?)?;
    let by_spiffe = match service.value(model, "host-mode").as_deref() {
        None | Some("request") => false,
        Some("spiffe") => true,
        Some(_) => return None,
    };
    let login = match (by_spiffe, login) {
        (true, None) => spiffe_login(model, service, &holder)?,
        (false, Some(login)) => login.to_owned(),
        _ => return None,
    };
    let role = host_of(service.account, &login)?;
    let restrictions = restrictions(model, service, &role);
    let restricted = by_spiffe || !restrictions.is_empty();
    let fits = restrictions.iter().all(|(name, wanted)| holder.fits(name, wanted));
    (service.admits(model, &role, request) && restricted && fits).then_some(login)
}

/// `spiffe://{trust-domain}/{name}` is the host `{identity-path}/{name}`; a certificate has one such URI.
fn spiffe_login(model: &Model, service: &Service<'_>, holder: &Holder) -> Option<String> {
    let domain = format!("spiffe://{}/", service.value(model, "trust-domain")?);
    let path = service.value(model, "identity-path")?;
    let [uri] = holder.uris.as_slice() else { return None };
    let name = uri.strip_prefix(&domain).filter(|name| !name.is_empty())?;
    Some(format!("host/{}/{name}", path.trim_matches('/')))
}

/// The host's annotations for this service, and those for all services that it has no own one for.
fn restrictions(model: &Model, service: &Service<'_>, role: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = service
        .annotations(model, role)
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let annotations = model.resources.get(role).map(|resource| &resource.annotations);
    for (name, annotation) in annotations.into_iter().flatten() {
        let general = name.strip_prefix("authn-cert/").filter(|name| !name.contains('/'));
        if let Some(name) = general
            && found.iter().all(|(known, _)| known != name)
        {
            found.push((name.to_owned(), annotation.value.clone()));
        }
    }
    found
}

impl Holder {
    fn of(certificate: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let mut holder = Self::default();
        let names = certificate.subject().iter_common_name();
        holder.names = names.filter_map(|name| name.as_str().ok().map(str::to_owned)).collect();
        let alternatives = certificate.subject_alternative_name().ok()?;
        for name in alternatives.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::URI(uri) => holder.uris.push((*uri).to_owned()),
                GeneralName::DNSName(name) => holder.dns.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => holder.addresses.extend(address(bytes)),
                _ => {}
            }
        }
        Some(holder)
    }

    /// Whether all that an annotation lists is there; one that means nothing fits nobody.
    fn fits(&self, name: &str, wanted: &str) -> bool {
        let mut listed = wanted.split(',').map(str::trim);
        match name {
            "cn" => self.names.iter().any(|name| name == wanted),
            "san-uri" => listed.all(|uri| self.uris.iter().any(|known| known == uri)),
            "san-dns" => listed.all(|name| self.dns.iter().any(|known| known.eq_ignore_ascii_case(name))),
            "san-ip" => {
                listed.all(|text| text.parse().is_ok_and(|wanted: IpAddr| self.addresses.contains(&wanted)))
            }
            _ => false,
        }
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from).ok();
    v4.or_else(|| <[u8; 16]>::try_from(bytes).map(IpAddr::from).ok())
}
