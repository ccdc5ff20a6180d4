//! Where the Kubernetes API server is, for no connection of a namespace may lead there.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, Client, Config};
use url::{Host, Url};

use crate::{
    conjur::reach::{ApiHost, Reach},
    limits,
};

/// By which a Pod finds it, whatever the cluster is called.
const NAMES: [&str; 4] =
    ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];

/// Finds out where it is, and tells `reach`. What can't be found out now stays as it was known.
pub async fn learn(client: &Client, known: &mut BTreeSet<(ApiHost, u16)>, reach: &Arc<Reach>) {
    let mut found = in_a_pod();
    // As the client was configured: it does not tell.
    let config = Config::infer().await.ok();
    found.extend(config.as_ref().and_then(|config| host_of(&config.cluster_url.to_string())));
    for (host, port) in found.clone() {
        if let ApiHost::Name(name) = host {
            found.extend(resolved(&name).await.into_iter().map(|address| (ApiHost::Address(address), port)));
        }
    }
    // Named, so that the right to this one is enough; where it is missing, the addresses above are what is known.
    match Api::<EndpointSlice>::namespaced(client.clone(), "default").get_opt("kubernetes").await {
        Ok(slice) => found.extend(slice.iter().flat_map(endpoints)),
        Err(error) => {
            tracing::debug!("the endpoints of the API server can't be read: {error}");
            found.extend(known.iter().filter(|(host, _)| matches!(host, ApiHost::Address(_))).cloned());
        }
    }
    reach.set_api_server(found.clone());
    *known = found;
}

/// The same again and again: its addresses may change.
pub async fn keep_up(client: Client, mut known: BTreeSet<(ApiHost, u16)>, reach: Arc<Reach>) {
    loop {
        tokio::time::sleep(limits::API_SERVER_AGAIN).await;
        learn(&client, &mut known, &reach).await;
    }
}

/// As a Pod is told: the Service's names, and its address by the environment.
fn in_a_pod() -> BTreeSet<(ApiHost, u16)> {
    let mut found = BTreeSet::new();
    let port =
        std::env::var("KUBERNETES_SERVICE_PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(443);
    found.extend(NAMES.map(|name| (ApiHost::Name(name.to_owned()), port)));
    if let Some(address) = std::env::var("KUBERNETES_SERVICE_HOST").ok().and_then(|host| host.parse().ok()) {
        found.insert((ApiHost::Address(canonical(address)), port));
    }
    found
}

/// The addresses of a name, as far as they can be told now.
async fn resolved(name: &str) -> Vec<IpAddr> {
    let looked = tokio::net::lookup_host((name, 0));
    match tokio::time::timeout(limits::LOOKUP_DEADLINE, looked).await {
        Ok(Ok(found)) => found.map(|at| canonical(at.ip())).collect(),
        _ => Vec::new(),
    }
}

/// Where the endpoints are.
fn endpoints(slice: &EndpointSlice) -> Vec<(ApiHost, u16)> {
    let ports = slice.ports.iter().flatten().filter_map(|port| u16::try_from(port.port?).ok());
    let ports: Vec<u16> = ports.collect();
    let addresses = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
    let addresses = addresses.filter_map(|text| text.parse().ok()).map(|ip| ApiHost::Address(canonical(ip)));
    addresses
        .flat_map(|host| ports.iter().map(move |port| (host.clone(), *port)).collect::<Vec<_>>())
        .collect()
}

/// Host and port of a URL.
fn host_of(url: &str) -> Option<(ApiHost, u16)> {
    let url = Url::parse(url).ok()?;
    let host = match url.host()? {
        Host::Domain(name) => ApiHost::Name(name.trim_end_matches('.').to_ascii_lowercase()),
        Host::Ipv4(address) => ApiHost::Address(address.into()),
        Host::Ipv6(address) => ApiHost::Address(canonical(address.into())),
    };
    Some((host, url.port_or_known_default()?))
}

fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_by_each_way_that_leads_there() {
        let address = |text: &str| ApiHost::Address(text.parse().unwrap());
        for (url, expected) in [
            ("https://127.0.0.1:6443/", Some((address("127.0.0.1"), 6443))),
            ("https://[::ffff:10.0.0.1]", Some((address("10.0.0.1"), 443))),
            ("https://Api.Example.com.", Some((ApiHost::Name("api.example.com".into()), 443))),
            ("nothing", None),
        ] {
            assert_eq!(host_of(url), expected, "{url}");
        }
        let slice = serde_json::json!({
            "addressType": "IPv4",
            "endpoints": [{ "addresses": ["10.0.0.7", "no address"] }, { "addresses": ["10.0.0.8"] }],
            "ports": [{ "name": "https", "port": 6443 }, { "port": null }],
        });
        let found = endpoints(&serde_json::from_value(slice).unwrap());
        assert_eq!(found, [(address("10.0.0.7"), 6443), (address("10.0.0.8"), 6443)]);
        assert!(in_a_pod().iter().any(|(host, _)| *host == ApiHost::Name("kubernetes.default.svc".into())));
    }
}
