//! Where a template writes to: bounded, and wiped.

use std::io;

use crate::sensitive::Sensitive;

/// Takes bytes up to a limit. Growing leaves no copy behind.
pub struct Bounded {
    bytes: Sensitive<Vec<u8>>,
    limit: usize,
    full: bool,
}

impl Bounded {
    /// Empty, for at most this many bytes.
    pub fn new(limit: usize) -> Self {
        Self { bytes: Sensitive::new(Vec::new()), limit, full: false }
    }

    /// Whether more was written than it takes.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// What was written.
    pub fn into_bytes(self) -> Sensitive<Vec<u8>> {
        self.bytes
    }
}

impl io::Write for Bounded {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        let held = self.bytes.expose();
        let needed = held.len().saturating_add(more.len());
        if needed > self.limit {
            self.full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if needed > held.capacity() {
            let mut larger = Vec::with_capacity(needed.max(held.capacity() * 2).max(64));
            larger.extend_from_slice(held);
            // What it held is wiped as it is dropped.
            self.bytes = Sensitive::new(larger);
        }
        self.bytes.expose_mut().extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
