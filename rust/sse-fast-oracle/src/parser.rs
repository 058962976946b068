//! A client's parser: HTTP chunks, then Server-Sent Events, byte by byte as they arrive.
//!
//! Shares no code with the engine. It is strict where the contract is (DESIGN, wire contract): LF
//! only, fields in order, a comment never inside an event, no blank line where there was no event
//! in a stream with ids. Whatever is not so is a panic with what was read so far.

/// An event a client dispatches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    pub event: Option<String>,
    pub id: Option<String>,
    pub retry: Option<u64>,
    pub data: Vec<String>,
}

impl Block {
    fn is_begun(&self) -> bool {
        self.event.is_some() || self.id.is_some() || !self.data.is_empty()
    }
}

/// Where the chunk decoder stands.
#[derive(Debug)]
enum Chunk {
    Size(String),
    Payload(usize),
    End(usize, &'static [u8]),
    Closed,
}

/// See the module.
#[derive(Debug)]
pub struct Parser {
    /// None where the body ends with the connection.
    chunk: Option<Chunk>,
    line: Vec<u8>,
    block: Block,
    ids: bool,
    /// Whether the connection has ids of its own: they stand before the event's name.
    several: bool,
    /// How many comments were read, and the last of them.
    pub comments: usize,
    pub comment: String,
}

impl Parser {
    pub fn new(chunked: bool, ids: bool) -> Self {
        let chunk = chunked.then(|| Chunk::Size(String::new()));
        let (line, block) = (Vec::new(), Block::default());
        Self { chunk, line, block, ids, several: false, comments: 0, comment: String::new() }
    }

    /// That of a connection that reads several streams.
    pub fn of_several(chunked: bool) -> Self {
        Self { several: true, ..Self::new(chunked, true) }
    }

    /// Takes bytes from the wire; gives the events they complete.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<Block> {
        let mut blocks = Vec::new();
        for &byte in bytes {
            if self.is_payload(byte) {
                blocks.extend(self.payload(byte));
            }
        }
        blocks
    }

    /// Whether the body is complete: the last chunk was read, or there are no chunks.
    pub fn is_closed(&self) -> bool {
        matches!(self.chunk, None | Some(Chunk::Closed))
    }

    /// Whether nothing but a `retry:` waits for the event it belongs to.
    pub fn is_between_events(&self) -> bool {
        let between_chunks = match &self.chunk {
            None | Some(Chunk::Closed) => true,
            Some(Chunk::Size(digits)) => digits.is_empty(),
            Some(Chunk::Payload(_) | Chunk::End(..)) => false,
        };
        between_chunks && self.line.is_empty() && !self.block.is_begun()
    }

    fn is_payload(&mut self, byte: u8) -> bool {
        let Some(chunk) = &mut self.chunk else { return true };
        let (next, payload) = match std::mem::replace(chunk, Chunk::Closed) {
            Chunk::Size(digits) if byte == b'\n' => (Self::sized(&digits), false),
            Chunk::Size(mut digits) => {
                digits.push(char::from(byte));
                (Chunk::Size(digits), false)
            }
            Chunk::Payload(1) => (Chunk::End(0, b"\r\n"), true),
            Chunk::Payload(left) => (Chunk::Payload(left - 1), true),
            Chunk::End(at, expected) => {
                assert_eq!(byte, expected[at], "a chunk must end with CRLF");
                (Self::after_end(at + 1, expected), false)
            }
            Chunk::Closed => panic!("byte {byte:?} after the last chunk"),
        };
        *chunk = next;
        payload
    }

    fn sized(digits: &str) -> Chunk {
        let digits = digits.strip_suffix('\r').expect("a chunk's size ends with CRLF");
        match usize::from_str_radix(digits, 16).expect("a chunk's size is hex") {
            0 => Chunk::End(0, b"\r\n\0"),
            size => Chunk::Payload(size),
        }
    }

    fn after_end(at: usize, expected: &'static [u8]) -> Chunk {
        match expected.get(at) {
            Some(0) => Chunk::Closed,
            Some(_) => Chunk::End(at, expected),
            None => Chunk::Size(String::new()),
        }
    }

    fn payload(&mut self, byte: u8) -> Option<Block> {
        if byte != b'\n' {
            self.line.push(byte);
            return None;
        }
        let line = String::from_utf8(std::mem::take(&mut self.line)).expect("UTF-8");
        if line.is_empty() {
            return self.dispatched();
        }
        self.field(&line);
        None
    }

    fn dispatched(&mut self) -> Option<Block> {
        let block = std::mem::take(&mut self.block);
        if block == Block::default() {
            assert!(!self.ids, "a blank line without an event is an empty event to some clients");
            return None;
        }
        assert!(!block.data.is_empty(), "every event carries data: {block:?}");
        Some(block)
    }

    fn field(&mut self, line: &str) {
        let block = &mut self.block;
        if line.starts_with(':') {
            assert!(!block.is_begun(), "{line:?} inside {block:?}");
            self.comments += 1;
            line.clone_into(&mut self.comment);
        } else if let Some(data) = line.strip_prefix("data: ") {
            block.data.push(data.to_owned());
        } else if let Some(name) = line.strip_prefix("event: ") {
            let is_first =
                if self.several { block.event.is_none() && block.data.is_empty() } else { !block.is_begun() };
            assert!(is_first, "event comes first: {block:?}");
            block.event = Some(name.to_owned());
        } else if let Some(id) = line.strip_prefix("id: ") {
            assert!(block.id.is_none() && block.data.is_empty(), "id comes second: {block:?}");
            assert!(!self.several || block.event.is_none(), "the connection's id comes first: {block:?}");
            block.id = Some(id.to_owned());
        } else if let Some(wait) = line.strip_prefix("retry: ") {
            assert!(block.data.is_empty(), "retry comes before data: {block:?}");
            block.retry = Some(wait.parse().expect("a number"));
        } else {
            panic!("no field of ours: {line:?}");
        }
    }
}
