//! The access log: a line for each request when its answer has ended, and for an event stream one when it begins, too.
//!
//! Owns: what such a line says, and what became of the request. Must not know: sockets, hyper, streams; who logs. Off by
//! default, and then nothing of it is made.
//! Invariants: each request has one line of its end, whatever ends it: dropping an [`Access`] is an end, too. No text of a
//! client can make a line of its own or look like another field: the path is escaped and quoted, as far as `shown` lets it:
//! a query is never shown, since tickets and tokens travel in it, and a Last-Event-ID only where it has the form of our own. The queue is bounded
//! like any other source's (`logs`): a flood of requests loses lines of this log alone, and they are counted there.

use std::net::SocketAddr;
use std::time::Instant;

use sse_fast_core::id::{self, Position};

use crate::logs::{Level, LogSource, Logs};
use crate::shown;

/// Where the lines go.
const LOGGER: &str = "sse_fast.access";

/// The most of a path that is shown.
const SHOWN: usize = 512;

/// Makes the lines of a server; nothing where they are off.
pub(crate) struct AccessLog(Option<LogSource>);

/// One request on its way, in the access log. Boxed where it is kept, so that it costs little where there is none.
#[derive(Debug)]
pub(crate) struct Access {
    log: LogSource,
    /// Method, path and client.
    request: String,
    client: SocketAddr,
    began: Instant,
    /// What was answered; `None` as long as nothing was.
    status: Option<u16>,
    /// Bytes that the socket took, the head's included.
    bytes: u64,
    /// Of an event stream, the events given; modulo 2^64 while it is read.
    events: Option<u64>,
    /// Why an event stream ended, or an answer before the socket had taken all of it; else empty.
    reason: &'static str,
}

impl AccessLog {
    pub(crate) fn new(is_on: bool, logs: &Logs) -> Self {
        Self(is_on.then(|| logs.source(LOGGER, "")))
    }

    /// A request has come.
    pub(crate) fn begin(&self, request: impl FnOnce() -> (SocketAddr, String, String, bool)) -> Option<Box<Access>> {
        let log = self.0.clone()?;
        let (client, method, path, has_query) = request();
        let path = shown::path_within(&path, SHOWN);
        let query = if has_query && !path.ends_with("?...") { "?..." } else { "" };
        let request = format!("{method:.16} {:?}", format!("{path}{query}"));
        let (began, status, bytes, events, reason) = (Instant::now(), None, 0, None, "lost");
        Some(Box::new(Access { log, request, client, began, status, bytes, events, reason }))
    }
}

impl Access {
    /// It is answered so; the line comes when the answer has ended.
    pub(crate) fn answered(&mut self, status: u16) {
        // Who says no other end is dropped with the server.
        (self.status, self.reason) = (Some(status), "shutdown");
    }

    /// The socket has taken the whole answer.
    pub(crate) fn ends_whole(self) {
        self.ends("");
    }

    /// It is answered with an event stream, to this reader, if it has a name.
    pub(crate) fn streams(&mut self, last_event_id: Option<&str>, reader: Option<&str>) {
        (self.status, self.events) = (Some(200), Some(0));
        let reader = reader.map(|reader| format!(" reader={reader:?}")).unwrap_or_default();
        let resumes = match last_event_id {
            Some(id) if id::parse(id).is_some() => format!(" last_event_id={id}"),
            Some(id) if !id.is_empty() => " last_event_id=(foreign)".to_owned(),
            _ => String::new(),
        };
        self.log.put(Level::Info, &format!("{} 200 begins client={}{reader}{resumes}", self.request, self.client));
    }

    /// The socket took bytes.
    pub(crate) fn gave(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// A subscriber begins to read at this position.
    pub(crate) fn reads_from(&mut self, cursor: Position) {
        self.events = self.events.map(|events| events.wrapping_sub(cursor));
    }

    /// It was told of so many events as missing.
    pub(crate) fn skipped(&mut self, events: u64) {
        self.reads_from(events);
    }

    /// It has read up to this position.
    pub(crate) fn read_until(&mut self, cursor: Position) {
        self.events = self.events.map(|events| events.wrapping_add(cursor));
    }

    /// Its event stream ended, or its answer was cut, for this reason; that is its end.
    pub(crate) fn ends(mut self, reason: &'static str) {
        self.reason = reason;
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        let (request, client, bytes, seconds) = (&self.request, self.client, self.bytes, self.began.elapsed());
        let seconds = seconds.as_secs_f64();
        let line = match (self.status, self.events) {
            (None, _) => format!("{request} - client={client} seconds={seconds:.3} reason=gone"),
            (Some(status), None) => {
                let reason = if self.reason.is_empty() { String::new() } else { format!(" reason={}", self.reason) };
                format!("{request} {status} client={client} bytes={bytes} seconds={seconds:.3}{reason}")
            }
            (Some(status), Some(events)) => format!(
                "{request} {status} ends client={client} events={events} bytes={bytes} seconds={seconds:.3} reason={}",
                self.reason
            ),
        };
        self.log.put(Level::Info, &line);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn lines(logs: &Logs) -> Vec<String> {
        logs.take(Duration::ZERO).unwrap_or_default().into_iter().map(|record| record.text).collect()
    }

    fn begin(logs: &Logs, path: &str) -> Box<Access> {
        let client = ([10, 0, 0, 1], 4242).into();
        AccessLog::new(true, logs).begin(|| (client, "GET".into(), path.into(), false)).expect("it is on")
    }

    #[test]
    fn every_end_has_one_line() {
        let logs = Logs::default();
        let mut answered = begin(&logs, "/a");
        answered.answered(404);
        answered.gave(30);
        (*answered).ends_whole();
        drop(begin(&logs, "/b"));
        let mut stream = begin(&logs, "/c");
        stream.streams(Some("1-7"), Some("a\nb\" x"));
        stream.reads_from(8);
        stream.skipped(2);
        stream.gave(100);
        stream.read_until(20);
        stream.reads_from(1);
        stream.read_until(4);
        (*stream).ends("stalled");
        let lines = lines(&logs);
        assert!(lines[0].starts_with("GET \"/a\" 404 client=10.0.0.1:4242 bytes=30 seconds=0."), "{lines:?}");
        assert!(lines[1].starts_with("GET \"/b\" - client=10.0.0.1:4242 seconds=0."), "{lines:?}");
        assert_eq!(lines[2], "GET \"/c\" 200 begins client=10.0.0.1:4242 reader=\"a\\nb\\\" x\" last_event_id=1-7");
        assert!(
            lines[3].starts_with("GET \"/c\" 200 ends client=10.0.0.1:4242 events=13 bytes=100 seconds=0."),
            "{lines:?}"
        );
        assert!(!lines[0].contains("reason=") && lines[1].ends_with(" reason=gone"), "{lines:?}");
        assert!(lines[3].ends_with(" reason=stalled") && lines.len() == 4, "{lines:?}");
    }

    #[test]
    fn an_answer_that_was_cut_has_a_reason_and_the_bytes_that_were_taken() {
        let logs = Logs::default();
        for reason in ["stalled", "shutdown"] {
            let mut cut = begin(&logs, "/a");
            cut.answered(200);
            cut.gave(7);
            if reason == "stalled" {
                (*cut).ends(reason);
            }
        }
        let lines = lines(&logs);
        assert!(lines.iter().all(|line| line.contains(" 200 client=") && line.contains(" bytes=7 ")), "{lines:?}");
        assert!(lines[0].ends_with(" reason=stalled") && lines[1].ends_with(" reason=shutdown"), "{lines:?}");
    }

    #[test]
    fn no_text_of_a_client_makes_a_line_or_a_field() {
        let logs = Logs::default();
        for path in ["/a\nGET \"/b\" 200 x", "/a\" 200 client=1", "/\u{85}\u{2028}\r\u{1b}[31m", &"/x".repeat(5000)] {
            let mut access = begin(&logs, path);
            access.streams(Some("\n500 token"), None);
        }
        for line in lines(&logs) {
            assert!(line.chars().all(|found| !found.is_control() && found != '\u{2028}'), "{line:?}");
            assert!(!line.contains("token") && line.len() < 700, "{line:?}");
            let rest = line.strip_prefix("GET \"").expect("the method");
            let path_ends = rest.replace("\\\\", "__").replace("\\\"", "__").find('"').expect("a quoted path");
            assert!(rest[path_ends..].starts_with("\" 200 begins") || rest[path_ends..].starts_with("\" 200 ends"));
        }
    }

    #[test]
    fn nothing_is_made_where_it_is_off() {
        let made = AccessLog::new(false, &Logs::default()).begin(|| unreachable!("nobody asks what it was"));
        assert!(made.is_none());
    }
}
