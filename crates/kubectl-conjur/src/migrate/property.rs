//! The paths into JSON values that External Secrets Operator takes (those of gjson), as JSON pointers.

/// The same as `property` of this API: the name of a field at the top, or a JSON pointer.
///
/// # Errors
/// What in it has no counterpart.
pub fn pointer(path: &str) -> Result<String, String> {
    let mut steps = vec![String::new()];
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        let step = match c {
            '.' => {
                steps.push(String::new());
                continue;
            }
            '\\' => chars.next().ok_or("it ends with a backslash")?,
            '*' | '?' | '|' | '#' | '@' | '!' | '{' | '}' | '[' | ']' | '(' | ')' | '=' | '<' | '>' | '%'
            | '"' => {
                return Err(format!("'{c}' asks for more than one field"));
            }
            c => c,
        };
        if let Some(last) = steps.last_mut() {
            last.push(step);
        }
    }
    if steps.iter().any(String::is_empty) {
        return Err("it has an empty step".to_owned());
    }
    match steps.as_slice() {
        [one] if !one.starts_with('/') => Ok(one.clone()),
        steps => {
            let escaped =
                steps.iter().flat_map(|step| ["/".to_owned(), step.replace('~', "~0").replace('/', "~1")]);
            Ok(escaped.collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_field_or_a_pointer() {
        for (path, expected) in [
            ("password", Some("password")),
            ("db.password", Some("/db/password")),
            ("hosts.0.name", Some("/hosts/0/name")),
            (r"tls\.crt", Some("tls.crt")),
            (r"a\.b.c", Some("/a.b/c")),
            ("a/b", Some("a/b")),
            ("a/b.c", Some("/a~1b/c")),
            ("/a", Some("/~1a")),
            ("a~.b", Some("/a~0/b")),
            ("a*", None),
            ("users.#", None),
            ("a|b", None),
            ("@this", None),
            ("a..b", None),
            ("a\\", None),
        ] {
            assert_eq!(pointer(path).ok().as_deref(), expected, "{path}");
        }
    }
}
