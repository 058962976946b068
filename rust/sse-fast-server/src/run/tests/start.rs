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
