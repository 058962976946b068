//! What a child writes: lines however they are cut and encoded, floods, markers.

use super::*;

#[test]
fn the_benchmark_runner_of_the_write_up_becomes_a_stream() {
    let (run, recorder) = start(&sh(r#"
        echo "2025-12-14 - INFO - Step 1"
        echo 'SSE_EVENT:event: PROVISIONING'; echo 'SSE_EVENT:data: {"status": "PROVISIONING"}'; echo SSE_EVENT:
        echo warning >&2
        echo 'SSE_EVENT:event: heartbeat'; echo 'SSE_EVENT:data: {"timestamp": 1}'; echo SSE_EVENT:
        echo 'SSE_EVENT:event: BENCHMARKED'; echo 'SSE_EVENT:data: {"gflops": 12.50}'; echo SSE_EVENT:
        echo 'SSE_EVENT:event: heartbeat'; echo 'SSE_EVENT:data: {"timestamp": 2}'; echo SSE_EVENT:
    "#));
    let names: Vec<_> = recorder.events().into_iter().map(|event| event.0).collect();
    assert_eq!(names, ["PROVISIONING", "heartbeat", "BENCHMARKED", "heartbeat"]);
    let end = recorder.end();
    assert_eq!(end["exit_code"], 0);
    assert_eq!(end["signal"], Value::Null);
    assert_eq!(end["status"], "BENCHMARKED");
    assert_eq!(end["result"]["gflops"], 12.5);
    assert!(end["duration_s"].as_f64().unwrap() > 0.0);
    assert_eq!(end.get("timeout"), None);
    assert_eq!((run.status().as_deref(), run.result().as_deref()), (Some("BENCHMARKED"), Some(r#"{"gflops": 12.50}"#)));
    let mut logs = recorder.child_logs();
    logs.sort();
    assert_eq!(logs, ["runs/1: stderr: warning", "runs/1: stdout: 2025-12-14 - INFO - Step 1"]);
}

#[test]
fn lines_written_byte_by_byte_are_whole() {
    let (_, recorder) = start(&python(
        "import os\nfor b in b'SSE_EVENT:event: A\\r\\nSSE_EVENT:data: 1\\nlog\\nSSE_EVENT:\\n': os.write(1, bytes([b]))",
    ));
    assert_eq!(recorder.events(), pairs(&[("A", "1")]));
    assert_eq!(recorder.child_logs(), ["runs/1: stdout: log"]);
}

#[test]
fn a_progress_bar_is_logged_while_its_child_still_waits() {
    let (run, recorder) = start(&python("import os,time\nos.write(2, b'10%\\r20%\\r')\ntime.sleep(60)"));
    recorder.wait_for_log("stderr: 20%");
    run.kill().unwrap();
    recorder.end();
}

#[test]
fn a_line_of_five_megabytes_is_a_shortened_log_line_and_an_error_event() {
    let (_, recorder) = start(&python(
        "print('x' * 5_000_000)\nprint('SSE_EVENT:event: BIG\\nSSE_EVENT:data: ' + 'y' * 5_000_000 + '\\nSSE_EVENT:')\n\
         print('SSE_EVENT:event: A\\nSSE_EVENT:data: 1\\nSSE_EVENT:')",
    ));
    let events = recorder.events();
    assert_eq!(events[0].0, "error");
    let error: Value = serde_json::from_str(&events[0].1).unwrap();
    assert_eq!((&error["error"], &error["limit"]), (&"event_too_large".into(), &1_048_576.into()));
    assert_eq!(events[1..], pairs(&[("A", "1")]));
    let logs = recorder.child_logs();
    assert_eq!(logs.len(), 1);
    assert!(logs[0].ends_with("(the start of a line of 5000000 bytes)") && logs[0].len() < 5000);
}

#[test]
fn a_result_too_large_for_the_terminal_event_is_left_out_and_said_so() {
    let (_, recorder) =
        start(&python("print('SSE_EVENT:event: BIG\\nSSE_EVENT:data: \"' + 'y' * 1_048_560 + '\"\\nSSE_EVENT:')"));
    assert_eq!(recorder.events()[0].1.len(), 1_048_562);
    let end = recorder.end();
    assert!(end["result"].is_null() && end["result_too_large"] == true && end["status"] == "BIG");
}

#[test]
fn binary_garbage_reaches_the_log_only() {
    let (_, recorder) = start(&python(
        "import os,random\nrandom.seed(1)\nos.write(1, random.randbytes(300_000))\n\
         os.write(1, b'\\nSSE_EVENT:data: caf\\xe9\\nSSE_EVENT:\\nSSE_EVENT:data: 1\\nSSE_EVENT:\\n')",
    ));
    assert_eq!(recorder.events(), pairs(&[("", "1")]));
    assert_eq!(recorder.wait_for_log("not UTF-8").0, Level::Warning);
    assert!(recorder.end()["status"].is_null() && recorder.end()["result"] == 1);
}

#[test]
fn without_a_fixed_marker_a_forged_line_is_log_and_the_secret_one_an_event() {
    let script = r#"echo SSE_EVENT:data: forged; echo SSE_EVENT:; printf 'loading...'
        printf '%s\n%sdata: true\n%s\n' "$SSE_FAST_MARKER" "$SSE_FAST_MARKER" "$SSE_FAST_MARKER""#;
    let (_, recorder) = start(&RunSpec { marker: None, ..sh(script) });
    assert_eq!(recorder.events(), pairs(&[("", "true")]));
    let expected = ["SSE_EVENT:data: forged", "SSE_EVENT:", "loading..."].map(|text| format!("runs/1: stdout: {text}"));
    assert_eq!(recorder.child_logs(), expected);
}

#[test]
fn every_run_has_its_own_marker_and_python_is_unbuffered() {
    let script = r#"printf 'SSE_EVENT:data: %s %s\n' "$SSE_FAST_MARKER" "$PYTHONUNBUFFERED""#;
    let marker_of = |spec: &RunSpec| start(spec).1.events()[0].1.clone();
    let (first, second) = (marker_of(&sh(script)), marker_of(&sh(script)));
    assert_ne!(first, second);
    assert!(first.starts_with("SSE_EVENT-") && first.ends_with(": 1") && first.len() == "SSE_EVENT-: 1".len() + 32);
    let own = Some(vec![("PYTHONUNBUFFERED".into(), "".into()), ("PATH".into(), std::env::var_os("PATH").unwrap())]);
    assert!(marker_of(&RunSpec { env: own, ..sh(script) }).ends_with(": "));
}

#[test]
fn a_flood_on_stderr_leaves_the_events_on_stdout_alone() {
    let (_, recorder) = start(&python(
        "import sys,threading\n\
         def flood():\n  for i in range(100_000): sys.stderr.write(f'line {i} SSE_EVENT:data: no\\n')\n\
         t = threading.Thread(target=flood); t.start()\n\
         for i in range(500): sys.stdout.write(f'SSE_EVENT:event: E\\nSSE_EVENT:data: {i}\\nSSE_EVENT:\\n')\n\
         t.join()",
    ));
    let data: Vec<_> = recorder.events().into_iter().map(|event| event.1).collect();
    assert_eq!(data, (0..500).map(|i| i.to_string()).collect::<Vec<_>>());
    recorder.wait_for_log(" after ");
    let state = recorder.state.lock();
    let dropped: usize = state
        .logs
        .iter()
        .filter_map(|(_, text)| {
            let (count, _) = text.strip_prefix("runs/1: ")?.split_once(" log lines (")?;
            count.parse::<usize>().ok()
        })
        .sum();
    let written = state.logs.iter().filter(|(_, text)| text.starts_with("runs/1: stderr: line ")).count();
    assert_eq!(written + dropped, 100_000);
}

#[test]
fn a_stuck_logger_does_not_hold_the_child_and_what_is_dropped_is_counted() {
    let recorder = Arc::new(Recorder::default());
    // Nothing takes the records until the run is over.
    let logs = Logs::default();
    let runs = Runs::new(RUNTIME.handle().clone(), logs.clone());
    let spec = python("for i in range(100_000): print('log', i)\nprint('SSE_EVENT:data: 1\\nSSE_EVENT:')");
    let run = runs.start(&spec, Arc::<Recorder>::clone(&recorder) as Arc<dyn EventSink>).unwrap();
    assert_eq!(recorder.events(), pairs(&[("", "1")]));
    assert_eq!(run.poll(), Some(0));
    take_logs(logs, Arc::clone(&recorder));
    assert_eq!(recorder.wait_for_log("dropped").0, Level::Warning);
}

#[test]
fn a_slow_sink_gets_every_event_in_order_before_the_end() {
    let slow = Recorder { takes: Duration::from_millis(2), ..Recorder::default() };
    let (_, recorder) = start_with(&python("for i in range(300): print(f'SSE_EVENT:data: {i}\\nSSE_EVENT:')"), slow);
    let data: Vec<_> = recorder.events().into_iter().map(|event| event.1).collect();
    assert_eq!(data, (0..300).map(|i| i.to_string()).collect::<Vec<_>>());
}

#[test]
fn an_event_that_the_stream_refuses_leaves_an_error_event() {
    let picky = Recorder { refuses: Some("B"), ..Recorder::default() };
    let script = "for i in A B C; do printf 'SSE_EVENT:event: %s\nSSE_EVENT:data: 1\nSSE_EVENT:\n' $i; done";
    let (_, recorder) = start_with(&sh(script), picky);
    let events = recorder.events();
    assert_eq!(events.iter().map(|event| event.0.as_str()).collect::<Vec<_>>(), ["A", "error", "C"]);
    assert!(events[1].1.contains("not this one"));
}

#[test]
fn an_event_of_whole_lines_without_its_end_is_published() {
    let (_, recorder) = start(&sh("printf 'SSE_EVENT:event: A\nSSE_EVENT:data: {}\n'"));
    assert_eq!(recorder.events(), pairs(&[("A", "{}")]));
    recorder.wait_for_log("lacks its end");
}

#[test]
fn an_event_cut_inside_a_line_is_an_error_whatever_its_data_looks_like() {
    for data in [r#"{"gflops": 1"#, "{}", "12", "text", ""] {
        let (run, recorder) = start(&sh(&format!("printf 'SSE_EVENT:event: A\nSSE_EVENT:data: {data}'; kill -9 $$")));
        let events = recorder.events();
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(events[0].0, "error");
        let error: Value = serde_json::from_str(&events[0].1).unwrap();
        assert_eq!((&error["error"], &error["event"]), (&"event_cut".into(), &"A".into()));
        recorder.wait_for_log("event \"A\" was cut");
        let end = recorder.end();
        assert_eq!((&end["status"], &end["result"]["error"]), (&"error".into(), &"event_cut".into()));
        assert_eq!(run.status().as_deref(), Some("error"));
    }
}

#[test]
fn plain_lines_are_events_where_the_spec_names_one_and_never_the_run_s_status() {
    let script = r"
        echo plain; echo 'SSE_EVENT:event: A'; echo 'SSE_EVENT:data: 1'; echo SSE_EVENT:; echo; echo last
    ";
    let (run, recorder) = start(&RunSpec { lines: Some("log".into()), ..sh(script) });
    assert_eq!(recorder.events(), pairs(&[("log", "plain"), ("A", "1"), ("log", ""), ("log", "last")]));
    assert_eq!((run.status().as_deref(), run.result().as_deref()), (Some("A"), Some("1")));
    assert_eq!(recorder.child_logs(), Vec::<String>::new());
}

#[test]
fn lines_that_a_stream_refuses_are_logged_and_the_refusal_is_an_event() {
    let recorder = Recorder { refuses: Some("log"), ..Recorder::default() };
    let spec = RunSpec { lines: Some("log".into()), ..sh("echo one; echo two") };
    let (run, recorder) = start_with(&spec, recorder);
    let names: Vec<_> = recorder.events().into_iter().map(|event| event.0).collect();
    assert_eq!(names, ["error", "error"]);
    assert_eq!((run.status(), run.result()), (None, None));
    recorder.wait_for_log("runs/1: two");
}

#[test]
fn a_child_reads_what_it_is_given_and_then_its_end() {
    let bytes = vec![b'x'; 3_000_000];
    let (_, recorder) =
        start(&RunSpec { stdin: Some(bytes), lines: Some("log".into()), ..sh("wc -c | tr -d ' '; cat; echo end") });
    assert_eq!(recorder.events(), pairs(&[("log", "3000000"), ("log", "end")]));
}

#[test]
fn a_child_that_does_not_read_holds_nothing_back() {
    let (_, recorder) = start(&RunSpec { stdin: Some(vec![b'x'; 3_000_000]), ..sh("exit 3") });
    assert_eq!(recorder.end()["exit_code"], 3);
    assert!(!recorder.state.lock().logs.iter().any(|(level, _)| *level >= Level::Warning));
}
