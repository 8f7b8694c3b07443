//! The manifest: which files make up the store. It is small and is replaced as a whole.
//!
//! ```text
//! magic "chanlog\0", kind u32 = 4, format u32
//! store id 16 B, hash key 16 B
//! next file id u64, first live log segment u64 (0 = none was made yet)
//! bytes ever logged u64, sealed u64, merged u64; user bytes ever sealed u64; messages ever sealed u64
//! forks    count u32, then version u64 each
//! losses   count u32, then version u64, channels u32 each
//! segments count u32, then id u64, first version u64, last version u64, length u64, level u32 each, oldest first
//! runs     count u32, then the same
//! crc u32 of all before
//! ```
//!
//! Invariants: a manifest under its final name is durable and whole; every file that it names was durable before it; the
//! version ranges of segments, and those of runs, ascend without overlap. What it does not name is an orphan.

use std::path::{Path, PathBuf};

use crate::codec::{Put, Reader, crc};
use crate::env::{Access, Env, read_all};
use crate::error::{Error, Result};
use crate::sealed::StoreId;

/// The manifest's file name.
pub const NAME: &str = "chanlog.manifest";
/// The name it is written under before it counts.
pub const TEMPORARY: &str = "chanlog.manifest.tmp";
const MAGIC: &[u8; 8] = b"chanlog\0";
const KIND: u32 = 4;
const FORMAT: u32 = 1;
/// No manifest is longer, in bytes.
const LIMIT: u64 = 256 << 20;
/// No number that counts something in a store ever comes near this.
const BOUND: u64 = 1 << 56;

/// The set of files and what must outlive them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    pub store: StoreId,
    /// The key of the hashes in table runs, so that no caller can choose names that collide.
    pub key: [u8; 16],
    pub next_file: u64,
    /// The oldest log segment that is not sealed; 0 until the first one was made.
    pub first_log: u64,
    pub totals: Totals,
    /// Where each incarnation but the first began: the last version that the one before passed on.
    pub forks: Vec<u64>,
    pub losses: Vec<Loss>,
    pub segments: Vec<Entry>,
    pub runs: Vec<Entry>,
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

/// A loss of power that may have taken buffered messages which somebody saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The last version that was kept.
    pub version: u64,
    /// The number of channels that were kept.
    pub channels: u32,
}

/// One sealed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
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
        let mut manifest = Manifest { next_file: 1, ..Manifest::default() };
        env.random(&mut manifest.store)?;
        env.random(&mut manifest.key)?;
        Ok(manifest)
    }

    /// Whether a crash cut the store's creation before its first log segment was there. Nothing was written to it yet.
    pub fn unborn(&self) -> bool {
        self.first_log == 0
    }

    /// Takes the next file id.
    pub fn take_file(&mut self) -> u64 {
        self.next_file += 1;
        self.next_file - 1
    }

    /// Reads the manifest of the store in `dir`; `None` if there is none.
    pub fn load(env: &dyn Env, dir: &Path) -> Result<Option<Manifest>> {
        let path = dir.join(NAME);
        let file = match env.open(&path, Access::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("open", &path, e)),
        };
        let bytes = read_all(&*file, LIMIT).map_err(|e| Error::io("read", &path, e))?;
        Manifest::decode(&path, &bytes).map(Some)
    }

    /// Replaces the manifest, durably. Until the rename nothing has changed, so an error before it is harmless.
    pub fn store(&self, env: &dyn Env, dir: &Path) -> std::result::Result<(), StoreError> {
        let (path, temporary) = (dir.join(NAME), dir.join(TEMPORARY));
        let io = |op: &'static str, path: &Path| {
            let path: PathBuf = path.into();
            move |e| Error::io(op, &path, e)
        };
        let file = env.create(&temporary).map_err(io("create", &temporary)).map_err(StoreError::Unchanged)?;
        let written = file.write_at(&self.encode(), 0).and_then(|()| file.sync());
        written.map_err(io("write", &temporary)).map_err(StoreError::Unchanged)?;
        let renamed = env.rename(&temporary, &path).and_then(|()| env.sync_dir(dir));
        renamed.map_err(io("replace", &path)).map_err(StoreError::Unknown)
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put(MAGIC);
        out.put_u32(KIND);
        out.put_u32(FORMAT);
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
        out.put_u32(self.forks.len() as u32);
        self.forks.iter().for_each(|fork| out.put_u64(*fork));
        out.put_u32(self.losses.len() as u32);
        for loss in &self.losses {
            out.put_u64(loss.version);
            out.put_u32(loss.channels);
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
            return Err(fault(0, "no manifest"));
        }
        let format = r.u32().ok_or_else(|| fault(12, "ends within its header"))?;
        let end = bytes.len().saturating_sub(4).max(16);
        if bytes.get(end..) != Some(&crc(&[&bytes[..end.min(bytes.len())]]).to_le_bytes()) {
            return Err(fault(end, "the checksum is wrong"));
        }
        if format > FORMAT {
            return Err(Error::Unsupported { file: path.into(), version: format });
        }
        let mut body = Reader::new(&bytes[r.position()..end]);
        let manifest = decode_body(&mut body).filter(|_| body.is_empty());
        let manifest = manifest.ok_or_else(|| fault(16 + body.position(), "does not decode"))?;
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
        !(self.unborn() && files().next().is_some())
            && files().all(|file| file.id < self.next_file)
            && files().flat_map(|file| [file.versions.1, file.len]).chain(counts).all(|count| count < BOUND)
    }
}

/// How replacing the manifest failed.
#[derive(Debug)]
pub enum StoreError {
    /// The manifest is what it was.
    Unchanged(Error),
    /// It may be the old or the new one.
    Unknown(Error),
}

fn decode_body(r: &mut Reader<'_>) -> Option<Manifest> {
    let mut manifest = Manifest { store: r.id()?, key: r.id()?, ..Manifest::default() };
    (manifest.next_file, manifest.first_log) = (r.u64()?, r.u64()?);
    manifest.totals =
        Totals { logged: r.u64()?, sealed: r.u64()?, merged: r.u64()?, user: r.u64()?, messages: r.u64()? };
    for _ in 0..r.u32()? {
        manifest.forks.push(r.u64()?);
    }
    for _ in 0..r.u32()? {
        manifest.losses.push(Loss { version: r.u64()?, channels: r.u32()? });
    }
    manifest.segments = entries(r)?;
    manifest.runs = entries(r)?;
    Some(manifest)
}

fn put_entries(out: &mut Vec<u8>, entries: &[Entry]) {
    out.put_u32(entries.len() as u32);
    for entry in entries {
        out.put_u64(entry.id);
        out.put_u64(entry.versions.0);
        out.put_u64(entry.versions.1);
        out.put_u64(entry.len);
        out.put_u32(entry.level);
    }
}

fn entries(r: &mut Reader<'_>) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    for _ in 0..r.u32()? {
        entries.push(Entry { id: r.u64()?, versions: (r.u64()?, r.u64()?), len: r.u64()?, level: r.u32()? });
    }
    Some(entries)
}

fn ascends(entries: &[Entry]) -> bool {
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
        manifest.forks = vec![3, 9];
        manifest.losses = vec![Loss { version: 9, channels: 2 }];
        manifest.segments = vec![
            Entry { id: 1, versions: (1, 5), len: 100, level: 1 },
            Entry { id: 3, versions: (6, 8), len: 50, level: 0 },
        ];
        manifest.runs = vec![Entry { id: 2, versions: (1, 8), len: 10, level: 0 }];
        manifest
    }

    #[test]
    fn it_round_trips() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Manifest::load(&OsEnv::new(), dir.path()).unwrap(), None);
        example().store(&OsEnv::new(), dir.path()).unwrap();
        let manifest = example();
        manifest.store(&OsEnv::new(), dir.path()).unwrap();
        assert_eq!(Manifest::load(&OsEnv::new(), dir.path()).unwrap(), Some(manifest));
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
        assert!(matches!(decoded, Err(Error::Unsupported { version: 2, .. })), "{decoded:?}");
    }
}
