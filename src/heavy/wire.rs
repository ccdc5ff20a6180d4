//! What the operator and its workers say to each other: a head in JSON, and parts, which are bytes as they are. All of it
//! is wiped.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};

use crate::{limits::HEAVY_MESSAGE_BYTES, sensitive::Sensitive};

/// Most parts of a message.
const MOST_PARTS: usize = 1 << 20;

/// A message to a worker. The parts are borrowed: they may be megabytes, and thousands may wait for their turn.
pub struct BorrowedMessage<'a> {
    head: Sensitive<Vec<u8>>,
    parts: Vec<&'a [u8]>,
}

impl<'a> BorrowedMessage<'a> {
    /// # Errors
    /// The head can't be written, which nothing here brings about.
    pub fn new(head: &impl Serialize, parts: Vec<&'a [u8]>) -> io::Result<Self> {
        Ok(Self { head: Sensitive::new(serde_json::to_vec(head)?), parts })
    }

    /// # Errors
    /// The other side is gone.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        write_all(to, self.head.expose(), self.parts.iter().copied())
    }
}

/// One message.
#[derive(Debug)]
pub struct Message {
    /// JSON.
    pub head: Sensitive<Vec<u8>>,
    /// What the head speaks of, in its order.
    pub parts: Vec<Sensitive<Vec<u8>>>,
}

impl Message {
    /// # Errors
    /// The head can't be written, which nothing here brings about.
    pub fn new(head: &impl Serialize, parts: Vec<Sensitive<Vec<u8>>>) -> io::Result<Self> {
        Ok(Self { head: Sensitive::new(serde_json::to_vec(head)?), parts })
    }

    /// # Errors
    /// It is another message.
    pub fn head<T: DeserializeOwned>(&self) -> io::Result<T> {
        Ok(serde_json::from_slice(self.head.expose())?)
    }

    /// # Errors
    /// The other side is gone.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        write_all(to, self.head.expose(), self.parts.iter().map(|part| part.expose().as_slice()))
    }

    /// # Errors
    /// The other side is gone, or says what is no message.
    pub fn read(from: &mut impl Read) -> io::Result<Self> {
        let head = read_piece(from)?;
        let count = read_size(from)?;
        if count > MOST_PARTS {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let parts = (0..count).map(|_| read_piece(from)).collect::<Result<_, _>>()?;
        Ok(Self { head, parts })
    }
}

fn size(of: usize) -> io::Result<[u8; 4]> {
    let size = u32::try_from(of).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(size.to_be_bytes())
}

fn write_all<'p>(
    to: &mut impl Write,
    head: &[u8],
    parts: impl ExactSizeIterator<Item = &'p [u8]>,
) -> io::Result<()> {
    write_piece(to, head)?;
    to.write_all(&size(parts.len())?)?;
    for part in parts {
        write_piece(to, part)?;
    }
    to.flush()
}

fn write_piece(to: &mut impl Write, piece: &[u8]) -> io::Result<()> {
    to.write_all(&size(piece.len())?)?;
    to.write_all(piece)
}

fn read_size(from: &mut impl Read) -> io::Result<usize> {
    let mut size = [0; 4];
    from.read_exact(&mut size)?;
    usize::try_from(u32::from_be_bytes(size)).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn read_piece(from: &mut impl Read) -> io::Result<Sensitive<Vec<u8>>> {
    let size = read_size(from)?;
    if size > HEAVY_MESSAGE_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // Of its full size from the start: a buffer that grows leaves copies behind.
    let mut piece = Sensitive::new(vec![0; size]);
    from.read_exact(piece.expose_mut())?;
    Ok(piece)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let parts = [vec![], b"\0\xff".to_vec(), vec![7; 70_000]].map(Sensitive::new);
        let mut wire = Vec::new();
        Message::new(&("head", 1), parts.to_vec()).unwrap().write(&mut wire).unwrap();
        {
            let borrowed = parts.iter().map(|part| part.expose().as_slice()).collect();
            BorrowedMessage::new(&("head", 1), borrowed).unwrap().write(&mut wire).unwrap();
        }
        let mut from = wire.as_slice();
        for _ in 0..2 {
            let message = Message::read(&mut from).unwrap();
            assert_eq!(message.head::<(String, u32)>().unwrap(), ("head".into(), 1));
            assert!(message.parts.iter().zip(&parts).all(|(a, b)| a.expose() == b.expose()));
        }
        assert!(Message::read(&mut from).is_err());
        for cut in [0, 3, 5, 20, wire.len() / 2 - 1] {
            assert!(Message::read(&mut &wire[..cut]).is_err(), "{cut}");
        }
        assert!(
            Message::read(&mut &[0xff; 16][..]).is_err(),
            "no memory is taken for what only says it is long"
        );
    }
}
