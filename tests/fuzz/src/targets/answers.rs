//! What a server says, from its certificate to the last byte of an answer.

use std::time::Duration;

use conjur_client::sensitive::Sensitive;
use conjur_client::{
    Client, ClientIdentity, Config, Credentials, Freshness, Listing, LoadMode, Page, PolicyBranch, Priority,
    RoleId, VariableId, Wanted,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{Read, word};

/// Certificates: as the bundle of authorities, and as a client's own with its key.
pub fn pem() -> Read {
    Box::new(|input| {
        let Ok(url) = "https://127.0.0.1:1".parse::<url::Url>() else { return String::new() };
        let mut said = String::new();
        let mut config = Config::new(url.clone(), "myorg", Credentials::Anonymous);
        config.ca_bundle = Some(input.to_vec());
        said += &Client::new(config).map_or_else(|error| word(&error.to_string()), |_| "roots".to_owned());
        let mut config = Config::new(url, "myorg", Credentials::Anonymous);
        let half = input.len() / 2;
        let (certificate, key) = (input[..half].to_vec(), Sensitive::new(input[half..].to_vec()));
        config.client_identity = Some(ClientIdentity { certificate, key });
        said += &Client::new(config).map_or_else(|error| word(&error.to_string()), |_| "identity".to_owned());
        said
    })
}

/// A server that lets everybody in, and then answers each request with the input: the first byte says whether that is
/// the whole answer, head and all, or the body of one with a status. Before it may stand a [`Mode`].
pub fn answers() -> Read {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    #[expect(clippy::expect_used, reason = "a fuzzer without a runtime does nothing")]
    let runtime = runtime.expect("a runtime");
    Box::new(move |input| runtime.block_on(asked(input)))
}

/// What the input answers, where its first byte says so; other bytes belong to the answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// All but logins.
    LetIn,
    /// Logins too: the request for a token.
    Token,
    /// The same, of one that first gets its API key for a password.
    Password,
}

impl Mode {
    fn of(input: &[u8]) -> (Self, &[u8]) {
        match input.split_first() {
            Some((0xfe, rest)) => (Self::Token, rest),
            Some((0xff, rest)) => (Self::Password, rest),
            _ => (Self::LetIn, input),
        }
    }

    fn credentials(self) -> Credentials {
        let secret = Sensitive::new("key".to_owned());
        match self {
            Self::LetIn | Self::Token => Credentials::ApiKey { login: "host/x".to_owned(), api_key: secret },
            Self::Password => Credentials::Password { login: "alice".to_owned(), password: secret },
        }
    }
}

const STATUS: [u16; 12] = [200, 201, 204, 307, 400, 401, 403, 404, 409, 422, 429, 500];

fn answer(input: &[u8]) -> Vec<u8> {
    let Some((first, rest)) = input.split_first() else { return Vec::new() };
    let Some(status) = STATUS.get(usize::from(*first)) else { return rest.to_vec() };
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nRetry-After: 0\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        rest.len()
    );
    [head.as_bytes(), rest].concat()
}

async fn asked(input: &[u8]) -> String {
    let Ok(listener) = TcpListener::bind("127.0.0.1:0").await else { return "no port".to_owned() };
    let Ok(address) = listener.local_addr() else { return "no port".to_owned() };
    let (mode, input) = Mode::of(input);
    let answer = answer(input);
    let serve = async {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { continue };
            let mut head = [0; 8192];
            let read = stream.read(&mut head).await.unwrap_or_default();
            let login =
                mode == Mode::LetIn && String::from_utf8_lossy(&head[..read]).contains("/authenticate");
            let token = b"HTTP/1.1 200 OK\r\nContent-Length: 58\r\nConnection: close\r\n\r\n{\"protected\":\"e30=\",\"payload\":\"e30=\",\"signature\":\"c2ln\"}\r\n\r\n";
            let first = if login { token.as_slice() } else { answer.as_slice() };
            stream.write_all(first).await.ok();
            stream.shutdown().await.ok();
        }
    };
    let url = format!("http://{address}");
    tokio::select! {
        () = serve => String::new(),
        said = ask(&url, mode) => said,
    }
}

/// Asks for everything that the operator ever asks for; the first letters of what came.
async fn ask(url: &str, mode: Mode) -> String {
    let Ok(url) = url.parse::<url::Url>() else { return String::new() };
    let mut config = Config::new(url, "myorg", mode.credentials());
    config.limits.timeout = Duration::from_millis(100);
    config.limits.policy_timeout = Duration::from_millis(100);
    let Ok(client) = Client::new(config) else { return "no client".to_owned() };
    let Ok(branch) = PolicyBranch::new("apps") else { return String::new() };
    let Ok(role) = RoleId::from_login("myorg", "host/y") else { return String::new() };
    let Ok(variable) = VariableId::new("apps/a") else { return String::new() };
    let mut said = String::new();
    let mut tell = |what: Result<(), conjur_client::Error>| {
        said += &what.map_or_else(|error| format!("{:.12}", format!("{error:?}")), |()| "ok".to_owned());
    };
    tell(client.whoami().await.map(drop));
    tell(client.server_version().await.map(drop));
    tell(client.show_resource("policy", "apps").await.map(drop));
    tell(client.list_resources("variable", Page::FIRST).await.map(drop));
    tell(client.count_resources(&Listing::of_kind("variable")).await.map(drop));
    tell(client.fetch_secret("variable", "apps/a", None).await.map(drop));
    tell(client.public_keys("user", "x").await.map(drop));
    tell(client.rotate_api_key(&role).await.map(drop));
    tell(client.list_variables(None, Priority::Foreground, Freshness::Remembered).await.map(drop));
    let wanted = [Wanted::latest(variable)];
    let answers = client.fetch_variables(&wanted, Priority::Foreground, Freshness::Remembered).await;
    tell(answers.get(&wanted[0]).cloned().map_or(Ok(()), |answer| answer.map(drop)));
    let loaded = client.load_policy(&branch, LoadMode::Update, b"- !host h\n").await;
    said += if loaded.is_ok() { "ok" } else { "no" };
    let dry = client.dry_run_policy(&branch, LoadMode::Update, b"- !host h\n").await;
    said += if dry.is_ok() { "ok" } else { "no" };
    said
}
