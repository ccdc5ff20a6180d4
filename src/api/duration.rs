//! Durations as Go writes them: `90s`, `1h30m`.

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
    /// A sentence that shows the form, where the text has another.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not a duration; write it like 90s, 15m or 1h30m");
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit() || b".hms".contains(&b)) {
            return Err(wrong());
        }
        let signed: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
        let value = Duration::try_from(signed).map_err(|_| wrong())?;
        Ok(Self { text: text.to_owned(), value })
    }

    /// How long it is.
    pub fn get(&self) -> Duration {
        self.value
    }
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
        ] {
            assert_eq!(GoDuration::parse(text).map(|d| d.get().as_millis()), Ok(ms), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_an_example() {
        for text in ["", "1", "banana", "-5s", "PT1H", "1 h", "10 seconds", "h", "1d"] {
            let message = GoDuration::parse(text).unwrap_err();
            assert!(message.contains("1h30m"), "{message}");
        }
    }

    #[test]
    fn the_text_is_given_back_as_it_was() {
        let d: GoDuration = serde_json::from_str("\"60m\"").unwrap();
        assert_eq!(serde_json::to_string(&d).unwrap(), "\"60m\"");
    }
}
