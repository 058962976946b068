//! Runs that cannot start: each error names what is wrong, and nothing is left behind.

use super::*;

fn refused(spec: &RunSpec) -> RunError {
    let recorder = Arc::new(Recorder::default());
    let runs = Runs::new(RUNTIME.handle().clone(), Logs::default());
    let error = runs.start(spec, recorder).expect_err("it was not to start");
    assert_eq!(runs.live(), 0);
    error
}

#[test]
fn a_missing_program_is_named() {
    let error = refused(&spec(&["no-such-program-here", "x"]));
    assert!(matches!(error, RunError::NotFound { .. }), "{error:?}");
    assert!(error.to_string().contains("no-such-program-here"));
}

#[test]
fn a_missing_directory_is_not_taken_for_a_missing_program() {
    for cwd in ["/no/such/directory", "/proc/version"] {
        let error = refused(&RunSpec { cwd: Some(cwd.into()), ..sh("true") });
        assert!(matches!(error, RunError::BadCwd { .. }) && error.to_string().contains(cwd), "{error:?}");
    }
}

#[test]
fn a_program_that_may_not_be_executed_is_named() {
    let error = refused(&spec(&["/proc/version"]));
    assert!(matches!(error, RunError::NoPermission { .. }) && error.to_string().contains("/proc/version"), "{error:?}");
}

#[test]
fn a_second_run_into_a_stream_is_refused_until_the_first_has_ended() {
    let recorder = Arc::new(Recorder::default());
    let sink = || Arc::<Recorder>::clone(&recorder) as Arc<dyn EventSink>;
    let runs = Runs::new(RUNTIME.handle().clone(), Logs::default());
    let first = runs.start(&sh("exec sleep 600"), sink()).unwrap();
    let error = runs.start(&sh("true"), sink()).expect_err("one writes there");
    assert!(matches!(error, RunError::StreamTaken { .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("\"sh\" (pid {})", first.pid())), "{error}");
    let other = Arc::new(Recorder::default());
    runs.start(&sh("true"), other).expect("another stream is free");
    first.kill().unwrap();
    recorder.end();
    let deadline = Instant::now() + DEADLINE;
    while runs.check_free(recorder.number(), "s").is_err() {
        assert!(Instant::now() < deadline, "the place is not given back");
        std::thread::yield_now();
    }
}

#[test]
fn a_run_that_did_not_start_has_given_its_place_back() {
    let recorder = Arc::new(Recorder::default());
    let runs = Runs::new(RUNTIME.handle().clone(), Logs::default());
    runs.start(&spec(&["no-such-program-here"]), Arc::<Recorder>::clone(&recorder) as Arc<dyn EventSink>)
        .expect_err("it was not to start");
    runs.check_free(recorder.number(), "s").expect("free");
}

#[test]
fn an_empty_argv_is_refused() {
    assert!(matches!(refused(&spec(&[])), RunError::EmptyArgv));
    assert!(matches!(refused(&spec(&["", "x"])), RunError::EmptyArgv));
}

#[test]
fn a_nul_byte_is_refused_where_it_stands() {
    assert!(matches!(refused(&spec(&["sh", "-c", "a\0b"])), RunError::NulInArgument { index: 2, .. }));
    let with = |name: &str, value: &str| RunSpec { env: Some(vec![(name.into(), value.into())]), ..sh("true") };
    for spec in [with("A", "\0"), with("A\0", ""), with("", "x"), with("A=B", "x")] {
        assert!(matches!(refused(&spec), RunError::BadVariable { .. }));
    }
}

#[test]
fn a_directory_that_could_not_be_one_is_refused_as_an_argument() {
    for cwd in ["", "/tmp\0x"] {
        let error = refused(&RunSpec { cwd: Some(cwd.into()), ..sh("true") });
        assert!(matches!(error, RunError::NoPath { .. }), "{error:?}");
    }
}

#[test]
fn a_marker_that_could_not_work_is_refused() {
    for marker in ["", "a\nb", "a\0", &"x".repeat(257)] {
        let error = refused(&RunSpec { marker: Some(marker.into()), ..sh("true") });
        assert!(matches!(error, RunError::BadMarker { .. }), "{error:?}");
    }
}
