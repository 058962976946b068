//! Properties of the lines of a child: any division into reads gives the same items, an oracle agrees, memory is
//! bounded.
//!
//! Owns: the oracle, which sees all bytes at once and is written as plainly as possible.
//! Invariants: the oracle shares no code with the parser.

use proptest::prelude::*;

use super::*;

const RANDOM: &str = "SSE_EVENT-0123456789abcdef:";
const FIXED: &str = "SSE_EVENT:";
const LIMIT: usize = 64;

fn markers(fixed: bool) -> Markers {
    Markers { random: RANDOM.into(), fixed: fixed.then(|| FIXED.into()) }
}

/// Feeds the reads one by one, then closes the pipe.
fn items_of(reads: &[&[u8]], fixed: bool, limit: usize) -> Vec<Item> {
    let mut lines = MarkedLines::new(markers(fixed), limit);
    let mut items = Vec::new();
    for read in reads {
        lines.push(read, &mut items);
    }
    lines.finish(&mut items);
    items
}

fn items(text: &str) -> Vec<Item> {
    items_of(&[text.as_bytes()], true, LIMIT)
}

fn log(text: &str) -> Item {
    Item::Log(text.to_owned())
}

fn event(name: Option<&str>, data: Option<&str>, ended: Ended) -> Item {
    let [event, data] = [name, data].map(|value| value.map(str::to_owned));
    Item::Event(MarkedEvent { event, id: None, retry: None, data, ended })
}

fn rejected(name: Option<&str>, fault: Fault) -> Item {
    Item::Rejected { event: name.map(str::to_owned), fault }
}

const TOO_LARGE: Fault = Fault::TooLarge { limit: LIMIT };

fn split(reads: &[&[u8]], limit: usize) -> Vec<(Vec<u8>, u64)> {
    let mut splitter = Splitter::new(limit);
    let mut lines = Vec::new();
    let mut take = |line: Line<'_>| match line {
        Line::Whole(bytes) => lines.push((bytes.to_vec(), bytes.len() as u64)),
        Line::TooLong { start, length } => lines.push((start.to_vec(), length)),
    };
    for read in reads {
        splitter.push(read, &mut take);
        assert!(splitter.held_bytes() <= limit, "{} bytes held", splitter.held_bytes());
    }
    splitter.finish(&mut take);
    lines
}

/// All lines of `bytes`: what `split` must give for any cut into reads.
fn oracle_lines(bytes: &[u8], limit: usize) -> Vec<(Vec<u8>, u64)> {
    let mut lines = vec![Vec::new()];
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\n' if at > 0 && bytes[at - 1] == b'\r' => {}
            b'\n' | b'\r' => lines.push(Vec::new()),
            _ => lines.last_mut().unwrap().push(*byte),
        }
    }
    if lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    let keep = |line: &Vec<u8>| {
        if line.len() > limit { START_BYTES.min(limit) } else { line.len() }
    };
    lines.iter().map(|line| (line[..keep(line)].to_vec(), line.len() as u64)).collect()
}

/// Cuts `bytes` at the given places.
fn cut<'a>(bytes: &'a [u8], places: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
    places.sort_unstable();
    let mut reads = Vec::new();
    let mut from = 0;
    for place in places {
        reads.push(&bytes[from..place]);
        from = place;
    }
    reads.push(&bytes[from..]);
    reads
}

/// Output of a child: pieces that are likely to matter, in any order.
fn output() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"\n".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(FIXED.into()),
        Just(FIXED.into()),
        Just(RANDOM.into()),
        Just(b"data: 1".to_vec()),
        Just(b"data:".to_vec()),
        Just(b"event: A\n".to_vec()),
        Just(b"id: 7\n".to_vec()),
        Just(b"retry: 10\n".to_vec()),
        Just(b": comment\n".to_vec()),
        Just(vec![0xff, 0xfe]),
        Just(vec![b'x'; 70]),
        Just(vec![b'y'; LIMIT + 5000]),
        prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_cut_into_reads_gives_the_same_items(
        bytes in output(), fixed: bool, places in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        prop_assert_eq!(items_of(&cut(&bytes, &places), fixed, LIMIT), items_of(&[&bytes], fixed, LIMIT));
    }

    #[test]
    fn lines_are_those_of_the_oracle(
        bytes in output(), limit in 1_usize..6000, places in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        prop_assert_eq!(split(&cut(&bytes, &places), limit), oracle_lines(&bytes, limit));
    }

    #[test]
    fn unmarked_lines_are_all_log_and_nothing_else(bytes in output()) {
        let bytes = String::from_utf8_lossy(&bytes).replace("SSE_EVENT", "sse_event").into_bytes();
        let texts: Vec<_> = oracle_lines(&bytes, LIMIT + 4096).iter().map(|(line, length)| {
            let text = String::from_utf8_lossy(line).into_owned();
            if *length > (LIMIT + 4096) as u64 { Item::LongLog { start: text, length: *length } } else { Item::Log(text) }
        }).collect();
        prop_assert_eq!(items_of(&[&bytes], true, LIMIT), texts);
    }

    #[test]
    fn an_event_comes_out_as_it_was_written(
        data in prop::collection::vec("[^\r\n]{0,9}", 1..4), name in "[^\r\n]{1,9}",
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let lines: Vec<_> = data.iter().map(|line| format!("{RANDOM}data: {line}\nlog\n")).collect();
        let text = format!("{RANDOM}event: {name}\n{}{RANDOM}\n", lines.concat());
        let mut expected = vec![log("log"); data.len()];
        expected.push(event(Some(&name), Some(&data.join("\n")), Ended::ByLine));
        prop_assert_eq!(items_of(&cut(text.as_bytes(), &places), false, 4096), expected);
    }
}

#[test]
fn the_write_up_of_the_benchmark_runner_parses() {
    let text =
        "INFO - Step 1\nSSE_EVENT:event: PROVISIONING\nSSE_EVENT:data: {\"status\": 1}\nSSE_EVENT:\nINFO - Step 2\n";
    let expected = [
        log("INFO - Step 1"),
        event(Some("PROVISIONING"), Some("{\"status\": 1}"), Ended::ByLine),
        log("INFO - Step 2"),
    ];
    assert_eq!(items(text), expected);
}

#[test]
fn a_carriage_return_ends_a_progress_line_at_once_and_swallows_one_line_feed() {
    let mut splitter = Splitter::new(LIMIT);
    let mut lines = Vec::new();
    for read in ["10%\r", "\n20%", "\r30%\r\n", "\n"] {
        splitter.push(read.as_bytes(), |line| lines.push(format!("{line:?}").len()));
        assert!(!read.ends_with('\r') || lines.len() == 1, "the first line waited for what follows");
    }
    assert_eq!(lines.len(), 4, "10%, 20%, 30% and one empty line");
}

#[test]
fn a_field_is_read_as_a_browser_reads_it() {
    let text = "SSE_EVENT:event:A\nSSE_EVENT:data:  two spaces\nSSE_EVENT:data\nSSE_EVENT:data: \nSSE_EVENT:\n";
    assert_eq!(items(text), [event(Some("A"), Some(" two spaces\n\n"), Ended::ByLine)]);
}

#[test]
fn id_and_retry_are_taken_and_unreadable_ones_are_not() {
    let text = "SSE_EVENT:id: 7\nSSE_EVENT:retry: 250\nSSE_EVENT:retry: soon\nSSE_EVENT:data: x\nSSE_EVENT:\n";
    let MarkedEvent { id, retry, .. } = match items(text).pop() {
        Some(Item::Event(event)) => event,
        other => panic!("{other:?}"),
    };
    assert_eq!((id.as_deref(), retry), (Some("7"), Some(250)));
    assert_eq!(items(text)[0], Item::Ignored("retry: soon".into()));
}

#[test]
fn comments_and_lone_ends_are_nothing() {
    assert_eq!(items("SSE_EVENT:\nSSE_EVENT:: hello\nSSE_EVENT:\n"), []);
}

#[test]
fn without_a_fixed_marker_only_the_random_one_counts() {
    let text = format!("{FIXED}data: forged\n{RANDOM}data: true\n{FIXED}\n{RANDOM}\n");
    let expected = [log("SSE_EVENT:data: forged"), log("SSE_EVENT:"), event(None, Some("true"), Ended::ByLine)];
    assert_eq!(items_of(&[text.as_bytes()], false, LIMIT), expected);
}

#[test]
fn a_forged_line_does_not_get_into_an_event_under_the_random_marker() {
    let text = format!("{RANDOM}data: a\n{FIXED}data: forged\n{FIXED}\n{RANDOM}data: b\n{RANDOM}\n");
    assert_eq!(items(&text), [event(None, Some("forged"), Ended::ByLine), event(None, Some("a\nb"), Ended::ByLine)]);
}

#[test]
fn an_event_behind_a_text_without_newline_is_whole() {
    let text = format!("loading...{RANDOM}\n{RANDOM}event: A\n{RANDOM}data: 1\n{RANDOM}\n");
    assert_eq!(items(&text), [log("loading..."), event(Some("A"), Some("1"), Ended::ByLine)]);
}

#[test]
fn an_event_above_the_limit_is_rejected_once_and_the_next_one_passes() {
    let line = format!("SSE_EVENT:data: {}\n", "x".repeat(40));
    let text = format!("SSE_EVENT:event: BIG\n{line}{line}{line}SSE_EVENT:\nSSE_EVENT:data: 1\nSSE_EVENT:\n");
    assert_eq!(items(&text), [rejected(Some("BIG"), TOO_LARGE), event(None, Some("1"), Ended::ByLine)]);
}

#[test]
fn an_event_at_the_limit_is_whole_and_one_byte_more_is_not() {
    let text = |length: usize| format!("SSE_EVENT:event: A\nSSE_EVENT:data: {}\nSSE_EVENT:\n", "x".repeat(length));
    assert_eq!(items(&text(LIMIT)), [event(Some("A"), Some(&"x".repeat(LIMIT)), Ended::ByLine)]);
    assert_eq!(items(&text(LIMIT + 1)), [rejected(Some("A"), TOO_LARGE)]);
}

#[test]
fn a_marked_line_too_long_to_hold_rejects_its_event() {
    let text = format!("SSE_EVENT:event: BIG\nSSE_EVENT:data: {}\nSSE_EVENT:\nlog\n", "x".repeat(100_000));
    assert_eq!(items(&text), [rejected(Some("BIG"), TOO_LARGE), log("log")]);
}

#[test]
fn a_log_line_too_long_to_hold_is_told_with_its_start_and_length() {
    let text = format!("{}\nnext\n", "z".repeat(100_000));
    assert_eq!(items(&text), [Item::LongLog { start: "z".repeat(START_BYTES), length: 100_000 }, log("next")]);
}

#[test]
fn bytes_that_are_not_utf8_are_replaced_in_logs_and_rejected_in_events() {
    let text = b"caf\xe9\nSSE_EVENT:event: A\nSSE_EVENT:data: caf\xe9\nSSE_EVENT:data: more\nSSE_EVENT:\n";
    assert_eq!(items_of(&[text], true, LIMIT), [log("caf\u{fffd}"), rejected(Some("A"), Fault::NotUtf8)]);
}

#[test]
fn an_event_left_unfinished_is_handed_on_when_it_has_data() {
    assert_eq!(items("SSE_EVENT:data: 1\n"), [event(None, Some("1"), Ended::AtClose)]);
    assert_eq!(items("SSE_EVENT:data: 1\nSSE_EVENT:"), [event(None, Some("1"), Ended::AtClose)]);
    assert_eq!(items("SSE_EVENT:data: {\"a"), [event(None, Some("{\"a"), Ended::MidLine)]);
    assert_eq!(items("SSE_EVENT:event: A\n"), [Item::Ignored("an event without data: A".into())]);
}

#[test]
fn a_name_alone_is_an_event() {
    assert_eq!(items("SSE_EVENT:event: A\nSSE_EVENT:\n"), [event(Some("A"), None, Ended::ByLine)]);
}
