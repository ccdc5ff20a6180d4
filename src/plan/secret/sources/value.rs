//! What of a value goes into the Secret: a field of its JSON, its base64 undone. Nothing here says what it read: serde's
//! own errors quote values and never leave this file.

use std::{borrow::Cow, fmt};

use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{
    Deserializer as _,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::sensitive::Sensitive;

/// Bytes that are wiped.
pub type Bytes = Sensitive<Vec<u8>>;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Which field of a JSON value: steps from the top.
#[derive(Debug, PartialEq, Eq)]
pub struct Property<'a>(Vec<Cow<'a, str>>);

impl<'a> Property<'a> {
    /// A JSON pointer (RFC 6901) where it begins with `/`, else the name of a field at the top.
    ///
    /// # Errors
    /// What is wrong with the pointer.
    pub fn parse(text: &'a str) -> Result<Self, &'static str> {
        let Some(pointer) = text.strip_prefix('/') else { return Ok(Self(vec![text.into()])) };
        pointer.split('/').map(unescaped).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Property<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| write!(f, "/{}", step.replace('~', "~0").replace('/', "~1")))
    }
}

fn unescaped(step: &str) -> Result<Cow<'_, str>, &'static str> {
    if !step.contains('~') {
        return Ok(step.into());
    }
    let mut text = String::with_capacity(step.len());
    let mut parts = step.split('~');
    text.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (letter, rest) = match part.as_bytes().first() {
            Some(b'0') => ('~', &part[1..]),
            Some(b'1') => ('/', &part[1..]),
            _ => return Err("in a JSON pointer '~' stands before 0 (for '~') or 1 (for '/')"),
        };
        text.push(letter);
        text.push_str(rest);
    }
    Ok(text.into())
}

/// Why a value gives nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is not JSON.
    NotJson,
    /// It has no such property.
    NoProperty,
    /// What is asked for is null.
    Null,
    /// It is not a JSON object.
    NotObject,
    /// It is not base64.
    NotBase64,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotJson => "is not JSON",
            Self::NoProperty => "is not there",
            Self::Null => "is null",
            Self::NotObject => "is not a JSON object",
            Self::NotBase64 => "is not base64",
        })
    }
}

/// The part of a JSON value that a property names; the whole value without one.
///
/// # Errors
/// [`Unfit::NotJson`], [`Unfit::NoProperty`].
pub fn part<'v>(value: &'v [u8], property: Option<&Property>) -> Result<&'v RawValue, Unfit> {
    let text = std::str::from_utf8(value).map_err(|_| Unfit::NotJson)?;
    let mut part: &RawValue = serde_json::from_str(text).map_err(|_| Unfit::NotJson)?;
    for step in property.iter().flat_map(|p| &p.0) {
        let mut from = serde_json::Deserializer::from_str(part.get());
        let found = from.deserialize_any(PointerStep(step)).map_err(|_| Unfit::NoProperty)?;
        part = found.ok_or(Unfit::NoProperty)?;
    }
    Ok(part)
}

/// The fields of a JSON object, in its order.
///
/// # Errors
/// [`Unfit::NotObject`].
pub fn fields(object: &RawValue) -> Result<Vec<(String, &RawValue)>, Unfit> {
    let mut from = serde_json::Deserializer::from_str(object.get());
    from.deserialize_map(Fields).map_err(|_| Unfit::NotObject)
}

/// A part of a JSON value as text: a string as it is, anything else as compact JSON.
///
/// # Errors
/// [`Unfit::Null`].
pub fn text(part: &RawValue) -> Result<Bytes, Unfit> {
    let json = part.get();
    match json.as_bytes().first() {
        Some(b'"') => {
            let mut from = serde_json::Deserializer::from_str(json);
            from.deserialize_str(TextVisitor).map_err(|_| Unfit::NotJson)
        }
        Some(b'n') => Err(Unfit::Null),
        _ => Ok(compact(json)),
    }
}

/// JSON without the white space between its tokens. Numbers stay as they were written.
fn compact(json: &str) -> Bytes {
    let mut out = Vec::with_capacity(json.len());
    let (mut quoted, mut escaped) = (false, false);
    for &byte in json.as_bytes() {
        if !quoted && byte.is_ascii_whitespace() {
            continue;
        }
        out.push(byte);
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            _ => {}
        }
    }
    Sensitive::new(out)
}

/// The bytes that base64 stands for: the standard or the URL-safe alphabet, with or without padding, on one line or
/// several.
///
/// # Errors
/// [`Unfit::NotBase64`].
pub fn decoded(text: &[u8]) -> Result<Bytes, Unfit> {
    let mut joined = Sensitive::new(Vec::with_capacity(text.len()));
    joined.expose_mut().extend(text.iter().filter(|b| !b.is_ascii_whitespace()).map(|byte| match byte {
        b'-' => b'+',
        b'_' => b'/',
        other => *other,
    }));
    let mut bytes = Sensitive::new(vec![0; base64::decoded_len_estimate(joined.expose().len())]);
    let length = BASE64
        .decode_slice(joined.expose(), bytes.expose_mut().as_mut_slice())
        .map_err(|_| Unfit::NotBase64)?;
    bytes.expose_mut().truncate(length);
    Ok(bytes)
}

/// One step of a pointer: a field of an object, or a place in an array. The last of two fields of one name counts.
struct PointerStep<'s>(&'s str);

impl<'de> Visitor<'de> for PointerStep<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = map.next_key_seed(IsIt(self.0))? {
            if is_it {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let plain = self.0 == "0" || !self.0.starts_with(['0', '+']);
        let wanted = self.0.parse::<usize>().ok().filter(|_| plain);
        let (mut at, mut found) = (0, None);
        while let Some(item) = seq.next_element::<&RawValue>()? {
            if Some(at) == wanted {
                found = Some(item);
            }
            at += 1;
        }
        Ok(found)
    }
}

/// Whether a field has this name.
struct IsIt<'s>(&'s str);

impl<'de> DeserializeSeed<'de> for IsIt<'_> {
    type Value = bool;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for IsIt<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(fields)
    }
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<Bytes, E> {
        Ok(Sensitive::new(text.as_bytes().to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn property(json: &str, path: &str) -> Result<String, Unfit> {
        let path = Property::parse(path).unwrap();
        let found = text(part(json.as_bytes(), Some(&path))?)?;
        Ok(String::from_utf8(found.expose().clone()).unwrap())
    }

    #[test]
    fn a_property_is_a_field_at_the_top_or_a_json_pointer() {
        let json = r#" { "a": "text", "n": 1.50, "big": 12345678901234567890123, "t": true, "f": false, "nil": null,
            "a/b": "slash", "~": "tilde", "": "empty", "dotted.name": "dot", "\u0061b": "escaped",
            "list": [ 10, "x\n\"y\"", { "deep": [ ] } ], "o": { "k" : "v w", "l": [ 1 , null, "\\" ] } } "#;
        for (path, expected) in [
            ("a", Ok("text")),
            ("/a", Ok("text")),
            ("n", Ok("1.50")),
            ("big", Ok("12345678901234567890123")),
            ("t", Ok("true")),
            ("/f", Ok("false")),
            ("nil", Err(Unfit::Null)),
            ("/o/l/1", Err(Unfit::Null)),
            ("none", Err(Unfit::NoProperty)),
            ("/a~1b", Ok("slash")),
            ("a/b", Ok("slash")),
            ("/~0", Ok("tilde")),
            ("/", Ok("empty")),
            ("dotted.name", Ok("dot")),
            ("ab", Ok("escaped")),
            ("/list/0", Ok("10")),
            ("/list/1", Ok("x\n\"y\"")),
            ("/list/00", Err(Unfit::NoProperty)),
            ("/list/+1", Err(Unfit::NoProperty)),
            ("/list/-", Err(Unfit::NoProperty)),
            ("/list/3", Err(Unfit::NoProperty)),
            ("/list/2/deep", Ok("[]")),
            ("/o", Ok(r#"{"k":"v w","l":[1,null,"\\"]}"#)),
            ("/o/k", Ok("v w")),
            ("/o/k/x", Err(Unfit::NoProperty)),
            ("/n/x", Err(Unfit::NoProperty)),
        ] {
            assert_eq!(property(json, path), expected.map(str::to_owned), "{path}");
        }
    }

    #[test]
    fn what_is_not_json_gives_no_property() {
        for json in ["", "hunter2", "{", "{\"a\": \"b\"} x", "{'a': 'b'}"] {
            assert_eq!(property(json, "a"), Err(Unfit::NotJson), "{json}");
        }
        assert_eq!(part(b"\"\xff\"", None).err(), Some(Unfit::NotJson));
        assert_eq!(property("\"text\"", "a"), Err(Unfit::NoProperty));
    }

    #[test]
    fn a_pointer_that_cannot_be_is_refused() {
        for path in ["/a~", "/a~2b", "/~"] {
            assert!(Property::parse(path).is_err(), "{path}");
        }
        assert_eq!(Property::parse("/a~01").unwrap(), Property(vec!["a~1".into()]));
        assert_eq!(Property::parse("a~2b").unwrap(), Property(vec!["a~2b".into()]));
    }

    #[test]
    fn only_an_object_has_fields() {
        let object = part(br#"{"b": 1, "a": "x", "b": 2}"#, None).unwrap();
        let found: Vec<_> = fields(object).unwrap().into_iter().map(|(k, v)| (k, v.get())).collect();
        assert_eq!(found, [("b".into(), "1"), ("a".into(), "\"x\""), ("b".into(), "2")]);
        for json in ["[]", "1", "null", "\"{}\""] {
            assert_eq!(fields(part(json.as_bytes(), None).unwrap()).err(), Some(Unfit::NotObject), "{json}");
        }
    }

    #[test]
    fn a_deep_value_is_taken_as_it_is() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000));
        assert_eq!(property(&deep, "a").unwrap().len(), 10_000);
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for text in ["%%%%", "a", "aGk=aGk=", "aG\u{e9}", "=", "aGk==="] {
            assert_eq!(decoded(text.as_bytes()).err(), Some(Unfit::NotBase64), "{text}");
        }
        assert_eq!(decoded(b"\n").unwrap().expose(), b"");
    }

    proptest! {
        #[test]
        fn base64_of_every_kind_is_undone(bytes in proptest::collection::vec(any::<u8>(), 0..200), width in 1usize..80) {
            for engine in [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD] {
                let text = engine.encode(&bytes);
                let lines: Vec<_> = text.as_bytes().chunks(width).map(|l| [l, b"\r\n"].concat()).collect();
                for text in [text.into_bytes(), lines.concat()] {
                    let undone = decoded(&text).unwrap();
                    prop_assert_eq!(undone.expose(), &bytes);
                }
            }
        }

        #[test]
        fn text_is_what_serde_would_write(strings in proptest::collection::vec(".{0,20}", 1..5), number in any::<i64>()) {
            let value = json!({ "o": { "list": strings, "n": number, "\"q\\": [null, true, {}] } });
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            let found = property(&pretty, "o").unwrap();
            prop_assert_eq!(serde_json::to_string(&value["o"]).unwrap(), found);
            let first = property(&pretty, "/o/list/0").unwrap();
            prop_assert_eq!(&value["o"]["list"][0], &Value::from(first));
        }

        #[test]
        fn anything_is_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60), path in ".{1,10}") {
            decoded(&bytes).ok();
            if let Ok(path) = Property::parse(&path) {
                part(&bytes, Some(&path)).ok();
            }
        }
    }
}
