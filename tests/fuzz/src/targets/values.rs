//! What makes a Secret of values: templates, patterns, JSON.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use conjur_client::sensitive::Sensitive;
use conjur_operator::api::secret::{DataEntry, DataSource, Decode, Extract, Find, Rewrite};
use conjur_operator::seams::template::{self, Light, Text};
use conjur_operator::seams::{BuiltData, Got, LeftOut, Problem, Sources};
use conjur_operator::seams::{Heavy, Whose};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Read, word};

/// How long rendering by workers may take on the clock, with the time that it takes to start them.
const HEAVY_AT_MOST: Duration = Duration::from_secs(60);

/// Templates over values of a few forms.
pub fn templates() -> Read {
    let values: BTreeMap<String, Sensitive<Vec<u8>>> = [
        ("a", "text".as_bytes()),
        ("j", br#"{"a":[1,2.50,1e3,null,"x"],"b":{"c":"d"}}"#),
        ("n", b"12345678901234567890"),
        ("bytes", b"\x00\xff\xfe"),
        ("db-user", b"hyphen"),
        ("data", b"the name of all"),
    ]
    .map(|(key, value)| (key.to_owned(), Sensitive::new(value.to_vec())))
    .into();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    #[expect(clippy::expect_used, reason = "a fuzzer without a runtime renders nothing")]
    let runtime = runtime.expect("a runtime");
    let heavy = std::env::current_exe().map(Heavy::new);
    Box::new(move |input| {
        let texts = [Text::inline("t", &String::from_utf8_lossy(input))];
        if let Err(error) = template::check(&texts) {
            return word(&error.what);
        }
        match template::render_light(&texts, &values) {
            Ok(Light::Done(_)) => return "rendered".to_owned(),
            Ok(Light::TooHeavy) => {}
            Err(error) => return word(&error.what),
        }
        // All others are rendered by a process that may die of them, within its limits of memory and time.
        let Ok(heavy) = &heavy else { return "no worker".to_owned() };
        let text = texts[0].text.expose().clone();
        let whose = Whose::of("ConjurSecret", &ObjectMeta::default(), &[text]);
        let began = Instant::now();
        let made = runtime.block_on(heavy.render_templates(&whose, &texts, &values));
        // Three workers may die of it one after the other.
        assert!(began.elapsed() < HEAVY_AT_MOST, "a worker was not ended: {:?}", began.elapsed());
        made.map_or_else(|failure| word(&failure.message), |_| "rendered by a worker".to_owned())
    })
}

/// Lines: patterns and replacements by turns, of a find with its rewrites, over a few ids.
pub fn patterns() -> Read {
    Box::new(|input| {
        let text = String::from_utf8_lossy(input);
        let lines: Vec<&str> = text.lines().collect();
        let rewrite = lines.get(1..).unwrap_or_default().chunks(2).map(|pair| Rewrite {
            pattern: pair[0].to_owned(),
            replacement: pair.get(1).copied().unwrap_or_default().to_owned(),
        });
        let find = Find { pattern: lines.first().map(|line| (*line).to_owned()), ..Find::default() };
        let source =
            DataSource { find: Some(find), rewrite: Some(rewrite.collect()), ..DataSource::default() };
        let sources = [source];
        let read = match Sources::of(&[], &sources).and_then(|read| read.check_patterns().map(|()| read)) {
            Ok(read) => read,
            Err(failure) => return word(&failure.message),
        };
        let ids = ["apps/billing/db/password", "a", "é/ü/ñ", "0123456789/_.-", "apps//x", ""];
        let taken = |id: &&str| {
            read.finds().all(|(place, criteria)| {
                criteria.matcher(place).is_ok_and(|matcher| matcher.takes(id, |_| None) == Ok(true))
            })
        };
        let found: Vec<String> = ids.into_iter().filter(taken).map(str::to_owned).collect();
        let answers: Vec<Got> = found.iter().map(|_| Got::Value(b"v")).collect();
        let made = read.resolve(vec![found]).map_err(Problem::from);
        match made.and_then(|read| read.data(&answers, &[], true, LeftOut::default())) {
            Ok(BuiltData { data, left_out }) => {
                format!("{} keys {}", data.len(), left_out == LeftOut::default())
            }
            Err(problem) => word(&format!("{problem:?}")),
        }
    })
}

/// A value that is taken apart in each way: as a whole, a property of it, its fields, its base64, by a template.
pub fn json() -> Read {
    Box::new(|input| {
        let entry = |key: &str, property: Option<&str>, decode| DataEntry {
            key: key.to_owned(),
            variable: "v".to_owned(),
            property: property.map(str::to_owned),
            decode,
            ..DataEntry::default()
        };
        let extract = |property: Option<&str>| DataSource {
            extract: Some(Extract {
                variable: "v".to_owned(),
                property: property.map(str::to_owned),
                ..Extract::default()
            }),
            ..DataSource::default()
        };
        let base64 = Some(Decode::Base64);
        let ways = [
            (vec![entry("a", None, None)], vec![]),
            (vec![entry("a", Some("a"), None)], vec![]),
            (vec![entry("a", Some("/a/b/0"), None)], vec![]),
            (vec![entry("a", Some("a"), base64)], vec![]),
            (vec![entry("a", None, base64)], vec![]),
            (vec![], vec![extract(None)]),
            (vec![], vec![extract(Some("/a"))]),
        ];
        let mut said = String::new();
        for (entries, sources) in &ways {
            let Ok(read) = Sources::of(entries, sources).and_then(|read| read.resolve(vec![])) else {
                continue;
            };
            let answers = [Got::Value(input)];
            said.push(match read.data(&answers, &[], true, LeftOut::default()) {
                Ok(made) if made.data.len() == 1 => '1',
                Ok(_) => 'n',
                Err(Problem::Missing(_)) => 'm',
                Err(_) => '-',
            });
        }
        let values = BTreeMap::from([("v".to_owned(), Sensitive::new(input.to_vec()))]);
        let texts = [
            "{{ v|fromjson|tojson }}",
            "{{ (v|fromjson).a }}",
            "{% for k in v|fromjson %}{{ k }}{% endfor %}",
        ];
        for text in texts {
            let rendered = template::render(&[Text::inline("t", text)], &values);
            said.push(if rendered.is_ok() { '+' } else { '-' });
        }
        said
    })
}
