//! Errors of rendering whose words are the operator's own, and may be told.

use std::{borrow::Cow, fmt};

use minijinja::{Error, ErrorKind};

/// What a filter has to say. Never a value.
#[derive(Debug)]
pub struct Explained(Cow<'static, str>);

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Explained {}

impl Explained {
    /// What a filter said, if the error is of one.
    pub fn of(error: &Error) -> Option<&str> {
        let mut source = std::error::Error::source(error);
        while let Some(error) = source {
            if let Some(explained) = error.downcast_ref::<Self>() {
                return Some(&explained.0);
            }
            source = error.source();
        }
        None
    }
}

/// An error that may be told as it is.
pub fn explained(what: impl Into<Cow<'static, str>>) -> Error {
    Error::from(ErrorKind::InvalidOperation).with_source(Explained(what.into()))
}
