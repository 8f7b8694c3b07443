//! Where and with what it was measured.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use serde::Serialize;

const LOCK: &str = include_str!("../Cargo.lock");

/// The packages whose versions matter.
const PACKAGES: [&str; 10] = [
    "chanlog",
    "rocksdb",
    "librocksdb-sys",
    "heed",
    "lmdb-master-sys",
    "redb",
    "fjall",
    "rusqlite",
    "libsqlite3-sys",
    "raft-engine",
];

#[derive(Default, Serialize)]
pub struct Machine {
    pub date: String,
    pub command: String,
    pub processor: String,
    pub cores: usize,
    pub memory: String,
    pub kernel: String,
    pub file_system: String,
    pub versions: Vec<String>,
    /// Of chanlog's sources.
    pub commit: String,
}

impl Machine {
    pub fn of(dir: &Path) -> Result<Machine> {
        let named = |file: &str, name: &str| -> Result<String> {
            let text = fs::read_to_string(file)?;
            let line = text.lines().find(|line| line.starts_with(name));
            Ok(line.and_then(|line| line.split_once(':')).map_or("?", |(_, value)| value.trim()).to_owned())
        };
        let mut git = Command::new("git");
        git.args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"]);
        Ok(Machine {
            date: output(Command::new("date").args(["-u", "+%F %H:%M UTC"])),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            processor: named("/proc/cpuinfo", "model name")?,
            cores: std::thread::available_parallelism()?.get(),
            memory: named("/proc/meminfo", "MemTotal")?,
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            file_system: file_system(dir)?,
            versions: PACKAGES.into_iter().filter_map(version).collect(),
            commit: output(&mut git),
        })
    }

    /// How many processes wanted to run, in the last 1, 5 and 15 minutes.
    pub fn load() -> Result<String> {
        let load = fs::read_to_string("/proc/loadavg")?;
        Ok(load.split(' ').take(3).collect::<Vec<_>>().join(" "))
    }
}

fn output(command: &mut Command) -> String {
    let output = command.output().ok().filter(|output| output.status.success());
    output.map_or("?".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn version(package: &str) -> Option<String> {
    let (_, entry) = LOCK.split_once(&format!("name = \"{package}\"\nversion = \""))?;
    Some(format!("{package} {}", entry.split('"').next()?))
}

/// The file system that a directory lies in, and its device.
fn file_system(dir: &Path) -> Result<String> {
    let dir = dir.canonicalize()?;
    let mounts = fs::read_to_string("/proc/mounts")?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (device, at, kind) = (fields.next()?, fields.next()?, fields.next()?);
        dir.starts_with(at).then(|| (at.len(), format!("{kind} on {device}")))
    });
    Ok(mounts.max().map_or("?".to_owned(), |(_, text)| text))
}
