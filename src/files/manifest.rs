//! The manifest: which files make up the store. It is small and is replaced as a whole.
//!
//! ```text
//! magic "chanlog\0", kind u32 = 4, format u32 = 2
//! required u64, optional u64     features: a reader that lacks a required one refuses the store
//! store id 16 B, hash key 16 B
//! next file id u64, first live log segment u64 (0 = none was made yet)
//! bytes ever logged u64, sealed u64, merged u64; user bytes ever sealed u64; messages ever sealed u64
//! sessions count u32, then session u64, last version u64 each: those that ended, newest last
//! losses   count u32, then version u64, channels u32, session u64 each
//! replica  with required bit 1: payload limit u32, then u64 each: the window of client ids in versions and in ms, the age of
//!          tombstones in ms, their number
//! segments count u32, then id u64, first version u64, last version u64, length u64, level u32 each, oldest first
//! runs     count u32, then the same
//! crc u32 of all before
//! ```
//!
//! Invariants: a manifest under its final name is durable and whole; every file that it names was durable before it; the
//! version ranges of segments, and those of runs, ascend without overlap. What it does not name is an orphan.

use std::path::Path;

use super::disk::Disk;
use crate::env::{Access, Dir, Env, read_all};
use crate::env::{fault, unless};
use crate::error::{Error, Result};
use crate::files::sealed::StoreId;
use crate::files::table::hash_parts;
use crate::model::codec::{Put, Reader, crc};
use crate::model::head::Loss;

/// The manifest's file name.
pub const NAME: &str = "chanlog.manifest";
/// The name it is written under before it counts.
pub const TEMPORARY: &str = "chanlog.manifest.tmp";
const MAGIC: &[u8; 8] = b"chanlog\0";
const KIND: u32 = 4;
const FORMAT: u32 = 2;
/// The number of the function that says what follows from a message (`model::follow::follow_message`).
const FOLLOW_1: u64 = 1;
/// The store is a replica: all that it answers follows from the batches that were applied.
const REPLICA: u64 = 2;
/// What this release knows of features that a reader must know.
const KNOWN: u64 = FOLLOW_1 | REPLICA;
/// So many ended sessions are remembered; tokens of older ones are void.
const SESSIONS: usize = 4096;
/// No manifest is longer, in bytes.
const LIMIT: u64 = 256 << 20;
/// No number that counts something in a store ever comes near this.
const BOUND: u64 = 1 << 56;

/// The set of files and what must outlive them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Features that a reader must know.
    pub required: u64,
    /// Features that a reader may ignore.
    pub optional: u64,
    pub store: StoreId,
    /// The key of the hashes in table runs, so that no caller can choose names that collide.
    pub key: [u8; 16],
    pub next_file: u64,
    /// The oldest log segment that is not sealed; 0 until the first one was made, as in a backup.
    pub first_log: u64,
    pub totals: Totals,
    /// The sessions of sealed log segments that ended, oldest first.
    pub sessions: Vec<Session>,
    pub losses: Vec<Loss>,
    /// What decides in a replica, in place of what the process says.
    pub replica: Option<Deciding>,
    pub segments: Vec<FileEntry>,
    pub runs: Vec<FileEntry>,
}

/// Settings on which the outcomes of batches and the answers of reads rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deciding {
    /// The longest payload, in bytes.
    pub payload_limit: u32,
    /// For how many versions, and for how long in ms, a client id makes a send unique.
    pub window: (u64, u64),
    /// The age of tombstones in ms.
    pub tombstone_age: u64,
    /// How many tombstones of a user count.
    pub tombstones: u64,
}

/// Sums over the life of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub logged: u64,
    pub sealed: u64,
    pub merged: u64,
    pub user: u64,
    pub messages: u64,
}

/// A session that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its random number.
    pub id: u64,
    /// The last version of it that was kept.
    pub last: u64,
}

/// One sealed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileEntry {
    pub id: u64,
    /// The first and the last version that the file covers.
    pub versions: (u64, u64),
    pub len: u64,
    /// 0 = sealed from one log segment. A message segment of level 1 is merged and left alone.
    pub level: u32,
}

impl Manifest {
    /// A new store's manifest.
    pub fn new(env: &dyn Env) -> std::io::Result<Manifest> {
        let mut manifest = Manifest { required: FOLLOW_1, next_file: 1, ..Manifest::default() };
        env.random(&mut manifest.store)?;
        env.random(&mut manifest.key)?;
        Ok(manifest)
    }

    /// The manifest of a new replica of a lineage. Store id and key follow from it, each by a hash under it as the key, so that
    /// neither the id, which tokens show, nor any other hash tells the key.
    pub fn of_lineage(lineage: u128, deciding: Deciding) -> Manifest {
        let mut manifest = Manifest { required: FOLLOW_1 | REPLICA, next_file: 1, ..Manifest::default() };
        (manifest.store, manifest.replica) = (Manifest::id_of(lineage), Some(deciding));
        manifest.key = derived(lineage, b"key");
        manifest
    }

    /// The store id of a lineage.
    pub fn id_of(lineage: u128) -> StoreId {
        derived(lineage, b"store")
    }

    /// Whether there is no log yet: a crash cut the store's creation before its first segment was there, or it is a backup.
    pub fn unborn(&self) -> bool {
        self.first_log == 0
    }

    /// Takes the next file id.
    pub fn take_file(&mut self) -> u64 {
        self.next_file += 1;
        self.next_file - 1
    }

    /// Reads the manifest of the store in `dir`; `None` if there is none.
    pub fn load(dir: &dyn Dir) -> Result<Option<Manifest>> {
        let path = dir.path().join(NAME);
        let file = match dir.open(NAME, Access::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("open", &path, e)),
        };
        let bytes = read_all(&*file, LIMIT).map_err(|e| Error::io("read", &path, e))?;
        Manifest::decode(&path, &bytes).map(Some)
    }

    /// Replaces the manifest, durably. Until the rename nothing has changed; a failure from there on poisons the store, as it
    /// may be the old or the new one.
    pub fn store(&self, disk: &Disk) -> Result<()> {
        let io = |op: &'static str, name: &str| {
            let path = disk.path().join(name);
            move |e| Error::io(op, &path, e)
        };
        let file = disk.create(TEMPORARY).map_err(io("create", TEMPORARY))?;
        let written = file.write_at(&self.encode(), 0).and_then(|()| unless(27, || file.sync()));
        written.map_err(io("write", TEMPORARY))?;
        let renamed = disk.rename(TEMPORARY, NAME).and_then(|()| unless(26, || disk.sync()));
        let poison = |error| if fault(11) { error } else { disk.health().poison(error) };
        renamed.map_err(|error| poison(io("replace", NAME)(error)))
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put(MAGIC);
        out.put_u32(KIND);
        out.put_u32(FORMAT);
        out.put_u64(self.required);
        out.put_u64(self.optional);
        out.put(&self.store);
        out.put(&self.key);
        let totals = &self.totals;
        for number in [
            self.next_file,
            self.first_log,
            totals.logged,
            totals.sealed,
            totals.merged,
            totals.user,
            totals.messages,
        ] {
            out.put_u64(number);
        }
        let sessions = &self.sessions[self.sessions.len().saturating_sub(SESSIONS)..];
        out.put_u32(sessions.len() as u32);
        for session in sessions {
            out.put_u64(session.id);
            out.put_u64(session.last);
        }
        out.put_u32(self.losses.len() as u32);
        for loss in &self.losses {
            out.put_u64(loss.version);
            out.put_u32(loss.channels);
            out.put_u64(loss.session);
        }
        if let Some(deciding) = &self.replica {
            put_deciding(&mut out, deciding);
        }
        put_entries(&mut out, &self.segments);
        put_entries(&mut out, &self.runs);
        let crc = crc(&[&out]);
        out.put_u32(crc);
        out
    }

    /// Decodes a manifest's bytes; `path` names them in errors.
    pub fn decode(path: &Path, bytes: &[u8]) -> Result<Manifest> {
        let fault = |offset: usize, what: &str| Error::corrupt(path, offset as u64, what);
        let mut r = Reader::new(bytes);
        if r.bytes(8) != Some(MAGIC) || r.u32() != Some(KIND) {
            return Err(fault(0, "this is no manifest of a store"));
        }
        let format = r.u32().ok_or_else(|| fault(12, "ends within its header"))?;
        let end = bytes.len().saturating_sub(4).max(16);
        if !crate::env::fault(41)
            && bytes.get(end..) != Some(&crc(&[&bytes[..end.min(bytes.len())]]).to_le_bytes())
        {
            return Err(fault(end, "the checksum is wrong"));
        }
        if format != FORMAT {
            return Err(Error::Unsupported { file: path.into(), version: format });
        }
        let mut body = Reader::new(&bytes[r.position()..end]);
        let manifest = decode_body(&mut body).filter(|_| body.is_empty());
        let manifest = manifest.ok_or_else(|| fault(16 + body.position(), "does not decode"))?;
        if manifest.required & !KNOWN != 0 {
            return Err(Error::Unsupported { file: path.into(), version: format });
        }
        if !ascends(&manifest.segments) || !ascends(&manifest.runs) {
            return Err(fault(16, "version ranges overlap"));
        }
        if !manifest.sane() {
            return Err(fault(16, "a number can't be"));
        }
        Ok(manifest)
    }
}

impl Manifest {
    /// Whether numbers are in their bounds, so that nobody who counts on from them has to care.
    fn sane(&self) -> bool {
        let Totals { logged, sealed, merged, user, messages } = self.totals;
        let files = || self.segments.iter().chain(&self.runs);
        let counts = [self.next_file, self.first_log, logged, sealed, merged, user, messages];
        let bytes = files().try_fold(0u64, |sum, file| sum.checked_add(file.len));
        files().all(|file| file.id < self.next_file)
            && files().map(|file| file.versions.1).chain(counts).all(|count| count < BOUND)
            && bytes.is_some_and(|bytes| bytes < BOUND)
    }
}

/// 16 bytes that follow from a lineage, others for each use.
fn derived(lineage: u128, of: &[u8]) -> [u8; 16] {
    let half = |part: u8| u128::from(hash_parts(&lineage.to_le_bytes(), &[of, &[part]]));
    (half(0) << 64 | half(1)).to_le_bytes()
}

fn put_deciding(out: &mut Vec<u8>, deciding: &Deciding) {
    let Deciding { payload_limit, window, tombstone_age, tombstones } = *deciding;
    out.put_u32(payload_limit);
    [window.0, window.1, tombstone_age, tombstones].into_iter().for_each(|number| out.put_u64(number));
}

fn deciding(r: &mut Reader<'_>) -> Option<Deciding> {
    Some(Deciding {
        payload_limit: r.u32()?,
        window: (r.u64()?, r.u64()?),
        tombstone_age: r.u64()?,
        tombstones: r.u64()?,
    })
}

fn decode_body(r: &mut Reader<'_>) -> Option<Manifest> {
    let (required, optional) = (r.u64()?, r.u64()?);
    let mut manifest = Manifest { required, optional, store: r.id()?, key: r.id()?, ..Manifest::default() };
    (manifest.next_file, manifest.first_log) = (r.u64()?, r.u64()?);
    manifest.totals =
        Totals { logged: r.u64()?, sealed: r.u64()?, merged: r.u64()?, user: r.u64()?, messages: r.u64()? };
    for _ in 0..r.u32()? {
        manifest.sessions.push(Session { id: r.u64()?, last: r.u64()? });
    }
    for _ in 0..r.u32()? {
        manifest.losses.push(Loss { version: r.u64()?, channels: r.u32()?, session: r.u64()? });
    }
    if required & REPLICA != 0 {
        manifest.replica = Some(deciding(r)?);
    }
    manifest.segments = entries(r)?;
    manifest.runs = entries(r)?;
    Some(manifest)
}

fn put_entries(out: &mut Vec<u8>, entries: &[FileEntry]) {
    out.put_u32(entries.len() as u32);
    for entry in entries {
        out.put_u64(entry.id);
        out.put_u64(entry.versions.0);
        out.put_u64(entry.versions.1);
        out.put_u64(entry.len);
        out.put_u32(entry.level);
    }
}

fn entries(r: &mut Reader<'_>) -> Option<Vec<FileEntry>> {
    let mut entries = Vec::new();
    for _ in 0..r.u32()? {
        entries.push(FileEntry {
            id: r.u64()?,
            versions: (r.u64()?, r.u64()?),
            len: r.u64()?,
            level: r.u32()?,
        });
    }
    Some(entries)
}

fn ascends(entries: &[FileEntry]) -> bool {
    entries.iter().all(|e| e.versions.0 <= e.versions.1)
        && entries.windows(2).all(|pair| pair[0].versions.1 < pair[1].versions.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::OsEnv;

    fn example() -> Manifest {
        let mut manifest = Manifest::new(&OsEnv::new()).unwrap();
        manifest.next_file = 4;
        manifest.first_log = 2;
        manifest.sessions = vec![Session { id: 77, last: 3 }];
        manifest.losses = vec![Loss { version: 9, channels: 2, session: 7 }];
        manifest.segments = vec![
            FileEntry { id: 1, versions: (1, 5), len: 100, level: 1 },
            FileEntry { id: 3, versions: (6, 8), len: 50, level: 0 },
        ];
        manifest.runs = vec![FileEntry { id: 2, versions: (1, 8), len: 10, level: 0 }];
        manifest
    }

    #[test]
    fn it_round_trips() {
        let place = tempfile::tempdir().unwrap();
        let dir = Disk::new(OsEnv::new().open_dir(place.path(), false).unwrap());
        assert_eq!(Manifest::load(&dir).unwrap(), None);
        example().store(&dir).unwrap();
        let manifest = example();
        manifest.store(&dir).unwrap();
        assert_eq!(Manifest::load(&dir).unwrap(), Some(manifest));
    }

    #[test]
    fn that_of_a_replica_follows_from_its_lineage() {
        let deciding = Deciding { payload_limit: 1, window: (2, 3), tombstone_age: 4, tombstones: 5 };
        let manifest = Manifest::of_lineage(7, deciding);
        assert_eq!(Manifest::decode(Path::new("m"), &manifest.encode()).unwrap(), manifest);
        let (same, other) = (Manifest::of_lineage(7, deciding), Manifest::of_lineage(8, deciding));
        assert_eq!(same, manifest);
        assert!(other.store != manifest.store && other.key != manifest.key);
        assert!(manifest.store != manifest.key && manifest.store != 7u128.to_le_bytes());
    }

    #[test]
    fn any_damage_is_noticed() {
        let good = example().encode();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            assert!(Manifest::decode(Path::new("m"), &bad).is_err(), "flip at {at}");
            assert!(Manifest::decode(Path::new("m"), &good[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_newer_format_is_not_supported() {
        let mut bytes = example().encode();
        bytes[12] = FORMAT as u8 + 1;
        let end = bytes.len() - 4;
        let crc = crc(&[&bytes[..end]]);
        bytes[end..].copy_from_slice(&crc.to_le_bytes());
        let decoded = Manifest::decode(Path::new("m"), &bytes);
        assert!(matches!(decoded, Err(Error::Unsupported { version: 3, .. })), "{decoded:?}");
    }

    /// Whoever counts sums up the lengths, also of files that are missing.
    #[test]
    fn lengths_whose_sum_is_beyond_any_store_are_refused() {
        let mut manifest = Manifest { next_file: 1 << 20, ..example() };
        let entry = |id| FileEntry { id, versions: (id, id), len: BOUND - 1, level: 0 };
        for (count, good) in [(0, true), (1, true), (2, false), (256, false), (1000, false)] {
            manifest.segments = (1..=count).map(entry).collect();
            manifest.runs.clear();
            assert_eq!(Manifest::decode(Path::new("m"), &manifest.encode()).is_ok(), good, "{count}");
        }
    }
}
