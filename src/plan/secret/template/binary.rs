//! Values that are not text. minijinja's own bytes turn into text with losses wherever text is asked for; these don't.

use std::{cell::Cell, fmt, sync::Arc};

use minijinja::{
    Value,
    value::{Object, ObjectRepr},
};

use crate::sensitive::Sensitive;

/// What to do about a value that is not text.
pub const NO_TEXT: &str = "a value that is used here is not text: write it with b64encode, or make it the whole \
                           template, {{ name }}, to have its bytes as they are";

thread_local! {
    // A render is one run on one thread, and the engine's way to turn an object into text knows of nothing else.
    static TAKEN: Cell<bool> = const { Cell::new(false) };
}

/// From now on it is seen whether a binary value is taken for text.
pub fn begin() {
    TAKEN.set(false);
}

/// Whether one was, by an operator that asks no one.
pub fn was_taken_for_text() -> bool {
    TAKEN.get()
}

/// Bytes that are not UTF-8.
#[derive(Debug)]
pub struct Binary(Sensitive<Vec<u8>>);

impl Binary {
    /// The bytes of a value, if it is one of these.
    pub fn of(value: &Value) -> Option<&[u8]> {
        value.downcast_object_ref::<Self>().map(|binary| binary.0.expose().as_slice())
    }
}

impl Object for Binary {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }

    fn render(self: &Arc<Self>, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        TAKEN.set(true);
        Ok(())
    }
}

/// Text where the bytes are UTF-8, else as they are.
pub fn value(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => Value::from_object(Binary(Sensitive::new(bytes.to_vec()))),
    }
}
