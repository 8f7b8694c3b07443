//! Lists of names, as the bytes of one field of an operation: each name with its length, a varint, before it.

use super::codec::{Put, Reader};

/// Adds a name to a list.
pub fn add_name(list: &mut Vec<u8>, name: &[u8]) {
    list.put_varint(name.len() as u64);
    list.put(name);
}

/// The names of a list; `None` if it is none.
pub fn names(list: &[u8]) -> Option<Vec<&[u8]>> {
    let mut reader = Reader::new(list);
    let mut names = Vec::new();
    while !reader.is_empty() {
        let len = usize::try_from(reader.varint()?).ok()?;
        names.push(reader.bytes(len)?);
    }
    Some(names)
}
