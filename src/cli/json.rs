//! JSON as the tool prints it: what several commands have in common, and how characters are written.
//!
//! Each kind of line is a type whose fields are its keys, in the order in which they are printed. Names and payloads are
//! bytes: what is not UTF-8 stands as base64 under a key of its own (`user_base64` in place of `user`, and so on).
//! Characters that act on a terminal are escaped, which means the same to every reader of JSON.

use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chanlog::MessageState;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::ser::Formatter;

use crate::text;

/// Writes a value on one line, without the line's end.
pub fn write(out: impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(out, Visible);
    Ok(value.serialize(&mut serializer)?)
}

/// The compact form, with hidden characters escaped.
struct Visible;

impl Formatter for Visible {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| text::is_hidden(*c)) {
            out.write_all(&rest.as_bytes()[..at])?;
            write!(out, "\\u{:04x}", u32::from(c))?;
            rest = &rest[at + c.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }
}

/// Bytes, to be flattened into the object that holds them: under `key` as a string if they are UTF-8, else under
/// `base64`.
pub struct Bytes<'a> {
    key: &'static str,
    base64: &'static str,
    bytes: &'a [u8],
}

impl<'a> Bytes<'a> {
    /// A user's name.
    pub fn user(bytes: &'a [u8]) -> Self {
        Bytes { key: "user", base64: "user_base64", bytes }
    }

    /// A channel's name.
    pub fn channel(bytes: &'a [u8]) -> Self {
        Bytes { key: "channel", base64: "channel_base64", bytes }
    }

    /// The key of an annotation.
    pub fn key(bytes: &'a [u8]) -> Self {
        Bytes { key: "key", base64: "key_base64", bytes }
    }

    /// A payload, or what is kept with a message.
    pub fn payload(bytes: &'a [u8]) -> Self {
        Bytes { key: "text", base64: "payload_base64", bytes }
    }

    /// What a server keeps with something.
    pub fn attributes(bytes: &'a [u8]) -> Self {
        Bytes { key: "attributes", base64: "attributes_base64", bytes }
    }

    /// The bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// A file's path.
    pub fn file(bytes: &'a [u8]) -> Self {
        Bytes { key: "file", base64: "file_base64", bytes }
    }
}

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match std::str::from_utf8(self.bytes) {
            Ok(text) => map.serialize_entry(self.key, text)?,
            Err(_) => map.serialize_entry(self.base64, &BASE64.encode(self.bytes))?,
        }
        map.end()
    }
}

/// A message. Its ids come after it, only where there are any: the client's, and the one by which it is found. The state comes last,
/// if it is not as it was sent.
#[derive(serde::Serialize)]
pub struct Message<'a> {
    seq: u64,
    #[serde(flatten)]
    sender: Bytes<'a>,
    ts: i64,
    silent: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    quiet: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<i64>,
    #[serde(flatten)]
    payload: Bytes<'a>,
    #[serde(flatten)]
    id: Option<Bytes<'a>>,
    #[serde(flatten)]
    unique_id: Option<Bytes<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
}

impl<'a> From<&'a chanlog::Message> for Message<'a> {
    fn from(message: &'a chanlog::Message) -> Self {
        let (id, unique_id) = (message.client_id.as_deref(), message.unique_id.as_deref());
        Message {
            seq: message.seq,
            sender: Bytes { key: "sender", base64: "sender_base64", bytes: &message.sender },
            ts: message.timestamp,
            silent: message.silent,
            quiet: message.quiet.then_some(true),
            expires: message.expires,
            payload: Bytes::payload(&message.payload),
            id: id.map(|bytes| Bytes { key: "id", base64: "id_base64", bytes }),
            unique_id: unique_id.map(|bytes| Bytes { key: "unique_id", base64: "unique_id_base64", bytes }),
            state: state(message),
        }
    }
}

/// What became of a message, in a word, if it is not as it was sent.
pub fn state(message: &chanlog::Message) -> Option<&'static str> {
    match message.state {
        MessageState::Sent => None,
        MessageState::Edited { .. } => Some("edited"),
        MessageState::Retracted { .. } => Some("retracted"),
        MessageState::Erased { .. } => Some("erased"),
        MessageState::Expired { .. } => Some("expired"),
        _ => Some("altered"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Serialize)]
    struct Line<'a> {
        #[serde(flatten)]
        user: Bytes<'a>,
        #[serde(flatten)]
        channel: Bytes<'a>,
        seq: u64,
        last: Option<bool>,
    }

    fn line(user: &str) -> String {
        let line = Line {
            user: Bytes::user(user.as_bytes()),
            channel: Bytes::channel(b"\xff\x00"),
            seq: u64::MAX,
            last: None,
        };
        let mut text = Vec::new();
        write(&mut text, &line).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn keys_keep_their_order_and_bytes_that_are_no_text_become_base64() {
        let text = r#"{"user":"zoë\n","channel_base64":"/wA=","seq":18446744073709551615,"last":null}"#;
        assert_eq!(line("zoë\n"), text);
    }

    #[test]
    fn hidden_characters_are_escaped_and_mean_the_same() {
        let user = "a\u{9b}\u{7f}\"é\u{202e}\u{1b}z";
        let text = line(user);
        assert!(text.starts_with(r#"{"user":"a\u009b\u007f\"é\u202e\u001bz","#), "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["user"], user);
    }
}
