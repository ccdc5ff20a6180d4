//! Functions on texts.

use super::{
    Fault,
    call::{Answer, Call},
    fault,
    value::{Level, Out, Val, ValueKind, key, literal, word},
};

/// Calls one of them.
pub fn call(call: &mut Call) -> Answer {
    Some(match call.name {
        "toString" | "trim" | "upper" | "lower" | "b64enc" | "b64dec" | "urlquery" | "html" => filtered(call),
        "secret" => secret(call),
        "trimAll" | "trimall" | "replace" => with_constants(call),
        "trimPrefix" | "trimSuffix" => trimmed(call),
        "contains" | "hasPrefix" | "hasSuffix" => tested(call),
        "quote" => quote(call),
        "squote" => around(call, "'"),
        "cat" => concat(call, " "),
        "print" => concat(call, ""),
        "println" => println(call),
        "printf" => printf(call),
        "indent" => indent(call, ""),
        "nindent" => indent(call, "\n"),
        "filterPEM" => filter_pem(call),
        _ => return None,
    })
}

fn filtered(call: &mut Call) -> Result<Val, Fault> {
    call.takes(1)?;
    let value = call.text(0)?;
    let filter = match call.name {
        "toString" => {
            if value.kind == ValueKind::Json {
                call.context.of_json(call.at);
            }
            return Ok(Val::Out(Out { kind: ValueKind::Text, ..value }));
        }
        "b64enc" => "b64encode",
        "b64dec" => "b64decode",
        "urlquery" => "urlencode | replace(\"%20\", \"+\")",
        "html" => {
            "replace(\"&\", \"&amp;\") | replace(\"'\", \"&#39;\") | replace(\"<\", \"&lt;\") | replace(\">\", \"&gt;\") | replace(\"\\\"\", \"&#34;\")"
        }
        same => same,
    };
    Ok(Val::Out(value.filtered(filter, ValueKind::Text)))
}

fn secret(call: &mut Call) -> Result<Val, Fault> {
    call.takes(1)?;
    let alias = call.constant(0)?.to_owned();
    match call.context.secret(&alias, call.at)? {
        Val::Secret(_, of) => Ok(Val::Out(word(&key(&of), ValueKind::Text))),
        other => Ok(other),
    }
}

fn with_constants(call: &mut Call) -> Result<Val, Fault> {
    let filter = if call.name == "replace" {
        call.takes(3)?;
        let from = call.constant(0)?;
        if from.is_empty() {
            return call.unfit("needs a text to look for");
        }
        format!("replace({}, {})", literal(from), call.text(1)?.text)
    } else {
        call.takes(2)?;
        format!("trim({})", literal(call.constant(0)?))
    };
    Ok(Val::Out(call.text(call.arguments.len() - 1)?.filtered(&filter, ValueKind::Text)))
}

fn trimmed(call: &mut Call) -> Result<Val, Fault> {
    call.takes(2)?;
    let (part, value) = (call.constant(0)?, call.text(1)?);
    let count = part.chars().count();
    if count == 0 {
        return Ok(Val::Out(value));
    }
    let (slice, is) = match call.name {
        "trimPrefix" => (format!("[{count}:]"), "startingwith"),
        _ => (format!("[:-{count}]"), "endingwith"),
    };
    let (base, operand) = (value.subscripted(), value.operand());
    let text = format!("{base}{slice} if {operand} is {is}({}) else {operand}", literal(part));
    Ok(Val::Out(Out { text, level: Level::Loose, kind: ValueKind::Text }))
}

fn tested(call: &mut Call) -> Result<Val, Fault> {
    call.takes(2)?;
    let (part, value) = (call.text(0)?, call.text(1)?);
    let text = match call.name {
        "contains" => format!("{} in {}", part.operand(), value.operand()),
        "hasPrefix" => format!("{} is startingwith({})", value.operand(), part.text),
        _ => format!("{} is endingwith({})", value.operand(), part.text),
    };
    Ok(Val::Out(Out { text, level: Level::Loose, kind: ValueKind::Bool }))
}

/// Go's `%q`: the same as JSON for what can be printed.
fn quote(call: &mut Call) -> Result<Val, Fault> {
    let parts = (0..call.arguments.len()).map(|n| quoted(call, n)).collect::<Result<Vec<_>, _>>()?;
    Ok(Val::Out(joined(&parts, " ")))
}

fn quoted(call: &mut Call, n: usize) -> Result<Out, Fault> {
    let value = call.text(n)?;
    if value.kind == ValueKind::Json {
        call.context.of_json(call.at);
    }
    let what = "quotes are those of JSON: the same for all that can be printed and for \\n, \\r and \\t; other control \
                characters are written as \\u…";
    let found = fault(call.at, what, "");
    call.context.differs(found);
    Ok(value.filtered("tojson", ValueKind::Text))
}

fn around(call: &mut Call, quote: &str) -> Result<Val, Fault> {
    let mut parts = Vec::new();
    for n in 0..call.arguments.len() {
        let value = call.text(n)?;
        if value.kind == ValueKind::Json {
            call.context.of_json(call.at);
        }
        let quote = literal(quote);
        let text = format!("{quote} ~ {} ~ {quote}", value.operand());
        parts.push(Out { text, level: Level::Loose, kind: ValueKind::Text });
    }
    Ok(Val::Out(joined(&parts, " ")))
}

/// Texts, one after the other.
fn joined(parts: &[Out], between: &str) -> Out {
    if let [one] = parts {
        return one.clone();
    }
    let separator = if between.is_empty() { " ~ ".to_owned() } else { format!(" ~ {} ~ ", literal(between)) };
    let text = parts.iter().map(Out::operand).collect::<Vec<_>>().join(&separator);
    Out {
        text: if parts.is_empty() { "\"\"".to_owned() } else { text },
        level: Level::Loose,
        kind: ValueKind::Text,
    }
}

fn plain_texts(call: &Call) -> Result<Vec<Out>, Fault> {
    let of = |n| match call.out(n)? {
        out if out.kind == ValueKind::Text => Ok(out),
        _ => call.unfit("is only exact with texts"),
    };
    (0..call.arguments.len()).map(of).collect()
}

fn concat(call: &mut Call, between: &str) -> Result<Val, Fault> {
    Ok(Val::Out(joined(&plain_texts(call)?, between)))
}

fn println(call: &mut Call) -> Result<Val, Fault> {
    let line = joined(&plain_texts(call)?, " ");
    Ok(Val::Out(joined(&[line, word("\"\\n\"", ValueKind::Text)], "")))
}

fn printf(call: &mut Call) -> Result<Val, Fault> {
    let format = call.constant(0)?.to_owned();
    let (mut parts, mut text, mut next) = (Vec::new(), String::new(), 1);
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let verb = chars.next();
        if verb == Some('%') {
            text.push('%');
            continue;
        }
        if !text.is_empty() {
            parts.push(word(&literal(&std::mem::take(&mut text)), ValueKind::Text));
        }
        parts.push(formatted(call, verb, next)?);
        next += 1;
    }
    if next != call.arguments.len() {
        return call.unfit("has more arguments than its format takes");
    }
    if parts.is_empty() {
        return Ok(Val::Text(text));
    }
    if !text.is_empty() {
        parts.push(word(&literal(&text), ValueKind::Text));
    }
    Ok(Val::Out(joined(&parts, "")))
}

fn formatted(call: &mut Call, verb: Option<char>, n: usize) -> Result<Out, Fault> {
    let value = call.out(n)?;
    match (verb, value.kind) {
        (Some('s' | 'v'), ValueKind::Text) | (Some('d' | 'v'), ValueKind::Number) => Ok(value),
        (Some('s' | 'v'), ValueKind::Json) => {
            call.context.of_json(call.at);
            Ok(value)
        }
        (Some('q'), ValueKind::Text) => quoted(call, n),
        _ => call.unfit("is understood with %s, %v, %d and %q of texts and whole numbers"),
    }
}

fn indent(call: &mut Call, before: &str) -> Result<Val, Fault> {
    call.takes(2)?;
    let Some(Val::Number(width)) = call.arguments.first() else {
        return call.unfit("takes a number that stands in the template");
    };
    let pad = " ".repeat(usize::try_from(*width).unwrap_or_default().min(200));
    let value = call
        .text(1)?
        .filtered(&format!("replace(\"\\n\", {})", literal(&format!("\n{pad}"))), ValueKind::Text);
    let start = format!("{before}{pad}");
    if start.is_empty() {
        return Ok(Val::Out(value));
    }
    Ok(Val::Out(joined(&[word(&literal(&start), ValueKind::Text), value], "")))
}

fn filter_pem(call: &mut Call) -> Result<Val, Fault> {
    call.takes(2)?;
    let (kind, value) = (call.constant(0)?.to_ascii_uppercase(), call.text(1)?);
    let (filter, what) = match kind.as_str() {
        "CERTIFICATE" => {
            ("pem_certificates", "where there is no certificate, this is an error, and not an empty text")
        }
        "PRIVATE KEY" => (
            "pem_private_key",
            "it gives the one private key of any kind (also RSA PRIVATE KEY), and is an error where there is none or more",
        ),
        _ => return call.unfit("is understood for CERTIFICATE and PRIVATE KEY"),
    };
    let found = fault(call.at, what, "");
    call.context.differs(found);
    Ok(Val::Out(value.filtered(filter, ValueKind::Text)))
}
