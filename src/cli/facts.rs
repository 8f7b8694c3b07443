//! Facts as lines of JSON, and back. A line is an object whose "fact" says which kind it is; its keys are always in the same
//! order, so that equal facts are equal lines. Bytes that are no UTF-8 are base64, under another key or in an object.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use chanlog::{Fact, FieldFact, Mark, MessageFact, RowFact, StoreFact, UnknownTable, ValueFact};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

/// How the first line of an export begins, and no other line.
pub const BEGIN: &[u8] = br#"{"fact":"store","#;
/// The form of the lines.
const FORMAT: u64 = 1;

/// What a line holds, or what is wrong with it.
pub type Parsed<T> = std::result::Result<T, String>;

/// A line of an export.
pub enum Line {
    /// A fact.
    Fact(Box<Fact>),
    /// The end, after so many facts.
    End(u64),
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Line::Fact(fact) => put_fact(&mut map, fact)?,
            Line::End(facts) => {
                map.serialize_entry("fact", "end")?;
                map.serialize_entry("facts", facts)?;
            }
        }
        map.end()
    }
}

const NAME: (&str, &str) = ("name", "name_base64");
const CHANNEL: (&str, &str) = ("channel", "channel_base64");
const USER: (&str, &str) = ("user", "user_base64");
const SENDER: (&str, &str) = ("sender", "sender_base64");
const CLIENT_ID: (&str, &str) = ("client_id", "client_id_base64");
const UNIQUE_ID: (&str, &str) = ("unique_id", "unique_id_base64");
const PAYLOAD: (&str, &str) = ("text", "payload_base64");

fn put_fact<M: SerializeMap>(map: &mut M, fact: &Fact) -> Result<(), M::Error> {
    match fact {
        Fact::Store(store) => put_store(map, store),
        Fact::Channel(name) => {
            map.serialize_entry("fact", "channel")?;
            put_bytes(map, NAME, name)
        }
        Fact::User(name) => {
            map.serialize_entry("fact", "user")?;
            put_bytes(map, NAME, name)
        }
        Fact::Row(row) => put_row(map, row),
        Fact::Message(message) => put_message(map, message),
        Fact::Value(value) => {
            map.serialize_entry("fact", "value")?;
            map.serialize_entry("version", &value.version)?;
            map.serialize_entry("ts", &value.timestamp)?;
            put_bytes(map, PAYLOAD, &value.bytes)
        }
        _ => Err(serde::ser::Error::custom("a fact of a newer release")),
    }
}

fn put_bytes<M: SerializeMap>(
    map: &mut M,
    keys: (&'static str, &'static str),
    bytes: &[u8],
) -> Result<(), M::Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => map.serialize_entry(keys.0, text),
        Err(_) => map.serialize_entry(keys.1, &BASE64.encode(bytes)),
    }
}

fn put_store<M: SerializeMap>(map: &mut M, store: &StoreFact) -> Result<(), M::Error> {
    map.serialize_entry("fact", "store")?;
    map.serialize_entry("format", &FORMAT)?;
    map.serialize_entry("version", &store.version)?;
    map.serialize_entry("channels", &store.channels)?;
    map.serialize_entry("users", &store.users)?;
    map.serialize_entry("hash_key", &BASE64.encode(store.hash_key))?;
    map.serialize_entry("losses", &store.losses)
}

fn put_row<M: SerializeMap>(map: &mut M, row: &RowFact) -> Result<(), M::Error> {
    map.serialize_entry("fact", "row")?;
    let fields = row.fields();
    match row.table_name().filter(|_| fields.is_some()) {
        Some(name) => map.serialize_entry("table", name)?,
        None => map.serialize_entry("table", &row.table)?,
    }
    map.serialize_entry("key", &row.key)?;
    if let Some(channel) = &row.channel {
        put_bytes(map, CHANNEL, channel)?;
    }
    if let Some(user) = &row.user {
        put_bytes(map, USER, user)?;
    }
    map.serialize_entry("version", &row.version)?;
    if let Some(fields) = fields {
        return map.serialize_entry("fields", &Fields(&fields));
    }
    let UnknownTable { wide, filtered, tag } = row.unknown.unwrap_or_default();
    map.serialize_entry("wide", &wide)?;
    map.serialize_entry("filtered", &filtered)?;
    map.serialize_entry("tag", &tag)?;
    map.serialize_entry("image_base64", &BASE64.encode(&row.image))
}

fn put_message<M: SerializeMap>(map: &mut M, message: &MessageFact) -> Result<(), M::Error> {
    map.serialize_entry("fact", "message")?;
    put_bytes(map, CHANNEL, &message.channel)?;
    map.serialize_entry("channel_id", &message.channel_id)?;
    map.serialize_entry("seq", &message.mark.seq)?;
    map.serialize_entry("ordinal", &message.mark.ordinal)?;
    map.serialize_entry("version", &message.version)?;
    put_bytes(map, SENDER, &message.sender)?;
    map.serialize_entry("sender_id", &message.sender_id)?;
    map.serialize_entry("ts", &message.timestamp)?;
    if message.silent {
        map.serialize_entry("silent", &true)?;
    }
    if message.quiet > 0 {
        map.serialize_entry("quiet", &message.quiet)?;
    }
    if let Some(id) = message.id {
        map.serialize_entry("id", &id)?;
    }
    for (keys, bytes) in [(CLIENT_ID, &message.client_id), (UNIQUE_ID, &message.unique_id)] {
        if !bytes.is_empty() {
            put_bytes(map, keys, bytes)?;
        }
    }
    if !message.fields.is_empty() {
        map.serialize_entry("fields_base64", &BASE64.encode(&message.fields))?;
    }
    put_bytes(map, PAYLOAD, &message.payload)
}

/// The fields of a row.
struct Fields<'a>(&'a [(Cow<'static, str>, FieldFact)]);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        self.0.iter().try_for_each(|(name, value)| map.serialize_entry(name, &Field(value)))?;
        map.end()
    }
}

/// The value of a field. What is neither a number nor a text is an object.
struct Field<'a>(&'a FieldFact);

impl Serialize for Field<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pairs: &[(&str, i128)] = match self.0 {
            FieldFact::Number(number) => return serializer.serialize_u64(*number),
            FieldFact::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => return serializer.serialize_str(text),
                Err(_) => return serializer.collect_map([("base64", BASE64.encode(bytes))]),
            },
            FieldFact::Signed(number) => &[("signed", (*number).into())],
            FieldFact::Mark(Mark { seq, ordinal }) => {
                &[("seq", (*seq).into()), ("ordinal", (*ordinal).into())]
            }
            FieldFact::Value { version, len, hash, .. } => {
                &[("value", (*version).into()), ("len", (*len).into()), ("hash", (*hash).into())]
            }
            _ => return Err(serde::ser::Error::custom("a field of a newer release")),
        };
        serializer.collect_map(pairs.iter().copied())
    }
}

/// The keys of a line that were not asked for yet.
struct Keys(Map<String, Value>);

/// Reads a line.
pub fn parse(line: &[u8]) -> Parsed<Line> {
    let line = std::str::from_utf8(line).map_err(|e| e.to_string())?;
    let map = serde_json::from_str(line).map_err(|e| format!("{} at column {}", cause(&e), e.column()))?;
    let mut keys = Keys(map);
    let kind = keys.text("fact")?;
    let fact = match &kind[..] {
        "store" => Some(Fact::Store(keys.store()?)),
        "channel" => Some(Fact::Channel(keys.bytes(NAME)?)),
        "user" => Some(Fact::User(keys.bytes(NAME)?)),
        "row" => Some(Fact::Row(keys.row()?)),
        "message" => Some(Fact::Message(keys.message()?)),
        "value" => {
            let (version, timestamp) = (keys.number("version")?, keys.number("ts")?);
            Some(Fact::Value(ValueFact { version, timestamp, bytes: keys.bytes(PAYLOAD)? }))
        }
        "end" => None,
        other => return Err(format!("no fact is called {other:?}")),
    };
    let line = match fact {
        Some(fact) => Line::Fact(Box::new(fact)),
        None => Line::End(keys.number("facts")?),
    };
    match keys.0.keys().next() {
        Some(key) => Err(format!("the key {key:?} means nothing here")),
        None => Ok(line),
    }
}

/// The parser counts lines too, which would only confuse.
fn cause(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rfind(" at line ").map_or(text.clone(), |at| text[..at].to_owned())
}

impl Keys {
    fn take(&mut self, key: &str) -> Parsed<Value> {
        self.0.remove(key).ok_or_else(|| format!("no {key}"))
    }

    fn text(&mut self, key: &str) -> Parsed<String> {
        match self.take(key)? {
            Value::String(text) => Ok(text),
            _ => Err(format!("{key} is no string")),
        }
    }

    fn number<N: TryFrom<i128>>(&mut self, key: &str) -> Parsed<N> {
        number(key, &self.take(key)?)
    }

    /// A number that may be left out.
    fn some<N: TryFrom<i128>>(&mut self, key: &str) -> Parsed<Option<N>> {
        self.0.remove(key).map(|value| number(key, &value)).transpose()
    }

    fn flag(&mut self, key: &str) -> Parsed<bool> {
        match self.0.remove(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(format!("{key} is neither true nor false")),
        }
    }

    /// Bytes: those of a string, or base64 under another key.
    fn some_bytes(&mut self, (text, base64): (&str, &str)) -> Parsed<Option<Bytes>> {
        match (self.0.contains_key(text), self.0.contains_key(base64)) {
            (false, false) => Ok(None),
            (true, false) => self.text(text).map(|text| Some(text.into())),
            (false, true) => self.decoded(base64).map(Some),
            (true, true) => Err(format!("both {text} and {base64}")),
        }
    }

    fn bytes(&mut self, keys: (&str, &str)) -> Parsed<Bytes> {
        self.some_bytes(keys)?.ok_or_else(|| format!("neither {} nor {}", keys.0, keys.1))
    }

    fn decoded(&mut self, key: &str) -> Parsed<Bytes> {
        let text = self.text(key)?;
        BASE64.decode(text).map(Bytes::from).map_err(|e| format!("{key}: {e}"))
    }

    fn store(&mut self) -> Parsed<StoreFact> {
        match self.number::<u64>("format")? {
            FORMAT => {}
            newer => return Err(format!("an export of format {newer}, which this release does not know")),
        }
        let hash_key = self.decoded("hash_key")?;
        let pair = |pair: &Value| Some((pair.get(0)?.as_u64()?, u32::try_from(pair.get(1)?.as_u64()?).ok()?));
        let losses = match self.take("losses")? {
            Value::Array(losses) => losses.iter().map(pair).collect::<Option<Vec<_>>>(),
            _ => None,
        };
        Ok(StoreFact {
            version: self.number("version")?,
            channels: self.number("channels")?,
            users: self.number("users")?,
            hash_key: hash_key.as_ref().try_into().map_err(|_| "hash_key is not of 16 bytes")?,
            losses: losses.ok_or("losses is no list of pairs")?,
        })
    }

    fn row(&mut self) -> Parsed<RowFact> {
        let Value::Array(parts) = self.take("key")? else { return Err("key is no list".into()) };
        let parts = parts.iter().map(|part| number("key", part)).collect::<Parsed<Vec<u64>>>()?;
        let key = parts.try_into().map_err(|_| "key is not of three numbers")?;
        let version = self.number("version")?;
        let (channel, user) = (self.some_bytes(CHANNEL)?, self.some_bytes(USER)?);
        let row = match self.take("table")? {
            Value::String(name) => {
                let table = RowFact::table_of(&name).ok_or_else(|| format!("no table is called {name:?}"))?;
                let Value::Object(fields) = self.take("fields")? else {
                    return Err("fields is no object".into());
                };
                let fields = fields
                    .into_iter()
                    .map(|(name, value)| Ok((Cow::from(name.clone()), field(&name, value)?)));
                let fields = fields.collect::<Parsed<Vec<_>>>()?;
                RowFact::with_fields(table, key, version, &fields).map_err(|e| e.to_string())?
            }
            table => {
                let unknown = UnknownTable {
                    wide: self.flag("wide")?,
                    filtered: self.flag("filtered")?,
                    tag: self.number("tag")?,
                };
                let (table, image) = (number("table", &table)?, self.decoded("image_base64")?);
                RowFact { table, key, version, image, unknown: Some(unknown), ..RowFact::default() }
            }
        };
        Ok(RowFact { channel, user, ..row })
    }

    fn message(&mut self) -> Parsed<MessageFact> {
        let fields =
            if self.0.contains_key("fields_base64") { self.decoded("fields_base64")? } else { Bytes::new() };
        Ok(MessageFact {
            channel: self.bytes(CHANNEL)?,
            channel_id: self.number("channel_id")?,
            sender: self.bytes(SENDER)?,
            sender_id: self.number("sender_id")?,
            mark: Mark { seq: self.number("seq")?, ordinal: self.number("ordinal")? },
            version: self.number("version")?,
            timestamp: self.number("ts")?,
            silent: self.flag("silent")?,
            quiet: self.some("quiet")?.unwrap_or(0),
            id: self.some("id")?,
            client_id: self.some_bytes(CLIENT_ID)?.unwrap_or_default(),
            unique_id: self.some_bytes(UNIQUE_ID)?.unwrap_or_default(),
            fields,
            payload: self.bytes(PAYLOAD)?,
        })
    }
}

fn number<N: TryFrom<i128>>(key: &str, value: &Value) -> Parsed<N> {
    let number = value.as_u64().map(i128::from).or_else(|| value.as_i64().map(i128::from));
    number
        .and_then(|number| number.try_into().ok())
        .ok_or_else(|| format!("{key} is no whole number in its range"))
}

/// The value of a field.
fn field(name: &str, value: Value) -> Parsed<FieldFact> {
    let mut keys = match value {
        Value::Number(_) => return number(name, &value).map(FieldFact::Number),
        Value::String(text) => return Ok(FieldFact::Bytes(text.into())),
        Value::Object(keys) => Keys(keys),
        _ => return Err(format!("the field {name} is no value")),
    };
    let value = if keys.0.contains_key("base64") {
        FieldFact::Bytes(keys.decoded("base64")?)
    } else if keys.0.contains_key("signed") {
        FieldFact::Signed(keys.number("signed")?)
    } else if keys.0.contains_key("value") {
        FieldFact::value(keys.number("value")?, keys.number("len")?, keys.number("hash")?)
    } else {
        FieldFact::Mark(Mark { seq: keys.number("seq")?, ordinal: keys.number("ordinal")? })
    };
    if keys.0.is_empty() { Ok(value) } else { Err(format!("the field {name} has keys too many")) }
}
