//! Lines of input, plain or gzip, read ahead by a thread, so that the importer can tell "nothing there yet" from "more to
//! come". Memory is bounded: a few chunks and one line. A line beyond the limit is told as soon as it is known to be one,
//! and no more than its beginning is ever held.

use std::io::{self, Cursor, Read};
use std::thread;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use flate2::read::MultiGzDecoder;

const CHUNK: usize = 64 << 10;
const CHUNKS_AHEAD: usize = 4;
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Input, cut into lines.
pub struct Lines {
    /// The longest line, in bytes.
    limit: usize,
    chunks: Receiver<io::Result<Vec<u8>>>,
    buffer: Vec<u8>,
    /// Where the next line begins in the buffer.
    start: usize,
    /// Up to where the buffer is known to hold no line end.
    scanned: usize,
    /// Whether the present line is too long: that was told, and the rest of it is dropped.
    dropping: bool,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A line, without its end.
    Line(Vec<u8>),
    /// A line beyond the limit, which is dropped.
    TooLong,
    /// The line is not there yet.
    Pending,
    /// There is no more.
    End,
}

impl Lines {
    /// Begins to read lines of at most `limit` bytes.
    pub fn new(input: impl Read + Send + 'static, limit: usize) -> Lines {
        let (sender, chunks) = bounded(CHUNKS_AHEAD);
        // Nobody joins this thread: when the importer stops early, it may sit in a read that never returns.
        thread::spawn(move || read(input, &sender));
        Lines { limit, chunks, buffer: Vec::new(), start: 0, scanned: 0, dropping: false }
    }

    /// Whether the input begins with these bytes. Waits until that is known, and takes nothing.
    pub fn begin_with(&mut self, what: &[u8]) -> io::Result<bool> {
        while self.buffer.len() < what.len() && what.starts_with(&self.buffer) {
            match self.chunks.recv() {
                Ok(chunk) => self.add(&chunk?),
                Err(_) => break,
            }
        }
        Ok(self.buffer.starts_with(what))
    }

    /// Allows lines of so many bytes from now on.
    pub fn allow(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The next line. Unless it may `wait`, the answer is `Pending` as long as the line is not there.
    pub fn next(&mut self, wait: bool) -> io::Result<Next> {
        loop {
            if let Some(next) = self.cut() {
                return Ok(next);
            }
            let chunk = if wait {
                self.chunks.recv().ok()
            } else {
                match self.chunks.try_recv() {
                    Ok(chunk) => Some(chunk),
                    Err(TryRecvError::Empty) => return Ok(Next::Pending),
                    Err(TryRecvError::Disconnected) => None,
                }
            };
            match chunk {
                Some(chunk) => self.add(&chunk?),
                None => return Ok(self.end()),
            }
        }
    }

    /// Cuts a line off the buffer, or tells of one that is too long.
    fn cut(&mut self) -> Option<Next> {
        while let Some(at) = self.buffer[self.scanned..].iter().position(|b| *b == b'\n') {
            let end = self.scanned + at;
            let line = self.take(end);
            (self.start, self.scanned) = (end + 1, end + 1);
            if line.is_some() {
                return line;
            }
        }
        self.scanned = self.buffer.len();
        if !self.dropping && self.scanned - self.start <= self.limit {
            return None;
        }
        let line = self.take(self.scanned);
        (self.start, self.dropping) = (self.scanned, true);
        line
    }

    /// The line up to `end`, unless it was told to be too long already.
    fn take(&mut self, end: usize) -> Option<Next> {
        let line = &self.buffer[self.start..end];
        match (std::mem::take(&mut self.dropping), line.len() > self.limit) {
            (true, _) => None,
            (false, true) => Some(Next::TooLong),
            (false, false) => Some(Next::Line(line.to_vec())),
        }
    }

    /// Adds a chunk after the part of a line that is left.
    fn add(&mut self, chunk: &[u8]) {
        self.buffer.drain(..self.start);
        (self.start, self.scanned) = (0, self.buffer.len());
        self.buffer.extend_from_slice(chunk);
    }

    /// The last line may lack its end.
    fn end(&mut self) -> Next {
        if self.start == self.buffer.len() {
            return Next::End;
        }
        let line = self.take(self.buffer.len());
        self.start = self.buffer.len();
        line.unwrap_or(Next::End)
    }
}

/// Sends the input in chunks, unpacked, until its end, an error, or nobody wants more.
fn read(mut input: impl Read, chunks: &Sender<io::Result<Vec<u8>>>) {
    let mut head = Vec::new();
    let done = (&mut input).take(GZIP.len() as u64).read_to_end(&mut head).and_then(|_| {
        let packed = head == GZIP;
        let whole = Cursor::new(head).chain(input);
        if packed { copy(MultiGzDecoder::new(whole), chunks) } else { copy(whole, chunks) }
    });
    if let Err(error) = done {
        // A failed send means that the importer has stopped already.
        let _ = chunks.send(Err(error));
    }
}

fn copy(mut input: impl Read, chunks: &Sender<io::Result<Vec<u8>>>) -> io::Result<()> {
    loop {
        let mut chunk = vec![0; CHUNK];
        let len = match input.read(&mut chunk) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        chunk.truncate(len);
        if len == 0 || chunks.send(Ok(chunk)).is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const LIMIT: usize = 4 * CHUNK;

    fn all(input: &[u8]) -> Vec<Next> {
        let mut lines = Lines::new(Cursor::new(input.to_vec()), LIMIT);
        let mut all = Vec::new();
        loop {
            match lines.next(true).unwrap() {
                Next::End => return all,
                next => all.push(next),
            }
        }
    }

    fn line(text: &str) -> Next {
        Next::Line(text.as_bytes().to_vec())
    }

    #[test]
    fn lines_end_with_a_newline_or_with_the_input() {
        assert_eq!(all(b""), []);
        assert_eq!(all(b"\n"), [line("")]);
        assert_eq!(all(b"a\n\nbc"), [line("a"), line(""), line("bc")]);
        let long = "x".repeat(3 * CHUNK + 1);
        assert_eq!(all(format!("{long}\n{long}\n").as_bytes()), [line(&long), line(&long)]);
    }

    #[test]
    fn gzip_is_told_by_its_first_bytes_and_members_may_follow_each_other() {
        let mut packed = Vec::new();
        for part in ["a\nb", "c\n"] {
            let mut encoder = GzEncoder::new(&mut packed, Compression::default());
            encoder.write_all(part.as_bytes()).unwrap();
            encoder.finish().unwrap();
        }
        assert_eq!(all(&packed), [line("a"), line("bc")]);
    }

    #[test]
    fn a_cut_gzip_file_is_an_error_and_its_last_part_no_line() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(b"a\nb\n").unwrap();
        let mut packed = encoder.finish().unwrap();
        packed.truncate(packed.len() - 9);
        let mut lines = Lines::new(Cursor::new(packed), LIMIT);
        loop {
            match lines.next(true) {
                Ok(next) => assert!(matches!(next, Next::Line(_)), "{next:?}"),
                Err(e) => return assert_eq!(e.kind(), io::ErrorKind::UnexpectedEof),
            }
        }
    }

    #[test]
    fn a_line_beyond_the_limit_is_dropped_and_the_next_one_is_whole() {
        let mut input = vec![b'x'; LIMIT + 1];
        input.extend(b"\nnext\n");
        assert_eq!(all(&input), [Next::TooLong, line("next")]);
        let mut input = vec![b'x'; LIMIT + 2 * CHUNK];
        assert_eq!(all(&input), [Next::TooLong]);
        input.extend(b"\n");
        assert_eq!(all(&input), [Next::TooLong]);
        input.extend(b"\nnext");
        assert_eq!(all(&input), [Next::TooLong, line(""), line("next")]);
        let longest = "x".repeat(LIMIT);
        assert_eq!(all(longest.as_bytes()), [line(&longest)]);
    }

    #[test]
    fn a_line_without_end_is_refused_and_not_held() {
        let mut lines = Lines::new(io::repeat(b'x').take(1 << 30), LIMIT);
        assert_eq!(lines.next(true).unwrap(), Next::TooLong);
        assert!(lines.chunks.try_recv().is_ok(), "the line was read to its end first");
        assert_eq!(lines.next(true).unwrap(), Next::End);
        assert!(lines.buffer.capacity() <= 3 * LIMIT, "{}", lines.buffer.capacity());
    }

    #[test]
    fn without_waiting_what_is_not_there_is_pending() {
        let (sender, chunks) = bounded(1);
        let mut lines =
            Lines { limit: LIMIT, chunks, buffer: Vec::new(), start: 0, scanned: 0, dropping: false };
        assert_eq!(lines.next(false).unwrap(), Next::Pending);
        sender.send(Ok(b"a\nb".to_vec())).unwrap();
        assert_eq!(lines.next(false).unwrap(), line("a"));
        assert_eq!(lines.next(false).unwrap(), Next::Pending);
        drop(sender);
        assert_eq!(lines.next(false).unwrap(), line("b"));
        assert_eq!(lines.next(false).unwrap(), Next::End);
    }
}
