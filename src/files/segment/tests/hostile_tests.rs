//! Segments that contradict themselves behind right checksums: each is refused, and costs no more than an error.

use super::*;
use crate::files::sealed::SealedWriter;
use crate::files::segment::format::Footer;
use crate::model::codec::Put;

/// The content of a good file.
fn content(segment: &Segment) -> Vec<u8> {
    let len = segment.sealed.content_end() as usize - HEADER;
    segment.sealed.bytes(HEADER as u64, len).unwrap().to_vec()
}

/// Writes content and footer as a file with valid checksums, and opens it.
fn reseal(dir: &Path, content: &[u8], footer: &[u8]) -> Result<Segment> {
    let mut writer = SealedWriter::create(&*open_dir(dir), Kind::Segment, STORE, ID)?;
    writer.write(content)?;
    let len = writer.finish(footer)?;
    open(dir, ID, len, 1 << 20)
}

/// Does everything that can be done with a segment, for it to end without a panic.
fn exercise(dir: &Path, segment: Segment) {
    let _ = faults(&segment);
    for channel in (0..40).chain([u32::MAX]) {
        let _ = segment.extent(ChannelId(channel));
        let _ = last_of(&segment, channel);
        for (from, to) in [(0, u64::MAX), (5, 9), (9, 5), (u64::MAX, u64::MAX), (0, 0)] {
            let _ = read(&segment, channel, from, to, false);
            let _ = read(&segment, channel, from, to, true);
        }
    }
    let _ = merge(&*open_dir(dir), STORE, ID + 1, &[Arc::new(segment)], ask(&is_last), &mut |_| Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn hostile_content_behind_good_checksums_does_no_harm(
        flips in vec((0..6usize, any::<prop::sample::Index>(), any::<u64>(), 1..9usize), 1..4),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let (dir, segment) = segment_with(&sample(), &is_last);
        let f = segment.footer;
        let sections =
            [HEADER as u64, f.tails, f.index, f.entries, f.directory, segment.sealed.content_end()];
        let sections = sections.map(|offset| offset as usize - HEADER);
        let mut content = content(&segment);
        let mut footer = segment.sealed.footer().to_vec();
        for (section, at, value, len) in flips {
            let target = match section {
                5 => &mut footer[..],
                n => &mut content[sections[n]..sections[n + 1]],
            };
            let at = at.index(target.len());
            let end = (at + len).min(target.len());
            // Half of the values are small, or a small step beyond what is there.
            let value = if value % 2 == 0 { value } else { value >> 56 };
            target[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
        }
        if let Some(cut) = cut {
            content.truncate(cut.index(content.len()));
        }
        drop(segment);
        if let Ok(hostile) = reseal(dir.path(), &content, &footer) {
            exercise(dir.path(), hostile);
        }
    }

    #[test]
    fn any_content_and_footer_do_no_harm(content: Vec<u8>, footer: Vec<u8>, values: [u64; 6]) {
        let dir = tempfile::tempdir().unwrap();
        if let Ok(hostile) = reseal(dir.path(), &content, &footer) {
            exercise(dir.path(), hostile);
        }
        let [tails, index, entries, directory, blocks, channels] = values;
        let footer = Footer { tails, index, entries, directory, blocks, channels, messages: 1, versions: (1, 2) };
        prop_assert!(reseal(dir.path(), &content, &footer.encode()).is_err());
    }
}

/// A file of one block, whose index entry `mutate` changes.
fn with_handle(dir: &Path, mutate: impl Fn(&mut Handle)) -> Segment {
    let history: Vec<_> = (1..20).map(|seq| Message::new(0, seq, seq, &text(100))).collect();
    let (_dir, segment) = segment(&history);
    assert_eq!(segment.footer.blocks, 1);
    let mut content = content(&segment);
    let mut handle = segment.handle(0).unwrap();
    assert!(handle.compressed());
    mutate(&mut handle);
    let mut entry = Vec::new();
    handle.encode(&mut entry);
    content[segment.footer.index as usize - HEADER..][..Handle::LEN].copy_from_slice(&entry);
    reseal(dir, &content, segment.sealed.footer()).unwrap()
}

#[test]
fn a_block_with_wrong_lengths_is_refused_before_memory_is_taken() {
    let mutations: [fn(&mut Handle); 14] = [
        |h| h.raw_len = u32::MAX,
        |h| h.raw_len = 0,
        |h| h.raw_len = h.stored_len * 255 + 1,
        |h| h.raw_len += 1,
        |h| h.stored_len = h.raw_len,
        |h| h.offset += 1,
        |h| h.first.1 += 1,
        |h| h.summary.records += 1,
        |h| h.summary.records = 0,
        |h| h.summary.records = u32::MAX,
        |h| h.summary.times.0 -= 1,
        |h| h.summary.times.1 += 1,
        |h| h.summary.versions.0 += 1,
        |h| h.summary.versions.1 -= 1,
    ];
    for mutate in mutations {
        let dir = tempfile::tempdir().unwrap();
        let hostile = with_handle(dir.path(), mutate);
        assert!(matches!(read(&hostile, 0, 0, u64::MAX, false), Err(Error::Corruption { .. })));
        assert!(!faults(&hostile).is_empty());
        assert!(last_of(&hostile, 0).unwrap().is_some());
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(faults(&with_handle(dir.path(), |_| {})).is_empty());
}

#[test]
fn verify_sees_what_a_directory_hides() {
    let history = sample();
    let (dir, segment) = segment(&history);
    let f = segment.footer;
    let content = content(&segment);
    // Leaves out a channel, and says so in the footer: its records in blocks are then nobody's.
    let (_other, shorter) = forged_of(&history, |p| p.entries.truncate(p.entries.len() - 1));
    assert_eq!(shorter.footer.channels, f.channels - 1);
    assert!(!faults(&shorter).is_empty());
    // A message less, or more, than there is.
    for messages in [f.messages - 1, f.messages + 1, u64::MAX, 0] {
        let footer = Footer { messages, ..f };
        let wrong = Arc::new(reseal(dir.path(), &content, &footer.encode()).unwrap());
        assert_eq!(faults(&wrong).len(), 1);
        let merged = merge(&*open_dir(dir.path()), STORE, ID + 1, &[wrong], ask(&is_last), &mut |_| Ok(()));
        assert!(matches!(merged, Err(Error::Corruption { .. })));
    }
    // Versions that the records do not have.
    let footer = Footer { versions: (1, 100), ..f };
    assert!(!faults(&reseal(dir.path(), &content, &footer.encode()).unwrap()).is_empty());
}

/// Index, directory and footer of a segment, to be changed.
struct Parts {
    handles: Vec<Handle>,
    entries: Vec<Forged>,
    footer: Footer,
    /// Where the first tail begins, from the begin of the tails.
    tails: u64,
}

/// An entry of the directory that may say anything. Differences are what they are in the file.
#[derive(Clone, Copy, Debug)]
struct Forged {
    channel: u64,
    first_seq: u64,
    span: u64,
    /// Absent if it has no records in blocks.
    bytes: Option<u64>,
    /// Of version and seq, and the depth.
    prev: Option<(u64, u64, u64)>,
    jump: Option<(u64, u64)>,
    tail: Option<u64>,
}

/// More than the version of any link in these tests.
const NEWEST: u64 = 1 << 20;

impl Forged {
    fn of(entry: &Entry) -> Forged {
        let Extent { first_seq, last_seq, bytes, chain: Chain { prev, jump, depth } } = entry.extent;
        Forged {
            channel: entry.channel.0.into(),
            first_seq,
            span: last_seq - first_seq,
            bytes: entry.blocks().map(|_| bytes),
            prev: (!prev.is_none()).then(|| (NEWEST - prev.version, first_seq - 1 - prev.seq, depth.into())),
            jump: (!jump.is_none()).then(|| (prev.version - jump.version, prev.seq - jump.seq)),
            tail: entry.tail.map(|tail| tail.len.into()),
        }
    }

    fn encode(&self, next: u64, out: &mut Vec<u8>) {
        let flags = u64::from(self.tail.is_some())
            | (u64::from(self.prev.is_some()) << 1)
            | (u64::from(self.jump.is_some()) << 2);
        out.put_varint(self.channel.wrapping_sub(next) << 3 | flags);
        out.put_varint(self.first_seq);
        out.put_varint(self.span);
        let (prev, jump) = (self.prev.map(|(v, s, d)| [v, s, d]), self.jump.map(|(v, s)| [v, s]));
        let (prev, jump) = (prev.into_iter().flatten(), jump.into_iter().flatten());
        self.bytes
            .into_iter()
            .chain(prev)
            .chain(jump)
            .chain(self.tail)
            .for_each(|value| out.put_varint(value));
    }
}

/// A segment of raw blocks whose parts were changed. Channel 1 fills several blocks, channels 2 to 4 have a message each.
fn forged(change: impl Fn(&mut Parts)) -> (tempfile::TempDir, Segment) {
    let mut history: Vec<_> = (2..31).map(|seq| Message::new(1, seq, 9 + seq, &noise(2000, seq))).collect();
    history
        .extend([2, 3, 4].map(|channel| Message::new(channel, 5, 37 + u64::from(channel), &noise(100, 1))));
    forged_of(&history, change)
}

/// A segment of a history whose parts were changed.
fn forged_of(history: &[Message], change: impl Fn(&mut Parts)) -> (tempfile::TempDir, Segment) {
    let (dir, segment) = segment(history);
    let footer = segment.footer;
    let handles = (0..footer.blocks).map(|n| segment.handle(n).unwrap()).collect();
    let forged = entries(&segment).iter().map(Forged::of).collect();
    let mut parts = Parts { handles, entries: forged, footer, tails: 0 };
    change(&mut parts);
    let mut content = content(&segment);
    content.truncate(footer.index as usize - HEADER);
    parts.handles.iter().for_each(|handle| handle.encode(&mut content));
    let (mut groups, mut guides, mut tails) = (Vec::new(), Vec::new(), parts.tails);
    for group in parts.entries.chunks(16) {
        guides.put_u32(group[0].channel as u32);
        guides.put_u64(groups.len() as u64);
        groups.put_varint(tails);
        groups.put_varint(NEWEST);
        let mut next = group[0].channel;
        for entry in group {
            entry.encode(next, &mut groups);
            next = entry.channel + 1;
            tails += entry.tail.unwrap_or(0);
        }
    }
    let mut footer = parts.footer;
    footer.entries = (HEADER + content.len()) as u64;
    footer.directory = footer.entries + groups.len() as u64;
    footer.channels = parts.entries.len() as u64;
    content.extend(groups);
    content.extend(guides);
    let forged = reseal(dir.path(), &content, &footer.encode()).unwrap();
    (dir, forged)
}

#[test]
fn an_index_that_contradicts_the_blocks_is_refused() {
    let (_dir, good) = forged(|_| {});
    assert_eq!(faults(&good), [""; 0]);
    assert_eq!(read(&good, 1, 0, u64::MAX, true).unwrap().len(), 29);
    // Reads of what only the first block holds see each of these.
    let changes: [fn(&mut Parts); 7] = [
        |p| p.handles[1].first.1 = 3,
        |p| p.handles[1].offset += 1,
        |p| p.handles[0].offset += 1,
        |p| p.handles[0].first.1 = 1,
        |p| p.handles[0].first.1 = 3,
        |p| p.handles[0].first.0 = ChannelId(0),
        |p| p.handles[0] = p.handles[1],
    ];
    for change in changes {
        let (_dir, bad) = forged(change);
        assert!(matches!(read(&bad, 1, 1, 2, false), Err(Error::Corruption { .. })));
        assert!(!faults(&bad).is_empty());
    }
    // The last block has to end where the tails begin.
    let (_dir, bad) = forged(|p| p.footer.tails -= 1);
    assert!(matches!(read(&bad, 1, 28, 28, false), Err(Error::Corruption { .. })));
}

#[test]
fn a_directory_that_contradicts_the_records_is_refused() {
    let first =
        Forged { channel: 0, first_seq: 5, span: 0, bytes: Some(20), prev: None, jump: None, tail: None };
    let prev = |version: u64| Some((NEWEST - version, 0, 1));
    assert_eq!(faults(&forged(|p| p.entries[2].prev = prev(p.footer.versions.0 - 1)).1), [""; 0]);
    // What is wrong with one entry is found when that is read, and hides no other.
    let changes: [&dyn Fn(&mut Parts); 4] = [
        &|p| (p.entries[2].span, p.entries[2].bytes) = (1, Some(20)),
        &|p| p.entries[2].first_seq += 1,
        &|p| p.entries[2].prev = prev(p.footer.versions.0),
        &|p| (p.entries[2].prev, p.entries[2].jump) = (prev(p.footer.versions.0), Some((8, 0))),
    ];
    for change in changes {
        let (_dir, bad) = forged(change);
        assert!(matches!(last_of(&bad, 3), Err(Error::Corruption { .. })));
        assert!(last_of(&bad, 2).is_ok() && last_of(&bad, 4).is_ok());
        assert!(!faults(&bad).is_empty());
    }
    // A wrong size misleads no read, and is found by a check.
    let (_dir, bad) = forged(|p| p.entries[0].bytes = Some(20));
    assert_eq!(read(&bad, 1, 0, u64::MAX, true).unwrap().len(), 29);
    let entry = bad.find(ChannelId(1)).unwrap().unwrap();
    assert!(bad.beyond(&entry, u64::MAX, 0).is_ok_and(|seq| seq == entry.extent.first_seq - 1));
    assert!(faults(&bad)[0].contains("not as many bytes as the directory says"));
    // Tails lie one after another: a wrong one moves those after it.
    let changes: [&dyn Fn(&mut Parts); 7] = [
        &|p| p.entries[2].tail = p.entries[2].tail.map(|len| len + 1),
        &|p| p.entries[2].tail = p.entries[2].tail.map(|len| len - 1),
        &|p| p.entries[2].tail = Some(u32::MAX.into()),
        &|p| p.entries[2].tail = Some(0),
        &|p| (p.entries[2].tail, p.entries[2].bytes) = (None, Some(20)),
        &|p| (p.tails, p.entries[2].tail) = (1, None),
        &|p| p.entries[2] = Forged { channel: 3, ..first },
    ];
    for change in changes {
        let (_dir, bad) = forged(change);
        assert!(matches!(last_of(&bad, 3), Err(Error::Corruption { .. })));
        assert!(!faults(&bad).is_empty());
    }
    let (_dir, outside) = forged(|p| p.entries[2].tail = Some(1 << 20));
    assert!(outside.extent(ChannelId(3)).is_err());
}

#[test]
fn entries_that_can_not_be_are_refused() {
    let changes: [fn(&mut Forged); 14] = [
        |e| e.first_seq = 0,
        |e| e.span = u64::MAX,
        |e| e.channel = 1 << 32,
        |e| e.tail = Some(1 << 32),
        // A link to a version, or a seq, that no message has; one that is there but leads nowhere.
        |e| e.prev = Some((NEWEST, 0, 0)),
        |e| e.prev = Some((NEWEST + 1, 0, 0)),
        |e| e.prev = Some((NEWEST - 1, 4, 0)),
        |e| e.prev = Some((NEWEST - 1, 5, 0)),
        |e| e.prev = Some((NEWEST - 1, 0, 1 << 32)),
        |e| e.jump = Some((0, 0)),
        |e| (e.prev, e.jump) = (Some((NEWEST - 9, 0, 0)), Some((9, 0))),
        |e| (e.prev, e.jump) = (Some((NEWEST - 9, 0, 0)), Some((10, 0))),
        |e| (e.prev, e.jump) = (Some((NEWEST - 9, 0, 0)), Some((1, 4))),
        |e| (e.prev, e.jump) = (Some((NEWEST - 9, 0, 0)), Some((1, 5))),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let (_dir, bad) = forged(|p| change(&mut p.entries[2]));
        assert!(matches!(bad.extent(ChannelId(3)), Err(Error::Corruption { .. })), "{number}");
        assert!(bad.extent(ChannelId(2)).is_ok());
        assert!(!faults(&bad).is_empty());
        let merged =
            merge(&*open_dir(_dir.path()), STORE, ID + 1, &[Arc::new(bad)], ask(&is_last), &mut |_| Ok(()));
        assert!(matches!(merged, Err(Error::Corruption { .. })));
    }
    let good = |e: &mut Forged| (e.prev, e.jump) = (Some((NEWEST - 9, 0, 7)), Some((8, 3)));
    let (_dir, good) = forged(|p| good(&mut p.entries[2]));
    let chain = Chain { prev: Link { version: 9, seq: 4 }, jump: Link { version: 1, seq: 1 }, depth: 7 };
    assert_eq!(good.extent(ChannelId(3)).unwrap().unwrap().chain, chain);
    assert_eq!(faults(&good), [""; 0]);
}

#[test]
fn verify_sees_a_wrong_extent() {
    let changes: [fn(&mut Parts); 5] = [
        |p| p.entries[0].first_seq = 1,
        |p| (p.entries[0].first_seq, p.entries[0].span) = (3, 27),
        |p| p.entries[2].first_seq = 4,
        |p| p.entries[2].channel = 9,
        |p| p.entries[0].channel = 0,
    ];
    for change in changes {
        assert!(!faults(&forged(change).1).is_empty());
    }
}

#[test]
fn without_a_tail_the_last_record_must_lie_in_a_block() {
    // The last message of channel 1 is in no block, and that of channel 2 neither.
    for number in [0, 1] {
        let (_dir, bad) = forged(|p| {
            p.entries[number].tail = None;
            p.footer.messages -= 1;
        });
        assert!(matches!(last_of(&bad, 1 + number as u32), Err(Error::Corruption { .. })));
        assert!(!faults(&bad).is_empty());
    }
}

#[test]
fn segments_that_contradict_each_other_are_not_merged() {
    let merged = |older: &[Message], newer: &[Message]| {
        let dir = tempfile::tempdir().unwrap();
        let open = |id, len| Arc::new(open(dir.path(), id, len, 0).unwrap());
        let older = open(1, build(dir.path(), 1, older, 0..older.len()));
        let newer = open(2, build(dir.path(), 2, newer, 0..newer.len()));
        merge(&*open_dir(dir.path()), STORE, ID, &[older, newer], ask(&is_last), &mut |_| Ok(()))
    };
    let run = |channel, seqs: std::ops::Range<u64>, version: u64| -> Vec<_> {
        seqs.map(|seq| Message::new(channel, seq, version + seq, b"x")).collect()
    };
    assert!(merged(&run(1, 1..5, 0), &run(1, 5..9, 0)).is_ok());
    assert!(matches!(merged(&run(1, 1..6, 0), &run(1, 5..9, 1)), Err(Error::Corruption { .. })));
    assert!(matches!(merged(&run(1, 5..9, 0), &run(1, 1..5, 8)), Err(Error::Corruption { .. })));
    // A channel that is said to go on from a version of the older segment, which does not hold it.
    let (_older, older) = segment(&run(9, 1..5, 4));
    let (dir, newer) = forged(|p| p.entries[2].prev = Some((NEWEST - 7, 0, 1)));
    let inputs = [Arc::new(older), Arc::new(newer)];
    let merged = merge(&*open_dir(dir.path()), STORE, ID + 1, &inputs, ask(&is_last), &mut |_| Ok(()));
    assert!(matches!(merged, Err(Error::Corruption { .. })));
}

#[test]
fn another_format_is_told_apart_from_damage() {
    let (dir, segment) = segment(&sample());
    let content = content(&segment);
    for other in [1, 2, 4] {
        let mut footer = segment.sealed.footer().to_vec();
        footer[0] = other;
        footer.truncate(10);
        let opened = reseal(dir.path(), &content, &footer);
        assert!(matches!(opened, Err(Error::Unsupported { version, .. }) if version == u32::from(other)));
    }
}
