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

const ODD: &str = r#"{"big": 12345678901234567890123, "huge": 123456789012345678901234567890123456789012,
    "e": 1e3, "E": 1E+2, "v": 1.10, "f": 2.5, "z": -0, "zz": -0.0, "tiny": 0.1e-7, "long": 0.12345678901234567890123,
    "max": 1e400, "n": 3, "neg": -9223372036854775809, "token": null, "list": [1.10, 1e3, null, 7], "d": 1, "d": 2.50}"#;

fn odd(template: &str) -> Result<String, TemplateError> {
    let rendered = render(&[Text::inline("out", template)], &values(&[("x", ODD.as_bytes())]))?;
    Ok(String::from_utf8(rendered["out"].expose().clone()).unwrap())
}

#[test]
fn numbers_of_json_are_written_as_they_were() {
    for (template, expected) in [
        ("{{ (x | fromjson).big }}", "12345678901234567890123"),
        ("{{ (x | fromjson).huge }}", "123456789012345678901234567890123456789012"),
        ("{{ (x | fromjson).e }} {{ (x | fromjson).E }}", "1e3 1E+2"),
        ("{{ (x | fromjson).v ~ 'x' }}", "1.10x"),
        ("{{ (x | fromjson).v | string }}", "1.10"),
        ("{{ (x | fromjson).z }} {{ (x | fromjson).zz }}", "-0 -0.0"),
        ("{{ (x | fromjson).tiny }} {{ (x | fromjson).long }}", "0.1e-7 0.12345678901234567890123"),
        ("{{ (x | fromjson).max }} {{ (x | fromjson).neg }}", "1e400 -9223372036854775809"),
        ("{{ (x | fromjson).list | tojson }}", "[1.10,1e3,null,7]"),
        ("{{ (x | fromjson).list | tojson | fromjson | tojson }}", "[1.10,1e3,null,7]"),
        ("{{ (x | fromjson).list }}", "[1.10,1e3,null,7]"),
        ("{{ (x | fromjson).list[:2] | join(' ') }}", "1.10 1e3"),
        ("{{ (x | fromjson).v | b64encode }}", "MS4xMA=="),
        ("{{ (x | fromjson).d }}", "2.50"),
        ("{% set j = x | fromjson %}{{ j.n + 1 }} {{ j.v }} {{ j.e }}", "4 1.10 1e3"),
        (
            "{% set j = x | fromjson %}{% if j.n == 3 and j.v > 1 and j.v < 2 and j.e == 1000 %}{{ j.v }}{% endif %}",
            "1.10",
        ),
        (
            "{% set j = x | fromjson %}{{ j.v * 2 }} {{ j.f * 2 }} {{ j.big }}",
            "2.2 5.0 12345678901234567890123",
        ),
        ("{% set j = x | fromjson %}{{ j.e | int }} {{ j.v | float }}", "1000 1.10"),
        ("{% for v in (x | fromjson).list %}{{ v | default('-') }};{% endfor %}", "1.10;1e3;-;7;"),
        ("{% for k, v in (x | fromjson) | items %}{% if k == 'v' %}{{ v }}{% endif %}{% endfor %}", "1.10"),
    ] {
        assert_eq!(odd(template).unwrap_or_else(|e| panic!("{template}: {e}")), expected, "{template}");
    }
}

#[test]
fn a_null_becomes_no_text_but_through_default_or_as_json() {
    for template in [
        "{{ (x | fromjson).token }}",
        "{{ (x | fromjson).token ~ '' }}",
        "{{ (x | fromjson).token | upper }}",
        "{{ (x | fromjson).token | b64encode }}",
        "{{ (x | fromjson).token | string }}",
        "{{ (x | fromjson).list | join(',') }}",
        "{{ none }}",
        "{% for v in (x | fromjson).list %}{{ v }}{% endfor %}",
        "{% set t = 'a' ~ (x | fromjson).token %}fine",
    ] {
        let error = odd(template).unwrap_err();
        assert!(error.what.contains("null") && error.what.contains("default("), "{template}: {error}");
    }
    for (template, expected) in [
        ("{{ (x | fromjson).token | default('y') }}", "y"),
        ("{{ (x | fromjson).token | d }}", ""),
        ("{{ (x | fromjson).token | tojson }}", "null"),
        ("{{ (x | fromjson).token is none }}{{ (x | fromjson).n is none }}", "truefalse"),
        ("{% if (x | fromjson).token == none %}none{% endif %}", "none"),
        ("{% if not (x | fromjson).token %}empty{% endif %}", "empty"),
        ("{{ '' | default('y') }}{{ '' | default('y', true) }}{{ 0 | default('y') }}", "y0"),
    ] {
        assert_eq!(odd(template).unwrap_or_else(|e| panic!("{template}: {e}")), expected, "{template}");
    }
}

#[test]
fn json_of_any_shape_costs_what_its_bound_says() {
    let read = |json: String| {
        let values = values(&[("x", json.as_bytes())]);
        render(&[Text::inline("out", "{{ x | fromjson | tojson | length }}")], &values).map(drop)
    };
    let list = |items: usize| format!("[{}0]", "0,".repeat(items - 1));
    assert!(read(list(50_000)).is_ok());
    assert!(read(list(500_000)).unwrap_err().what.contains("more than 100000 values"));
    assert!(read("[".repeat(90) + &"]".repeat(90)).is_ok());
    assert!(read("[".repeat(100_000) + &"]".repeat(100_000)).unwrap_err().what.contains("levels deep"));
    assert!(
        read("{\"a\":".repeat(5_000) + "1" + &"}".repeat(5_000)).unwrap_err().what.contains("levels deep")
    );
}

#[test]
fn a_text_from_a_secret_is_quoted_in_no_fault() {
    let values = values(&[("canary-key", b"1"), ("user", b"alice")]);
    for template in [
        "{{ canary }}",
        "{{ canary-key }}",
        "{{ user | canary }}",
        "{{ user is canary }}",
        "{{ canary() }}",
        "{% canary %}",
        "{{ 'canary' canary }}",
        "{{ user | fromjson | canary }}",
    ] {
        let text =
            Text { secret: true, source: Some("Secret t, key k".into()), ..Text::inline("out", template) };
        let error = check([&text]).and_then(|()| render(&[text], &values).map(drop)).unwrap_err();
        assert!(
            !error.to_string().replace("'canary-key', 'user'", "").contains("canary"),
            "{template}: {error}"
        );
    }
}

#[test]
fn a_key_that_is_no_identifier_is_told_how_to_be_written() {
    let values = values(&[("db-user", b"alice"), ("tls.crt", b"CERT"), ("a", b"1"), ("a-b", b"2")]);
    for (template, said) in [
        ("{{ db-user }}", "'db' is missing; the key 'db-user' is no identifier: write data[\"db-user\"]"),
        ("x\n{{ tls.crt }}", "'tls' is missing; the key 'tls.crt' is no identifier: write data[\"tls.crt\"]"),
        ("{{ a-b }}", "the key 'a-b' is no identifier: write data[\"a-b\"]"),
        ("{{ missing }} {{ data['db-user'] }}", "'missing' is missing; the fetched keys:"),
    ] {
        let error = render(&[Text::inline("out", template)], &values).unwrap_err();
        assert!(error.what.starts_with(said), "{template}: {error}");
    }
}

proptest::proptest! {
    /// JSON of any shape comes back as it was, but for white space and the order of fields.
    #[test]
    fn json_comes_back_as_it_was(number in "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", text in ".{0,20}") {
        let json = format!("[{number},{}]", serde_json::to_string(&text).unwrap());
        let values = values(&[("x", json.as_bytes())]);
        for template in ["{{ x | fromjson | tojson }}", "{% if 1 < 2 %}{{ x | fromjson | tojson }}{% endif %}"] {
            let made = render(&[Text::inline("out", template)], &values).unwrap();
            proptest::prop_assert_eq!(std::str::from_utf8(made["out"].expose()).unwrap(), &json);
        }
    }

    /// Whatever a light template says, and with whatever values: an answer, at once, on this thread.
    #[test]
    fn any_light_template_is_done_or_refused(pieces in proptest::collection::vec("[a-z]{1,3}|\\{\\{|\\}\\}|\\{%|%\\}| if | endif |\\||[()\\[\\]'\"~.,:=<-]|trim|default|fromjson|split|x| ", 0..40), value in ".{0,40}") {
        let (text, values) = (pieces.concat(), values(&[("x", value.as_bytes())]));
        let texts = [Text::inline("out", &text)];
        check(&texts).ok();
        render_light(&texts, &values).ok();
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
    let half = "x".repeat(SECRET_DATA_BYTES / 2);
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
