//! Sealed files: what is written is read, and whatever is hurt is noticed.

use super::*;
use std::path::Path;
use std::sync::Arc;

use crate::env::{Access, Dir, Env, OsEnv};
use crate::error::Error;

const STORE: StoreId = [7; 16];

/// The open directory at a path.
fn open_dir(path: &Path) -> Arc<dyn Dir> {
    OsEnv::new().open_dir(path, false).unwrap()
}

fn write(dir: &Path, len: usize) -> (Vec<u8>, u64) {
    let content: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
    let mut writer = SealedWriter::create(&*open_dir(dir), Kind::Run, STORE, 5).unwrap();
    for part in content.chunks(1000) {
        writer.write(part).unwrap();
    }
    (content, writer.finish(b"footer").unwrap())
}

#[test]
fn what_was_written_is_read() {
    for len in [0, 1, 4000, PAGE - HEADER, PAGE, 700_000] {
        let dir = tempfile::tempdir().unwrap();
        let (content, size) = write(dir.path(), len);
        let sealed = Sealed::open(&*open_dir(dir.path()), Kind::Run, STORE, 5, size).unwrap();
        assert_eq!(sealed.footer(), b"footer");
        assert_eq!(sealed.bytes(HEADER as u64, len).unwrap(), content);
        assert_eq!(sealed.slice(HEADER as u64, len).unwrap(), content);
        assert!(sealed.bytes(HEADER as u64, len + 1).is_err());
        sealed.verify(|fault| panic!("{fault}"));
    }
}

#[test]
fn any_flipped_bit_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (_, size) = write(dir.path(), 10_000);
    let path = dir.path().join(Kind::Run.name(5));
    let good = std::fs::read(&path).unwrap();
    for at in (0..good.len()).step_by(13).chain(good.len() - TRAILER..good.len()) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        std::fs::write(&path, &bad).unwrap();
        let mut faults = 0;
        match Sealed::open(&*open_dir(dir.path()), Kind::Run, STORE, 5, size) {
            Ok(sealed) => sealed.verify(|_| faults += 1),
            Err(_) => faults += 1,
        }
        assert!(faults > 0, "a flip at {at} went unseen");
    }
}

#[test]
fn a_bad_page_hides_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (content, size) = write(dir.path(), 5 * PAGE);
    let file = open_dir(dir.path()).open(&Kind::Run.name(5), Access::Write).unwrap();
    file.write_at(&[0xff, 0xff, 0xff], 2 * PAGE as u64).unwrap();
    let sealed = Sealed::open(&*open_dir(dir.path()), Kind::Run, STORE, 5, size).unwrap();
    assert_eq!(sealed.bytes(100, 1000).unwrap(), &content[100 - HEADER..][..1000]);
    match sealed.bytes(2 * PAGE as u64 - 10, 20) {
        Err(Error::Corruption { offset, .. }) => assert_eq!(offset, 2 * PAGE as u64),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_of_another_name_store_or_length_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (_, size) = write(dir.path(), 100);
    let open = |kind, store, id, size| Sealed::open(&*open_dir(dir.path()), kind, store, id, size);
    std::fs::copy(dir.path().join(Kind::Run.name(5)), dir.path().join(Kind::Run.name(6))).unwrap();
    std::fs::copy(dir.path().join(Kind::Run.name(5)), dir.path().join(Kind::Segment.name(5))).unwrap();
    assert!(open(Kind::Run, STORE, 5, size).is_ok());
    assert!(open(Kind::Run, STORE, 6, size).is_err());
    assert!(open(Kind::Segment, STORE, 5, size).is_err());
    assert!(open(Kind::Run, [8; 16], 5, size).is_err());
    assert!(open(Kind::Run, STORE, 5, size - 1).is_err());
}
