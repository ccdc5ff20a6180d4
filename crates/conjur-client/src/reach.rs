//! Where the connections of a party may lead: which hosts, judged on what their names resolve to, at each connect. For
//! programs whose users say where to connect to.
//!
//! The decision ([`Reach::permits`]) is pure. In this order: the Kubernetes API server is denied, then what is denied
//! explicitly, then what is allowed explicitly is allowed, then loopback, link-local, metadata and multicast addresses are
//! denied, and all else is allowed.
//!
//! ```
//! use conjur_client::reach::Reach;
//!
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let reach = Reach::new(vec!["*.corp.example".parse()?], vec!["10.0.0.0/8".parse()?]);
//! assert!(!reach.permits(None, "10.1.2.3".parse()?, 443));
//! assert!(!reach.permits(None, "169.254.169.254".parse()?, 80), "the address of metadata");
//! // A `Config` takes this as its `reach`.
//! let area = reach.of_party("billing");
//! assert!(area.check_base(&"https://conjur.corp.example".parse()?).is_ok());
//! # Ok(())
//! # }
//! # example().unwrap();
//! ```

mod address;
mod pattern;
mod resolver;

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use tokio::sync::Semaphore;
use url::{Host, Url};

pub use self::pattern::{InvalidPattern, Pattern};
pub(crate) use self::resolver::{BoxError, Names, found_no_turn, is_denied};
use super::error::Error;
use crate::limits;

/// Where the connections of all parties may lead.
pub struct Reach {
    allow: Vec<Pattern>,
    deny: Vec<Pattern>,
    /// What is said of a base address that is denied.
    refusal: Box<dyn Fn(&str) -> String + Send + Sync>,
    /// The Kubernetes API server: its addresses and names, each with its port.
    api_server: RwLock<BTreeSet<(ApiHost, u16)>>,
    /// Names that are looked up at once, for the process.
    lookups: Arc<Semaphore>,
    /// The same for each party.
    turns: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// A host of the Kubernetes API server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ApiHost {
    /// An address.
    Address(IpAddr),
    /// A name.
    Name(String),
}

/// Names that stand for an address wherever they are resolved; through a proxy no one here resolves them.
const LOCAL: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
const METADATA: [IpAddr; 1] = [IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254))];
const METADATA_NAMES: [&str; 4] =
    ["metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"];

impl Reach {
    /// What is allowed beyond the default, and what is denied beyond it.
    pub fn new(allow: Vec<Pattern>, deny: Vec<Pattern>) -> Arc<Self> {
        Self::saying(allow, deny, |base| format!("connections may not lead to {base}"))
    }

    /// The same, with words of its own for a refusal of a base address: who decides where connections may lead, and how. They
    /// are all that is told, whatever is there, listens there or answers there.
    pub fn saying(
        allow: Vec<Pattern>,
        deny: Vec<Pattern>,
        refusal: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            allow,
            deny,
            refusal: Box::new(refusal),
            api_server: RwLock::default(),
            lookups: Arc::new(Semaphore::new(limits::LOOKUPS)),
            turns: Mutex::default(),
        })
    }

    /// From now on these are the API server's addresses and names.
    pub fn set_api_server(&self, hosts: BTreeSet<(ApiHost, u16)>) {
        *self.api_server.write().unwrap_or_else(PoisonError::into_inner) = hosts;
    }

    fn is_api_server(&self, host: &ApiHost, port: u16) -> bool {
        let known = self.api_server.read().unwrap_or_else(PoisonError::into_inner);
        known.contains(&(host.clone(), port))
    }

    /// Whether a connection may lead to an address, which `name` stands for where the URL has a name.
    pub fn permits(&self, name: Option<&str>, address: IpAddr, port: u16) -> bool {
        let meanings = address::meanings(address);
        let any = |patterns: &[Pattern], of: &IpAddr| patterns.iter().any(|pattern| pattern.has_address(*of));
        let named = |patterns: &[Pattern]| name.is_some_and(|n| patterns.iter().any(|p| p.has_name(n)));
        let is_api_server = |of: &IpAddr| self.is_api_server(&ApiHost::Address(*of), port);
        if meanings.iter().any(is_api_server) || named(&self.deny) {
            return false;
        }
        if meanings.iter().any(|of| any(&self.deny, of)) {
            return false;
        }
        named(&self.allow)
            || meanings.iter().all(|of| any(&self.allow, of) || !address::is_denied_by_default(*of))
    }

    /// Whether a connection may lead to a name, as far as that shows before it is resolved, or where a proxy resolves it.
    pub fn permits_name(&self, name: &str, port: u16) -> bool {
        let name = plain(name);
        if self.is_api_server(&ApiHost::Name(name.clone()), port)
            || self.deny.iter().any(|pattern| pattern.has_name(&name))
        {
            return false;
        }
        let stands_for: &[IpAddr] = if name == "localhost" || name.ends_with(".localhost") {
            &LOCAL
        } else if METADATA_NAMES.contains(&name.as_str()) {
            &METADATA
        } else {
            return true;
        };
        stands_for.iter().any(|address| self.permits(Some(&name), *address, port))
    }

    /// Whether a URL leads to a loopback address that is allowed explicitly: what is sent there stays on the machine.
    pub fn is_allowed_loopback(&self, url: &Url) -> bool {
        let allowed = |name: Option<&str>, address: IpAddr| {
            let meant =
                self.allow.iter().any(|p| p.has_address(address) || name.is_some_and(|n| p.has_name(n)));
            address.is_loopback() && meant && self.permits(name, address, port_of(url))
        };
        match url.host() {
            Some(Host::Domain(name)) => {
                let name = plain(name);
                name == "localhost" && LOCAL.iter().any(|address| allowed(Some(&name), *address))
            }
            Some(Host::Ipv4(address)) => allowed(None, address.into()),
            Some(Host::Ipv6(address)) => allowed(None, IpAddr::V6(address).to_canonical()),
            None => false,
        }
    }

    /// The same for the connections of one party, who share their turns at looking up names.
    pub fn of_party(self: &Arc<Self>, party: &str) -> Area {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let own = turns.get(party).and_then(Weak::upgrade).unwrap_or_else(|| {
            turns.retain(|_, own| own.strong_count() > 0);
            let own = Arc::new(Semaphore::new(limits::LOOKUPS_PER_NAMESPACE));
            turns.insert(party.to_owned(), Arc::downgrade(&own));
            own
        });
        Area { reach: self.clone(), turns: own }
    }
}

/// Where the connections of one party may lead.
#[derive(Clone)]
pub struct Area {
    reach: Arc<Reach>,
    turns: Arc<Semaphore>,
}

impl std::fmt::Debug for Area {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Area").finish_non_exhaustive()
    }
}

impl Area {
    /// Refuses a base address that leads where it may not, as far as that shows without resolving its name.
    ///
    /// # Errors
    /// [`Error::HostDenied`].
    pub fn check_base(&self, url: &Url) -> Result<(), Error> {
        self.check(url, url.as_str().trim_end_matches('/'))
    }

    /// The same for the URL of a request below a base, which alone is named.
    ///
    /// # Errors
    /// [`Error::HostDenied`].
    pub(crate) fn check(&self, url: &Url, base: &str) -> Result<(), Error> {
        let port = port_of(url);
        let permitted = match url.host() {
            Some(Host::Domain(name)) => self.reach.permits_name(name, port),
            Some(Host::Ipv4(address)) => self.reach.permits(None, address.into(), port),
            Some(Host::Ipv6(address)) => self.reach.permits(None, address.into(), port),
            None => false,
        };
        if permitted { Ok(()) } else { Err(self.denied(base)) }
    }

    /// One sentence, whatever is there, listens there or answers there.
    pub(crate) fn denied(&self, base: &str) -> Error {
        Error::HostDenied { message: (self.reach.refusal)(base) }
    }
}

fn port_of(url: &Url) -> u16 {
    url.port_or_known_default().unwrap_or_default()
}

/// A name as it is compared: in lower case, without the dot that ends a full one.
fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(allow: &[&str], deny: &[&str]) -> Arc<Reach> {
        let patterns = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Reach::new(patterns(allow), patterns(deny))
    }

    fn permits(reach: &Arc<Reach>, url: &str) -> bool {
        reach.of_party("billing").check_base(&Url::parse(url).unwrap()).is_ok()
    }

    #[test]
    fn loopback_link_local_and_metadata_addresses_are_denied_however_they_are_written() {
        let reach = reach(&[], &[]);
        for host in [
            "127.0.0.1",
            "127.1",
            "0x7f.1",
            "0x7f000001",
            "2130706433",
            "017700000001",
            "127.255.255.254",
            "127.0.0.1.",
            "１２７.0.0.1",
            "0",
            "0.0.0.0",
            "0.1.2.3",
            "[::]",
            "[::1]",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
            "[::ffff:0:127.0.0.1]",
            "[64:ff9b::127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[64:ff9b:1::169.254.169.254]",
            "[2002:7f00:1::]",
            "[2002:a9fe:a9fe::1]",
            "[fe80::1]",
            "[febf::1]",
            "[fe80::5efe:127.0.0.1]",
            "[2001:db8::200:5efe:7f00:1]",
            "[2001:0:7f00:1::]",
            "[2001::80ff:fffe]",
            "[fec0::1]",
            "169.254.0.1",
            "169.254.169.254",
            "0xa9fea9fe",
            "[::ffff:169.254.169.254]",
            "[fd00:ec2::254]",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "[fd20:ce::254]",
            "[fd00:42::42]",
            "[fd00:c1::a9fe:a9fe]",
            "224.0.0.1",
            "239.255.255.250",
            "255.255.255.255",
            "240.0.0.1",
            "[ff02::1]",
            "[ff0e::1]",
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "metadata.google.internal",
            "metadata.google.internal.",
            "metadata",
            "instance-data",
        ] {
            for url in [format!("https://{host}"), format!("http://{host}:8080/api")] {
                assert!(!permits(&reach, &url), "{url}");
            }
        }
    }

    #[test]
    fn where_a_conjur_may_be_is_allowed() {
        let reach = reach(&[], &[]);
        for host in [
            "conjur.example.com",
            "10.0.0.1",
            "172.16.3.4",
            "192.168.1.1",
            "100.64.0.1",
            "203.0.113.9",
            "[2001:db8::1]",
            "[fd12:3456::1]",
            "[64:ff9b::10.0.0.1]",
            "[2002:a00:1::]",
            "conjur.conjur.svc.cluster.local",
            "localhost.example.com",
            "notlocalhost",
            "168.63.129.17",
            "169.253.255.255",
            "223.255.255.255",
            "128.0.0.1",
            "1.0.0.1",
        ] {
            assert!(permits(&reach, &format!("https://{host}")), "{host}");
        }
    }

    #[test]
    fn what_is_denied_wins_over_what_is_allowed_and_that_over_the_default() {
        for (allow, deny, host, expected) in [
            (&["127.0.0.0/8"][..], &[][..], "127.0.0.1", true),
            (&["127.0.0.0/8"], &[], "[::ffff:127.0.0.1]", true),
            (&["127.0.0.0/8"], &[], "localhost", true),
            (&["127.0.0.0/8"], &[], "[::1]", false),
            (&["127.0.0.0/8"], &[], "169.254.169.254", false),
            (&["127.0.0.0/8"], &[], "0.0.0.0", false),
            (&["::1"], &[], "[::1]", true),
            (&["127.1"], &[], "127.0.0.1", true),
            (&["127.1"], &[], "127.0.0.2", false),
            (&["::ffff:127.0.0.0/104"], &[], "127.0.0.1", true),
            (&["127.0.0.0/8"], &["127.0.0.2"], "127.0.0.2", false),
            (&["127.0.0.0/8"], &["127.0.0.2"], "[64:ff9b::127.0.0.2]", false),
            (&["64:ff9b::/96"], &[], "[64:ff9b::127.0.0.1]", false),
            (&[], &["10.0.0.0/8"], "10.1.2.3", false),
            (&[], &["10.0.0.0/8"], "[::ffff:10.1.2.3]", false),
            (&[], &["10.0.0.0/8"], "[2002:a01:203::]", false),
            (&[], &["10.0.0.0/8"], "11.1.2.3", true),
            (&["10.1.0.0/16"], &["10.0.0.0/8"], "10.1.2.3", false),
            (&[], &["0.0.0.0/0", "::/0"], "8.8.8.8", false),
            (&[], &["*.internal.example"], "a.b.internal.example", false),
            (&[], &["*.internal.example"], "A.Internal.Example.", false),
            (&[], &["*.internal.example"], "internal.example", true),
            (&[], &["*.internal.example"], "internal.example.org", true),
            (&[], &["db*.example"], "db1.example", false),
            (&[], &["db*.example"], "db.x.example", true),
            (&["localhost"], &[], "localhost", true),
            (&["metadata"], &["metadata"], "metadata", false),
            (&[], &["bücher.example"], "xn--bcher-kva.example", false),
        ] {
            let reach = reach(allow, deny);
            assert_eq!(permits(&reach, &format!("https://{host}/")), expected, "{allow:?} {deny:?} {host}");
        }
    }

    #[test]
    fn a_name_is_judged_by_each_address_that_it_has() {
        let ip = |text: &str| text.parse().unwrap();
        let default = reach(&[], &[]);
        assert!(!default.permits(Some("conjur.corp.example"), ip("127.0.0.1"), 443));
        assert!(default.permits(Some("conjur.corp.example"), ip("10.0.0.1"), 443));
        let by_name = reach(&["*.corp.example"], &["10.6.6.6"]);
        assert!(by_name.permits(Some("conjur.corp.example"), ip("127.0.0.1"), 443));
        assert!(!by_name.permits(Some("conjur.corp.example"), ip("10.6.6.6"), 443));
        assert!(!by_name.permits(Some("corp.example.evil"), ip("127.0.0.1"), 443));
        assert!(!reach(&["10.0.0.0/8"], &["*.corp.example"]).permits(
            Some("a.corp.example"),
            ip("10.0.0.1"),
            443
        ));
    }

    #[test]
    fn the_api_server_is_denied_by_address_and_port_whatever_is_allowed() {
        let reach = reach(&["0.0.0.0/0", "::/0", "*"], &[]);
        let ip = |text: &str| ApiHost::Address(text.parse().unwrap());
        let name = |text: &str| ApiHost::Name(text.to_owned());
        reach.set_api_server(BTreeSet::from([
            (ip("127.0.0.1"), 6443),
            (ip("10.96.0.1"), 443),
            (ip("fd00::1"), 443),
            (name("kubernetes.default.svc"), 443),
        ]));
        for denied in [
            "https://127.0.0.1:6443",
            "https://[::ffff:127.0.0.1]:6443",
            "http://127.1:6443/x",
            "https://10.96.0.1",
            "https://[64:ff9b::10.96.0.1]",
            "https://[fd00::1]/",
            "https://kubernetes.default.svc",
            "https://Kubernetes.Default.Svc.",
        ] {
            assert!(!permits(&reach, denied), "{denied}");
        }
        for allowed in [
            "https://127.0.0.1:8443",
            "https://10.96.0.1:8443",
            "https://10.96.0.2",
            "http://kubernetes.default.svc",
        ] {
            assert!(permits(&reach, allowed), "{allowed}");
        }
        assert!(!reach.permits(Some("rebound.example"), "10.96.0.1".parse().unwrap(), 443));
    }

    #[test]
    fn a_loopback_counts_as_allowed_only_where_it_is_named() {
        let url = |host: &str| Url::parse(&format!("http://{host}/")).unwrap();
        for (allow, host, expected) in [
            (&["127.0.0.0/8"][..], "127.0.0.1:80", true),
            (&["127.0.0.0/8"], "localhost:8080", true),
            (&["127.0.0.0/8"], "[::ffff:127.0.0.1]", true),
            (&["127.0.0.0/8"], "[::1]", false),
            (&["::1"], "[::1]", true),
            (&[], "127.0.0.1", false),
            (&["10.0.0.0/8"], "10.0.0.1", false),
            (&["*"], "conjur.example.com", false),
            (&["127.0.0.0/8"], "conjur.example.com", false),
        ] {
            assert_eq!(reach(allow, &[]).is_allowed_loopback(&url(host)), expected, "{allow:?} {host}");
        }
    }

    #[test]
    fn the_message_is_the_same_whatever_is_there() {
        let reach = Reach::saying(vec![], vec![], |base| format!("not to {base}: ask the administrator"));
        let message =
            |url: &str| reach.of_party("a").check_base(&Url::parse(url).unwrap()).unwrap_err().to_string();
        let (one, other) = (message("http://127.0.0.1:1/"), message("http://169.254.169.254/latest/"));
        assert_eq!(one.replace("http://127.0.0.1:1", ""), other.replace("http://169.254.169.254/latest", ""));
        assert!(one.ends_with("ask the administrator"), "{one}");
    }
}
