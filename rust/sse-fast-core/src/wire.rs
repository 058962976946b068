//! The bytes of Server-Sent Events and of HTTP chunks, written and read back.
//!
//! Owns: every `data:`, `event:`, `id:` and `retry:` line of the engine, as WHATWG HTML 9.2 has them: UTF-8, LF, no
//! BOM, fields in the order `event`, `id`, `retry`, `data`.
//! Must not know: which bytes a field may hold (`event` checks that first), streams, subscribers.
//! Invariants: data is split at CR, LF and CRLF, because a reader treats each as a line end. A gap and a heartbeat
//! carry no id. A `retry:` line ahead of a first frame has no blank line, so that it becomes a line of that event.
//! Changes together with: `event`, whose checks this file relies on.

use std::time::Duration;

use crate::id::{Epoch, IdText, Position};

/// The last chunk of a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends one whole event with its blank line.
pub fn event(out: &mut Vec<u8>, event: Option<&str>, id: Option<&str>, retry: Option<Duration>, data: &str) {
    if let Some(name) = event {
        line(out, b"event: ", name.as_bytes());
    }
    if let Some(id) = id {
        line(out, b"id: ", id.as_bytes());
    }
    if let Some(wait) = retry {
        self::retry(out, wait);
    }
    data_lines(out, data.as_bytes());
    out.push(b'\n');
}

/// Appends a `retry:` line alone; it joins the event that follows.
pub fn retry(out: &mut Vec<u8>, wait: Duration) {
    line(out, b"retry: ", itoa::Buffer::new().format(wait.as_millis()).as_bytes());
}

/// Appends a gap event: the events `from..=to` could not be given. `None` means that their number is unknown. The stream
/// is named where the connection reads several.
pub fn gap(out: &mut Vec<u8>, epoch: Epoch, range: Option<(Position, Position)>, stream: Option<&str>) {
    out.extend_from_slice(b"event: gap\ndata: {\"skipped\":");
    if let Some((from, to)) = range {
        out.extend_from_slice(itoa::Buffer::new().format(to + 1 - from).as_bytes());
        for (key, position) in [(",\"from\":\"", from), ("\",\"to\":\"", to)] {
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(IdText::new(epoch, position).as_str().as_bytes());
        }
        out.push(b'"');
    } else {
        out.extend_from_slice(b"null,\"from\":null,\"to\":null");
    }
    if let Some(name) = stream {
        out.extend_from_slice(b",\"stream\":");
        json_text(out, name);
    }
    out.extend_from_slice(b"}\n\n");
}

/// Appends a text as JSON, without the letters that some readers take for ends of lines.
fn json_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend_from_slice(&[b'\\', letter as u8]),
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
                let digit = |shift: u32| b"0123456789abcdef"[(letter as usize >> shift) & 15];
                out.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
            }
            _ => out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

/// Appends what a subscriber is told whose right to read is over; without an id, for nothing was published.
pub fn expired(out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: auth\ndata: {\"reason\":\"expired\"}\n\n");
}

/// Whether a heartbeat comment ends with a blank line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlankLine {
    /// The comment stands alone, as most clients' examples show it.
    Written,
    /// Several clients in use report an empty event for a blank line that follows an id. It is also left out while a
    /// `retry:` line waits for its first event, because a blank line would make an event of that line.
    LeftOut,
}

/// Appends a heartbeat comment.
pub fn heartbeat(out: &mut Vec<u8>, comment: &str, blank_line: BlankLine) {
    line(out, b": ", comment.as_bytes());
    match blank_line {
        BlankLine::Written => out.push(b'\n'),
        BlankLine::LeftOut => {}
    }
}

/// Appends a heartbeat that is a named event: `data: {"timestamp":<ms>}`, without id.
pub fn heartbeat_event(out: &mut Vec<u8>, name: &str, timestamp_ms: u64) {
    line(out, b"event: ", name.as_bytes());
    out.extend_from_slice(b"data: {\"timestamp\":");
    out.extend_from_slice(itoa::Buffer::new().format(timestamp_ms).as_bytes());
    out.extend_from_slice(b"}\n\n");
}

/// Appends `payload` as one HTTP chunk (RFC 9112, 7.1).
pub fn chunk(out: &mut Vec<u8>, payload: &[u8]) {
    chunk_size(out, payload.len());
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// Appends the size line of a chunk.
pub fn chunk_size(out: &mut Vec<u8>, length: usize) {
    let (head, start) = chunk_head(length);
    out.extend_from_slice(&head[start..]);
}

/// Clears `out` and makes it one HTTP chunk of what `write` appends, without copying that a second time. Returns where
/// in `out` the chunk begins.
pub fn chunk_around(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> usize {
    out.clear();
    out.extend_from_slice(&[0; CHUNK_HEAD_BYTES]);
    write(out);
    let (head, start) = chunk_head(out.len() - CHUNK_HEAD_BYTES);
    out[..CHUNK_HEAD_BYTES].copy_from_slice(&head);
    out.extend_from_slice(b"\r\n");
    start
}

/// Room for the longest size line: eight digits are 4 GiB, and no event has so many.
const CHUNK_HEAD_BYTES: usize = 10;

/// A chunk's size line, at the end of the array, and where it begins.
fn chunk_head(length: usize) -> ([u8; CHUNK_HEAD_BYTES], usize) {
    let mut head = *b"00000000\r\n";
    let (mut rest, mut at) = (length, CHUNK_HEAD_BYTES - 2);
    while rest > 0 && at > 0 {
        at -= 1;
        head[at] = b"0123456789abcdef"[rest & 15];
        rest >>= 4;
    }
    (head, at)
}

/// One event as a reader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// The event's name, where it has one.
    pub event: Option<String>,
    /// Its id, where it has one.
    pub id: Option<String>,
    /// Its retry in milliseconds, where it has one.
    pub retry: Option<u64>,
    /// Its data, lines joined by LF.
    pub data: String,
}

/// Reads back a block that [`event`] wrote, for readers in the same process and for JSON.
pub fn decode(block: &[u8]) -> Decoded {
    let mut decoded = Decoded::default();
    let mut first = true;
    for line in String::from_utf8_lossy(block).split('\n') {
        if let Some(data) = line.strip_prefix("data: ") {
            if !first {
                decoded.data.push('\n');
            }
            first = false;
            decoded.data.push_str(data);
        } else if let Some(name) = line.strip_prefix("event: ") {
            decoded.event = Some(name.to_owned());
        } else if let Some(id) = line.strip_prefix("id: ") {
            decoded.id = Some(id.to_owned());
        } else if let Some(wait) = line.strip_prefix("retry: ") {
            decoded.retry = wait.parse().ok();
        }
    }
    decoded
}

/// The id line's value of a block, without decoding the rest.
pub fn id_of(block: &[u8]) -> Option<&[u8]> {
    block
        .split(|&byte| byte == b'\n')
        .take_while(|line| !line.starts_with(b"data: "))
        .find_map(|line| line.strip_prefix(b"id: "))
}

/// Where the id line of a block stands that [`event`] wrote, its end of line included; empty, at the same place, where there
/// is none.
pub fn id_line(block: &[u8]) -> std::ops::Range<usize> {
    let end_of_line = |from: usize| memchr::memchr(b'\n', &block[from..]).map_or(block.len(), |end| from + end + 1);
    let start = if block.starts_with(b"event: ") { end_of_line(0) } else { 0 };
    let end = if block[start..].starts_with(b"id: ") { end_of_line(start) } else { start };
    start..end
}

/// A block with another id in place of that in `line`, which is [`id_line`]'s.
pub fn with_id(block: &[u8], id_line: std::ops::Range<usize>, id: &str) -> Vec<u8> {
    let mut out = block[..id_line.start].to_vec();
    line(&mut out, b"id: ", id.as_bytes());
    out.extend_from_slice(&block[id_line.end..]);
    out
}

fn data_lines(out: &mut Vec<u8>, data: &[u8]) {
    let mut rest = data;
    while let Some(end) = memchr::memchr2(b'\r', b'\n', rest) {
        line(out, b"data: ", &rest[..end]);
        let crlf = rest[end] == b'\r' && rest.get(end + 1) == Some(&b'\n');
        rest = &rest[end + 1 + usize::from(crlf)..];
    }
    line(out, b"data: ", rest);
}

fn line(out: &mut Vec<u8>, field: &[u8], value: &[u8]) {
    out.extend_from_slice(field);
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("ascii")
    }

    #[test]
    fn fields_stand_in_order() {
        let text = written(|out| event(out, Some("e"), Some("i"), Some(Duration::from_millis(1500)), "a\r\nb\rc\n"));
        assert_eq!(text, "event: e\nid: i\nretry: 1500\ndata: a\ndata: b\ndata: c\ndata: \n\n");
        assert_eq!(written(|out| event(out, None, None, None, " x")), "data:  x\n\n");
    }

    #[test]
    fn gaps_heartbeats_and_chunks_have_their_exact_bytes() {
        assert_eq!(
            written(|out| gap(out, Epoch(10), Some((3, 7)), None)),
            "event: gap\ndata: {\"skipped\":5,\"from\":\"a-3\",\"to\":\"a-7\"}\n\n"
        );
        assert_eq!(
            written(|out| gap(out, Epoch(10), None, None)),
            "event: gap\ndata: {\"skipped\":null,\"from\":null,\"to\":null}\n\n"
        );
        assert_eq!(
            written(|out| gap(out, Epoch(10), Some((3, 3)), Some("a\"\\\u{85}\u{2028}\té"))),
            "event: gap\ndata: {\"skipped\":1,\"from\":\"a-3\",\"to\":\"a-3\",\"stream\":\"a\\\"\\\\\\u0085\\u2028\\u0009é\"}\n\n"
        );
        assert_eq!(written(|out| heartbeat(out, "heartbeat", BlankLine::LeftOut)), ": heartbeat\n");
        assert_eq!(written(|out| heartbeat(out, "waiting", BlankLine::Written)), ": waiting\n\n");
        assert_eq!(
            written(|out| heartbeat_event(out, "heartbeat", 12)),
            "event: heartbeat\ndata: {\"timestamp\":12}\n\n"
        );
        assert_eq!(written(|out| chunk(out, b"0123456789abcdef!")), "11\r\n0123456789abcdef!\r\n");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(name in "[^\r\n\0]{1,8}", id in "[^\r\n\0]{1,8}", data in "[a\r\n \u{2028}é]{0,20}") {
            let mut out = Vec::new();
            event(&mut out, Some(&name), Some(&id), None, &data);
            let decoded = decode(&out);
            prop_assert_eq!(decoded.data, data.replace("\r\n", "\n").replace('\r', "\n"));
            prop_assert_eq!(id_of(&out), Some(id.as_bytes()));
            let line = id_line(&out);
            let written = format!("id: {id}\n");
            prop_assert_eq!(&out[line.clone()], written.as_bytes());
            let mut without = Vec::new();
            event(&mut without, Some(&name), None, None, &data);
            prop_assert_eq!([&out[..line.start], &out[line.end..]].concat(), without.clone());
            prop_assert_eq!(id_line(&without).len(), 0);
            prop_assert_eq!(decoded.event, Some(name));
            prop_assert_eq!(decoded.id, Some(id));
            prop_assert!(out.ends_with(b"\n\n") && !out.contains(&b'\r'));
        }
    }
}
