//! Runs of real processes (`sh`, `python3`) that publish into a recorder.
//!
//! Owns: the recorder, and how a test starts a run.
//! Invariants: every wait has a deadline; events that must happen in an order are ordered by pipes and files, not by
//! sleeps.

mod ending;
mod output;
mod runner;
mod start;

use std::ffi::OsString;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::*;
use crate::logs::{Level, Logs};

/// No test waits longer for anything.
const DEADLINE: Duration = Duration::from_secs(20);

/// One runtime thread for all tests, as on a control runtime, so that work which blocks it makes tests fail.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

/// Records what a run publishes and logs.
#[derive(Default)]
struct Recorder {
    state: Mutex<Recorded>,
    changed: Condvar,
    /// Publishes of this name are refused.
    refuses: Option<&'static str>,
    /// Every publish takes this long.
    takes: Duration,
}

#[derive(Default)]
struct Recorded {
    /// Name and data of each event but the terminal one.
    events: Vec<(String, String)>,
    end: Option<(String, Value)>,
    logs: Vec<(Level, String)>,
}

impl Recorder {
    /// Waits until `ready` gives something; panics with what there is after the deadline.
    fn until<T>(&self, what: &str, ready: impl Fn(&Recorded) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        let mut state = self.state.lock();
        loop {
            if let Some(found) = ready(&state) {
                return found;
            }
            assert!(
                Instant::now() < deadline,
                "no {what}: events {:?}, end {:?}, logs {:?}",
                state.events,
                state.end,
                state.logs
            );
            self.changed.wait_until(&mut state, deadline);
        }
    }

    fn end(&self) -> Value {
        self.until("end", |state| state.end.clone()).1
    }

    /// All events, once the stream has ended.
    fn events(&self) -> Vec<(String, String)> {
        self.end();
        self.state.lock().events.clone()
    }

    fn wait_for_event(&self, name: &str) {
        self.until(name, |state| state.events.iter().any(|event| event.0 == name).then_some(()));
    }

    fn wait_for_log(&self, part: &str) -> (Level, String) {
        self.until(part, |state| state.logs.iter().find(|(_, text)| text.contains(part)).cloned())
    }

    /// The log lines of the child itself, once everything is written.
    fn child_logs(&self) -> Vec<String> {
        self.wait_for_log(" after ");
        let state = self.state.lock();
        let of_child = |text: &String| text.contains(": stdout: ") || text.contains(": stderr: ");
        state.logs.iter().map(|(_, text)| text.clone()).filter(of_child).collect()
    }

    fn record(&self, change: impl FnOnce(&mut Recorded)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }
}

impl EventSink for Recorder {
    fn number(&self) -> u64 {
        std::ptr::from_ref(self).addr() as u64
    }

    fn publish(
        &self,
        data: &str,
        event: Option<&str>,
        _id: Option<&str>,
        _retry: Option<Duration>,
    ) -> Result<String, SinkError> {
        std::thread::sleep(self.takes);
        if self.refuses.is_some() && self.refuses == event {
            return Err(SinkError("not this one".into()));
        }
        self.record(|state| {
            assert!(state.end.is_none(), "published after the terminal event");
            state.events.push((event.unwrap_or_default().to_owned(), data.to_owned()));
        });
        Ok(String::new())
    }

    fn end(&self, data: &str, event: &str) {
        let value = serde_json::from_str(data).unwrap();
        self.record(|state| assert!(state.end.replace((event.to_owned(), value)).is_none(), "a second terminal event"));
    }
}

/// The log of runs, and a thread that records what it takes from it until nothing has come for `DEADLINE`.
fn recorded_logs(recorder: &Arc<Recorder>) -> Logs {
    let logs = Logs::default();
    take_logs(logs.clone(), Arc::clone(recorder));
    logs
}

fn take_logs(logs: Logs, recorder: Arc<Recorder>) {
    std::thread::spawn(move || {
        while let Some(batch) = logs.take(DEADLINE).filter(|batch| !batch.is_empty()) {
            for record in batch {
                assert_eq!(record.logger, "sse_fast.run");
                recorder.record(|state| state.logs.push((record.level, record.text)));
            }
        }
    });
}

fn spec(argv: &[&str]) -> RunSpec {
    RunSpec {
        argv: argv.iter().map(OsString::from).collect(),
        cwd: None,
        env: None,
        stdin: None,
        marker: Some("SSE_EVENT:".into()),
        lines: None,
        timeout: None,
        grace: Duration::from_secs(5),
        drain: Duration::from_secs(2),
        stream_name: "runs/1".into(),
    }
}

fn sh(script: &str) -> RunSpec {
    spec(&["sh", "-c", script])
}

fn python(script: &str) -> RunSpec {
    spec(&["python3", "-c", script])
}

fn start_with(spec: &RunSpec, recorder: Recorder) -> (Run, Arc<Recorder>) {
    let recorder = Arc::new(recorder);
    let runs = Runs::new(RUNTIME.handle().clone(), recorded_logs(&recorder));
    let run = runs.start(spec, Arc::<Recorder>::clone(&recorder) as Arc<dyn EventSink>).unwrap();
    (run, recorder)
}

fn start(spec: &RunSpec) -> (Run, Arc<Recorder>) {
    start_with(spec, Recorder::default())
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, data)| ((*name).to_owned(), (*data).to_owned())).collect()
}
