//! A client that keeps a conversation list up to date with tokens alone.
//!
//! It takes lists and updates with any limits, follows next pages or doesn't, and always passes the last token that it
//! got. Whatever it did before, once it has drained the updates it must hold the exact present list. That all that a user
//! sent was erased is told by the feed, and by no list.

use std::collections::BTreeMap;

use chanlog::{Continuation, Conversations, Event, ListChange, Store, SyncToken, Update};

use super::{Entry, Fate, Model, Name, check};

/// A client's copy of one conversation list.
#[derive(Debug)]
pub struct Client {
    user: Name,
    unread_only: bool,
    entries: BTreeMap<Name, Entry>,
    token: Option<SyncToken>,
    next: Option<Next>,
    /// How often it was told to start over.
    pub resets: usize,
}

/// A page that the client might follow.
#[derive(Debug)]
enum Next {
    List(Continuation),
    Update(SyncToken, Continuation),
}

impl Client {
    pub fn new(user: &Name, unread_only: bool) -> Self {
        Client {
            user: user.clone(),
            unread_only,
            entries: BTreeMap::new(),
            token: None,
            next: None,
            resets: 0,
        }
    }

    fn question<'a>(&self, store: &'a Store, limit: usize) -> Conversations<'a> {
        let question = store.conversations(&self.user).limit(limit).with_attributes();
        if self.unread_only { question.unread_only() } else { question }
    }

    /// Starts over with the first page of the list.
    pub fn list(&mut self, store: &Store, limit: usize) {
        self.entries.clear();
        self.take_list(self.question(store, limit));
    }

    fn take_list(&mut self, question: Conversations<'_>) {
        let list = question.list().unwrap();
        for entry in check::entries(&list.entries) {
            self.entries.insert(entry.channel.clone(), entry);
        }
        self.token = Some(through_text(&list.as_of));
        self.next = list.next.map(|page| Next::List(page.to_string().parse().unwrap()));
    }

    /// Asks what changed since the last token. Returns whether there may be more.
    pub fn update(&mut self, store: &Store, limit: usize) -> bool {
        let Some(token) = self.token.clone() else {
            self.list(store, limit);
            return true;
        };
        self.take_update(store, self.question(store, limit), token)
    }

    fn take_update(&mut self, store: &Store, question: Conversations<'_>, since: SyncToken) -> bool {
        match question.since(&since).unwrap() {
            Update::Reset => {
                self.resets += 1;
                self.list(store, usize::MAX);
                true
            }
            Update::Changes { changes, as_of, next, .. } => {
                for change in &changes {
                    self.apply(change);
                }
                let more = !changes.is_empty() || next.is_some();
                self.token = Some(through_text(&as_of));
                self.next = next.map(|page| Next::Update(since, page));
                more
            }
            _ => unreachable!("an update that the client does not know"),
        }
    }

    fn apply(&mut self, change: &ListChange) {
        match change {
            ListChange::Entry(entry) => drop(self.entries.insert(entry.channel.to_vec(), entry.into())),
            ListChange::Removed { channel, .. } => drop(self.entries.remove(&channel[..])),
            _ => unreachable!("a change that the client does not know"),
        }
    }

    /// Follows the next page of the last answer, or asks for an update if there is none.
    pub fn follow(&mut self, store: &Store, limit: usize) {
        match self.next.take() {
            Some(Next::List(page)) => self.take_list(self.question(store, limit).after(&page)),
            Some(Next::Update(since, page)) => {
                let question = self.question(store, limit).after(&page);
                self.take_update(store, question, since);
            }
            None => drop(self.update(store, limit)),
        }
    }

    /// Forgets the next page: the store that gave it is no more.
    pub fn drop_page(&mut self) {
        self.next = None;
    }

    /// Takes updates until there are none, and compares what it holds with the model.
    pub fn drain(&mut self, store: &Store, model: &Model, limit: usize) {
        let enough = 100 + 4 * model.channels_of(&self.user).len();
        let calls = (0..enough).take_while(|_| self.update(store, limit)).count();
        assert!(calls < enough, "updates of {} do not end", check::text(&self.user));
        self.forget_erased(store);
        self.forget_expired(model.now);
        let mut expected = model.conversations(&self.user, self.unread_only);
        expected.sort_by(|a, b| a.channel.cmp(&b.channel));
        let held: Vec<Entry> = self.entries.values().cloned().collect();
        let who = check::text(&self.user);
        assert_eq!(held, expected, "what a client of {who} holds, unread only: {}", self.unread_only);
    }
}

impl Client {
    /// Knows when the last messages expire that it holds.
    fn forget_expired(&mut self, now: i64) {
        for message in self.entries.values_mut().filter_map(|entry| entry.last.as_mut()) {
            if let Some(at) = message.post.expires.filter(|at| *at <= now) {
                (message.fate, message.post.payload) = (Fate::ExpiredAt(at), Default::default());
            }
        }
    }

    /// Does to the last messages that it holds what the feed tells of their senders.
    fn forget_erased(&mut self, store: &Store) {
        for event in store.feed() {
            let Event::User { user, version, erased, deleted, .. } = event.unwrap() else { continue };
            let held = self.entries.values_mut().filter_map(|entry| entry.last.as_mut());
            let sent = held.filter(|m| m.post.sender == user && m.version <= erased);
            for message in sent.filter(|m| !matches!(m.fate, Fate::Erased { .. } | Fate::ExpiredAt(_))) {
                message.fate = Fate::Erased { version: erased, retracted: false };
                message.post.payload.clear();
            }
            let held = self.entries.values_mut().filter_map(|entry| entry.last.as_mut());
            let sent = held.filter(|m| m.post.sender == user && m.version <= version && deleted);
            sent.for_each(|message| message.post.sender.clear());
        }
    }
}

/// Tokens are kept as text.
fn through_text(token: &SyncToken) -> SyncToken {
    let text = token.to_string();
    let parsed = text.parse().unwrap();
    assert_eq!(*token, parsed, "a token survives being text: {text}");
    parsed
}
