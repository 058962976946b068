//! Where a message begins and ends in what a client sends, and that every line of it ends as it must.
//!
//! Owns: telling heads from bodies, byte by byte. Must not know: sockets, what a head says (hyper reads that).
//! Why: hyper takes LF alone for the end of a line, others take it for a part of a header's value, or refuse it. A request that
//! two servers could read differently may hide another one: such a byte, and all behind it, is not given to hyper.
//! Rule 1: of what was read no more is given out than to the end of a head. hyper, which parses it then, says how its body is
//! framed, before it reads on: so this never looks for headers, and is of its opinion about where a body ends.
//! Rule 2: of a head no more is given out than it may have, so that hyper, which looks at its buffer's length only while a
//! head is not whole, refuses a long one however it comes.
//! Rule 3: a head that gives a length and a transfer coding both does not end: whichever of them another server goes by, RFC 9112
//! (6.1) knows it for an attempt to hide a request.
//! Rule 4: LF stands behind CR in heads, in the lines of chunks, and in trailers; what else makes no chunk is refused, too.
//! What changes together: `socket`, which asks before it gives; `signals`, which carries hyper's word.

use memchr::memchr_iter;

/// How a request's body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFraming {
    /// By its length; 0 where there is none.
    Length(u64),
    Chunked,
}

/// Where the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Messages {
    Head(Head),
    /// Behind a head, of whose body nothing is known yet.
    HeadEnded,
    /// In a body with so many bytes to come.
    Body(u64),
    Chunks(Chunks),
    /// Behind a byte that was refused.
    Refused(Refused),
    /// Nothing is looked at any more.
    Ours,
}

/// Why a byte was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// A line of a head ends in LF alone.
    Head,
    /// The head is longer than it may be.
    LongHead,
    /// It says twice how its body is framed.
    Framing,
    /// It makes no chunk.
    Body,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// Whether it has a line that is not empty: empty ones before it are nothing.
    begun: bool,
    /// Bytes of the line so far.
    line: usize,
    /// Whether the last of them is CR.
    cr: bool,
    /// Bytes of the head so far, empty lines before it included.
    length: usize,
    framed: Framed,
}

/// Which of the headers that frame a body a head has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Framed {
    /// Those whose names the line may still begin with, a bit for each.
    possible: u8,
    /// Those that were there.
    found: u8,
}

const FRAMING: [&[u8]; 2] = [b"content-length:", b"transfer-encoding:"];
const BOTH: u8 = 0b11;

impl Default for Framed {
    fn default() -> Self {
        Self { possible: BOTH, found: 0 }
    }
}

impl Framed {
    /// A line begins.
    fn next_line(&mut self) {
        self.possible = BOTH;
    }

    /// It goes on with these, `before` of them behind its beginning.
    fn line(&mut self, bytes: &[u8], before: usize) {
        for (at, byte) in (before..).zip(bytes) {
            if self.possible == 0 {
                return;
            }
            for (bit, name) in FRAMING.iter().enumerate().map(|(number, name)| (1 << number, name)) {
                if self.possible & bit != 0 && name.get(at) != Some(&byte.to_ascii_lowercase()) {
                    self.possible &= !bit;
                } else if self.possible & bit != 0 && at + 1 == name.len() {
                    (self.possible, self.found) = (0, self.found | bit);
                }
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunks {
    /// In a size, of so many digits.
    Size(u64, u8),
    /// In what may follow it on its line.
    Extension(u64),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    /// At the beginning of a line behind the last chunk.
    Line,
    Trailer,
    TrailerLf,
    EndLf,
}

impl Default for Messages {
    fn default() -> Self {
        Self::Head(Head::default())
    }
}

impl Messages {
    /// How the body of the head that ended is framed.
    pub(super) fn body_is(&mut self, framing: BodyFraming) {
        debug_assert_eq!(*self, Self::HeadEnded, "hyper has parsed no head that was not given to it");
        *self = match framing {
            BodyFraming::Length(0) => Self::default(),
            BodyFraming::Length(length) => Self::Body(length),
            BodyFraming::Chunked => Self::Chunks(Chunks::Size(0, 0)),
        };
    }

    /// How many of these bytes may be given out, 1 at least but behind the end of a head and what was refused; a head may
    /// have `most`.
    pub(super) fn pass(&mut self, bytes: &[u8], most: usize) -> usize {
        let mut passed = 0;
        while passed < bytes.len() {
            let rest = &bytes[passed..];
            passed += match self {
                Self::Head(_) => self.pass_head(rest, most),
                Self::Body(left) => {
                    let taken = usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                    *left -= taken as u64;
                    if *left == 0 {
                        *self = Self::default();
                    }
                    taken
                }
                Self::Chunks(_) => self.pass_chunks(rest),
                Self::Ours => rest.len(),
                Self::HeadEnded | Self::Refused(_) => break,
            };
        }
        passed
    }

    /// To the end of the head, if that is there and within `most`.
    fn pass_head(&mut self, bytes: &[u8], most: usize) -> usize {
        let Self::Head(head) = self else { return 0 };
        let bytes = &bytes[..bytes.len().min(most.saturating_sub(head.length))];
        if bytes.is_empty() {
            *self = Self::Refused(Refused::LongHead);
            return 0;
        }
        head.length += bytes.len();
        let mut from = 0;
        for at in memchr_iter(b'\n', bytes) {
            head.framed.line(&bytes[from..at], head.line);
            let has_cr = if at > from { bytes[at - 1] == b'\r' } else { head.cr };
            let length = head.line + (at - from);
            if !has_cr {
                *self = Self::Refused(Refused::Head);
                // Of a line with something in it hyper may see the end, and what is wrong with it. An empty one would end the head.
                return if length == 0 { at } else { at + 1 };
            }
            if length == 1 && head.begun {
                if head.framed.found == BOTH {
                    *self = Self::Refused(Refused::Framing);
                    return at;
                }
                *self = Self::HeadEnded;
                return at + 1;
            }
            head.framed.next_line();
            *head = Head { begun: head.begun || length > 1, line: 0, cr: false, ..*head };
            from = at + 1;
        }
        if let Some(last) = bytes[from..].last() {
            head.framed.line(&bytes[from..], head.line);
            head.line += bytes.len() - from;
            head.cr = *last == b'\r';
        }
        bytes.len()
    }

    /// To the end of the last chunk's trailers, if that is there.
    fn pass_chunks(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Self::Chunks(state) = self
            && let Some(byte) = bytes.get(at)
        {
            if let Chunks::Data(left) = state {
                let rest = bytes.len() - at;
                let taken = usize::try_from(*left).map_or(rest, |left| left.min(rest));
                *left -= taken as u64;
                at += taken;
                if *left == 0 {
                    *state = Chunks::DataCr;
                }
                continue;
            }
            *self = state.next(*byte);
            if matches!(self, Self::Refused(_)) {
                break;
            }
            at += 1;
        }
        at
    }
}

impl Chunks {
    /// Where a byte leads that is not of the data.
    fn next(self, byte: u8) -> Messages {
        let next = match (self, byte) {
            (Self::Size(size, digits), _) if byte.is_ascii_hexdigit() && digits < 16 => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                Self::Size(size << 4 | digit, digits + 1)
            }
            (Self::Size(size, 1..), b';' | b' ' | b'\t') => Self::Extension(size),
            (Self::Size(size, 1..) | Self::Extension(size), b'\r') => Self::SizeLf(size),
            (Self::Extension(size), byte) if byte != b'\n' => Self::Extension(size),
            (Self::SizeLf(0) | Self::TrailerLf, b'\n') => Self::Line,
            (Self::SizeLf(size), b'\n') => Self::Data(size),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size(0, 0),
            (Self::Line, b'\r') => Self::EndLf,
            (Self::Trailer, b'\r') => Self::TrailerLf,
            (Self::Line | Self::Trailer, byte) if byte != b'\n' => Self::Trailer,
            (Self::EndLf, b'\n') => return Messages::default(),
            _ => return Messages::Refused(Refused::Body),
        };
        Messages::Chunks(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What passes of these bytes, where hyper says that of each body; once whole, and once byte by byte.
    fn passed(bytes: &[u8], bodies: &[BodyFraming]) -> (usize, Messages) {
        passed_within(bytes, bodies, usize::MAX)
    }

    fn passed_within(bytes: &[u8], bodies: &[BodyFraming], most: usize) -> (usize, Messages) {
        let [whole, single] = [bytes.len(), 1].map(|step| {
            let (mut messages, mut at, mut bodies) = (Messages::default(), 0, bodies.iter());
            while at < bytes.len() {
                if messages == Messages::HeadEnded {
                    let Some(framing) = bodies.next() else { break };
                    messages.body_is(*framing);
                }
                let piece = &bytes[at..bytes.len().min(at + step)];
                let taken = messages.pass(piece, most);
                if taken == 0 {
                    break;
                }
                at += taken;
            }
            (at, messages)
        });
        assert_eq!(whole, single, "it does not matter how the bytes come");
        whole
    }

    const NONE: BodyFraming = BodyFraming::Length(0);

    #[test]
    fn a_head_passes_to_its_end_and_no_further() {
        for (bytes, bodies, expected) in [
            (&b"GET / HTTP/1.1\r\nA: b\r\n\r\nGET"[..], &[][..], (24, Messages::HeadEnded)),
            (b"\r\n\r\nGET / HTTP/1.1\r\n\r\nGET", &[], (22, Messages::HeadEnded)),
            (b"A\r\n\r\nB\r\n\r\nC", &[NONE], (10, Messages::HeadEnded)),
            (b"A\r\n\r\n12\n4B\r\n\r\nC", &[BodyFraming::Length(4)], (14, Messages::HeadEnded)),
            (b"A\r\r\n\r\nB", &[], (6, Messages::HeadEnded)),
        ] {
            assert_eq!(passed(bytes, bodies), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
        assert!(matches!(passed(b"GET / HTTP/1.1\r\nA: b\r", &[]), (21, Messages::Head(_))));
    }

    #[test]
    fn of_a_head_no_more_passes_than_it_may_have() {
        let bytes = b"GET / HTTP/1.1\r\nA: b\r\n\r\n";
        let head = bytes.len();
        for (most, expected) in [
            (head, (head, Messages::HeadEnded)),
            (head - 1, (head - 1, Messages::Refused(Refused::LongHead))),
            (3, (3, Messages::Refused(Refused::LongHead))),
        ] {
            assert_eq!(passed_within(bytes, &[], most), expected, "{most}");
        }
        // Each by itself, and empty lines count with the head that they stand before.
        let two = [&bytes[..], b"\r\n", bytes].concat();
        assert_eq!(passed_within(&two, &[NONE], head + 2), (two.len(), Messages::HeadEnded));
        assert_eq!(passed_within(&two, &[NONE], head), (2 * head, Messages::Refused(Refused::LongHead)));
    }

    #[test]
    fn a_line_feed_alone_is_refused_wherever_it_stands_in_a_head() {
        let refused = |at| (at, Messages::Refused(Refused::Head));
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\n\n"[..], refused(15)),
            (b"GET / HTTP/1.1\r\nX: a\nY: b\r\n\r\n", refused(21)),
            (b"GET / HTTP/1.1\r\nX: a\r\n\n", refused(22)),
            (b"GET / HTTP/1.1\r\n\n", refused(16)),
            (b"\nGET / HTTP/1.1\r\n\r\n", refused(0)),
            (b"\r\n\nGET", refused(2)),
            (b"A\r\n\r\nB\n", refused(7)),
        ] {
            assert_eq!(passed(bytes, &[NONE]), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_head_that_frames_its_body_twice_does_not_end() {
        for (names, is_refused) in [
            (["Content-Length: 3", "Transfer-Encoding: chunked"], true),
            (["transfer-encoding:gzip", "CONTENT-LENGTH:"], true),
            (["Content-Length: 3", "Content-Length: 3"], false),
            (["Content-Length: 3", "Content-Type: Transfer-Encoding: chunked"], false),
            (["Content-Lengths: 3", "Transfer-Encoding: chunked"], false),
            (["X-Content-Length: 3", "Transfer-Encoding: chunked"], false),
            (["Content-Lengt", "Transfer-Encoding: chunked"], false),
        ] {
            let head = format!("POST / HTTP/1.1\r\n{}\r\n\r\n", names.join("\r\n"));
            let expected = if is_refused {
                (head.len() - 1, Messages::Refused(Refused::Framing))
            } else {
                (head.len(), Messages::HeadEnded)
            };
            assert_eq!(passed(head.as_bytes(), &[]), expected, "{names:?}");
            // Of each head by itself.
            let two = format!("A\r\n{}\r\n\r\nA\r\n{}\r\n\r\n", names[0], names[1]);
            assert_eq!(passed(two.as_bytes(), &[NONE]), (two.len(), Messages::HeadEnded), "{names:?}");
        }
    }

    #[test]
    fn chunks_end_where_they_say_and_what_makes_none_is_refused() {
        let chunked = |body: &[u8]| passed(&[b"A\r\n\r\n", body].concat(), &[BodyFraming::Chunked]);
        let whole = |body: &[u8]| {
            let all = [body, b"B\r\n\r\nC"].concat();
            assert_eq!(chunked(&all), (5 + all.len() - 1, Messages::HeadEnded), "{:?}", String::from_utf8_lossy(body));
        };
        whole(b"0\r\n\r\n");
        whole(b"3\r\na\n\r\r\n000A;x=y\r\n0123456789\r\n0\r\n\r\n");
        whole(b"1 \r\na\r\n0\t;q\r\nX: 1\r\nY: 2\r\n\r\n");
        for (body, at) in [
            (&b"0\n\r\n"[..], 1),
            (b"0\r\nX: 1\n\r\n", 7),
            (b"0\r\n\n", 3),
            (b"0\r\nX: 1\r\n\n", 9),
            (b"1;a\nb\r\n", 3),
            (b"1\r\nab\r\n", 4),
            (b"1\r\na\n", 4),
            (b"\r\n", 0),
            (b"-1\r\n", 0),
            (b"0x1\r\n", 1),
            (b"00000000000000001\r\n", 16),
            (b"0\r\nX\rY", 5),
        ] {
            let expected = (5 + at, Messages::Refused(Refused::Body));
            assert_eq!(chunked(body), expected, "{:?}", String::from_utf8_lossy(body));
        }
    }
}
