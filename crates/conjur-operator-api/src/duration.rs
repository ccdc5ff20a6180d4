//! Durations as Go writes them: `90s`, `1h30m`.
//!
//! ```
//! use std::time::Duration;
//!
//! use conjur_operator_api::GoDuration;
//!
//! assert_eq!(GoDuration::parse("1h30m")?.get(), Duration::from_secs(5_400));
//! assert!(GoDuration::parse("90").is_err_and(|error| error.to_string().contains("write it like 90s")));
//! # Ok::<(), conjur_operator_api::InvalidDuration>(())
//! ```

use std::{borrow::Cow, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A duration that was written as in Go. The text is kept as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoDuration {
    text: String,
    value: Duration,
}

impl GoDuration {
    /// Reads `90s`, `1h30m`, `1.5h`, `500ms`.
    ///
    /// # Errors
    /// [`InvalidDuration`] where the text has another form.
    pub fn parse(text: &str) -> Result<Self, InvalidDuration> {
        let value = sum(text).ok_or_else(|| InvalidDuration { text: text.to_owned() })?;
        Ok(Self { text: text.to_owned(), value })
    }

    /// How long it is.
    pub fn get(&self) -> Duration {
        self.value
    }
}

/// A text that is not a duration; the message shows the form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a duration; write it like 90s, 15m or 1h30m")]
pub struct InvalidDuration {
    text: String,
}

/// The parts in any order and number, each with a fraction if it likes, as Go and the API server's CEL have it: what
/// the schema takes must decode. Below a nanosecond nothing counts.
fn sum(mut text: &str) -> Option<Duration> {
    let mut total = None;
    while !text.is_empty() {
        let (number, rest) = text.split_at(text.find(|c: char| c != '.' && !c.is_ascii_digit())?);
        let (unit, rest) = rest.split_at(rest.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(rest.len()));
        let nanos: u128 = match unit {
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60 * 1_000_000_000,
            "h" => 3600 * 1_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let whole = whole.parse::<u128>().ok()?.checked_mul(nanos)?;
        let tenths = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let fraction = fraction.parse::<u128>().ok()?.checked_mul(nanos)? / tenths;
        let part = u64::try_from(whole.checked_add(fraction)?).ok().map(Duration::from_nanos)?;
        total = Some(total.unwrap_or(Duration::ZERO).checked_add(part)?);
        text = rest;
    }
    total
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(D::Error::custom)
    }
}

impl JsonSchema for GoDuration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "maxLength": 32, "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_read() {
        for (text, ms) in [
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("500ms", 500),
            ("1.5h", 5_400_000),
            ("0s", 0),
            ("24h", 86_400_000),
            ("30m1h", 5_400_000),
            ("1.5h30m", 7_200_000),
            ("10s10s", 20_000),
            ("0.5m", 30_000),
        ] {
            assert_eq!(GoDuration::parse(text).map(|d| d.get().as_millis()), Ok(ms), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_an_example() {
        for text in
            ["", "1", "banana", "-5s", "PT1H", "1 h", "10 seconds", "h", "1d", ".5h", "1.h", "9999999999h"]
        {
            let message = GoDuration::parse(text).unwrap_err().to_string();
            assert!(message.contains("1h30m"), "{message}");
        }
    }

    #[test]
    fn the_text_is_given_back_as_it_was() {
        let d: GoDuration = serde_json::from_str("\"60m\"").unwrap();
        assert_eq!(serde_json::to_string(&d).unwrap(), "\"60m\"");
    }
}
