use super::*;

fn values(of: &[(&str, &[u8])]) -> BTreeMap<String, Sensitive<Vec<u8>>> {
    of.iter().map(|(key, value)| ((*key).to_owned(), Sensitive::new(value.to_vec()))).collect()
}

const NO_UTF8: &[u8] = &[0xfe, 0xed, 0, 0xff];

/// What a template gives with a few values.
fn give(text: &str) -> Result<Vec<u8>, TemplateError> {
    let values = values(&[
        ("user", b"alice"),
        ("password", b"p@ss/w'ord \xc3\xa9"),
        ("tls.crt", b"CERT"),
        ("data", b"a key called data"),
        ("range", b"a key called range"),
        ("json", br#"{"b":[1,2.5,true,null],"a":{"x":"y"},"big":9007199254740993,"neg":-3}"#),
        ("b64", b"/u0A/w"),
        ("bin", NO_UTF8),
        ("lines", b"one\ntwo"),
    ]);
    let rendered = render(&[Text::inline("out", text)], &values)?;
    Ok(rendered["out"].expose().clone())
}

fn text(template: &str) -> String {
    String::from_utf8(give(template).unwrap_or_else(|e| panic!("{template}: {e}"))).unwrap()
}

fn fault(template: &str) -> TemplateError {
    match give(template) {
        Ok(bytes) => panic!("{template} gave {:?}", String::from_utf8_lossy(&bytes)),
        Err(error) => error,
    }
}

#[test]
fn templates_give_what_they_say() {
    for (template, expected) in [
        ("", ""),
        ("plain", "plain"),
        ("{{ user }}", "alice"),
        ("a\n", "a"),
        ("a\n\n", "a\n"),
        (
            "postgres://{{ user }}:{{ password | urlencode }}@db",
            "postgres://alice:p%40ss%2Fw%27ord%20%C3%A9@db",
        ),
        ("{{ data['tls.crt'] }} {{ data.user }}", "CERT alice"),
        ("{{ data['data'] }}", "a key called data"),
        ("{{ range }}", "a key called range"),
        ("{{ user | b64encode }}", "YWxpY2U="),
        ("{{ bin | b64encode }}", "/u0A/w=="),
        ("{{ 'YWxp Y2U\n' | b64decode }}", "alice"),
        ("{{ b64 | b64decode | b64encode }}", "/u0A/w=="),
        ("{{ bin | urlencode }}", "%FE%ED%00%FF"),
        ("{{ '-._~AZaz09' | urlencode }}", "-._~AZaz09"),
        (
            "{{ json | fromjson | tojson }}",
            r#"{"a":{"x":"y"},"b":[1,2.5,true,null],"big":9007199254740993,"neg":-3}"#,
        ),
        ("{{ (json | fromjson).b }}", "[1,2.5,true,null]"),
        ("{{ (json | fromjson).b[2] }} {{ (json | fromjson).a.x }}", "true y"),
        ("{{ 'a<b>&\\'\"' | tojson }}", r#""a<b>&'\"""#),
        ("{{ password | quote_shell }}", r"'p@ss/w'\''ord é'"),
        ("{{ user | quote_dotenv }} {{ '$a \"b\" \\\\c' | quote_dotenv }}", r#"'alice' '$a "b" \c'"#),
        ("{{ lines | quote_dotenv }}", r#""one\ntwo""#),
        ("{{ password | quote_dotenv }}", r#""p@ss/w'ord é""#),
        ("{{ 'it\\'s $1 `x` \"\\\\' | quote_dotenv }}", r#""it's \$1 \`x\` \"\\""#),
        ("{{ missing | default('x') }}{{ missing is defined }}", "xfalse"),
        ("{% for l in lines | lines %}{{ loop.index }}={{ l }};{% endfor %}", "1=one;2=two;"),
        ("{{ user | upper }}{{ ' x ' | trim }}{{ user | replace('a', 'b') }}", "ALICExblice"),
        ("<{{ '<b>&' }}>", "<<b>&>"),
        ("{% if bin %}yes{% endif %}", "yes"),
    ] {
        assert_eq!(text(template), expected, "{template}");
    }
}

#[test]
fn a_template_that_is_one_expression_may_be_binary() {
    for template in ["{{ bin }}", "{{bin}}\n", "{{- b64 | b64decode -}}", "{{ data['bin'] }}\r\n"] {
        assert_eq!(give(template).unwrap(), NO_UTF8, "{template}");
    }
}

#[test]
fn a_binary_value_in_a_text_is_refused() {
    for template in [
        "x{{ bin }}",
        "{{ bin }}{{ user }}",
        "{{ bin }}{{ bin }}",
        " {{ bin }}",
        "{{ 'a' ~ bin }}",
        "{{ ('a' ~ bin) | b64encode }}",
        "{{ [bin] | tojson }}",
        "{{ [bin, 'a'] | join(',') }}",
        "{{ bin | quote_shell }}",
        "{{ bin | upper }}",
        "{{ bin | string }}",
        "{% set x = bin ~ '' %}{{ user }}",
    ] {
        let error = fault(template);
        assert!(error.what.contains("b64encode"), "{template}: {error}");
    }
}

#[test]
fn a_fault_names_key_and_line_and_what_to_do() {
    for (template, line, words) in [
        ("a\n{{ user ", 2, "syntax error: "),
        ("{% for %}", 1, "syntax error: "),
        ("{% include 'x' %}", 1, "syntax error: "),
        ("{% macro x() %}{% endmacro %}", 1, "syntax error: "),
        ("a\nb {{ missing }} {{ user }}\n", 2, "'missing' is missing; the fetched keys: 'b64', 'bin', "),
        ("{{ data.missing }}", 1, "a key or field that is used here is missing"),
        ("{{ (json | fromjson).a.z }}", 1, "a key or field that is used here is missing"),
        ("\n\n{{ user | nofilter }}", 3, "unknown filter 'nofilter'"),
        ("{{ user is notest }}", 1, "unknown test 'notest'"),
        ("{{ nofunction() }}", 1, "unknown function 'nofunction'"),
        ("{{ debug() }}", 1, "unknown function 'debug'"),
        ("{{ user | fromjson }}", 1, "the value is not JSON (at line 1, column 1 of the value)"),
        ("{{ password | b64decode }}", 1, "the value is not base64"),
        ("{{ [1] | b64encode }}", 1, "tojson makes text of it"),
        ("{{ user | pem_certificates }}", 1, "there is no certificate"),
        ("{{ user | pem_private_key }}", 1, "there is no private key"),
        (
            "{% for a in [1] * 1000 %}{% for b in [1] * 1000 %}{{ a }}{% endfor %}{% endfor %}",
            1,
            "too much work",
        ),
        ("{{ 'x' * 100000000 }}", 1, "too much work"),
        ("{{ user * 1000000 }}", 1, "larger than 1048576 bytes"),
        ("{{ 1 / 0 }}", 1, ""),
    ] {
        let error = fault(template);
        assert_eq!((error.key.as_str(), error.line), ("out", line), "{template}: {error}");
        assert!(error.what.contains(words), "{template}: {error}");
    }
}

#[test]
fn no_fault_tells_a_value() {
    for template in [
        "{{ [1] | map(user) }}",
        "{{ user | int }}",
        "{{ user + 1 }}",
        "{{ user.x.y }}",
        "{{ user() }}",
        "{{ data[user] }}",
        "{{ user | fromjson }}",
        "{{ user | b64decode | fromjson }}",
        "{{ {user: 1}[password] }}",
        "{{ dict(user) }}",
        "{{ namespace(user) }}",
        "{% for x in user %}{{ x.y.z }}{% endfor %}",
        "{{ user | select(user) }}",
        "{{ user | round }}",
        "{{ 'x' | format(user) }}",
        "{{ user | pem_private_key }}",
        "{{ user.alice() }}",
        "{% set a, b = user %}",
    ] {
        if let Err(error) = give(template) {
            let told = format!("{error} {error:?} {}", Failure::from(error.clone()).message);
            assert!(!told.contains("alice") && !told.contains("p@ss"), "{template}: {told}");
        }
    }
}

#[test]
fn syntax_is_checked_without_values_and_a_secret_text_is_not_told() {
    let mut bad = Text::inline("url", "fine\n{{ 'hunter2' hunter3 }}");
    let error = check(&[Text::inline("a", "{{ x }}"), bad.clone()]).unwrap_err();
    assert_eq!((error.key.as_str(), error.line), ("url", 2));
    assert!(error.to_string().starts_with("the template of key 'url', line 2: syntax error: "), "{error}");
    (bad.secret, bad.source) = (true, Some("Secret t, key url".into()));
    let told = check(&[bad]).unwrap_err().to_string();
    assert_eq!(told, "the template of key 'url' (Secret t, key url), line 2: syntax error");
    let long = Text::inline("long", &"x".repeat(TEMPLATE_BYTES + 1));
    assert!(check(&[long]).unwrap_err().what.contains("262144 at most"));
}

#[test]
fn the_bounds_hold_for_all_keys_together() {
    let half = "x".repeat(SECRET_LIMIT / 2);
    let values = values(&[("half", half.as_bytes())]);
    let texts = |n: usize| (0..n).map(|i| Text::inline(&format!("k{i}"), "{{ half }}")).collect::<Vec<_>>();
    assert_eq!(render(&texts(2), &values).unwrap().len(), 2);
    let error = render(&texts(3), &values).unwrap_err();
    assert_eq!(error.key, "k2");
    // Each takes a third of the work that all may be together.
    let work =
        "{% for a in [1] * 700 %}{% for b in [1] * 100 %}{% if a %}{% endif %}{% endfor %}{% endfor %}";
    let texts: Vec<_> = (0..10).map(|i| Text::inline(&format!("k{i}"), work)).collect();
    assert!(render(&texts[..1], &values).is_ok());
    assert!(render(&texts, &values).unwrap_err().what.contains("too much work"));
}

#[test]
fn what_is_nested_deeply_is_refused_before_the_engine_sees_it() {
    let deep = format!("{{{{ password{} }}}}", "|trim".repeat(5_000));
    let error = check(&[Text::inline("out", &deep)]).unwrap_err();
    assert!(error.what.contains("longer than 2000 bytes"), "{error}");
    for template in [
        "(".repeat(30) + "1" + &")".repeat(30),
        "[".repeat(30) + "1" + &"]".repeat(30),
        "-".repeat(190) + "1",
        "password".to_owned() + &".a".repeat(190),
        "password".to_owned() + &"|trim".repeat(190),
        "not ".repeat(450) + "1",
    ] {
        // Whatever comes of it, it comes soon, and on this thread's stack.
        drop(give(&format!("{{{{ {template} }}}}")));
    }
    let nested = "{% if 1 %}".repeat(100) + &"{% endif %}".repeat(100);
    drop(give(&nested));
    drop(give(&("{% if 0 %}".to_owned() + &"{% elif 0 %}".repeat(190) + "{% endif %}")));
}

#[test]
fn what_grows_without_end_is_given_up_before_it_takes_all_memory() {
    let again =
        |filter: &str, times: usize| format!("{{{{ password{} }}}}", format!(" | {filter}").repeat(times));
    let doubled = "{% set a = [1] %}".to_owned() + &"{% set a = [a, a] %}".repeat(40);
    for template in [
        again("b64encode", 90),
        again("tojson", 100),
        again("quote_shell", 100),
        again("quote_dotenv", 100),
        doubled.clone() + "{{ a }}",
        doubled.clone() + "{{ a | tojson }}",
        doubled + "{{ a | tojson | length }}",
    ] {
        let error = fault(&template);
        assert!(error.what.contains("too much work") || error.what.contains("larger than"), "{error}");
    }
    // What is counted is counted for each render anew.
    for _ in 0..3 {
        assert_eq!(text("{{ ('x' * 900000) | b64encode | b64decode | length }}"), "900000");
    }
}

const BUNDLE: &str = "leaf:\n-----BEGIN CERTIFICATE-----\nMTE=\n-----END CERTIFICATE-----\n\
    -----BEGIN EC PRIVATE KEY-----\nMjI=\n-----END EC PRIVATE KEY-----\nca:\r\n\
    -----BEGIN CERTIFICATE-----\r\nMzM=\r\n-----END CERTIFICATE-----\n";

#[test]
fn a_pem_bundle_is_split() {
    let values = values(&[("bundle", BUNDLE.as_bytes())]);
    let certificate = |body| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
    let (leaf, ca) = (certificate("MTE="), certificate("MzM="));
    for (filter, expected) in [
        ("pem_certificates", format!("{leaf}{ca}")),
        ("pem_leaf", leaf.clone()),
        ("pem_chain", ca.clone()),
        (
            "pem_private_key",
            "-----BEGIN EC PRIVATE KEY-----\nMjI=\n-----END EC PRIVATE KEY-----\n".to_owned(),
        ),
    ] {
        let rendered =
            render(&[Text::inline("out", &format!("{{{{ bundle | {filter} }}}}"))], &values).unwrap();
        assert_eq!(String::from_utf8_lossy(rendered["out"].expose()), expected, "{filter}");
    }
}
