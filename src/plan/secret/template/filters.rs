//! The filters that templates have besides minijinja's own.

use std::{borrow::Cow, cell::Cell};

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use minijinja::{Environment, Error, ErrorKind, Value, value::ValueKind};
use pem::{EncodeConfig, LineEnding, Pem};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::{
    binary::{self, Binary},
    explained::explained,
    json::{self, Number},
    output::Bounded,
};
use crate::{limits::TEMPLATE_HANDLED_BYTES, sensitive::Sensitive};

/// All but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

thread_local! {
    // A render is one run on one thread. The engine's own fuel does not see what these make: a few dozen in a row, or a
    // list that holds itself twice over and over, would take all memory there is.
    static LEFT: Cell<usize> = const { Cell::new(TEMPLATE_HANDLED_BYTES) };
}

/// From now on another render is counted.
pub fn begin() {
    LEFT.set(TEMPLATE_HANDLED_BYTES);
}

/// # Errors
/// More was handled than one render may.
fn handle(bytes: usize) -> Result<(), Error> {
    let left = LEFT.get().checked_sub(bytes).ok_or_else(|| Error::from(ErrorKind::OutOfFuel))?;
    LEFT.set(left);
    Ok(())
}

/// Padding may lack.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Adds them all.
pub fn add_to(environment: &mut Environment) {
    environment
        .add_filter("b64encode", |value: &Value| Ok::<_, Error>(BASE64.encode(bytes(value, "b64encode")?)));
    environment.add_filter("b64decode", b64decode);
    environment.add_filter("tojson", |value: &Value| Ok::<_, Error>(json(value)?.expose().clone()));
    environment.add_filter("fromjson", |value: &Value| json::read(&text(value, "fromjson")?));
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_test("none", json::is_null);
    environment.add_filter("urlencode", |value: &Value| {
        Ok::<_, Error>(percent_encode(&bytes(value, "urlencode")?, RESERVED).to_string())
    });
    environment.add_filter("quote_shell", quote_shell);
    environment.add_filter("quote_dotenv", quote_dotenv);
    environment.add_filter("pem_certificates", |value: &Value| certificates(value, 0, usize::MAX));
    environment.add_filter("pem_leaf", |value: &Value| certificates(value, 0, 1));
    environment.add_filter("pem_chain", |value: &Value| certificates(value, 1, usize::MAX));
    environment.add_filter("pem_private_key", private_key);
}

/// A value's bytes: text and binary as they are, numbers and what is true or false as JSON has them.
fn bytes<'v>(value: &'v Value, filter: &str) -> Result<Cow<'v, [u8]>, Error> {
    if let Some(bytes) = Binary::of(value).or_else(|| value.as_str().map(str::as_bytes)) {
        handle(bytes.len())?;
        return Ok(bytes.into());
    }
    if json::is_null(value) {
        return Err(explained(json::NULL));
    }
    if let Some(text) = Number::of(value) {
        handle(text.len())?;
        return Ok(text.as_bytes().into());
    }
    match value.kind() {
        ValueKind::Undefined => Err(Error::from(ErrorKind::UndefinedError)),
        ValueKind::Number | ValueKind::Bool => Ok(json(value)?.expose().clone().into_bytes().into()),
        kind => Err(explained(format!(
            "{filter} needs text or bytes, and this is a {kind}; tojson makes text of it"
        ))),
    }
}

fn text<'v>(value: &'v Value, filter: &str) -> Result<Cow<'v, str>, Error> {
    let no_text =
        || explained(format!("{filter} needs text, and this is binary; b64encode makes text of it"));
    match bytes(value, filter)? {
        Cow::Borrowed(bytes) => Ok(std::str::from_utf8(bytes).map_err(|_| no_text())?.into()),
        Cow::Owned(bytes) => Ok(String::from_utf8(bytes).map_err(|_| no_text())?.into()),
    }
}

/// Compact JSON.
pub fn json(value: &Value) -> Result<Sensitive<String>, Error> {
    let mut output = Bounded::new(LEFT.get());
    json::write(value, &mut output)?;
    let mut bytes = output.into_bytes();
    handle(bytes.expose().len())?;
    let text = String::from_utf8(std::mem::take(bytes.expose_mut()));
    text.map(Sensitive::new).map_err(|_| explained("this can't be written as JSON"))
}

/// What stands for what is missing, for null, and with `true` for all that is empty.
fn default(value: &Value, other: Option<Value>, lax: Option<bool>) -> Value {
    let is_nothing = value.is_undefined() || json::is_null(value) || lax == Some(true) && !value.is_true();
    if is_nothing { other.unwrap_or_else(|| Value::from("")) } else { value.clone() }
}

fn b64decode(value: &Value) -> Result<Value, Error> {
    let mut text = Sensitive::new(bytes(value, "b64decode")?.into_owned());
    text.expose_mut().retain(|byte| !byte.is_ascii_whitespace());
    let decoded = BASE64.decode(text.expose()).map_err(|_| explained("the value is not base64"))?;
    Ok(binary::value(Sensitive::new(decoded).expose()))
}

/// One word of a POSIX shell.
fn quote_shell(value: &Value) -> Result<String, Error> {
    let text = text(value, "quote_shell")?;
    if text.contains('\0') {
        return Err(explained("a shell word can't hold a NUL byte"));
    }
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

/// The right side of a line in a dotenv file: in single quotes, where everything is taken as it is by all readers;
/// what can't stand in those in double quotes, with backslashes.
fn quote_dotenv(value: &Value) -> Result<String, Error> {
    let text = text(value, "quote_dotenv")?;
    if text.contains('\0') {
        return Err(explained("a dotenv file can't hold a NUL byte"));
    }
    if !text.contains(['\'', '\n', '\r']) && !text.ends_with('\\') {
        return Ok(format!("'{text}'"));
    }
    let mut quoted = String::with_capacity(text.len() * 2 + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '\n' => quoted.push_str(r"\n"),
            '\r' => quoted.push_str(r"\r"),
            '"' | '\\' | '$' | '`' => quoted.extend(['\\', c]),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    Ok(quoted)
}

fn blocks(value: &Value, filter: &str) -> Result<Vec<Pem>, Error> {
    pem::parse_many(bytes(value, filter)?).map_err(|_| explained(format!("{filter}: the value is not PEM")))
}

fn encode(blocks: &[&Pem]) -> String {
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    blocks.iter().map(|block| pem::encode_config(block, config)).collect()
}

fn certificates(value: &Value, skip: usize, take: usize) -> Result<String, Error> {
    let blocks = blocks(value, "pem_certificates")?;
    let all: Vec<_> = blocks.iter().filter(|block| block.tag() == "CERTIFICATE").collect();
    if all.is_empty() {
        return Err(explained("there is no certificate in the value"));
    }
    Ok(encode(&all.into_iter().skip(skip).take(take).collect::<Vec<_>>()))
}

fn private_key(value: &Value) -> Result<String, Error> {
    let blocks = blocks(value, "pem_private_key")?;
    let keys: Vec<_> = blocks.iter().filter(|block| block.tag().ends_with("PRIVATE KEY")).collect();
    match keys.as_slice() {
        [key] => Ok(encode(&[key])),
        [] => Err(explained("there is no private key in the value")),
        more => Err(explained(format!(
            "there are {} private keys in the value, and one was expected",
            more.len()
        ))),
    }
}
