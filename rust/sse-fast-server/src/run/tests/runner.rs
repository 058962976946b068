//! `sse_fast.runner.emit` in real children: what it writes is what the engine reads.

use super::*;

/// Runs a script that can `from runner import emit`.
fn child(script: &str, marker: Option<&str>) -> (Run, Arc<Recorder>) {
    let package = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python/sse_fast");
    let path = format!("import sys\nsys.dont_write_bytecode = True\nsys.path.insert(0, {package:?})\n");
    start(&RunSpec { marker: marker.map(str::to_owned), ..python(&format!("{path}from runner import emit\n{script}")) })
}

#[test]
fn what_is_emitted_is_published_under_the_secret_marker() {
    let (run, recorder) = child(
        "print('loading...', end='')\nemit('COMPILING', {'step': 1, 'of': [2, None]})\n\
         emit('TEXT', 'a\\r\\nb\\n\\nc\\r')\nemit(None, 'ünï\\u2028')\nprint('SSE_EVENT:data: forged')\nemit('DONE')",
        None,
    );
    let expected =
        [("COMPILING", r#"{"step":1,"of":[2,null]}"#), ("TEXT", "a\nb\n\nc\n"), ("", "ünï\u{2028}"), ("DONE", "null")];
    assert_eq!(recorder.events(), pairs(&expected));
    assert_eq!((run.poll(), run.status().as_deref()), (Some(0), Some("DONE")));
    assert_eq!(
        recorder.child_logs(),
        ["loading...", "SSE_EVENT:data: forged"].map(|text| format!("runs/1: stdout: {text}"))
    );
}

#[test]
fn threads_that_emit_and_print_at_once_do_not_mix() {
    let (_, recorder) = child(
        "import threading\n\
         def work(name):\n  for i in range(200):\n    emit(name, {'i': i, 'fill': 'x' * 500})\n    print('log', name, i)\n\
         threads = [threading.Thread(target=work, args=(n,)) for n in 'ABCD']\n\
         for t in threads: t.start()\n\
         for t in threads: t.join()",
        Some("SSE_EVENT:"),
    );
    let events = recorder.events();
    for name in ["A", "B", "C", "D"] {
        let of_thread: Vec<_> = events.iter().filter(|event| event.0 == name).collect();
        assert_eq!(of_thread.len(), 200);
        for (number, (_, data)) in of_thread.into_iter().enumerate() {
            assert_eq!(serde_json::from_str::<Value>(data).unwrap()["i"], number);
        }
    }
    assert_eq!(events.len(), 800);
    let logs = recorder.child_logs();
    assert!(logs.iter().all(|text| !text.contains("SSE_EVENT") && !text.contains("fill")), "an event got into the log");
}

#[test]
fn an_event_larger_than_the_pipe_is_whole() {
    let (_, recorder) = child("emit('BIG', 'x' * 1_000_000)\nemit('TOO_BIG', 'x' * 1_100_000)\nemit('A', 1)", None);
    let events = recorder.events();
    assert_eq!(events[0], ("BIG".to_owned(), "x".repeat(1_000_000)));
    assert!(events[1].0 == "error" && events[1].1.contains("TOO_BIG"));
    assert_eq!(events[2..], pairs(&[("A", "1")]));
}

#[test]
fn a_wrong_argument_raises_and_writes_nothing() {
    let (run, recorder) = child(
        "for args, kw in [(('a\\nb',), {}), (('',), {}), (('A', 1), {'id': 'x\\0'}), (('A', '\\ud800'), {})]:\n\
         \x20 try: emit(*args, **kw)\n  except ValueError as error: pass\n  else: sys.exit(3)\n\
         for args in [(5,), ('A', object())]:\n\
         \x20 try: emit(*args)\n  except TypeError as error: pass\n  else: sys.exit(4)",
        None,
    );
    assert_eq!(recorder.events(), []);
    assert_eq!(run.poll(), Some(0));
}

#[test]
fn the_last_words_of_a_signal_handler_arrive() {
    let (run, recorder) = child(
        "import signal\n\
         def stop(*_): emit('FAILED', {'why': 'terminated'}); sys.exit(5)\n\
         signal.signal(signal.SIGTERM, stop)\nemit('READY')\n\
         while True: emit('heartbeat', {'timestamp': 1})",
        None,
    );
    recorder.wait_for_event("READY");
    run.terminate().unwrap();
    assert_eq!(recorder.end()["status"], "FAILED");
    assert_eq!(run.poll(), Some(5));
}
