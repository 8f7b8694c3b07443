//! Comparing a store with the model: everything that can be read, or one question at a time.

use std::ops::RangeInclusive;

use bytes::Bytes;
use chanlog::{
    Annotation, Annotations, Blob, ChangeKind, Channel, ChannelChanges, Continuation, Conversation,
    Conversations, Found, Head, History, ListChange, Listing, Membership, Result, SetListing, SetMember,
    Store, SyncToken, Unread, Update, User, View,
};

use super::{Changed, Entry, Event, Line, Member, Model, Msg, Name, Range};

/// What can be read: a store, or a view of one.
pub trait Reads {
    fn head(&self, channel: &[u8]) -> Result<Head>;
    fn heads(&self, channels: &[Name]) -> Result<Vec<Head>>;
    fn history(&self, channel: &[u8]) -> History<'_>;
    fn annotations(&self, channel: &[u8]) -> Annotations<'_>;
    fn forgotten(&self, channel: &[u8], user: &[u8]) -> Result<Vec<RangeInclusive<u64>>>;
    fn kept_history(&self, channel: &[u8], user: &[u8]) -> Result<Option<RangeInclusive<u64>>>;
    fn changes(&self, channel: &[u8]) -> ChannelChanges<'_>;
    fn membership(&self, channel: &[u8], user: &[u8]) -> Result<Option<Membership>>;
    fn conversations(&self, user: &[u8]) -> Conversations<'_>;
    fn members(&self, channel: &[u8]) -> Listing<'_>;
    fn channels_of(&self, user: &[u8]) -> Listing<'_>;
    fn channels(&self) -> Listing<'_>;
    fn users(&self) -> Listing<'_>;
    fn has_memberships(&self, user: &[u8]) -> Result<bool>;
    fn has_channel(&self, channel: &[u8]) -> Result<bool>;
    fn conversation(&self, user: &[u8], channel: &[u8]) -> Result<Option<Conversation>>;
    fn unread(&self, user: &[u8]) -> Result<Unread>;
    fn kept(&self, channel: &[u8]) -> Result<Option<Channel>>;
    fn user(&self, user: &[u8]) -> Result<Option<User>>;
    fn set(&self, channel: &[u8], set: u8) -> SetListing<'_>;
    fn sets_of(&self, user: &[u8], set: u8) -> SetListing<'_>;
    fn message_by_id(&self, id: &[u8]) -> Result<Option<Found>>;
    fn set_member(&self, channel: &[u8], set: u8, user: &[u8]) -> Result<Option<SetMember>>;
}

macro_rules! reads {
    ($type:ident) => {
        impl Reads for $type {
            fn head(&self, channel: &[u8]) -> Result<Head> {
                $type::head(self, channel)
            }
            fn heads(&self, channels: &[Name]) -> Result<Vec<Head>> {
                $type::heads(self, channels)
            }
            fn history(&self, channel: &[u8]) -> History<'_> {
                $type::history(self, channel)
            }
            fn forgotten(&self, channel: &[u8], user: &[u8]) -> Result<Vec<RangeInclusive<u64>>> {
                $type::forgotten(self, channel, user)
            }
            fn kept_history(&self, channel: &[u8], user: &[u8]) -> Result<Option<RangeInclusive<u64>>> {
                $type::kept_history(self, channel, user)
            }
            fn annotations(&self, channel: &[u8]) -> Annotations<'_> {
                $type::annotations(self, channel)
            }
            fn changes(&self, channel: &[u8]) -> ChannelChanges<'_> {
                $type::changes(self, channel)
            }
            fn membership(&self, channel: &[u8], user: &[u8]) -> Result<Option<Membership>> {
                $type::membership(self, channel, user)
            }
            fn conversations(&self, user: &[u8]) -> Conversations<'_> {
                $type::conversations(self, user)
            }
            fn members(&self, channel: &[u8]) -> Listing<'_> {
                $type::members(self, channel)
            }
            fn channels_of(&self, user: &[u8]) -> Listing<'_> {
                $type::channels_of(self, user)
            }
            fn channels(&self) -> Listing<'_> {
                $type::channels(self)
            }
            fn users(&self) -> Listing<'_> {
                $type::users(self)
            }
            fn has_memberships(&self, user: &[u8]) -> Result<bool> {
                $type::has_memberships(self, user)
            }
            fn has_channel(&self, channel: &[u8]) -> Result<bool> {
                $type::has_channel(self, channel)
            }
            fn conversation(&self, user: &[u8], channel: &[u8]) -> Result<Option<Conversation>> {
                $type::conversation(self, user, channel)
            }
            fn unread(&self, user: &[u8]) -> Result<Unread> {
                $type::unread(self, user)
            }
            fn kept(&self, channel: &[u8]) -> Result<Option<Channel>> {
                $type::channel(self, channel)
            }
            fn user(&self, user: &[u8]) -> Result<Option<User>> {
                $type::user(self, user)
            }
            fn set(&self, channel: &[u8], set: u8) -> SetListing<'_> {
                $type::set(self, channel, set)
            }
            fn sets_of(&self, user: &[u8], set: u8) -> SetListing<'_> {
                $type::sets_of(self, user, set)
            }
            fn message_by_id(&self, id: &[u8]) -> Result<Option<Found>> {
                $type::message_by_id(self, id)
            }
            fn set_member(&self, channel: &[u8], set: u8, user: &[u8]) -> Result<Option<SetMember>> {
                $type::set_member(self, channel, set, user)
            }
        }
    };
}

reads!(Store);
reads!(View);

/// The bytes of a blob that must be there.
fn loaded(blob: &Blob) -> Bytes {
    blob.bytes().expect("attributes are loaded").clone()
}

impl From<&Membership> for Member {
    fn from(m: &Membership) -> Self {
        assert!(m.present(), "a tombstone is no membership");
        Member {
            join_seq: m.join_seq(),
            read: m.read,
            own: m.own,
            cleared: m.cleared,
            hidden: m.hidden,
            activated: m.activated,
            withdrawn: m.withdrawn,
            pinned: m.pinned,
            muted: m.muted,
            role: m.role,
            attributes: loaded(&m.attributes),
            flagged: m.flagged > 0,
            forgot: m.forgot,
            version: m.version,
        }
    }
}

impl From<&Conversation> for Entry {
    fn from(c: &Conversation) -> Self {
        assert!(c.fault.is_none(), "{}: {:?}", text(&c.channel), c.fault);
        Entry {
            channel: c.channel.to_vec(),
            class: c.class,
            last_seq: c.last_seq,
            read_seq: c.read_seq,
            unread: c.unread,
            mentions: c.mentions,
            version: c.version,
            versions: [c.versions.messages, c.versions.content, c.versions.channel, c.versions.row],
            last: c.last.as_ref().map(Msg::from),
            member: (&c.membership).into(),
        }
    }
}

impl From<&ListChange> for Event {
    fn from(change: &ListChange) -> Self {
        match change {
            ListChange::Entry(entry) => Event::Entry(entry.into()),
            ListChange::Removed { channel, version, .. } => {
                Event::Removed { channel: channel.to_vec(), version: *version }
            }
            _ => unreachable!("a change that the model does not know"),
        }
    }
}

/// Compares all that a store can be asked.
pub fn everything(store: &Store, model: &Model) {
    counts(store, model);
    reads(store, model);
}

/// Compares all that can be read, names that nobody ever heard of included.
pub fn reads(store: &impl Reads, model: &Model) {
    let (mut channels, mut users) = (model.channels(), model.users());
    assert_eq!(names(store.channels().list().unwrap()), channels, "channels");
    assert_eq!(names(store.users().list().unwrap()), users, "users");
    channels.push(b"a channel nobody made".to_vec());
    users.extend(model.dead_users());
    users.push(b"a user nobody met".to_vec());
    let heads: Vec<_> = channels.iter().map(|c| model.head(c)).collect();
    assert_eq!(store.heads(&channels).unwrap(), heads, "heads of {}", show(&channels));
    for name in &channels {
        channel(store, model, name, &users);
    }
    for name in &users {
        user(store, model, name);
    }
    sets(store, model, &channels, &users);
    for id in 0..IDS {
        let found = store.message_by_id(&[id]).unwrap();
        let found = found.map(|found| (found.channel.to_vec(), Msg::from(&found.message)));
        assert_eq!(found, model.by_id(&[id]), "the message with id {id}");
    }
}

/// Unique ids below this are looked up.
pub const IDS: u8 = 8;

/// The sets that are compared: the least, the greatest and one between.
pub const SETS: [u8; 3] = [0, 7, 255];

/// Compares the sets of all channels, from both sides, as a whole and since versions.
fn sets(store: &impl Reads, model: &Model, channels: &[Name], users: &[Name]) {
    let asked = [None, Some(0), Some(model.version() / 2), Some(model.version().saturating_sub(3))];
    for (set, since) in SETS.into_iter().flat_map(|set| asked.map(|since| (set, since))) {
        for channel in channels {
            let found = lines(store.set(channel, set), since);
            assert_eq!(found, model.set(channel, set, since), "set {set} of {} {since:?}", text(channel));
        }
        for user in users {
            let found = lines(store.sets_of(user, set), since);
            assert_eq!(found, model.sets_of(user, set, since), "sets {set} of {} {since:?}", text(user));
        }
    }
    for (channel, user) in channels.iter().zip(users) {
        let found = store.set_member(channel, SETS[1], user).unwrap();
        let expected = model.set(channel, SETS[1], None).into_iter().find(|line| line.0 == *user);
        let found = found.map(|row| (user.clone(), Some(row.attributes), row.version));
        assert_eq!(found, expected, "{} in set {} of {}", text(user), SETS[1], text(channel));
    }
}

/// What a set lists, page by page.
fn lines(listing: SetListing<'_>, since: Option<u64>) -> Vec<Line> {
    let listing = since.map_or(listing.clone(), |version| listing.since(version)).limit(2);
    let mut found: Vec<Line> = Vec::new();
    loop {
        let page = found.last().map_or(listing.clone(), |line| listing.clone().after(&line.0));
        let page = page.list().unwrap();
        assert!(page.len() <= 2, "a page of {}", page.len());
        if page.is_empty() {
            return found;
        }
        found.extend(page.into_iter().map(|entry| {
            let row = entry.member;
            let kept = row.present().then_some(row.attributes);
            (entry.name.to_vec(), kept, row.version)
        }));
    }
}

/// Compares the counts that a store gives of itself.
pub fn counts(store: &Store, model: &Model) {
    let stat = store.stat().unwrap();
    assert_eq!(stat.version, model.version(), "version");
    assert_eq!(stat.channels, model.channels().len() as u64, "number of channels");
    assert_eq!(stat.users, model.users().len() as u64, "number of users");
    // Trimmed ones go with their files.
    let kept = model.messages() - model.trimmed_messages()..=model.messages();
    assert!(kept.contains(&stat.messages), "number of messages: {} of {kept:?}", stat.messages);
}

/// Compares a channel: its head, whole history, members and each membership.
pub fn channel(store: &impl Reads, model: &Model, channel: &Name, users: &[Name]) {
    assert_eq!(store.head(channel).unwrap(), model.head(channel), "head of {}", text(channel));
    history(store, model, channel, &Range::default());
    times(store, model, channel);
    memberships_of(store, model, channel);
    let members = names(store.members(channel).list().unwrap());
    assert_eq!(members, model.members(channel), "members of {}", text(channel));
    let rows = store.members(channel).rows().unwrap();
    let rows: Vec<_> = rows.iter().map(|row| (row.name.to_vec(), Member::from(&row.membership))).collect();
    let row = |user: Name| model.membership(channel, &user).map(|row| (user, row));
    let expected: Vec<_> = members.into_iter().filter_map(row).collect();
    assert_eq!(rows, expected, "rows of the members of {}", text(channel));
    let kept = store.kept(channel).unwrap().map(|kept| (kept.class, loaded(&kept.attributes)));
    assert_eq!(kept, model.kept(channel), "what is kept with {}", text(channel));
    let known = model.channels().contains(channel);
    assert_eq!(store.has_channel(channel).unwrap(), known, "whether there is {}", text(channel));
    for user in users {
        membership(store, model, channel, user);
    }
    contents(store, model, channel);
}

/// Compares what is kept with a channel's messages, and what changed of them, whole and in pages.
fn contents(store: &impl Reads, model: &Model, channel: &Name) {
    for limit in [2, usize::MAX] {
        let mut found = store.annotations(channel).limit(limit).list().unwrap();
        let mut page = found.len();
        while page == limit {
            let last = found.last().unwrap();
            let next = store.annotations(channel).after(last.seq, &last.key).limit(limit).list().unwrap();
            page = next.len();
            found.extend(next);
        }
        assert!(found.is_sorted_by_key(|kept| kept.seq), "{found:?}");
        let mut found: Vec<_> = found.into_iter().map(annotation).collect();
        found.sort();
        assert_eq!(found, model.annotations(channel), "what is kept with messages of {}", text(channel));
    }
    let newest = model.version();
    for (since, limit) in [(0, usize::MAX), (0, 3), (newest / 2, 2), (newest.saturating_sub(3), usize::MAX)] {
        let mut found: Vec<(u64, u64, Changed)> = Vec::new();
        loop {
            let from = found.last().map_or(since, |(version, ..)| *version);
            let page = store.changes(channel).since(from).limit(limit).list().unwrap();
            found.extend(page.iter().map(|change| (change.version, change.seq, changed(&change.kind))));
            if page.len() < limit {
                break;
            }
        }
        assert_eq!(found, model.changes(channel, since), "changes of {} since {since}", text(channel));
    }
}

fn annotation(kept: Annotation) -> (u64, Bytes, Bytes, u64) {
    let value = kept.value.bytes().expect("values are loaded").clone();
    (kept.seq, kept.key, value, kept.version)
}

fn changed(kind: &ChangeKind) -> Changed {
    match kind {
        ChangeKind::Edited { payload, .. } => Changed::Edited(payload.clone()),
        ChangeKind::Retracted => Changed::Retracted,
        ChangeKind::Erased => Changed::Erased,
        ChangeKind::Expired => Changed::Expired,
        ChangeKind::Annotated { key, value, .. } => Changed::Annotated(key.clone(), value.clone()),
        ChangeKind::Unannotated { key, .. } => Changed::Annotated(key.clone(), Bytes::new()),
        _ => unreachable!("a change that the model does not know"),
    }
}

/// Compares the members of a channel by role, those who left, what changed since versions, and how far they have read.
fn memberships_of(store: &impl Reads, model: &Model, channel: &Name) {
    for role in 0..3 {
        let found = names(store.members(channel).role(role).list().unwrap());
        assert_eq!(found, model.members_of_role(channel, role), "role {role} in {}", text(channel));
    }
    let found = names(store.members(channel).left().list().unwrap());
    assert_eq!(found, model.left(channel), "who left {}", text(channel));
    for since in [0, model.version() / 2, model.version().saturating_sub(3)] {
        let found = told(store.members(channel).since(since));
        assert_eq!(found, model.members_since(channel, since), "since {since} in {}", text(channel));
        let question = store.members(channel).since(since);
        let marks = |after: Option<&Name>| {
            let page = after.map_or(question.clone(), |name| question.clone().after(name)).limit(2);
            let marks = page.marks().unwrap();
            marks
                .into_iter()
                .map(|m| (m.name.to_vec(), m.mark.seq, m.delivered, m.version))
                .collect::<Vec<_>>()
        };
        let mut found = marks(None);
        while let Some(more) = found.last().map(|last| marks(Some(&last.0))).filter(|more| !more.is_empty()) {
            found.extend(more);
        }
        assert_eq!(found, model.marks(channel, since), "marks since {since} in {}", text(channel));
    }
}

/// What a listing tells of memberships: names, and whether they are there.
fn told(listing: Listing<'_>) -> Vec<(Name, bool)> {
    let rows = listing.rows().unwrap();
    rows.into_iter().map(|row| (row.name.to_vec(), row.membership.present())).collect()
}

/// Compares the last message at or before some times, and the first one after.
fn times(store: &impl Reads, model: &Model, channel: &Name) {
    let all = model.history(channel, &Range::default());
    let asked = all.iter().step_by(all.len() / 4 + 1).map(|m| m.post.timestamp);
    for time in asked.chain([0, i64::MIN]) {
        let before = all.iter().rev().find(|m| m.post.timestamp <= time);
        let found = store.history(channel).to_time(time).last(1).unwrap();
        assert_eq!(found.first().map(Msg::from).as_ref(), before, "up to {time} in {}", text(channel));
        let after =
            all.iter().find(|m| m.post.timestamp > time || time == i64::MAX && m.post.timestamp == time);
        let found = store.history(channel).from_time(time.saturating_add(1)).limit(1).list().unwrap();
        assert_eq!(found.first().map(Msg::from).as_ref(), after, "after {time} in {}", text(channel));
    }
}

/// Compares a user: channels, list, and list of the unread.
pub fn user(store: &impl Reads, model: &Model, user: &Name) {
    let channels = names(store.channels_of(user).list().unwrap());
    assert_eq!(channels, model.channels_of(user), "channels of {}", text(user));
    let left = names(store.channels_of(user).left().list().unwrap());
    assert_eq!(left, model.left_by(user), "what {} left", text(user));
    let since = model.version() / 2;
    let found = told(store.channels_of(user).since(since));
    assert_eq!(found, model.channels_since(user, since), "of {} since {since}", text(user));
    let kept = store.user(user).unwrap().map(|kept| loaded(&kept.attributes));
    assert_eq!(kept, model.attributes_of(user), "what is kept with {}", text(user));
    let known = store.has_memberships(user).unwrap();
    assert_eq!(known, model.has_memberships(user), "whether {} has memberships", text(user));
    for unread_only in [false, true] {
        list(store, model, user, unread_only);
    }
    entries_and_sums(store, model, user);
    classes(store, model, user);
}

/// Compares lists, sums and listings of some classes with the whole ones.
fn classes(store: &impl Reads, model: &Model, user: &Name) {
    let listed = model.conversations(user, false);
    for class in [vec![0], vec![1], vec![0, 2], vec![9]] {
        let question =
            class.iter().fold(store.conversations(user).with_attributes(), |q, class| q.class(*class));
        let expected: Vec<_> = listed.iter().filter(|entry| class.contains(&entry.class)).cloned().collect();
        assert_eq!(entries(&question.clone().list().unwrap().entries), expected, "list of classes {class:?}");
        let messages: u64 = expected.iter().map(|entry| entry.unread).sum();
        assert_eq!(question.unread().unwrap().messages, messages, "unread of classes {class:?}");
        let of = |name: &Name| class.contains(&model.head(name).class);
        for (listing, all) in
            [(store.channels(), model.channels()), (store.channels_of(user), model.channels_of(user))]
        {
            let found = class.iter().fold(listing, |q, class| q.class(*class)).list().unwrap();
            let expected: Vec<_> = all.into_iter().filter(of).collect();
            assert_eq!(names(found), expected, "channels of classes {class:?}");
        }
    }
}

/// Compares the single entries of a list, and its sums.
fn entries_and_sums(store: &impl Reads, model: &Model, user: &Name) {
    let listed = model.conversations(user, false);
    for channel in model.channels() {
        let found = store.conversation(user, &channel).unwrap();
        let expected = listed.iter().find(|entry| entry.channel == channel);
        assert_eq!(
            found.as_ref().map(Entry::from).as_ref(),
            expected,
            "{} of {}",
            text(&channel),
            text(user)
        );
    }
    let found = store.unread(user).unwrap();
    let messages: u64 = listed.iter().map(|entry| entry.unread).sum();
    let conversations = listed.iter().filter(|entry| entry.unread > 0).count() as u64;
    let flagged = listed.iter().filter(|entry| entry.member.flagged).count() as u64;
    let mentions: u64 = listed.iter().map(|entry| entry.mentions).sum();
    let sums = (found.messages, found.conversations, found.mentions, found.flagged);
    assert_eq!(sums, (messages, conversations, mentions, flagged), "what {} has not read", text(user));
}

/// Compares one membership.
pub fn membership(store: &impl Reads, model: &Model, channel: &Name, user: &Name) {
    let found = store.membership(channel, user).unwrap();
    let replaced = found.as_ref().map(|m| m.replaced);
    assert_eq!(replaced, model.replaced(channel, user), "{} in {}", text(user), text(channel));
    let trimmed = store.head(channel).unwrap().trimmed.seq;
    let floor = found.as_ref().map_or(0, |m| m.floor().seq).max(trimmed);
    let ranges = store.forgotten(channel, user).unwrap();
    assert!(ranges.is_sorted_by(|a, b| a.end() + 1 < *b.start()), "{ranges:?}");
    let hidden = |seq: &u64| *seq > floor && ranges.iter().any(|range| range.contains(seq));
    let hidden: Vec<u64> = model.seqs(channel).into_iter().filter(hidden).collect();
    assert_eq!(hidden, model.forgotten(channel, user), "what {} hid in {}", text(user), text(channel));
    let kept = store.kept_history(channel, user).unwrap();
    assert_eq!(kept, model.kept_seqs(channel, user), "what is kept of {} for {}", text(channel), text(user));
    if !ranges.is_empty() || kept.is_some() {
        for reverse in [false, true] {
            let viewer = Some(user.clone());
            history(store, model, channel, &Range { viewer, reverse, ..Range::default() });
        }
    }
    let found = found.as_ref().map(Member::from);
    assert_eq!(found, model.membership(channel, user), "{} in {}", text(user), text(channel));
}

/// Compares a range of a channel.
pub fn history(store: &impl Reads, model: &Model, channel: &Name, range: &Range) {
    let mut question = store.history(channel).from(range.from).to(range.to);
    question = question.limit(range.limit).bytes(range.bytes);
    question = question.from_time(range.times.0).to_time(range.times.1);
    if range.reverse {
        question = question.reverse();
    }
    if let Some(sender) = &range.sender {
        question = question.by(sender);
    }
    if let Some(user) = &range.viewer {
        question = question.seen_by(user);
    }
    let found: Vec<Msg> = question.list().unwrap().iter().map(Msg::from).collect();
    assert_eq!(found, model.history(channel, range), "history of {}, {range:?}", text(channel));
}

/// Compares a whole conversation list, and returns its token.
pub fn list(store: &impl Reads, model: &Model, user: &Name, unread_only: bool) -> SyncToken {
    let mut question = store.conversations(user).with_attributes();
    if unread_only {
        question = question.unread_only();
    }
    let found = question.list().unwrap();
    let expected = model.conversations(user, unread_only);
    assert_eq!(entries(&found.entries), expected, "list of {}, unread only: {unread_only}", text(user));
    assert_eq!(found.next, None, "a whole list has no next page");
    found.as_of
}

/// Compares a conversation list that is read in pages.
pub fn list_in_pages(store: &impl Reads, model: &Model, user: &Name, unread_only: bool, limit: usize) {
    let expected = model.conversations(user, unread_only);
    let mut found = Vec::new();
    let mut next: Option<Continuation> = None;
    loop {
        let mut question = store.conversations(user).limit(limit).with_attributes();
        if unread_only {
            question = question.unread_only();
        }
        if let Some(page) = &next {
            question = question.after(page);
        }
        let page = question.list().unwrap();
        found.extend(entries(&page.entries));
        next = page.next;
        assert!(page.entries.len() <= limit, "a page of {} for a limit of {limit}", page.entries.len());
        assert_eq!(next.is_some(), found.len() < expected.len(), "a next page exactly if there is more");
        if next.is_none() {
            break;
        }
    }
    assert_eq!(found, expected, "list of {} in pages of {limit}", text(user));
}

/// Compares what changed since a token of `version`, in pages of `limit`. Returns false on "start over".
pub fn since(
    store: &impl Reads,
    model: &Model,
    user: &Name,
    token: &SyncToken,
    version: u64,
    unread_only: bool,
    limit: usize,
) -> bool {
    let expected = model.since(user, version, unread_only);
    let mut found: Vec<Event> = Vec::new();
    let mut next: Option<Continuation> = None;
    loop {
        let mut question = store.conversations(user).limit(limit).with_attributes();
        if unread_only {
            question = question.unread_only();
        }
        if let Some(page) = &next {
            question = question.after(page);
        }
        match question.since(token).unwrap() {
            Update::Reset => return false,
            Update::Changes { changes, next: more, .. } => {
                assert!(changes.len() <= limit, "a page of {} for a limit of {limit}", changes.len());
                found.extend(changes.iter().map(Event::from));
                next = more;
            }
            _ => unreachable!("an update that the model does not know"),
        }
        assert_eq!(next.is_some(), found.len() < expected.len(), "a next page exactly if there is more");
        if next.is_none() {
            break;
        }
    }
    assert_eq!(found, expected, "changes of {} since {version}, unread only: {unread_only}", text(user));
    true
}

/// Compares the four listings of names, read in pages.
pub fn listings_in_pages(store: &Store, model: &Model, limit: usize) {
    paged("channels", limit, &model.channels(), |after| {
        let listing = store.channels().limit(limit);
        after.map_or(listing.clone(), |name| listing.after(name)).list().unwrap()
    });
    paged("users", limit, &model.users(), |after| {
        let listing = store.users().limit(limit);
        after.map_or(listing.clone(), |name| listing.after(name)).list().unwrap()
    });
    for channel in model.channels() {
        paged("members", limit, &model.members(&channel), |after| {
            let listing = store.members(&channel).limit(limit);
            after.map_or(listing.clone(), |name| listing.after(name)).list().unwrap()
        });
    }
    for user in model.users() {
        paged("channels of a user", limit, &model.channels_of(&user), |after| {
            let listing = store.channels_of(&user).limit(limit);
            after.map_or(listing.clone(), |name| listing.after(name)).list().unwrap()
        });
    }
}

fn paged(what: &str, limit: usize, expected: &[Name], page: impl Fn(Option<&Name>) -> Vec<Bytes>) {
    let mut found: Vec<Name> = Vec::new();
    loop {
        let names = names(page(found.last()));
        assert!(names.len() <= limit, "a page of {} {what} for a limit of {limit}", names.len());
        if names.is_empty() {
            break;
        }
        found.extend(names);
        assert!(found.len() <= expected.len(), "more {what} than there are");
    }
    assert_eq!(found, expected, "{what} in pages of {limit}");
}

/// What a store answered, in the model's terms, or the first fault of an entry.
pub fn whole(found: &[Conversation]) -> Result<Vec<Entry>> {
    match found.iter().find_map(|entry| entry.fault.clone()) {
        Some(fault) => Err(fault),
        None => Ok(entries(found)),
    }
}

/// What a store answered, in the model's terms.
pub fn entries(found: &[Conversation]) -> Vec<Entry> {
    found.iter().map(Entry::from).collect()
}

/// Names as the model keeps them.
pub fn names(found: Vec<Bytes>) -> Vec<Name> {
    found.into_iter().map(|name| name.to_vec()).collect()
}

/// A name for people.
pub fn text(name: &[u8]) -> String {
    let end = name.len().min(24);
    format!("\"{}\"", name[..end].escape_ascii())
}

fn show(names: &[Name]) -> String {
    names.iter().map(|name| text(name)).collect::<Vec<_>>().join(", ")
}
