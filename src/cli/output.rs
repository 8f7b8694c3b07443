//! What stdout looks like: JSON objects with their keys in a fixed order, or tables for people.
//!
//! Names and payloads are bytes. In JSON, what is not UTF-8 stands as base64 under a key of its own (`user_base64` in
//! place of `user`, and so on). In tables, control characters are escaped, so that no message can drive a terminal.

use std::io::{self, BufWriter, StdoutLock, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chanlog::Message;
use comfy_table::{Cell, CellAlignment, LineStyle, Table, TableStyle};
use serde::Serialize;

/// How much of a text a table shows, in characters.
const SHOWN: usize = 48;

/// Stdout, buffered.
pub struct Output {
    out: BufWriter<StdoutLock<'static>>,
}

impl Output {
    /// The one stdout there is.
    pub fn new() -> Output {
        Output { out: BufWriter::new(io::stdout().lock()) }
    }

    /// Writes a JSON object, or anything else that fills a line.
    pub fn line(&mut self, line: impl std::fmt::Display) -> io::Result<()> {
        writeln!(self.out, "{line}")
    }

    /// Makes all that was written visible to the reader.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Says something on stderr. Where even that is gone, there is nobody left to tell.
pub fn say(what: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "chanlog: {what}");
}

/// A JSON object under construction; keys stand in the order in which they were added.
#[derive(Default)]
pub struct Object {
    /// The members, separated by commas.
    text: String,
}

impl Object {
    /// An object without keys.
    pub fn new() -> Object {
        Object::default()
    }

    /// Adds a number, a string, a flag: whatever has one JSON form.
    pub fn field(self, key: &str, value: impl Serialize) -> Object {
        self.raw(key, &json(value))
    }

    /// Adds a name: `key` if it is UTF-8, else `key_base64`.
    pub fn name(self, key: &str, name: &[u8]) -> Object {
        self.bytes(key, &format!("{key}_base64"), name)
    }

    /// Adds bytes, under `key` as a string if they are UTF-8, else under `other` as base64.
    pub fn bytes(self, key: &str, other: &str, bytes: &[u8]) -> Object {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.field(key, text),
            Err(_) => self.field(other, BASE64.encode(bytes)),
        }
    }

    /// Adds an object, or `null`.
    pub fn object(self, key: &str, object: Option<Object>) -> Object {
        let text = object.map_or("null".into(), |o| o.to_string());
        self.raw(key, &text)
    }

    fn raw(mut self, key: &str, value: &str) -> Object {
        if !self.text.is_empty() {
            self.text.push(',');
        }
        self.text.push_str(&json(key));
        self.text.push(':');
        self.text.push_str(value);
        self
    }
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{{{}}}", self.text)
    }
}

fn json(value: impl Serialize) -> String {
    serde_json::to_string(&value).expect("plain values have a JSON form")
}

/// A message as JSON. The client id comes last, and only where there is one.
pub fn message(message: &Message) -> Object {
    let object = Object::new()
        .field("seq", message.seq)
        .name("sender", &message.sender)
        .field("ts", message.timestamp)
        .field("silent", message.silent)
        .bytes("text", "payload_base64", &message.payload);
    match &message.client_id {
        Some(id) => object.name("id", id),
        None => object,
    }
}

/// A table with these column heads; those that begin with `>` are numbers, set flush right.
pub fn table(heads: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')));
    table.set_header(heads.iter().map(|head| Cell::new(head.trim_start_matches('>'))));
    for (column, head) in heads.iter().enumerate() {
        if let (true, Some(column)) = (head.starts_with('>'), table.column_mut(column)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Bytes as people read them: one line, escaped, cut where it gets long.
pub fn shown(bytes: &[u8]) -> String {
    // Cutting bytes first keeps a large payload from being read whole; a character takes at most four.
    let head = &bytes[..bytes.len().min(4 * (SHOWN + 1))];
    let text = String::from_utf8_lossy(head);
    let mut shown = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == SHOWN {
            shown.push('…');
            break;
        }
        match c.is_control() {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}

/// A whole name as people read it, on one line.
pub fn label(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    text.chars().fold(String::new(), |mut label, c| {
        match c.is_control() {
            true => label.extend(c.escape_default()),
            false => label.push(c),
        }
        label
    })
}

/// Unix milliseconds as a date and time of day, UTC, by the Gregorian calendar.
pub fn time(ms: i64) -> String {
    let (days, minutes) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000) / 60_000);
    // Counted from 1 March of the year 0, leap days come last in each cycle of 400 years.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = era * 400 + year + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_order_and_bytes_that_are_no_text_become_base64() {
        let object = Object::new()
            .name("user", "zoë\n".as_bytes())
            .name("channel", b"\xff\x00")
            .field("seq", u64::MAX)
            .object("last", None)
            .object("more", Some(Object::new().field("a", true)));
        let text = r#"{"user":"zoë\n","channel_base64":"/wA=","seq":18446744073709551615,"last":null,"more":{"a":true}}"#;
        assert_eq!(object.to_string(), text);
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(time(0), "1970-01-01 00:00");
        assert_eq!(time(951_782_399_999), "2000-02-28 23:59");
        assert_eq!(time(951_782_400_000), "2000-02-29 00:00");
        assert_eq!(time(951_868_800_000), "2000-03-01 00:00");
        assert_eq!(time(-1), "1969-12-31 23:59");
        assert_eq!(time(i64::MAX).get(..9), Some("292278994"));
        assert_eq!(time(i64::MIN).get(..1), Some("-"));
    }

    #[test]
    fn texts_are_cut_and_cannot_drive_a_terminal() {
        assert_eq!(shown(b"a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(shown("é".repeat(100).as_bytes()), "é".repeat(48) + "…");
        assert_eq!(shown("é".repeat(48).as_bytes()), "é".repeat(48));
        assert_eq!(label(b"x\x07"), "x\\u{7}");
    }
}
