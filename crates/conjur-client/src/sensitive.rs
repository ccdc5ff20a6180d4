//! A wrapper for what must not be seen: wiped on drop, never printed.
//!
//! ```
//! use conjur_client::sensitive::Sensitive;
//!
//! let key = Sensitive::new("k3y".to_owned());
//! assert_eq!(format!("{key:?}"), "<redacted>");
//! assert_eq!(key.expose(), "k3y");
//! ```

use std::fmt;

use serde::Deserialize;
use zeroize::Zeroize;

/// A value that is wiped when it is dropped, whose `Debug` says `<redacted>`, and that has neither `Display`
/// nor `Serialize`, so that it can't reach a log, an error or a status by accident.
///
/// Copies made of [`expose`](Sensitive::expose)d content are the caller's to wipe.
pub struct Sensitive<T: Zeroize>(T);

impl<T: Zeroize> Sensitive<T> {
    /// Wraps `value`. A buffer that grew before has left copies of its content behind.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The content.
    pub fn expose(&self) -> &T {
        &self.0
    }

    /// The content, to be changed in place. Growing a buffer leaves a copy of what it held behind.
    pub fn expose_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Zeroize> Drop for Sensitive<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Sensitive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl<T: Zeroize + Clone> Clone for Sensitive<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Zeroize> From<T> for Sensitive<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<'de, T: Zeroize + Deserialize<'de>> Deserialize<'de> for Sensitive<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_the_content() {
        let key = Sensitive::new(String::from("hunter2"));
        assert_eq!(format!("{key:?} {:?}", Some(key.clone())), "<redacted> Some(<redacted>)");
        assert_eq!(key.expose(), "hunter2");
    }
}
