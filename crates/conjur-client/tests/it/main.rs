//! The client from outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod connections;
mod faults;
mod first_page;
mod properties;
mod recordings;
mod suite;
mod versions;

use conjur_client::sensitive::Sensitive;
use conjur_client::{Client, Config, Credentials};

/// A server, and its admin.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) url: String,
    pub(crate) account: String,
    pub(crate) admin_key: String,
}

impl Target {
    /// The development server.
    pub(crate) fn of(server: &conjur_dev::Server) -> Self {
        Self { url: server.url(), account: server.account().to_owned(), admin_key: server.admin_key() }
    }

    /// The real one that the environment names, all of it or nothing.
    pub(crate) fn from_env() -> Option<Self> {
        let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (url, account, key) =
            (get("CONJUR_TEST_URL"), get("CONJUR_TEST_ACCOUNT"), get("CONJUR_TEST_ADMIN_KEY"));
        if url.is_none() && account.is_none() && key.is_none() {
            return None;
        }
        let all = "set all of CONJUR_TEST_URL, CONJUR_TEST_ACCOUNT and CONJUR_TEST_ADMIN_KEY";
        Some(Self { url: url.expect(all), account: account.expect(all), admin_key: key.expect(all) })
    }

    pub(crate) fn config(&self, credentials: Credentials) -> Config {
        Config::new(self.url.parse().unwrap(), &self.account, credentials)
    }

    pub(crate) fn client(&self, credentials: Credentials) -> Client {
        Client::new(self.config(credentials)).unwrap()
    }

    pub(crate) fn admin(&self) -> Client {
        self.client(key("admin", &self.admin_key))
    }
}

pub(crate) fn key(login: &str, api_key: &str) -> Credentials {
    Credentials::ApiKey { login: login.to_owned(), api_key: secret(api_key) }
}

pub(crate) fn secret(text: &str) -> Sensitive<String> {
    Sensitive::new(text.to_owned())
}
