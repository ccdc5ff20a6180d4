//! Rules of the API server, in its language CEL.

use std::net::IpAddr;
use std::sync::Arc;

use cel::{Context, DeclarationError, ExecutionError, Program};
use conjur_operator_api::GoDuration;
use serde_json::Value;

/// Whether a rule holds.
///
/// # Errors
/// That it can't be judged, and why.
pub fn judge(rule: &str, value: &Value) -> Result<bool, String> {
    let failed = |error: &dyn std::fmt::Display| format!("the rule can't be judged: {error}");
    let program = Program::compile(rule).map_err(|error| failed(&error))?;
    let mut context = context().map_err(|error| failed(&error))?;
    context.add_variable("self", value).map_err(|error| failed(&error))?;
    match program.execute(&context) {
        Ok(cel::Value::Bool(holds)) => Ok(holds),
        Ok(_) => Err(failed(&"it is neither true nor false")),
        Err(error) => Err(failed(&error)),
    }
}

/// With the functions of the API server's own library that the rules use.
fn context() -> Result<Context<'static, 'static>, DeclarationError> {
    let mut context = Context::default();
    context.add_function("isURL", |text: Arc<String>| url::Url::parse(&text).is_ok())?;
    // As a number, which compares as a duration does.
    context.add_function("duration", |text: Arc<String>| nanoseconds(&text))?;
    context.add_function("isIP", |text: Arc<String>| text.parse::<IpAddr>().is_ok())?;
    context.add_function("isCIDR", |text: Arc<String>| is_cidr(&text))?;
    Ok(context)
}

fn nanoseconds(text: &str) -> Result<i64, ExecutionError> {
    let given = GoDuration::parse(text).ok().and_then(|given| i64::try_from(given.get().as_nanos()).ok());
    given.ok_or_else(|| ExecutionError::function_error("duration", "this is no duration"))
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let (Ok(address), Ok(bits)) = (address.parse::<IpAddr>(), bits.parse::<u8>()) else { return false };
    bits <= if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn functions_of_the_api_server_are_known() {
        let no = [
            ("isURL(self) && self.startsWith('https://')", json!("conjur.example.com")),
            ("self.all(c, isCIDR(c) || isIP(c))", json!(["10.0.0.0/33"])),
            ("duration(self) >= duration('10s')", json!("1s")),
            ("duration(self) >= duration('1h')", json!("59m59s")),
            ("bytes(self.document).size() <= 3", json!({ "document": "four" })),
            ("[has(self.a), has(self.b)].exists_one(given, given)", json!({ "a": 1, "b": 1 })),
            ("self.all(a, self.exists_one(b, b.key == a.key))", json!([{ "key": "x" }, { "key": "x" }])),
            ("!self.matches('(^|/)[.]{1,2}(/|$)') && !self.matches('[[:cntrl:]]')", json!("a/../b")),
            ("!('authn/api-key' in self)", json!({ "authn/api-key": "x" })),
        ];
        for (rule, value) in no {
            assert!(judge(rule, &value) == Ok(false), "{rule}");
        }
        assert_eq!(judge("isURL(self)", &json!("https://conjur.example.com")), Ok(true));
        assert_eq!(judge("self.all(c, isCIDR(c) || isIP(c))", &json!(["10.0.0.0/8", "::1"])), Ok(true));
    }

    #[test]
    fn what_can_not_be_judged_does_not_pass() {
        for (rule, value) in [
            ("duration(self) >= duration('10s')", json!("soon")),
            ("self.none == 1", json!({})),
            ("self.size()", json!("a")),
            ("self.", json!("a")),
        ] {
            assert!(judge(rule, &value).is_err(), "{rule}");
        }
    }
}
