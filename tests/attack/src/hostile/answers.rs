//! What the hostile server answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::tcp::OwnedWriteHalf;

use super::{Request, lies};

/// What it does once it has let somebody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every page of a list is full and begins with what was listed before.
    Endless,
    /// Every page is full of records that were never seen.
    Fresh,
    /// One answer with millions of small records, in pieces.
    Flood,
    /// Errors with words without end.
    Words,
    /// The same, where it lets nobody in.
    WordsAtLogin,
    /// A byte a second.
    Trickle,
    /// The head of an answer, and nothing more.
    Hang,
    /// A length of terabytes.
    LongLength,
    /// A length that is too small, and more behind it.
    ShortLength,
    /// Heads without end.
    Heads,
    /// Redirects to itself, and to addresses of clouds.
    Redirect,
    /// `Retry-After` of the largest number.
    Years,
    /// `401` and `500` by turns, after a login that works.
    Storm,
    /// Lists with ids that can't be asked for.
    Odd,
    /// JSON that nests.
    Deep,
    /// A token of megabytes.
    Token,
    /// A token whose life is the largest number, or none.
    Life,
    /// `409` to each load, with a date in the far future.
    Conflict,
    /// All that is asked for is there, and another each time.
    Lies,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::Endless,
        Self::Fresh,
        Self::Flood,
        Self::Words,
        Self::WordsAtLogin,
        Self::Trickle,
        Self::Hang,
        Self::LongLength,
        Self::ShortLength,
        Self::Heads,
        Self::Redirect,
        Self::Years,
        Self::Storm,
        Self::Odd,
        Self::Deep,
        Self::Token,
        Self::Life,
        Self::Conflict,
        Self::Lies,
    ];

    /// Its name in an address, and in names of objects.
    pub fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

type Done = std::io::Result<bool>;

/// Whether the connection goes on.
pub async fn answer(request: &Request, to: &mut OwnedWriteHalf) -> Done {
    static ASKED: AtomicU64 = AtomicU64::new(0);
    let turn = ASKED.fetch_add(1, Ordering::Relaxed);
    let login = request.path.starts_with("authn");
    let mode = request.mode;
    if mode == Mode::Lies
        && let Some((status, body)) = lies::answer(request, turn)
    {
        return json_answer(to, status, &body).await;
    }
    if login && mode == Mode::WordsAtLogin {
        return words(to, 422).await;
    }
    if login {
        return json_answer(to, 200, &token(mode, turn)).await;
    }
    if request.path.starts_with("whoami") && mode != Mode::Deep {
        let whoami = json!({ "account": "myorg", "username": "host/attacker", "client_ip": "127.0.0.1" });
        return json_answer(to, 200, whoami.to_string().as_bytes()).await;
    }
    if request.path.is_empty() {
        return json_answer(to, 200, br#"{"version":"1.24.0"}"#).await;
    }
    // Where its lists and shows are what hurts, all that comes before them goes well.
    let patient =
        matches!(mode, Mode::Endless | Mode::Fresh | Mode::Flood | Mode::Trickle | Mode::Hang | Mode::Odd);
    if patient && request.path.contains("check=true") {
        head(to, 204, "").await?;
        return Ok(true);
    }
    if patient && request.path.starts_with("policies") && !request.path.contains("dryRun") {
        return json_answer(to, 201, br#"{"created_roles":{},"version":1}"#).await;
    }
    match mode {
        Mode::Endless => json_answer(to, 200, &page(|at| format!("attack/same/{at}"))).await,
        Mode::Fresh => json_answer(to, 200, &page(|at| format!("attack/{turn}/{at}"))).await,
        Mode::Odd => json_answer(to, 200, &page(odd)).await,
        Mode::Flood => flood(to).await,
        Mode::Words | Mode::WordsAtLogin => words(to, if turn.is_multiple_of(2) { 422 } else { 500 }).await,
        Mode::Trickle => trickle(to).await,
        Mode::Hang => hang(to).await,
        Mode::LongLength => {
            head(to, 200, "Content-Length: 4398046511104\r\n").await?;
            repeat(to, b"[{\"id\":\"myorg:variable:attack/x\"},", 1 << 20).await?;
            Ok(false)
        }
        Mode::ShortLength => {
            head(to, 200, "Content-Length: 2\r\n").await?;
            repeat(to, b"[]HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", 1 << 20).await?;
            Ok(false)
        }
        Mode::Heads => {
            to.write_all(b"HTTP/1.1 200 OK\r\n").await?;
            repeat(to, b"X-More: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", usize::MAX)
                .await?;
            Ok(false)
        }
        Mode::Redirect => redirect(to, request, turn).await,
        Mode::Years => {
            refuse(to, [429, 503, 409][usize::try_from(turn % 3).unwrap_or_default()], "18446744073709551615")
                .await
        }
        Mode::Conflict => refuse(to, 409, "Fri, 31 Dec 9999 23:59:59 GMT").await,
        Mode::Storm => refuse(to, if turn.is_multiple_of(2) { 401 } else { 500 }, "0").await,
        Mode::Deep => {
            json_answer(to, if turn.is_multiple_of(2) { 200 } else { 422 }, &deep(request, turn)).await
        }
        Mode::Token | Mode::Life | Mode::Lies => json_answer(to, 200, b"[]").await,
    }
}

async fn head(to: &mut OwnedWriteHalf, status: u16, more: &str) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 {status} Whatever\r\nContent-Type: application/json\r\n{more}\r\n");
    to.write_all(head.as_bytes()).await
}

async fn json_answer(to: &mut OwnedWriteHalf, status: u16, body: &[u8]) -> Done {
    head(to, status, &format!("Content-Length: {}\r\n", body.len())).await?;
    to.write_all(body).await?;
    Ok(true)
}

async fn refuse(to: &mut OwnedWriteHalf, status: u16, again: &str) -> Done {
    head(to, status, &format!("Retry-After: {again}\r\nContent-Length: 0\r\n")).await?;
    Ok(true)
}

/// Pieces of a body of unknown length, until `bytes` of them were written or the other side has enough.
async fn pieces(to: &mut OwnedWriteHalf, piece: &[u8], mut bytes: usize) -> std::io::Result<()> {
    let block = piece.repeat(1 + 65_536 / piece.len());
    while bytes > 0 {
        to.write_all(format!("{:x}\r\n", block.len()).as_bytes()).await?;
        to.write_all(&block).await?;
        to.write_all(b"\r\n").await?;
        bytes = bytes.saturating_sub(block.len());
    }
    Ok(())
}

async fn repeat(to: &mut OwnedWriteHalf, piece: &[u8], mut bytes: usize) -> std::io::Result<()> {
    let block = piece.repeat(1 + 65_536 / piece.len());
    while bytes > 0 {
        to.write_all(&block).await?;
        bytes = bytes.saturating_sub(block.len());
    }
    Ok(())
}

async fn flood(to: &mut OwnedWriteHalf) -> Done {
    head(to, 200, "Transfer-Encoding: chunked\r\n").await?;
    to.write_all(b"1\r\n[\r\n").await?;
    pieces(to, br#"{"id":"myorg:variable:a","owner":"o","created_at":""},"#, 500_000_000).await?;
    Ok(false)
}

async fn words(to: &mut OwnedWriteHalf, status: u16) -> Done {
    head(to, status, "Transfer-Encoding: chunked\r\n").await?;
    let start = br#"{"error":{"code":"policy_invalid","message":""#;
    to.write_all(format!("{:x}\r\n", start.len()).as_bytes()).await?;
    to.write_all(start).await?;
    to.write_all(b"\r\n").await?;
    pieces(to, b"words of a server ", 64 << 20).await?;
    let end = br#""}}"#;
    to.write_all(format!("{:x}\r\n", end.len()).as_bytes()).await?;
    to.write_all(end).await?;
    to.write_all(b"\r\n0\r\n\r\n").await?;
    Ok(true)
}

async fn trickle(to: &mut OwnedWriteHalf) -> Done {
    head(to, 200, "Content-Length: 100000\r\n").await?;
    for _ in 0..100_000 {
        to.write_all(b" ").await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(false)
}

async fn hang(to: &mut OwnedWriteHalf) -> Done {
    head(to, 200, "Content-Length: 1000\r\n").await?;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    Ok(false)
}

async fn redirect(to: &mut OwnedWriteHalf, request: &Request, turn: u64) -> Done {
    let itself =
        format!("/{}/{}?{turn}", request.mode.name(), request.path.split('?').next().unwrap_or_default());
    let place =
        if turn.is_multiple_of(2) { itself } else { "http://169.254.169.254/latest/meta-data/".to_owned() };
    head(to, 307, &format!("Location: {place}\r\nContent-Length: 0\r\n")).await?;
    Ok(true)
}

/// A page of a list, of as many records as are asked for.
fn page(id: impl Fn(usize) -> String) -> Vec<u8> {
    let record = |at| {
        json!({
            "id": format!("myorg:variable:{}", id(at)), "owner": "myorg:user:admin", "created_at": "",
            "annotations": [], "secrets": [{ "version": 1 }],
        })
    };
    json!((0..1000).map(record).collect::<Vec<_>>()).to_string().into_bytes()
}

fn odd(at: usize) -> String {
    match at % 8 {
        0 => format!("attack/odd//{at}"),
        1 => format!("attack/odd/../{at}"),
        2 => format!("attack/odd/\u{0}{at}"),
        3 => format!("attack/odd/{}{at}", "x".repeat(2000)),
        4 => format!("attack/odd/\u{202e}{at}"),
        5 => format!("attack/odd/{at}/"),
        6 => format!("attack/odd/,{at}"),
        _ => format!("attack/odd/%2F{at}"),
    }
}

/// Something that nests, where a record, an error or a token is looked for.
fn deep(request: &Request, turn: u64) -> Vec<u8> {
    let nested = if turn.is_multiple_of(2) {
        "[".repeat(2_000_000)
    } else {
        format!("{}1{}", "{\"a\":".repeat(200_000), "}".repeat(200_000))
    };
    let text = match request.method.as_str() {
        "GET" if request.path.contains("offset") => {
            format!(r#"[{{"id":"myorg:variable:a","annotations":{nested}}}]"#)
        }
        "GET" => format!(r#"{{"username":{nested}}}"#),
        _ => {
            format!(r#"{{"error":{{"code":"policy_invalid","message":{nested}}},"created_roles":{nested}}}"#)
        }
    };
    text.into_bytes()
}

fn token(mode: Mode, turn: u64) -> Vec<u8> {
    let now = jiff::Timestamp::now().as_second();
    let life = match (mode, turn % 3) {
        (Mode::Life, 0) => i64::MAX,
        (Mode::Life, 1) => i64::MIN,
        (Mode::Life, _) => now,
        _ => now + 480,
    };
    let subject = if mode == Mode::Token { "x".repeat(4 << 20) } else { "host/attacker".to_owned() };
    let payload = URL_SAFE.encode(json!({ "iat": now, "exp": life, "sub": subject }).to_string());
    json!({ "protected": "e30=", "payload": payload, "signature": "c2ln" }).to_string().into_bytes()
}
