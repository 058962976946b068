//! The protocol of Redis and Valkey (RESP2): commands out, values in.
//!
//! Owns: the bytes. Must not know: which commands there are. Written here and not taken from a crate for two reasons: what
//! is pushed must stop at the socket when the engine is slow, where the crate's pub/sub puts it into a queue without bound;
//! and requests must be sent in the order given, which the crate's futures do not promise.
//! Invariants: a value is taken whole or not at all; text in it is a slice of what was read, not a copy. What is no RESP is
//! an error, never a panic, and lengths are bounded before memory is taken for them.

use bytes::{Buf, Bytes, BytesMut};

/// The longest text that is believed: Redis' own limit of 512 MiB.
const MOST_BYTES: i64 = 512 << 20;
/// The most elements of one array that are believed.
const MOST_ELEMENTS: i64 = 1 << 24;
/// The deepest nesting that is believed; our scripts answer four deep.
const DEEPEST: usize = 8;

/// What comes back.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(Bytes),
    Number(i64),
    Error(Bytes),
    Array(Vec<Self>),
    Nothing,
}

/// Not RESP.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("what the server sent is not its protocol")]
pub(super) struct NoProtocol;

/// Appends a command.
pub(super) fn put(out: &mut BytesMut, arguments: &[Bytes]) {
    let mut buffer = itoa::Buffer::new();
    out.extend_from_slice(b"*");
    out.extend_from_slice(buffer.format(arguments.len()).as_bytes());
    out.extend_from_slice(b"\r\n");
    for argument in arguments {
        out.extend_from_slice(b"$");
        out.extend_from_slice(buffer.format(argument.len()).as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}

/// Where an unfinished value is looked at again: not before there are so many bytes.
#[derive(Debug, Default)]
pub(super) struct Reader {
    wanted: usize,
}

impl Reader {
    /// Takes the next value, where it is there whole.
    pub(super) fn take(&mut self, input: &mut BytesMut) -> Result<Option<Value>, NoProtocol> {
        if input.is_empty() || input.len() < self.wanted {
            return Ok(None);
        }
        let mut at = 0;
        if let Some(wanted) = measure(input, &mut at, 0)? {
            self.wanted = wanted;
            return Ok(None);
        }
        self.wanted = 0;
        let mut whole = input.split_to(at).freeze();
        Ok(Some(cut(&mut whole)))
    }
}

/// Goes behind the next value; where it is not there whole, how many bytes there must be at least.
fn measure(input: &[u8], at: &mut usize, depth: usize) -> Result<Option<usize>, NoProtocol> {
    let Some(line) = input.get(*at..).and_then(|rest| memchr::memchr(b'\n', rest)) else {
        // Only texts may be long, and they say so in a short line.
        return if input.len() - *at > 64 << 10 { Err(NoProtocol) } else { Ok(Some(input.len() + 1)) };
    };
    let head = input.get(*at..*at + line).unwrap_or_default();
    *at += line + 1;
    let (&kind, rest) = head.split_first().ok_or(NoProtocol)?;
    match kind {
        b'+' | b'-' | b':' => Ok(None),
        b'$' => {
            let length = number(rest).filter(|length| (-1..=MOST_BYTES).contains(length)).ok_or(NoProtocol)?;
            let Ok(length) = usize::try_from(length) else { return Ok(None) };
            *at += length + 2;
            Ok((*at > input.len()).then_some(*at))
        }
        b'*' => {
            let count = number(rest).filter(|count| (-1..=MOST_ELEMENTS).contains(count)).ok_or(NoProtocol)?;
            if depth == DEEPEST {
                return Err(NoProtocol);
            }
            for _ in 0..count {
                if let Some(wanted) = measure(input, at, depth + 1)? {
                    return Ok(Some(wanted));
                }
            }
            Ok(None)
        }
        _ => Err(NoProtocol),
    }
}

/// Cuts a value that was measured.
fn cut(input: &mut Bytes) -> Value {
    let line = memchr::memchr(b'\n', input).unwrap_or_default();
    let head = input.split_to((line + 1).min(input.len()));
    let rest = head.slice(1.min(head.len())..head.len().saturating_sub(2).max(1.min(head.len())));
    match head.first() {
        Some(b'+') => Value::Text(rest),
        Some(b'-') => Value::Error(rest),
        Some(b':') => Value::Number(number(&rest).unwrap_or_default()),
        Some(b'$') => match usize::try_from(number(&rest).unwrap_or(-1)) {
            Ok(length) => {
                let text = input.split_to(length.min(input.len()));
                input.advance(2.min(input.len()));
                Value::Text(text)
            }
            Err(_) => Value::Nothing,
        },
        Some(b'*') => match number(&rest) {
            Some(count) if count >= 0 => Value::Array((0..count).map(|_| cut(input)).collect()),
            _ => Value::Nothing,
        },
        _ => Value::Nothing,
    }
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.trim_end_matches('\r').parse().ok()
}

impl Value {
    /// The text it is, or has.
    pub(super) fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// The bytes it is.
    pub(super) fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The elements it has.
    pub(super) fn array(self) -> Option<Vec<Self>> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| Value::Text(bytes.into())),
            any::<i64>().prop_map(Value::Number),
            "[a-z ]{1,9}".prop_map(|text| Value::Error(text.into())),
            Just(Value::Nothing),
        ];
        leaf.prop_recursive(3, 20, 5, |inner| prop::collection::vec(inner, 0..5).prop_map(Value::Array))
    }

    fn write(value: &Value, out: &mut Vec<u8>) {
        match value {
            Value::Text(text) => {
                out.extend_from_slice(format!("${}\r\n", text.len()).as_bytes());
                out.extend_from_slice(text);
                out.extend_from_slice(b"\r\n");
            }
            Value::Number(number) => out.extend_from_slice(format!(":{number}\r\n").as_bytes()),
            Value::Error(text) => out.extend_from_slice(&[b"-", &text[..], b"\r\n"].concat()),
            Value::Nothing => out.extend_from_slice(b"$-1\r\n"),
            Value::Array(all) => {
                out.extend_from_slice(format!("*{}\r\n", all.len()).as_bytes());
                for value in all {
                    write(value, out);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn values_are_read_however_they_are_cut(all in prop::collection::vec(values(), 1..5), cuts in 1usize..9) {
            let mut bytes = Vec::new();
            for value in &all {
                write(value, &mut bytes);
            }
            let (mut reader, mut input, mut got) = (Reader::default(), BytesMut::new(), Vec::new());
            for part in bytes.chunks(cuts) {
                input.extend_from_slice(part);
                while let Some(value) = reader.take(&mut input).expect("it is RESP") {
                    got.push(value);
                }
            }
            prop_assert_eq!(got, all);
            prop_assert!(input.is_empty());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut input = BytesMut::from(&bytes[..]);
            let mut reader = Reader::default();
            while let Ok(Some(_)) = reader.take(&mut input) {}
        }

        #[test]
        fn nearly_resp_makes_it_neither(bytes in "[*$:+\\-0-9a\r\n]{0,60}") {
            let mut input = BytesMut::from(bytes.as_bytes());
            let mut reader = Reader::default();
            while let Ok(Some(_)) = reader.take(&mut input) {}
        }
    }
}
