//! Marked lines: which lines of a child are parts of events, and which are log lines.
//!
//! Owns: the marker rule and the limit on one event. A line that begins with an accepted marker is an SSE field line;
//! one with nothing behind the marker ends the event; every other line is log.
//! Must not know: who publishes the events or writes the log; JSON; how an event looks on the wire.
//! Invariants: no byte of an unmarked line gets into an event. An event comes out whole, or as `Rejected`. Each marker
//! collects its own event, so a forged line under the fixed marker cannot get into an event under the secret one.
//! Changes together with: `python/sse_fast/runner.py`, which writes what is read here.

use super::{Line, Splitter};

/// Room in a line for what is not its value: marker, field name, colon, space.
const LINE_SLACK: usize = 4096;

/// The longest name that a rejection repeats, so that the rejection itself is not too large.
const NAME_BYTES: usize = 1024;

/// The prefixes that make a line of a child part of an event.
#[derive(Debug, Clone)]
pub struct Markers {
    /// The marker made for this run only. No program prints it by accident, so it is also recognised at the end of a
    /// log line: `emit` begins with an empty marked line, which then follows a text that the child printed without
    /// newline.
    pub random: Vec<u8>,
    /// The marker that everyone knows, such as `SSE_EVENT:`; `None` accepts only the random one.
    pub fixed: Option<Vec<u8>>,
}

/// How the end of an event was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By its empty marked line.
    ByLine,
    /// The pipe closed after a complete line.
    AtClose,
    /// The pipe closed inside a line, so the value of its last field may be cut.
    MidLine,
}

/// An event as the child wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkedEvent {
    /// The event's name, where it has one.
    pub event: Option<String>,
    /// The child's own id.
    pub id: Option<String>,
    /// Reconnection time in milliseconds.
    pub retry: Option<u64>,
    /// The data lines, joined by LF; `None` where there was none.
    pub data: Option<String>,
    /// How its end was seen.
    pub ended: Ended,
}

/// Why an event was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Its data is above the limit, in one line or in all.
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A marked line was not UTF-8.
    NotUtf8,
}

/// What a line of a child, or several of them, turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A line for the logger, bytes that are not UTF-8 replaced.
    Log(String),
    /// A line too long to be logged whole.
    LongLog {
        /// How it begins.
        start: String,
        /// Its length in bytes.
        length: u64,
    },
    /// An event to publish.
    Event(MarkedEvent),
    /// An event that cannot be published.
    Rejected {
        /// Its name, where that was read.
        event: Option<String>,
        /// Why.
        fault: Fault,
    },
    /// A marked line that is not a field, or an event without data and name.
    Ignored(String),
}

/// Parses the bytes of one pipe into events and log lines. Each pipe has its own.
#[derive(Debug)]
pub struct MarkedLines {
    splitter: Splitter,
    parser: Parser,
}

impl MarkedLines {
    /// A parser that accepts these markers, and events whose data has at most `event_limit` bytes.
    #[must_use]
    pub fn new(markers: Markers, event_limit: usize) -> Self {
        let Markers { random, fixed } = markers;
        let markers = [Some(random), fixed];
        let open = [OpenEvent::default(), OpenEvent::default()];
        Self { splitter: Splitter::new(event_limit + LINE_SLACK), parser: Parser { markers, open, event_limit } }
    }

    /// Takes the bytes of one read and appends what they completed to `items`.
    pub fn push(&mut self, bytes: &[u8], items: &mut Vec<Item>) {
        self.splitter.push(bytes, |line| self.parser.line(&line, LineEnd::Seen, items));
    }

    /// The pipe is closed: appends what was left unfinished to `items`.
    pub fn finish(&mut self, items: &mut Vec<Item>) {
        self.splitter.finish(|line| self.parser.line(&line, LineEnd::Missing, items));
        for open in &mut self.parser.open {
            let ended = if open.cut { Ended::MidLine } else { Ended::AtClose };
            items.extend(std::mem::take(open).close(ended));
        }
    }
}

/// Whether something ended the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineEnd {
    /// LF, CRLF or CR.
    Seen,
    /// It is the last line of a pipe that closed inside of it.
    Missing,
}

/// Decides what a line is. `MarkedLines` calls it with the lines of the splitter.
#[derive(Debug)]
struct Parser {
    /// The random marker first: a fixed one might be a prefix of it.
    markers: [Option<Vec<u8>>; 2],
    /// The event that is being collected under each marker.
    open: [OpenEvent; 2],
    event_limit: usize,
}

impl Parser {
    fn line(&mut self, line: &Line<'_>, end: LineEnd, items: &mut Vec<Item>) {
        let bytes = match *line {
            Line::Whole(bytes) => bytes,
            Line::TooLong { start, .. } => start,
        };
        let limit = self.event_limit;
        let Some((open, field)) = self.marked(bytes) else {
            items.push(self.log(line));
            return;
        };
        match line {
            Line::TooLong { .. } => open.reject(Fault::TooLarge { limit }),
            Line::Whole(_) if field.is_empty() && end == LineEnd::Seen => {
                items.extend(std::mem::take(open).close(Ended::ByLine));
            }
            // Without its line end it may be the beginning of any field. `finish` closes the event.
            Line::Whole(_) if field.is_empty() => {}
            Line::Whole(_) => items.extend(open.field(field, end, limit)),
        }
    }

    /// The event that a marked line belongs to, and the line without its marker.
    fn marked<'a>(&mut self, line: &'a [u8]) -> Option<(&mut OpenEvent, &'a [u8])> {
        self.markers.iter().zip(&mut self.open).find_map(|(marker, open)| {
            let field = line.strip_prefix(marker.as_deref()?)?;
            Some((open, field))
        })
    }

    fn log(&self, line: &Line<'_>) -> Item {
        match *line {
            Line::Whole(bytes) => {
                let random = self.markers[0].as_deref().unwrap_or_default();
                let text = bytes.strip_suffix(random).unwrap_or(bytes);
                Item::Log(String::from_utf8_lossy(text).into_owned())
            }
            Line::TooLong { start, length } => {
                Item::LongLog { start: String::from_utf8_lossy(start).into_owned(), length }
            }
        }
    }
}

/// An event that is being collected.
#[derive(Debug, Default)]
struct OpenEvent {
    event: Option<String>,
    id: Option<String>,
    retry: Option<u64>,
    data: Option<String>,
    /// Set once the event is lost. Its values are dropped then, except for the name.
    fault: Option<Fault>,
    /// The pipe closed inside a field line of this event.
    cut: bool,
}

impl OpenEvent {
    /// Takes one field line, as a browser's parser does; returns an item where the line is not a field.
    fn field(&mut self, line: &[u8], end: LineEnd, limit: usize) -> Option<Item> {
        let Ok(line) = std::str::from_utf8(line) else {
            self.reject(Fault::NotUtf8);
            return None;
        };
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "" => return None, // a comment
            "data" => self.data(value, limit),
            "event" => self.event = Some(value.to_owned()),
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "retry" if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) => {
                self.retry = value.parse().ok().or(self.retry);
            }
            _ => return Some(Item::Ignored(line.to_owned())),
        }
        self.cut = end == LineEnd::Missing;
        if [&self.event, &self.data].into_iter().flatten().any(|value| value.len() > limit) {
            self.reject(Fault::TooLarge { limit });
        }
        None
    }

    fn data(&mut self, value: &str, limit: usize) {
        if self.fault.is_some() {
            return;
        }
        match &mut self.data {
            None => self.data = Some(value.to_owned()),
            // Refused before it is copied, so that the data never exceeds the limit.
            Some(data) if data.len() + 1 + value.len() > limit => self.reject(Fault::TooLarge { limit }),
            Some(data) => {
                data.push('\n');
                data.push_str(value);
            }
        }
    }

    /// Marks the event as lost, for the first reason given, and frees its memory.
    fn reject(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
        self.data = None;
        self.id = None;
    }

    /// Ends the event; `None` where no field came before.
    fn close(self, ended: Ended) -> Option<Item> {
        let Self { event, id, retry, data, fault, .. } = self;
        let event = event.filter(|name| !name.is_empty());
        if let Some(fault) = fault {
            return Some(Item::Rejected { event: event.filter(|name| name.len() <= NAME_BYTES), fault });
        }
        let named = event.is_some() && ended == Ended::ByLine;
        if data.is_some() || named {
            let id = id.filter(|id| !id.is_empty());
            return Some(Item::Event(MarkedEvent { event, id, retry, data, ended }));
        }
        let begun = event.is_some() || id.is_some() || retry.is_some();
        begun.then(|| Item::Ignored(format!("an event without data: {}", event.or(id).unwrap_or_default())))
    }
}
