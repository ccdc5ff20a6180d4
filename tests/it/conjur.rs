//! The Conjur client from outside.

mod connections;
mod faults;
mod properties;
mod recordings;
mod refusals;
mod suite;

use conjur_operator::conjur::{Client, Config, Credentials};
use conjur_operator::sensitive::Sensitive;

/// A server, and its admin.
#[derive(Debug, Clone)]
pub struct Target {
    pub url: String,
    pub account: String,
    pub admin_key: String,
}

impl Target {
    /// The development server.
    pub fn of(server: &conjur_dev::Server) -> Self {
        Self { url: server.url(), account: server.account().to_owned(), admin_key: server.admin_key() }
    }

    /// The real one that the environment names, all of it or nothing.
    pub fn from_env() -> Option<Self> {
        let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (url, account, key) =
            (get("CONJUR_TEST_URL"), get("CONJUR_TEST_ACCOUNT"), get("CONJUR_TEST_ADMIN_KEY"));
        if url.is_none() && account.is_none() && key.is_none() {
            return None;
        }
        let all = "set all of CONJUR_TEST_URL, CONJUR_TEST_ACCOUNT and CONJUR_TEST_ADMIN_KEY";
        Some(Self { url: url.expect(all), account: account.expect(all), admin_key: key.expect(all) })
    }

    pub fn config(&self, credentials: Credentials) -> Config {
        Config::new(self.url.parse().unwrap(), &self.account, credentials)
    }

    pub fn client(&self, credentials: Credentials) -> Client {
        Client::new(self.config(credentials)).unwrap()
    }

    pub fn admin(&self) -> Client {
        self.client(key("admin", &self.admin_key))
    }
}

pub fn key(login: &str, api_key: &str) -> Credentials {
    Credentials::ApiKey { login: login.to_owned(), api_key: secret(api_key) }
}

pub fn secret(text: &str) -> Sensitive<String> {
    Sensitive::new(text.to_owned())
}
