//! A JSON value of somebody else's as the text that an event carries.
//!
//! Owns: that text: what `Stream.publish` would send of the same value after Python's `json.loads`. A string goes out as it is,
//! everything else as compact JSON. Must not know: events, requests. What it is given was found to be JSON by `serde_json`, so its
//! syntax is not looked at again; nothing here panics where it is not.
//! Invariants: one pass and no recursion, whatever it is given. A member that stands in an object twice is refused: readers
//! differ in which of them counts.
//! Changes together with the binding's `json` and `_encode.py`; a test compares the bytes.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write;

use memchr::memchr2;

/// How deep lists and objects may be nested.
const MAX_DEPTH: usize = 128;

/// Objects with so few members are gone through for each of them; larger ones get a set.
const FEW_MEMBERS: usize = 8;

/// Why a value cannot be sent; in words.
pub(super) type Refused = String;

/// The text of a value.
pub(super) fn text_of(json: &str) -> Result<Cow<'_, str>, Refused> {
    if json.starts_with('"') { string(json) } else { compact(json).map(Cow::Owned) }
}

/// What a string says.
fn string(json: &str) -> Result<Cow<'_, str>, Refused> {
    let inside = json.get(1..json.len().saturating_sub(1)).unwrap_or_default();
    if memchr::memchr(b'\\', inside.as_bytes()).is_none() {
        return Ok(Cow::Borrowed(inside));
    }
    // Syntax was looked at; what is left to be wrong is half of a surrogate pair.
    serde_json::from_str(json)
        .map(Cow::Owned)
        .map_err(|_| "has a lone surrogate, which UTF-8 cannot express".to_owned())
}

/// An object or a list that is open.
enum Open<'a> {
    List,
    /// The names of its members so far.
    Object(Members<'a>),
}

#[derive(Default)]
struct Members<'a> {
    few: Vec<Cow<'a, str>>,
    many: HashSet<Cow<'a, str>>,
}

impl<'a> Members<'a> {
    /// Whether there was none of this name.
    fn add(&mut self, name: Cow<'a, str>) -> bool {
        if !self.many.is_empty() {
            return self.many.insert(name);
        }
        if self.few.contains(&name) {
            return false;
        }
        if self.few.len() < FEW_MEMBERS {
            self.few.push(name);
        } else {
            self.many = self.few.drain(..).chain([name]).collect();
        }
        true
    }
}

fn compact(json: &str) -> Result<String, Refused> {
    let mut out = String::with_capacity(json.len());
    let mut open: Vec<Open<'_>> = Vec::new();
    // Whether a string that comes next is the name of a member.
    let mut is_name = false;
    let mut rest = json;
    while let Some(&first) = rest.as_bytes().first() {
        let length = match first {
            b'"' => {
                let token = &rest[..string_length(rest)];
                let text = string(token)?;
                write_string(&mut out, token, &text);
                if is_name && let Some(Open::Object(members)) = open.last_mut() {
                    let shown: String = text.chars().take(80).collect();
                    if !members.add(text) {
                        return Err(format!("has the member {shown:?} twice"));
                    }
                }
                is_name = false;
                token.len()
            }
            b'{' | b'[' => {
                if open.len() == MAX_DEPTH {
                    return Err(format!("is nested deeper than {MAX_DEPTH}"));
                }
                is_name = first == b'{';
                open.push(if is_name { Open::Object(Members::default()) } else { Open::List });
                out.push(char::from(first));
                1
            }
            b'}' | b']' => {
                open.pop();
                is_name = false;
                out.push(char::from(first));
                1
            }
            b',' => {
                is_name = matches!(open.last(), Some(Open::Object(_)));
                out.push(',');
                1
            }
            b' ' | b'\t' | b'\r' | b'\n' => 1,
            b'-' | b'0'..=b'9' => {
                let token = &rest[..token_length(rest)];
                write_number(&mut out, token);
                token.len()
            }
            // A colon, or a word.
            _ => {
                let length = token_length(rest);
                out.push_str(&rest[..length]);
                length
            }
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(out)
}

/// How long the string is that it begins with, quotes included.
fn string_length(json: &str) -> usize {
    let bytes = json.as_bytes();
    let mut at = 1;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found;
        if bytes[at] == b'"' {
            return at + 1;
        }
        // What it escapes is ASCII.
        at += 2;
    }
    json.len()
}

/// How long the number or the word is that it begins with; one at least.
fn token_length(json: &str) -> usize {
    let is_of_token = |byte: &u8| matches!(byte, b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'E');
    let length = json.bytes().take_while(|byte| is_of_token(byte)).count();
    if length == 0 { json.chars().next().map_or(1, char::len_utf8) } else { length }
}

/// Writes a string as it stands where it stands as we would write it.
///
/// The lead bytes are those of U+0085 and of U+2028 and U+2029; ASCII text and most others have neither.
fn write_string(out: &mut String, token: &str, text: &str) {
    let is_escaped = text.len() + 2 != token.len();
    if !is_escaped && memchr2(0xC2, 0xE2, token.as_bytes()).is_none() {
        out.push_str(token);
        return;
    }
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            // Some readers take these for ends of lines.
            '\0'..='\x1f' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
                // A String takes whatever is written.
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// A whole number as it stands, whatever its size; any other as the nearest of 64 bits, where it is too large `null`.
fn write_number(out: &mut String, token: &str) {
    if token.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        out.push_str(if token == "-0" { "0" } else { token });
        return;
    }
    let number: f64 = token.parse().unwrap_or(f64::INFINITY);
    match serde_json::to_string(&number) {
        Ok(text) => out.push_str(&text),
        Err(_) => out.push_str("null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_goes_out_as_it_is_and_everything_else_compact() {
        for (json, text) in [
            (r#""a\nb é""#, "a\nb é"),
            (r#""""#, ""),
            (r#"" {} ""#, " {} "),
            ("null", "null"),
            ("true", "true"),
            (
                " [ 1 , 2.50 , -0 , -0.0, 1E2 , 1e400, 12345678901234567890123 ] ",
                "[1,2.5,0,-0.0,100.0,null,12345678901234567890123]",
            ),
            ("{ \"a b\" : { } , \"c\" : [ ] }", r#"{"a b":{},"c":[]}"#),
            (r#"{"\u00e9\/\u001F":"\u2028\u0085\ud83d\ude00"}"#, "{\"é/\\u001f\":\"\\u2028\\u0085😀\"}"),
            ("[\"\u{2028}\",\"â\",\"Â\"]", r#"["\u2028","â","Â"]"#),
            (r#"["\"\\\b\f\n\r\t"]"#, r#"["\"\\\b\f\n\r\t"]"#),
            (r#"{"a":{"a":1},"b":["a","a"]}"#, r#"{"a":{"a":1},"b":["a","a"]}"#),
        ] {
            assert_eq!(text_of(json.trim()).as_deref(), Ok(text), "{json}");
        }
    }

    #[test]
    fn what_readers_would_take_differently_is_refused() {
        for (json, why) in [
            (r#"{"a":1,"b":2,"a":3}"#, "has the member \"a\" twice"),
            (r#"[{"a":1,"\u0061":3}]"#, "has the member \"a\" twice"),
            (r#""\ud800""#, "has a lone surrogate, which UTF-8 cannot express"),
            (r#"["\udc00x"]"#, "has a lone surrogate, which UTF-8 cannot express"),
        ] {
            assert_eq!(text_of(json), Err(why.to_owned()), "{json}");
        }
        let many: Vec<_> = (0..20).chain([3]).map(|n| format!("\"{n}\":{n}")).collect();
        assert_eq!(text_of(&format!("{{{}}}", many.join(","))), Err("has the member \"3\" twice".to_owned()));
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(text_of(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(text_of(&nested(MAX_DEPTH + 1)), Err("is nested deeper than 128".to_owned()));
    }

    #[test]
    fn what_is_no_json_ends_and_does_not_panic() {
        for json in ["\"", "\"\\", "{\"", "[é", "-", "\u{2028}", "{\"a\\", "\\", "\u{7f}"] {
            let _ = text_of(json);
        }
    }
}
