//! How runs end: exits, signals, timeouts, shutdown, grandchildren.

use super::*;

/// A child that ignores SIGTERM and says so before it waits. A shell, because it does so within milliseconds of its
/// start; what is ignored stays so in the program that takes its place.
const STUBBORN: &str =
    "trap '' TERM; echo SSE_EVENT:event: READY; echo SSE_EVENT:data: 1; echo SSE_EVENT:; exec sleep 60";

#[test]
fn the_last_line_of_a_child_that_exits_at_once_arrives() {
    for _ in 0..50 {
        let (_, recorder) = start(&sh("printf 'SSE_EVENT:event: DONE\nSSE_EVENT:data: 1\nSSE_EVENT:\n'; exit 3"));
        assert_eq!(recorder.events(), pairs(&[("DONE", "1")]));
        assert_eq!(recorder.end()["exit_code"], 3);
    }
}

#[test]
fn success_without_events_says_null_never_zero() {
    let (run, recorder) = start(&sh("exit 0"));
    let end = recorder.end();
    assert_eq!((&end["exit_code"], &end["status"], &end["result"]), (&0.into(), &Value::Null, &Value::Null));
    assert_eq!((run.status(), run.result()), (None, None));
}

#[test]
fn a_result_that_is_not_json_is_a_string_and_numbers_keep_their_digits() {
    let result_of = |data: &str| start(&spec(&["printf", "SSE_EVENT:data: %s\nSSE_EVENT:\n", data]));
    assert_eq!(result_of("all good").1.end()["result"], "all good");
    let (run, recorder) = result_of("123456789012345678901234567890.10");
    recorder.end();
    assert_eq!(run.result().as_deref(), Some("123456789012345678901234567890.10"));
}

#[test]
fn an_event_without_data_is_published_and_its_result_is_null() {
    let (_, recorder) = start(&sh("printf 'SSE_EVENT:data: 1\nSSE_EVENT:\nSSE_EVENT:event: DONE\nSSE_EVENT:\n'"));
    assert_eq!(recorder.events(), pairs(&[("", "1"), ("DONE", "")]));
    assert_eq!((&recorder.end()["status"], &recorder.end()["result"]), (&"DONE".into(), &Value::Null));
}

#[test]
fn a_signal_is_named_and_the_exit_code_null() {
    let (run, recorder) = start(&sh("kill -SEGV $$"));
    let end = recorder.end();
    assert_eq!((&end["exit_code"], &end["signal"]), (&Value::Null, &"SIGSEGV".into()));
    assert_eq!(run.poll(), Some(-11));
    run.kill().expect("a signal was sent to a process that is gone");
}

#[test]
fn a_waiting_thread_is_woken_when_the_runtime_is_dropped_and_the_child_is_killed() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let recorder = Arc::new(Recorder::default());
    let runs = Runs::new(runtime.handle().clone(), Logs::default());
    let spec = sh("echo SSE_EVENT:event: READY; echo SSE_EVENT:; exec sleep 60");
    let run = runs.start(&spec, Arc::<Recorder>::clone(&recorder) as Arc<dyn EventSink>).unwrap();
    recorder.wait_for_event("READY");
    let waiting = std::thread::spawn({
        let run = run.clone();
        move || (run.wait(Some(DEADLINE)), run.wait_ended(Some(DEADLINE)))
    });
    runtime.shutdown_timeout(DEADLINE);
    assert_eq!(waiting.join().unwrap(), (None, true));
    assert_eq!((run.poll(), runs.live()), (None, 0));
    let pid = rustix::process::Pid::from_raw(run.pid().cast_signed());
    let (_, status) = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()).unwrap().unwrap();
    assert_eq!(status.terminating_signal(), Some(9));
}

#[test]
fn terminate_reaches_the_whole_group_and_nothing_is_sent_after_the_exit() {
    let (run, recorder) = start(&sh("sleep 60 & echo SSE_EVENT:event: READY; echo SSE_EVENT:; wait"));
    recorder.wait_for_event("READY");
    assert_eq!((run.poll(), run.wait(Some(Duration::ZERO)), run.wait_ended(Some(Duration::ZERO))), (None, None, false));
    run.terminate().unwrap();
    assert_eq!(run.wait(Some(DEADLINE)), Some(-15));
    assert!(run.wait_ended(Some(DEADLINE)));
    assert_eq!(recorder.end()["signal"], "SIGTERM");
    run.terminate().unwrap();
    run.kill().unwrap();
    run.signal(10).unwrap();
    assert!(run.signal(0).is_err() && run.signal(1000).is_err());
    assert_eq!(recorder.end()["duration_s"].as_f64().map(|seconds| seconds < 20.0), Some(true));
}

#[test]
fn a_waiting_thread_is_woken_at_once() {
    let (run, _) = start(&sh("read line; exit 7"));
    let waiting = std::thread::spawn(move || run.wait(None));
    assert_eq!(waiting.join().unwrap(), Some(7), "stdin is /dev/null, so read returns at once");
}

#[test]
fn a_grandchild_that_keeps_the_pipe_holds_the_end_back_no_longer_than_drain() {
    let script = "sleep 30 & echo SSE_EVENT:event: READY; echo SSE_EVENT:data: $!; echo SSE_EVENT:";
    let begun = Instant::now();
    let (run, recorder) = start(&RunSpec { drain: Duration::from_millis(200), ..sh(script) });
    assert_eq!(run.wait(Some(DEADLINE)), Some(0));
    let end = recorder.end();
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!((&end["exit_code"], &end["status"]), (&0.into(), &"READY".into()));
    recorder.wait_for_log("still open");
    // A run that ended by itself leaves its grandchildren alone.
    let grandchild = recorder.events()[0].1.parse().ok().and_then(rustix::process::Pid::from_raw).unwrap();
    rustix::process::kill_process(grandchild, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn without_time_to_drain_the_childs_own_output_still_arrives() {
    for _ in 0..20 {
        let script = "sleep 30 & printf 'SSE_EVENT:event: DONE\nSSE_EVENT:data: %s\nSSE_EVENT:\n' $!";
        let (_, recorder) = start(&RunSpec { drain: Duration::ZERO, ..sh(script) });
        let events = recorder.events();
        assert_eq!(events.len(), 1);
        let grandchild = events[0].1.parse().ok().and_then(rustix::process::Pid::from_raw).unwrap();
        rustix::process::kill_process(grandchild, rustix::process::Signal::KILL).unwrap();
    }
}

#[test]
fn a_timeout_ends_a_child_that_ignores_sigterm() {
    let limits =
        RunSpec { timeout: Some(Duration::from_millis(700)), grace: Duration::from_millis(100), ..sh(STUBBORN) };
    let (run, recorder) = start(&limits);
    assert_eq!(recorder.events(), pairs(&[("READY", "1")]), "it ignored SIGTERM before it was sent");
    let end = recorder.end();
    assert_eq!((&end["timeout"], &end["timeout_s"], &end["signal"]), (&true.into(), &0.7.into(), &"SIGKILL".into()));
    assert_eq!(run.poll(), Some(-9));
    recorder.wait_for_log("SIGKILL");
}

#[test]
fn a_child_may_still_say_what_happened_in_its_grace() {
    // It speaks when it is told to through a pipe with a name, whose place it publishes.
    let script = "place=$(mktemp -d); mkfifo $place/tell; exec 3<>$place/tell; trap : TERM\n\
        printf 'SSE_EVENT:event: READY\nSSE_EVENT:data: %s\nSSE_EVENT:\n' $place\n\
        until read -r told <&3; do :; done\n\
        printf 'SSE_EVENT:event: TIMEOUT\nSSE_EVENT:data: \"gave up\"\nSSE_EVENT:\n'\n\
        rm -r $place; exit 4";
    // The shell dies of the same SIGTERM at once; its child must have its grace all the same.
    let shell = spec(&["sh", "-c", "sh -c \"$0\" & wait", script]);
    let limits = RunSpec { timeout: Some(Duration::from_secs(1)), drain: Duration::ZERO, ..shell };
    let (run, recorder) = start(&limits);
    recorder.wait_for_event("READY");
    assert_eq!(run.wait(Some(DEADLINE)), Some(-15));
    // What must not come has no condition that could be awaited: an engine that gave no grace would end the run at once.
    assert!(!run.wait_ended(Some(Duration::from_millis(300))));
    let place = recorder.state.lock().events[0].1.clone();
    std::fs::write(format!("{place}/tell"), "now\n").unwrap();
    assert_eq!(recorder.events()[1..], pairs(&[("TIMEOUT", "\"gave up\"")]));
    let end = recorder.end();
    assert_eq!((&end["signal"], &end["result"], &end["timeout"]), (&"SIGTERM".into(), &"gave up".into(), &true.into()));
}

#[test]
fn shutdown_ends_all_runs_with_terminal_events_and_starts_none() {
    let recorders: Vec<_> = (0..4).map(|_| Arc::new(Recorder::default())).collect();
    let runs = Runs::new(RUNTIME.handle().clone(), Logs::default());
    for (number, recorder) in recorders.iter().enumerate() {
        let ready = sh("echo SSE_EVENT:event: READY; echo SSE_EVENT:; exec sleep 60");
        let spec = if number == 0 { sh(STUBBORN) } else { ready };
        runs.start(&spec, Arc::<Recorder>::clone(recorder) as Arc<dyn EventSink>).unwrap();
    }
    for recorder in &recorders {
        recorder.wait_for_event("READY");
    }
    assert_eq!(runs.live(), 4);
    assert_eq!(RUNTIME.block_on(runs.stop_all(Duration::from_secs(2))), 0);
    for (number, recorder) in recorders.iter().enumerate() {
        let end = recorder.state.lock().end.clone().map(|end| end.1);
        let end = end.expect("stop_all returned before the terminal event");
        assert_eq!((&end["shutdown"], &end["exit_code"]), (&true.into(), &Value::Null));
        assert_eq!(end["signal"], if number == 0 { "SIGKILL" } else { "SIGTERM" });
    }
    let refused = runs.start(&sh("true"), Arc::<Recorder>::clone(&recorders[0]) as Arc<dyn EventSink>);
    assert!(matches!(refused, Err(RunError::ShuttingDown)));
}

#[test]
fn a_child_reaped_by_somebody_else_has_no_exit_code() {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let pid = process::pid_of(&child).unwrap();
    child.wait().unwrap();
    let exit = RUNTIME.block_on(process::exited(pid));
    assert_eq!((exit, exit.return_code()), (process::Exit::Unknown, 255));
    let outcome = outcome::RunOutcome { exit: Some(exit), last: None, duration: Duration::from_secs(1), cause: None };
    let end: Value = serde_json::from_str(&outcome.json(1000)).unwrap();
    assert!(end["exit_code"].is_null() && end["signal"].is_null() && end["duration_s"] == 1.0);
}

#[test]
fn the_terminal_event_has_its_fields_in_one_order() {
    let last = outcome::LastEvent::new(Some("DONE".into()), Some(r#"{"x": 1.50}"#.into()));
    let timeout = Some(outcome::Cause::Timeout(Duration::from_millis(700)));
    let mut outcome = outcome::RunOutcome {
        exit: Some(process::Exit::Code(0)),
        last,
        duration: Duration::from_millis(1500),
        cause: timeout,
    };
    let expected = r#"{"exit_code":0,"signal":null,"status":"DONE","result":{"x": 1.50},"duration_s":1.5,"timeout":true,"timeout_s":0.7}"#;
    assert_eq!(outcome.json(1000), expected);
    outcome.cause = Some(outcome::Cause::Shutdown);
    let expected = r#"{"exit_code":0,"signal":null,"status":"DONE","result":null,"duration_s":1.5,"shutdown":true,"result_too_large":true}"#;
    assert_eq!(outcome.json(90), expected);
    outcome.last = outcome::LastEvent::new(None, Some("a\u{2028}b".into()));
    assert!(outcome.json(1000).contains(r#""result":"a\u2028b""#), "{}", outcome.json(1000));
}

#[test]
fn two_hundred_runs_at_once_all_end_with_their_result() {
    let runs = Runs::new(RUNTIME.handle().clone(), Logs::default());
    // Publishing is slow, so that runs end while others still publish.
    let recorders: Vec<_> = (0..200)
        .map(|number| {
            let recorder = Arc::new(Recorder { takes: Duration::from_millis(20), ..Recorder::default() });
            let script = format!("echo SSE_EVENT:data: {number}; echo SSE_EVENT:");
            runs.start(&sh(&script), Arc::<Recorder>::clone(&recorder) as Arc<dyn EventSink>).unwrap();
            recorder
        })
        .collect();
    for (number, recorder) in recorders.iter().enumerate() {
        assert_eq!(recorder.end()["result"], number);
    }
}

/// A child that would stay is put under supervision; its pid.
fn adopt(runs: &Runs) -> (u32, Result<Run, RunError>) {
    let spec = sh("exec sleep 600");
    let mut prepared = spec.prepare().unwrap();
    let child = prepared.command.spawn().unwrap();
    let pid = child.id();
    let sink: Arc<dyn EventSink> = Arc::new(Recorder::default());
    let place = runs.place(&spec, &sink).unwrap();
    (pid, runs.adopt(&spec, (child, Instant::now()), &prepared.markers, sink, place))
}

fn is_gone(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(')').next().is_none_or(|rest| rest.is_empty() || rest.trim_start().starts_with(['Z', 'X']))
}

fn runtime_that_only_waits() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_run_that_meets_the_end_of_the_runtime_is_refused_as_after_it() {
    let runtime = runtime_that_only_waits();
    let runs = Runs::new(runtime.handle().clone(), Logs::default());
    runtime.block_on(runs.stop_all(Duration::ZERO));
    drop(runtime);
    let (pid, refused) = adopt(&runs);
    assert!(matches!(refused, Err(RunError::ShuttingDown)), "{refused:?}");
    assert!(is_gone(pid));
}

#[test]
fn a_run_whose_task_is_dropped_before_it_began_is_killed_and_over() {
    let runtime = runtime_that_only_waits();
    let (pid, run) = adopt(&Runs::new(runtime.handle().clone(), Logs::default()));
    let run = run.unwrap();
    assert!(!run.ended());
    drop(runtime);
    assert!(run.wait_ended(Some(DEADLINE)), "who waits is told");
    let deadline = Instant::now() + DEADLINE;
    while !is_gone(pid) {
        assert!(Instant::now() < deadline, "the child lives on");
        std::thread::yield_now();
    }
}
