//! The head of a channel: what is kept in memory for each.
//!
//! Most channels are plain. What others have besides stands in further fields, which are kept apart, so that they cost
//! those nothing that have none.

use super::codec::{Put, Reader};
use super::ids::ChannelId;
use super::image::{Field, Value, put_field, take_field};
use super::mark::Mark;
use crate::env::fault;
use crate::error::{Error, Result};

/// How many buffered messages may at most await their sync, in the whole store. After an end that may have taken buffered
/// messages each channel goes on this far beyond its last message that was kept, so that no seq that somebody saw is given
/// out again.
pub const BUFFERED_WINDOW: u64 = 65_536;

/// Defines [`Head`] and [`Further`]: what every channel has, and what few have. A further field is one line, and costs a
/// channel without it nothing, in memory and in files. Its number is never used again.
macro_rules! head {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $number:literal,)*) => {
        /// The end of a channel, and what is known of all its messages. A plain one takes 40 bytes of memory; one that has
        /// any of the fields after `class` takes about 100 more.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[non_exhaustive]
        pub struct Head {
            /// The last message's mark.
            pub last: Mark,
            /// The version of the last message, by which lists are ordered unless it is quiet; 0 while there is none. It also tells where that
            /// message lies, because every file covers a contiguous range of versions.
            pub order: u64,
            /// The version of the last change that members are told of.
            pub changed: u64,
            /// The number of present members. Deleted users are among them until upkeep has ended their memberships.
            pub members: u32,
            /// The channel's class, as the server gave it; 0 to begin with.
            pub class: u8,
            $($(#[$doc])* pub $field: $type,)*
        }

        /// The further fields of a head, which a plain channel lacks.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(crate) struct Further {
            $($field: $type,)*
        }

        impl Head {
            /// Whether it has no further fields.
            #[inline]
            fn is_plain(&self) -> bool {
                $(self.$field == <$type>::default())&&*
            }

            fn further(&self) -> Further {
                Further { $($field: self.$field,)* }
            }

            fn add(&mut self, further: &Further) {
                $(self.$field = further.$field;)*
            }

            /// Shows the fields that differ from their defaults by their names, the version apart.
            pub(crate) fn each_field(&self, see: &mut dyn FnMut(&'static str, Value<'_>)) {
                see("last", Value::Mark(self.last));
                see("order", Value::Number(self.order));
                see("members", Value::Number(self.members.into()));
                if self.class > 0 {
                    see("class", Value::Number(self.class.into()));
                }
                $(if self.$field != <$type>::default() {
                    see(stringify!($field), Field::value(&self.$field));
                })*
            }

            /// Sets a field of this name; `None` if there is none, or if it can't have the value.
            pub(crate) fn set_named(&mut self, name: &str, value: Value<'_>) -> Option<()> {
                match (name, value) {
                    ("last", value) => self.last.take(value),
                    ("order", value) => self.order.take(value),
                    ("members", Value::Number(members)) => Some(self.members = members.try_into().ok()?),
                    ("class", value) => self.class.take(value),
                    $((name, value) if name == stringify!($field) => Field::take(&mut self.$field, value),)*
                    _ => None,
                }
            }
        }

        impl Further {
            /// Appends the fields of an image.
            fn encode(&self, out: &mut Vec<u8>) {
                $(if self.$field != <$type>::default() {
                    put_field(out, $number, Field::value(&self.$field));
                })*
            }

            /// Takes a field of an image; `None` if it is not valid. What a newer release added as optional is let pass.
            fn take(&mut self, number: u8, value: Value<'_>) -> Option<()> {
                match number {
                    $($number => Field::take(&mut self.$field, value),)*
                    _ => Some(()),
                }
            }
        }
    };
}

head! {
    /// The greatest seq of a message that was retracted, or 0.
    retracted: u64 = 3,
    /// The greatest seq of a message whose content is not what was sent, or 0.
    altered: u64 = 4,
    /// The version of the last change of a message's content or annotations, or 0.
    content: u64 = 5,
    /// The version of the last change of the channel's own row, which holds class and attributes, or 0.
    kept: u64 = 6,
    /// Messages up to this mark were trimmed: nobody reads them or counts them as unread, and their bytes go.
    trimmed: Mark = 7,
    /// The greatest seq of a message that mentions somebody, or 0.
    mentioned: u64 = 24,
    /// The greatest seq of a quiet message, or 0. While there is no message, the seq after which the channel begins.
    quiet: u64 = 25,
    /// While the last message is quiet: the seq of the last one that is not, or 0 if there is none. Else 0.
    loud_seq: u64 = 26,
    /// The version of that message, or 0.
    loud_order: u64 = 27,
    /// The version at which the channel was deleted, or 0. No name leads to a channel that was; a feed of the whole store tells
    /// of it once, as of a change of the channel.
    deleted: u64 = 16,
    /// When it was deleted, in Unix milliseconds.
    deleted_at: Option<i64> = 17,
    /// The greatest seq of a message that was erased, or 0.
    erased: u64 = 18,
    /// Whether the channel has a retention policy of its own.
    limited: bool = 19,
}

/// What every channel has of a head, and whether there is more.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PlainHead {
    last: Mark,
    order: u64,
    /// As in [`Head`].
    pub(crate) changed: u64,
    members: u32,
    class: u8,
    /// Whether there are further fields.
    pub(crate) more: bool,
}

impl PlainHead {
    /// The whole head. What is further is asked for if there is any.
    #[inline]
    pub(crate) fn head<'f>(&self, further: impl FnOnce() -> Option<&'f Further>) -> Head {
        let PlainHead { last, order, changed, members, class, more } = *self;
        let mut head = Head { last, order, changed, members, class, ..Head::default() };
        if more && let Some(further) = further() {
            head.add(further);
        }
        head
    }
}

/// A head as it is kept while it is on its way: as small as most are.
#[derive(Clone, Debug, Default)]
pub(crate) struct PackedHead {
    /// What every channel has.
    pub(crate) plain: PlainHead,
    /// The further fields, if there are any.
    pub(crate) further: Option<Box<Further>>,
}

impl PackedHead {
    /// The whole head.
    #[inline]
    pub(crate) fn head(&self) -> Head {
        self.plain.head(|| self.further.as_deref())
    }

    /// Whether the channel was deleted.
    pub(crate) fn dead(&self) -> bool {
        self.further.as_ref().is_some_and(|further| further.dead())
    }
}

impl From<&Head> for PackedHead {
    #[inline]
    fn from(head: &Head) -> PackedHead {
        let further = (!head.is_plain()).then(|| Box::new(head.further()));
        let Head { last, order, changed, members, class, .. } = *head;
        PackedHead {
            plain: PlainHead { last, order, changed, members, class, more: further.is_some() },
            further,
        }
    }
}

impl Further {
    /// Whether the channel was deleted.
    pub(crate) fn dead(&self) -> bool {
        self.deleted > 0
    }

    /// The version of the last change of content, if a message was erased.
    pub(crate) fn erased_content(&self) -> Option<u64> {
        (self.erased > 0).then_some(self.content)
    }
}

/// An end of a session that may have taken buffered messages which somebody saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    /// The last version that was kept.
    pub version: u64,
    /// The number of channels that were kept.
    pub channels: u32,
    /// The session that ended.
    pub session: u64,
}

/// The number of the section of heads in a table run.
pub(crate) const HEADS: u8 = 0;
/// The field of [`Head::order`], where it is not [`Head::changed`].
const ORDER: u8 = 1;
/// The field of [`Head::class`].
const CLASS: u8 = 2;

impl Head {
    /// Whether the channel was deleted: then nobody reads it or writes to it any more.
    pub(crate) fn dead(&self) -> bool {
        self.deleted > 0
    }

    /// The seq of the channel's next message, which gets version `version`: after a loss it is a window further.
    pub(crate) fn next_seq(&self, channel: ChannelId, version: u64, losses: &[Loss]) -> Result<u64> {
        let later = |loss: &&Loss| loss.version >= version;
        let hit = |loss: &&Loss| self.order <= loss.version && channel.0 < loss.channels;
        let gaps = losses.iter().rev().skip_while(later).take_while(hit).count() as u64;
        let last = self.last.seq;
        let full = || Error::TooLarge {
            what: "a channel's number of messages",
            len: last,
            limit: u64::MAX,
            op: None,
        };
        last.checked_add(gaps * BUFFERED_WINDOW * u64::from(!fault(66)) + 1).ok_or_else(full)
    }

    /// The version and the seq of the last message, or zeros.
    pub(crate) fn previous(&self) -> (u64, u64) {
        if self.order > 0 { (self.order, self.last.seq) } else { (0, 0) }
    }

    /// Whether the channel may begin after a mark: it never had a message, and does not begin beyond.
    pub(crate) fn may_begin_at(&self, base: Mark) -> bool {
        self.order == 0 && self.last.within(base) && base.ordinal <= base.seq
    }

    /// Lets the channel begin after a mark. Nothing that counts was before it, as after quiet messages.
    pub(crate) fn begin_at(&mut self, base: Mark) {
        (self.last, self.trimmed, self.quiet) = (base, base, base.seq);
    }

    /// Whether the last message is quiet.
    fn ends_quiet(&self) -> bool {
        self.quiet > 0 && self.quiet == self.last.seq
    }

    /// The mark of the last message that is not quiet. Quiet ones count nothing, so that both have one ordinal.
    pub(crate) fn loud(&self) -> Mark {
        let seq = if self.ends_quiet() { self.loud_seq } else { self.last.seq };
        Mark { seq, ..self.last }
    }

    /// The version of the last message that is not quiet, or 0: what lists are ordered by.
    pub(crate) fn loud_order(&self) -> u64 {
        if self.ends_quiet() { self.loud_order } else { self.order }
    }

    /// The head after a quiet message.
    pub(crate) fn after_quiet(self, last: Mark, version: u64) -> Head {
        let (loud_seq, loud_order) = (self.loud().seq, self.loud_order());
        Head { last, order: version, changed: version, quiet: last.seq, loud_seq, loud_order, ..self }
    }

    /// The head after any other message.
    pub(crate) fn after_loud(self, last: Mark, version: u64) -> Head {
        Head { last, order: version, changed: version, loud_seq: 0, loud_order: 0, ..self }
    }

    /// The mark of the next message.
    pub(crate) fn next_mark(&self, seq: u64, silent: bool) -> Mark {
        Mark { seq, ordinal: self.last.ordinal + u64::from(!silent || fault(59)) }
    }

    /// Appends the image for a table run, whose entry has the version `changed`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.last.seq);
        out.put_varint(self.last.lag());
        out.put_varint(self.members.into());
        if self.order != self.changed {
            put_field(out, ORDER, Value::Number(self.order));
        }
        if self.class > 0 {
            put_field(out, CLASS, Value::Number(self.class.into()));
        }
        self.further().encode(out);
    }

    /// The head of an image; `None` if it is not valid.
    pub(crate) fn decode(changed: u64, image: &[u8]) -> Option<Head> {
        let mut r = Reader::new(image);
        let last = Mark::with_lag(r.varint()?, r.varint()?)?;
        let mut head = Head { last, order: changed, changed, members: r.varint32()?, ..Head::default() };
        let mut further = Further::default();
        while !r.is_empty() {
            match take_field(&mut r)? {
                (ORDER, value) => head.order.take(value)?,
                (CLASS, value) => head.class.take(value)?,
                (number, value) => further.take(number, value)?,
            }
        }
        head.add(&further);
        (head.order <= changed).then_some(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_plain_head_takes_40_bytes() {
        assert_eq!(size_of::<PlainHead>(), 40);
    }

    proptest! {
        #[test]
        fn heads_round_trip(
            seq: u64, ordinal: u64, order: u64, changed: u64, members: u32, class: u8, further: Option<[u64; 2]>,
        ) {
            let last = Mark { seq, ordinal: ordinal.min(seq) };
            let mut head = Head { last, order: order.min(changed), changed, members, class, ..Head::default() };
            [head.retracted, head.kept] = further.unwrap_or_default();
            let mut image = Vec::new();
            head.encode(&mut image);
            prop_assert_eq!(Head::decode(changed, &image), Some(head));
            prop_assert_eq!(PackedHead::from(&head).head(), head);
        }
    }
}
