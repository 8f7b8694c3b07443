//! The names on the simulated disk. Owns them twice, as processes see them and as the disk holds them, and the changes in
//! between.
//!
//! Invariants: every name's parent is a directory, in both views. Changes of one name reach the disk in their order, and
//! a change of two names (a rename) reaches it as a whole. Paths are absolute and lexically normal. A directory's number is
//! its own for ever, whatever its path.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::loss::Dice;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// The number of a directory.
    Dir(u64),
    /// The number of an inode.
    File(u64),
}

/// One operation on the names of a directory, not durable yet: each name gets a new node, or goes.
#[derive(Clone, Debug)]
struct NameChange {
    names: Vec<(PathBuf, Option<Node>)>,
    /// Cleared by a failed sync, after which no later one makes this change durable.
    dirty: bool,
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        for (path, node) in &self.names {
            match node {
                Some(node) => names.insert(path.clone(), *node),
                None => names.remove(path),
            };
        }
    }

    fn is_in(&self, dir: &Path) -> bool {
        self.names.iter().any(|(path, _)| path.parent() == Some(dir))
    }

    fn touches(&self, names: &BTreeSet<PathBuf>) -> bool {
        self.names.iter().any(|(path, _)| names.contains(path))
    }

    fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.names.iter().map(|(path, _)| path.clone())
    }
}

/// All names.
#[derive(Clone, Debug)]
pub struct Namespace {
    cache: BTreeMap<PathBuf, Node>,
    disk: BTreeMap<PathBuf, Node>,
    pending: Vec<NameChange>,
    next_dir: u64,
}

impl Namespace {
    /// A disk with nothing but the root directory.
    pub fn new() -> Self {
        let root = BTreeMap::from([(PathBuf::from("/"), Node::Dir(0))]);
        Namespace { cache: root.clone(), disk: root, pending: Vec::new(), next_dir: 1 }
    }

    /// The absolute form of a path, without `.` and `..`. A relative path starts at the root.
    pub fn normal(path: &Path) -> PathBuf {
        let mut normal = PathBuf::from("/");
        for component in path.components() {
            match component {
                Component::Normal(name) => normal.push(name),
                Component::ParentDir => drop(normal.pop()),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        normal
    }

    /// What a normal path stands for, if anything. Fails unless its directory is one.
    pub fn get(&self, path: &Path) -> io::Result<Option<Node>> {
        if let Some(parent) = path.parent() {
            match self.cache.get(parent) {
                Some(Node::Dir(_)) => {}
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => return Err(io::ErrorKind::NotFound.into()),
            }
        }
        Ok(self.cache.get(path).copied())
    }

    /// The inode of a file.
    pub fn file(&self, path: &Path) -> io::Result<u64> {
        match self.get(path)? {
            Some(Node::File(ino)) => Ok(ino),
            Some(Node::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// The number of a directory.
    pub fn dir(&self, path: &Path) -> io::Result<u64> {
        match self.get(path)? {
            Some(Node::Dir(id)) => Ok(id),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Where a directory is now.
    pub fn path_of(&self, id: u64) -> Option<&Path> {
        let mut names = self.cache.iter();
        names.find(|(_, node)| **node == Node::Dir(id)).map(|(path, _)| path.as_path())
    }

    /// Makes a directory and those above it, and tells which were absent, from the top.
    pub fn create_dir(&mut self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut made = dir.parent().map_or(Ok(Vec::new()), |parent| self.create_dir(parent))?;
        match self.get(dir)? {
            Some(Node::Dir(_)) => {}
            Some(Node::File(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            None => {
                self.set(dir, Some(Node::Dir(self.next_dir)));
                self.next_dir += 1;
                made.push(dir.into());
            }
        }
        Ok(made)
    }

    /// Gives a name another node, or removes it.
    pub fn set(&mut self, path: &Path, node: Option<Node>) {
        self.change(vec![(path.into(), node)]);
    }

    /// Moves a file's name within its directory.
    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let ino = self.file(from)?;
        if matches!(self.get(to)?, Some(Node::Dir(_))) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if from.parent() != to.parent() {
            return Err(io::Error::new(io::ErrorKind::CrossesDevices, "a rename into another directory"));
        }
        if from != to {
            self.change(vec![(from.into(), None), (to.into(), Some(Node::File(ino)))]);
        }
        Ok(())
    }

    /// Moves a directory with all that is in it, at once and durably as far as that was durable before.
    pub fn rename_dir(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.dir(from)?;
        if self.get(to)?.is_some() || to.starts_with(from) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let moved = |path: &PathBuf| match path.strip_prefix(from) {
            Ok(inside) => to.components().chain(inside.components()).collect(),
            Err(_) => path.clone(),
        };
        for names in [&mut self.cache, &mut self.disk] {
            *names = names.iter().map(|(path, node)| (moved(path), *node)).collect();
        }
        for change in &mut self.pending {
            change.names.iter_mut().for_each(|(path, _)| *path = moved(path));
        }
        Ok(())
    }

    fn change(&mut self, names: Vec<(PathBuf, Option<Node>)>) {
        let change = NameChange { names, dirty: true };
        change.apply(&mut self.cache);
        self.pending.push(change);
    }

    /// The names in a directory.
    pub fn list(&self, dir: &Path) -> Vec<OsString> {
        let below = self.cache.range(dir.to_path_buf()..).map(|(path, _)| path);
        let inside = below.take_while(|path| path.starts_with(dir)).filter(|path| path.parent() == Some(dir));
        inside.filter_map(|path| path.file_name().map(Into::into)).collect()
    }

    /// All files.
    pub fn files(&self) -> impl Iterator<Item = (&PathBuf, u64)> {
        self.cache.iter().filter_map(|(path, node)| match node {
            Node::File(ino) => Some((path, *ino)),
            Node::Dir(_) => None,
        })
    }

    /// The inodes that a name stands for or may stand for after a loss of power.
    pub fn inodes(&self) -> BTreeSet<u64> {
        let pending =
            self.pending.iter().flat_map(|change| &change.names).filter_map(|(_, node)| node.as_ref());
        let all = self.cache.values().chain(self.disk.values()).chain(pending);
        all.filter_map(|node| match node {
            Node::File(ino) => Some(*ino),
            Node::Dir(_) => None,
        })
        .collect()
    }

    /// Makes the names of a directory durable.
    pub fn sync(&mut self, dir: &Path) {
        let mut synced = BTreeSet::new();
        let disk = &mut self.disk;
        self.pending.retain(|change| {
            let due = change.dirty && change.is_in(dir);
            if due {
                change.apply(disk);
                synced.extend(change.paths());
            }
            !due
        });
        // What is left of a synced name is an older change that a failed sync gave up: it can't come back now.
        self.pending.retain(|change| !change.touches(&synced));
    }

    /// A sync that failed: processes still see the changes, but no later sync makes them durable.
    pub fn fail_sync(&mut self, dir: &Path) {
        for change in self.pending.iter_mut().filter(|change| change.is_in(dir)) {
            change.dirty = false;
        }
    }

    /// How many changes are not durable.
    pub fn unsynced(&self) -> usize {
        self.pending.len()
    }

    /// A loss of power.
    pub fn lose(&mut self, dice: &mut Dice<'_>) {
        let pending = std::mem::take(&mut self.pending);
        if let Some(len) = dice.prefix(pending.len()) {
            pending[..len].iter().for_each(|change| change.apply(&mut self.disk));
        } else {
            let mut lost = BTreeSet::new();
            for change in &pending {
                if dice.survives(change.dirty) && !change.touches(&lost) {
                    change.apply(&mut self.disk);
                } else {
                    lost.extend(change.paths());
                }
            }
        }
        prune(&mut self.disk);
        self.cache = self.disk.clone();
    }

    /// Makes a name and those above it durable, even if a failed sync gave them up.
    pub fn persist(&mut self, path: &Path) {
        for name in path.ancestors() {
            if let Some(dir) = name.parent() {
                self.set(name, self.cache.get(name).copied());
                self.sync(dir);
            }
        }
    }
}

/// Removes what lies in directories that were lost. A directory sorts before what lies in it.
fn prune(names: &mut BTreeMap<PathBuf, Node>) {
    let mut dirs = BTreeSet::new();
    names.retain(|path, node| {
        let kept = path.parent().is_none_or(|parent| dirs.contains(parent));
        if kept && matches!(node, Node::Dir(_)) {
            dirs.insert(path.clone());
        }
        kept
    });
}
