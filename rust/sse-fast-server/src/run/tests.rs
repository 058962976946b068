//! Runs of real processes (`sh`, `python3`) against a sink that records.
//!
//! Every wait has a deadline; what has to happen in an order is ordered by pipes and files, not by sleeps.

mod ending;
mod output;
mod runner;
mod start;

use std::ffi::OsString;
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::time::Instant;

use serde_json::Value;
use tokio::runtime::Runtime;

use super::*;

/// No test waits longer for anything.
const DEADLINE: Duration = Duration::from_secs(20);

/// One runtime thread for all tests, as on a control runtime: anything that blocks it is seen.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

/// What was published: name, data. The terminal event is last.
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
    events: Vec<(String, String)>,
    end: Option<(String, Value)>,
    logs: Vec<(Level, String)>,
}

impl Recorder {
    /// Waits until `ready` gives something; panics with what there is after the deadline.
    fn until<T>(&self, what: &str, ready: impl Fn(&Recorded) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        let mut state = self.state.lock().unwrap();
        loop {
            if let Some(found) = ready(&state) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "no {what}: events {:?}, end {:?}, logs {:?}",
                state.events,
                state.end,
                state.logs
            );
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    fn end(&self) -> Value {
        self.until("end", |state| state.end.clone()).1
    }

    /// All events, once the stream has ended.
    fn events(&self) -> Vec<(String, String)> {
        self.end();
        self.state.lock().unwrap().events.clone()
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
        let state = self.state.lock().unwrap();
        let of_child = |text: &String| text.contains(": stdout: ") || text.contains(": stderr: ");
        state.logs.iter().map(|(_, text)| text.clone()).filter(of_child).collect()
    }

    fn record(&self, change: impl FnOnce(&mut Recorded)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }
}

impl EventSink for Recorder {
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

impl LogSink for Recorder {
    fn log(&self, level: Level, logger: &'static str, text: String) {
        assert_eq!(logger, "sse_fast.run");
        self.record(|state| state.logs.push((level, text)));
    }
}

fn spec(argv: &[&str]) -> RunSpec {
    RunSpec {
        argv: argv.iter().map(OsString::from).collect(),
        cwd: None,
        env: None,
        marker: Some("SSE_EVENT:".into()),
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
    let log: Arc<dyn LogSink> = Arc::<Recorder>::clone(&recorder);
    let runs = Runs::new(RUNTIME.handle().clone(), log).unwrap();
    let run = runs.start(spec, Arc::<Recorder>::clone(&recorder) as Arc<dyn EventSink>).unwrap();
    (run, recorder)
}

fn start(spec: &RunSpec) -> (Run, Arc<Recorder>) {
    start_with(spec, Recorder::default())
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, data)| ((*name).to_owned(), (*data).to_owned())).collect()
}
