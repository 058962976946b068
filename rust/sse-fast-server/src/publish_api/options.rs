//! The options of a stream, from the query of a request that publishes.
//!
//! Owns: how each is written as text, and what its value may be. Must not know: what an option does, what it requires of another
//! (`StreamOptions::patched`), who may give one.
//! Invariants: nothing is taken for an option that is none, and no value that `Server.stream` would refuse; a refusal names the
//! option and what is allowed.
//! Changes together with `python/sse_fast/_settings.py`, whose table has the same names and limits, and with
//! `_client/options.py`, which writes what is read here.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use sse_fast_core::options::StreamPatch;

use crate::request::ParsedRequest;

/// The most that is shown of a value that is refused, in characters.
const SHOWN: usize = 80;

/// A year: a greater number was probably meant in milliseconds.
const YEAR: f64 = 366.0 * 24.0 * 3600.0;
/// The longest `retry`, an hour, for the same reason.
const HOUR: f64 = 3600.0;

const NAMES: &str = "expire, heartbeat, heartbeat_comment, heartbeat_event, history, history_bytes, ids, linger, max_lag, on_lag, \
     private, retry, stall_after, start";

const EVENTS: &str = "a whole number from 1 to 4294967296";
const BYTES: &str = "a size in bytes from 1 up, such as 65536 or 64KiB";
const BOOLEAN: &str = "1 or 0";
const SILENCE: &str = "seconds from 0.001 to a year, such as 15 or 2m, or empty for none";
const STALL: &str = "seconds from 0.1 to a year, such as 15 or 2m, or empty for none";
const RETRY: &str = "seconds from 0 to an hour, not milliseconds, or empty for none";
const LINGER: &str = "seconds from 0 to a year, such as 15 or 2m";

/// Why an option is refused.
enum Refused {
    /// There is none of that name.
    Unknown,
    /// It may have other values.
    Value(&'static str),
}

/// The options that a request gives; `Err` says in words why they are refused.
pub(super) fn given(request: &ParsedRequest) -> Result<StreamPatch, String> {
    let mut patch = StreamPatch::default();
    if request.has_garbled_query() {
        return Err("the query is not UTF-8".to_owned());
    }
    for (at, (name, text)) in request.query.iter().enumerate() {
        if request.query[..at].iter().any(|(earlier, _)| earlier == name) {
            return Err(format!("{:?} is given twice", shown(name)));
        }
        give(&mut patch, name, text).map_err(|refused| match refused {
            Refused::Unknown => format!("there is no stream option {:?}: there are {NAMES}", shown(name)),
            Refused::Value(allowed) => format!("{name}={:?} is not allowed: {name} must be {allowed}", shown(text)),
        })?;
    }
    Ok(patch)
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

fn give(patch: &mut StreamPatch, name: &str, text: &str) -> Result<(), Refused> {
    match name {
        "history" => patch.history = Some(usize::try_from(events(text)?).map_err(|_| Refused::Value(EVENTS))?),
        "history_bytes" => patch.history_bytes = Some(bytes(text)?),
        "start" => patch.start = Some(word(text, "one of \"new\", \"last\", \"all\"")?),
        "max_lag" => patch.max_lag = Some(events(text)?),
        "on_lag" => patch.on_lag = Some(word(text, "one of \"skip\", \"latest\", \"disconnect\"")?),
        "heartbeat" => patch.heartbeat = Some(or_none(text, 0.001..=YEAR, SILENCE)?),
        "heartbeat_event" => patch.heartbeat_event = Some((!text.is_empty()).then(|| text.to_owned())),
        "heartbeat_comment" if text.is_empty() => return Err(Refused::Value("a text that is not empty")),
        "heartbeat_comment" => patch.heartbeat_comment = Some(text.to_owned()),
        "retry" => patch.retry = Some(or_none(text, 0.0..=HOUR, RETRY)?),
        "ids" => patch.ids = Some(boolean(text)?),
        "linger" => patch.linger = Some(seconds(text, 0.0..=YEAR).ok_or(Refused::Value(LINGER))?),
        "expire" => patch.expire = Some(or_none(text, 0.001..=YEAR, SILENCE)?),
        "stall_after" => patch.stall_after = Some(or_none(text, 0.1..=YEAR, STALL)?),
        "private" => patch.private = Some(boolean(text)?),
        _ => return Err(Refused::Unknown),
    }
    Ok(())
}

fn events(text: &str) -> Result<u64, Refused> {
    text.parse().ok().filter(|count| (1..=1 << 32).contains(count)).ok_or(Refused::Value(EVENTS))
}

fn bytes(text: &str) -> Result<usize, Refused> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit: Option<u64> = match text[digits.len()..].trim_start() {
        "" | "B" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let size = unit.and_then(|unit| digits.parse::<u64>().ok()?.checked_mul(unit));
    let size = size.filter(|size| (1..=1 << 62).contains(size)).and_then(|size| usize::try_from(size).ok());
    size.ok_or(Refused::Value(BYTES))
}

fn word<T: FromStr>(text: &str, allowed: &'static str) -> Result<T, Refused> {
    text.parse().map_err(|_| Refused::Value(allowed))
}

fn boolean(text: &str) -> Result<bool, Refused> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err(Refused::Value(BOOLEAN)),
    }
}

/// A time, or what says that there is to be none.
fn or_none(text: &str, range: RangeInclusive<f64>, allowed: &'static str) -> Result<Option<Duration>, Refused> {
    if matches!(text.to_ascii_lowercase().as_str(), "" | "none" | "off") {
        return Ok(None);
    }
    seconds(text, range).map(Some).ok_or(Refused::Value(allowed))
}

/// A time in seconds, or with a unit.
fn seconds(text: &str, range: RangeInclusive<f64>) -> Option<Duration> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[number.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let is_number = number.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let seconds = number.trim_end().parse::<f64>().ok().filter(|_| is_number)? * unit;
    // Also false for what is no number.
    if range.contains(&seconds) { Duration::try_from_secs_f64(seconds).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use sse_fast_core::options::{OnLag, Start};

    use super::*;

    fn of(name: &str, text: &str) -> Option<StreamPatch> {
        let mut patch = StreamPatch::default();
        give(&mut patch, name, text).ok().map(|()| patch)
    }

    #[test]
    fn each_option_is_read_as_the_environment_has_it() {
        let none = StreamPatch::default;
        let seconds = |seconds| Some(Duration::from_secs_f64(seconds));
        for (name, texts, expected) in [
            ("history", &["1000"][..], StreamPatch { history: Some(1000), ..none() }),
            ("history_bytes", &["65536", "64KiB", "64 KiB"], StreamPatch { history_bytes: Some(65536), ..none() }),
            ("start", &["all"], StreamPatch { start: Some(Start::All), ..none() }),
            ("max_lag", &["7"], StreamPatch { max_lag: Some(7), ..none() }),
            ("on_lag", &["latest"], StreamPatch { on_lag: Some(OnLag::Latest), ..none() }),
            ("heartbeat", &["0.5", "500ms", ".5s", "5e-01"], StreamPatch { heartbeat: Some(seconds(0.5)), ..none() }),
            ("heartbeat", &["", "none", "Off"], StreamPatch { heartbeat: Some(None), ..none() }),
            ("heartbeat_event", &["none"], StreamPatch { heartbeat_event: Some(Some("none".to_owned())), ..none() }),
            ("heartbeat_event", &[""], StreamPatch { heartbeat_event: Some(None), ..none() }),
            ("heartbeat_comment", &["on"], StreamPatch { heartbeat_comment: Some("on".to_owned()), ..none() }),
            ("retry", &["0"], StreamPatch { retry: Some(seconds(0.0)), ..none() }),
            ("retry", &[""], StreamPatch { retry: Some(None), ..none() }),
            ("ids", &["0", "false", "OFF"], StreamPatch { ids: Some(false), ..none() }),
            ("linger", &["120", "2m"], StreamPatch { linger: seconds(120.0), ..none() }),
            ("expire", &["3600", "1h"], StreamPatch { expire: Some(seconds(3600.0)), ..none() }),
            ("expire", &["none"], StreamPatch { expire: Some(None), ..none() }),
            ("stall_after", &["0.1"], StreamPatch { stall_after: Some(seconds(0.1)), ..none() }),
            ("private", &["1", "true"], StreamPatch { private: Some(true), ..none() }),
        ] {
            for text in texts {
                assert_eq!(of(name, text), Some(expected.clone()), "{name}={text}");
            }
        }
    }

    #[test]
    fn what_no_option_may_be_is_refused() {
        for (name, texts) in [
            ("history", &["", "0", "-1", "1.5", "4294967297", "1 0", "none"][..]),
            ("history_bytes", &["0", "KiB", "1kib", "1KB", "99999999999GiB", "-1"]),
            ("start", &["", "All"]),
            ("max_lag", &["0", "none"]),
            ("on_lag", &["skip "]),
            ("heartbeat", &["0", "nan", "inf", "infinity", "-1", "+1", "1 d", "s", ".", "31622401", "1e999"]),
            ("heartbeat_comment", &[""]),
            ("retry", &["3601", "61m", "-0.1"]),
            ("ids", &["", "2", "none"]),
            ("linger", &["", "none", "-1"]),
            ("expire", &["0", "0.0001"]),
            ("stall_after", &["0.09"]),
            ("private", &["y"]),
            ("lossless", &["1"]),
            ("History", &["1"]),
            ("", &[""]),
        ] {
            for text in texts {
                assert_eq!(of(name, text), None, "{name}={text}");
            }
        }
    }

    #[test]
    fn the_names_that_are_told_are_those_that_are_known() {
        let mut names: Vec<_> = NAMES.split(", ").map(str::trim).collect();
        assert!(names.is_sorted());
        names.push("lossless");
        for name in names {
            let is_known = !matches!(give(&mut StreamPatch::default(), name, "?"), Err(Refused::Unknown));
            assert_eq!(is_known, name != "lossless", "{name}");
        }
    }
}
