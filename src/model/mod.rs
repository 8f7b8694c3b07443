//! What an IM store means: channels, memberships, messages, and the operations on them. No file, no lock, no thread.
//!
//! **The list** of tables and of operations stands here and nowhere else. A table is a file with an `image!` and a line in
//! `tables`; an operation is a file in `ops` with an `operation!` and a line in `operations`.

pub mod alteration;
pub mod annotation;
pub mod batch;
pub mod blob;
pub mod channel;
pub mod codec;
pub mod delivered;
pub mod expiry;
pub mod fate;
pub mod follow;
pub mod forgotten;
pub mod head;
pub mod ids;
pub mod image;
pub mod kept;
pub mod key;
pub mod mark;
pub mod member;
pub mod membership;
pub mod mention;
pub mod message;
pub mod message_id;
pub mod names;
pub mod op;
pub mod ops;
pub mod outcome;
pub mod position;
pub mod retention;
pub mod sent;
pub mod set;
pub mod state;
pub mod user;
pub mod window;

use smallvec::SmallVec;

use alteration::Alteration;
use annotation::Annotation;
use channel::Channel;
use codec::{Put, Reader};
use delivered::Delivered;
use expiry::Expiry;
use fate::UserFate;
use forgotten::Forgotten;
use ids::{ChannelId, LogId, UserId};
use image::Image;
use kept::KeptHistory;
use key::{
    ChannelSenderHash, ChannelSeq, ChannelSetUser, IdHash, MessageSlot, TimeVersion, UserChannel,
    UserChannelSeq,
};
use member::{Member, own::Own};
use membership::Membership;
use mention::Mention;
use message_id::MessageId;
use op::{Decoder, Encoder, Fields, Limits, Operation};
use outcome::Outcome;
use position::Position;
use sent::Sent;
use set::{SetMember, by_user::InSet};
use state::{State, Transaction};
use user::User;

use crate::error::Result;

/// A family of types: one for each table, such as "the rows of a table in a layer".
pub trait Family {
    /// The type for a table.
    type Of<T: Table>: Default;
}

/// What is done with each table in turn.
pub trait EachTable<F: Family> {
    /// Does it with one table.
    fn table<T: Table>(&mut self, of: &F::Of<T>) -> Result<()>;
}

/// What is done with each table in turn, changing it.
pub trait EachTableMut<F: Family> {
    /// Does it with one table.
    fn table<T: Table>(&mut self, of: &mut F::Of<T>) -> Result<()>;
}

/// A row whose table is in the list.
pub trait Table: Image {
    /// The member of a family for this table.
    fn of<F: Family>(tables: &Tables<F>) -> &F::Of<Self>;
    /// The same, to be changed.
    fn of_mut<F: Family>(tables: &mut Tables<F>) -> &mut F::Of<Self>;
    /// A member of a family, if it is this table's.
    fn pick<F: Family>(one: &OneOf<F>) -> Option<&F::Of<Self>>;
    /// The same, to be changed. It becomes this table's, as a new one, if it is another's.
    fn turn<F: Family>(one: &mut OneOf<F>) -> &mut F::Of<Self>;
    /// A new member of a family, for this table.
    fn fresh<F: Family>() -> OneOf<F>;
    /// Whether a look-up mostly finds nothing. Runs then keep a filter of the keys, 2.5 bytes each.
    const FILTERED: bool = false;
    /// What follows from a change of a row.
    fn follow(_before: Option<&Self>, _after: &Self, _key: Self::Key, _state: &mut impl State) {}
    /// Whether a row can stand in a channel with these heads, whatever changed it.
    fn fits(&self, _key: Self::Key, _state: &impl State) -> bool {
        true
    }
}

/// What is done with the table of a number.
pub trait WithTable {
    /// What comes of it.
    type Out;
    /// Does it.
    fn table<T: Table>(self) -> Self::Out;
}

/// The members of a family for those tables that were touched so far. A commit touches few of the tables: what is made for
/// each one is as large as what it touches, however many tables there are.
pub struct SomeOf<F: Family>(SmallVec<[OneOf<F>; 2]>);

impl<F: Family> Default for SomeOf<F> {
    fn default() -> Self {
        SomeOf(SmallVec::new())
    }
}

impl<F: Family> SomeOf<F> {
    /// The member for a table, if it was touched.
    pub fn get<T: Table>(&self) -> Option<&F::Of<T>> {
        self.0.iter().find_map(T::pick)
    }

    /// The same, to be changed; it is made if need be.
    pub fn get_mut<T: Table>(&mut self) -> &mut F::Of<T> {
        let at = self.0.iter().position(|one| T::pick(one).is_some()).unwrap_or(self.0.len());
        if at == self.0.len() {
            self.0.push(T::fresh());
        }
        T::turn(&mut self.0[at])
    }

    /// Does something with each, in the order in which they were touched, until an error.
    pub fn each(&self, work: &mut impl EachTable<F>) -> Result<()> {
        self.0.iter().try_for_each(|one| one.with(work))
    }

    /// The same, changing them.
    pub fn each_mut(&mut self, work: &mut impl EachTableMut<F>) -> Result<()> {
        self.0.iter_mut().try_for_each(|one| one.with_mut(work))
    }
}

/// Makes [`Tables`] and [`OneOf`] from the list.
macro_rules! tables {
    ($($field:ident: $row:ident $({ $($function:item)* })?,)*) => {
        /// One member of a family for each table.
        pub struct Tables<F: Family> {
            $(#[allow(missing_docs)] pub $field: F::Of<$row>,)*
        }

        impl<F: Family> Default for Tables<F> {
            fn default() -> Self {
                Tables { $($field: Default::default(),)* }
            }
        }

        impl<F: Family> Tables<F> {
            /// Does something with each table, ascending by number, until an error.
            pub fn each(&self, work: &mut impl EachTable<F>) -> Result<()> {
                $(work.table::<$row>(&self.$field)?;)*
                Ok(())
            }

            /// The same, changing them.
            pub fn each_mut(&mut self, work: &mut impl EachTableMut<F>) -> Result<()> {
                $(work.table::<$row>(&mut self.$field)?;)*
                Ok(())
            }
        }

        /// A member of a family.
        pub enum OneOf<F: Family> {
            $(#[allow(missing_docs)] $row(F::Of<$row>),)*
        }

        impl<F: Family> OneOf<F> {
            /// Does something with it.
            pub fn with(&self, work: &mut impl EachTable<F>) -> Result<()> {
                match self { $(OneOf::$row(of) => work.table::<$row>(of),)* }
            }

            /// The same, changing it.
            pub fn with_mut(&mut self, work: &mut impl EachTableMut<F>) -> Result<()> {
                match self { $(OneOf::$row(of) => work.table::<$row>(of),)* }
            }
        }

        /// Does something with the table of a number; `None` if there is none.
        pub fn with_table<W: WithTable>(number: u8, work: W) -> Option<W::Out> {
            $(if number == <$row as Image>::TABLE {
                return Some(work.table::<$row>());
            })*
            None
        }

        /// The names of all tables, by their numbers, ascending.
        pub const TABLES: &[(u8, &str)] = &[$((<$row as Image>::TABLE, stringify!($field)),)*];

        $(impl Table for $row {
            fn of<F: Family>(tables: &Tables<F>) -> &F::Of<Self> {
                &tables.$field
            }

            fn of_mut<F: Family>(tables: &mut Tables<F>) -> &mut F::Of<Self> {
                &mut tables.$field
            }

            fn pick<F: Family>(one: &OneOf<F>) -> Option<&F::Of<Self>> {
                match one {
                    OneOf::$row(of) => Some(of),
                    _ => None,
                }
            }

            fn turn<F: Family>(one: &mut OneOf<F>) -> &mut F::Of<Self> {
                loop {
                    match *one {
                        OneOf::$row(ref mut of) => return of,
                        _ => *one = Self::fresh(),
                    }
                }
            }

            fn fresh<F: Family>() -> OneOf<F> {
                OneOf::$row(Default::default())
            }

            $($($function)*)?
        })*
    };
}

tables! {
    memberships: Membership {
        fn follow(before: Option<&Self>, after: &Self, key: UserChannel, state: &mut impl State) {
            Membership::follow(before, after, key, state);
        }

        fn fits(&self, key: UserChannel, state: &impl State) -> bool {
            state.knows(key) && Membership::fits(self, &state.head(key.channel))
        }
    },
    members: Member,
    owns: Own,
    channels: Channel {
        fn follow(_: Option<&Self>, after: &Self, key: ChannelId, state: &mut impl State) {
            Channel::follow(after, key, state);
        }

        fn fits(&self, key: ChannelId, state: &impl State) -> bool {
            state.knows(key) && Channel::fits(self, &state.head(key))
        }
    },
    users: User {
        fn fits(&self, key: UserId, state: &impl State) -> bool {
            state.knows(key)
        }
    },
    alterations: Alteration {
        fn follow(_: Option<&Self>, after: &Self, key: ChannelSeq, state: &mut impl State) {
            Alteration::follow(after, key, state);
        }

        fn fits(&self, key: ChannelSeq, state: &impl State) -> bool {
            state.knows(key) && Alteration::fits(key, &state.head(key.channel))
        }
    },
    annotations: Annotation {
        fn follow(_: Option<&Self>, after: &Self, key: MessageSlot, state: &mut impl State) {
            Annotation::follow(after, key, state);
        }

        fn fits(&self, key: MessageSlot, state: &impl State) -> bool {
            state.knows(key) && Annotation::fits(key, &state.head(key.channel))
        }
    },
    forgotten: Forgotten {
        fn fits(&self, key: UserChannel, state: &impl State) -> bool {
            state.knows(key) && Forgotten::fits(self, &state.head(key.channel))
        }
    },
    set_members: SetMember {
        const FILTERED: bool = true;

        fn follow(_: Option<&Self>, after: &Self, key: ChannelSetUser, state: &mut impl State) {
            SetMember::follow(after, key, state);
        }

        fn fits(&self, key: ChannelSetUser, state: &impl State) -> bool {
            state.knows(key)
        }
    },
    in_sets: InSet,
    sent: Sent {
        const FILTERED: bool = true;

        fn fits(&self, key: ChannelSenderHash, state: &impl State) -> bool {
            state.knows(key)
        }
    },
    message_ids: MessageId {
        const FILTERED: bool = true;

        fn fits(&self, _: IdHash, state: &impl State) -> bool {
            self.leads(state)
        }
    },
    mentions: Mention {
        fn follow(_: Option<&Self>, _: &Self, key: UserChannelSeq, state: &mut impl State) {
            Mention::follow(key, state);
        }

        fn fits(&self, key: UserChannelSeq, state: &impl State) -> bool {
            state.knows(key) && Mention::fits(key, &state.head(key.channel))
        }
    },
    delivered: Delivered {
        fn fits(&self, key: UserChannel, state: &impl State) -> bool {
            state.knows(key) && Delivered::fits(self, &state.head(key.channel))
        }
    },
    kept_histories: KeptHistory {
        const FILTERED: bool = true;

        fn fits(&self, key: UserChannel, state: &impl State) -> bool {
            state.knows(key) && KeptHistory::fits(self, &state.head(key.channel))
        }
    },
    positions: Position {
        fn follow(before: Option<&Self>, after: &Self, key: LogId, state: &mut impl State) {
            state.advance(key, before, after);
        }
    },
    user_fates: UserFate {
        fn fits(&self, key: UserId, state: &impl State) -> bool {
            state.knows(key) && UserFate::fits(self)
        }
    },
    expiries: Expiry {
        fn fits(&self, _: TimeVersion, state: &impl State) -> bool {
            self.leads(state)
        }
    },
}

/// Makes the enum of all operations.
macro_rules! operations {
    ($($name:ident in $module:ident,)*) => {
        /// Any operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Op<'a> {
            $(#[allow(missing_docs)] $name(ops::$module::$name<'a>),)*
        }

        impl<'a> Op<'a> {
            /// Reads the fields of the operation of a number; `None` if they are not valid.
            fn read(code: u8, mut decoder: Decoder<'_, 'a>) -> Option<Op<'a>> {
                $(if code == <ops::$module::$name<'a> as Operation<'a>>::CODE {
                    let mut op = ops::$module::$name::default();
                    op.fields(&mut decoder);
                    return decoder.good.then_some(Op::$name(op));
                })*
                None
            }

            /// The operation of a name, with default fields.
            pub fn named(name: &str) -> Option<Op<'a>> {
                $(if name == <ops::$module::$name<'a> as Operation<'a>>::NAME {
                    return Some(Op::$name(Default::default()));
                })*
                None
            }

            /// The names of all operations.
            pub const NAMES: &'static [&'static str] = &[$(<ops::$module::$name<'static> as Operation<'static>>::NAME,)*];

            /// Its number.
            pub fn code(&self) -> u8 {
                match self { $(Op::$name(_) => <ops::$module::$name<'a> as Operation<'a>>::CODE,)* }
            }

            /// Its name.
            pub fn name(&self) -> &'static str {
                match self { $(Op::$name(_) => <ops::$module::$name<'a> as Operation<'a>>::NAME,)* }
            }

            /// Whether it may need rows or marks that lie in files.
            pub fn reads(&self) -> bool {
                match self { $(Op::$name(op) => op.reads(),)* }
            }

            /// Whether it may be written where the disk is full.
            pub fn makes_room(&self) -> bool {
                match self { $(Op::$name(op) => op.makes_room(),)* }
            }

            /// Shows its fields to a visitor.
            pub fn fields(&mut self, fields: &mut impl Fields<'a>) {
                match self { $(Op::$name(op) => op.fields(fields),)* }
            }

            /// Checks what can be checked without the store, names apart.
            pub fn check(&self, limits: &Limits) -> Result<()> {
                match self { $(Op::$name(op) => op.check(limits),)* }
            }

            /// Does it.
            pub fn run(&self, txn: &mut impl Transaction) -> Result<Outcome> {
                match self { $(Op::$name(op) => op.run(txn),)* }
            }
        }
    };
}

operations! {
    Append in append,
    Join in join,
    Leave in leave,
    Read in read,
    Clear in clear,
    Hide in hide,
    Activate in activate,
    Pin in pin,
    Mute in mute,
    Role in role,
    Attributes in attributes,
    FlagUnread in flag_unread,
    ReadAt in read_at,
    SetUnread in set_unread,
    Class in class,
    ChannelAttributes in channel_attributes,
    UserAttributes in user_attributes,
    Retract in retract,
    Annotate in annotate,
    Forget in forget,
    Edit in edit,
    RequireChannel in require,
    RequireMember in require,
    AddToSet in sets,
    RemoveFromSet in sets,
    Trim in trim,
    ReadAll in read_all,
    Deliver in deliver,
    DeleteChannel in delete_channel,
    Erase in erase,
    Empty in empty,
    Retention in retention,
    SetPosition in position,
    AppendAt in append_at,
    SetBase in set_base,
    EraseUser in erase_user,
    DeleteUser in delete_user,
    Expire in expire,
}

impl<'a> Op<'a> {
    /// The unique id of the message that it sends, if it has one.
    pub fn unique_id(&self) -> Option<&'a [u8]> {
        match self {
            Op::Append(send) => send.unique_id,
            Op::AppendAt(send) => send.unique_id,
            _ => None,
        }
    }

    /// Reads the next operation; `None` if there is no valid one.
    pub fn decode(reader: &mut Reader<'a>) -> Option<Op<'a>> {
        Op::read(reader.u8()?, Decoder { reader, good: true })
    }

    /// Appends its bytes.
    pub fn encode(mut self, out: &mut Vec<u8>) {
        out.put_u8(self.code());
        self.fields(&mut Encoder(out));
    }
}
