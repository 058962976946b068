//! A server of the tests' own: Redis or Valkey as a process, and wires to it.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::protocol::{Wired, Wires};
use super::{Address, Names, Redis};

/// The servers that tests run against, by the variables that say where they are: `make test-rust` installs and names them.
pub(in super::super) const SERVERS: [&str; 2] = ["REDIS_SERVER", "VALKEY_SERVER"];

/// A server that ends with this.
pub(in super::super) struct Server {
    process: Child,
    pub(in super::super) port: u16,
    program: String,
    folder: std::path::PathBuf,
    options: Vec<String>,
}

impl Server {
    pub(in super::super) fn start(variable: &str, options: &[&str]) -> Self {
        let program = std::env::var(variable).unwrap_or_else(|_| {
            panic!("{variable} must name a server's program: run this through `make test-rust` or scripts/with-redis")
        });
        let port = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("it has one").port();
        let folder = std::env::temp_dir().join(format!("sse-fast-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let options = options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>();
        let process = Self::spawn(&program, port, &folder, &options);
        Self { process, port, program, folder, options }
    }

    fn spawn(program: &str, port: u16, folder: &std::path::Path, options: &[String]) -> Child {
        let process = Command::new(program)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
            .arg(folder)
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let until = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "{program} listens");
            std::thread::yield_now();
        }
        process
    }

    /// Kills it, and starts it anew with nothing.
    pub(in super::super) fn restart(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ends");
        self.process = Self::spawn(&self.program, self.port, &self.folder, &self.options);
    }

    pub(in super::super) fn address(&self) -> Arc<Address> {
        Arc::new(Address::parse(&format!("redis://127.0.0.1:{}/0", self.port)).expect("it is a URL"))
    }

    pub(in super::super) fn wires(&self, process: &str) -> Redis {
        Redis::new(self.address(), Names::new("test", 0), process.into(), |_| ())
    }

    /// Asks it something by another connection.
    pub(in super::super) async fn ask(&self, arguments: &[&str]) {
        let mut ready = super::connect::connect(&self.address()).await.expect("it listens");
        ready.ask("a test", arguments).await.expect("it answers");
    }
}

/// What the user that is told in the guide may do, and what is said where one of its rights is missing.
mod rights {
    use super::super::connect::{self, ConnectError};
    use super::*;

    const GUIDE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guides/machines.md"));

    /// The words of the command in the guide.
    fn told() -> Vec<&'static str> {
        let from = GUIDE.find("ACL SETUSER sse").expect("the guide tells it");
        let text = GUIDE[from..].split("```").next().expect("it ends");
        text.split_whitespace().collect()
    }

    async fn tried(server: &Server) -> Result<(), ConnectError> {
        let url = format!("redis://sse:password@127.0.0.1:{}/0", server.port);
        let mut ready = connect::connect(&Address::parse(&url).expect("it is a URL")).await?;
        ready.fence().await?;
        ready.check_rights(&Names::new("sse_fast", 0), "p1").await
    }

    #[test]
    fn a_user_needs_what_the_guide_says_and_what_is_missing_is_named() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            for variable in SERVERS {
                let server = Server::start(variable, &[]);
                server.ask(&told()).await;
                tried(&server).await.expect("it may do everything");
                let commands: Vec<&str> = told().into_iter().filter(|word| word.starts_with('+')).collect();
                assert!(commands.len() > 20, "{commands:?}");
                for missing in commands.iter().map(|command| &command[1..]) {
                    server.ask(&["ACL", "SETUSER", "sse", &format!("-{missing}")]).await;
                    let error = tried(&server).await.expect_err(missing).to_string();
                    assert!(error.to_lowercase().contains(missing), "{missing}: {error}");
                    server.ask(&["ACL", "SETUSER", "sse", &format!("+{missing}")]).await;
                }
                for other in ["resetkeys", "resetchannels"] {
                    server.ask(&["ACL", "SETUSER", "sse", other]).await;
                    tried(&server).await.expect_err(other);
                    server.ask(&told()).await;
                }
                tried(&server).await.expect("it may do everything again");
            }
        });
    }

    #[test]
    fn every_command_of_a_script_is_tried() {
        let scripts = ["compare", "configure", "disconnect", "lease", "life", "open", "present", "publish", "remove"];
        let trial = include_str!("../lua/trial.lua");
        for script in scripts {
            let path = format!("{}/src/backplane/lua/{script}.lua", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(&path).expect("a script");
            for call in text.split("redis.call('").skip(1) {
                let command = call.split('\'').next().expect("its name");
                assert!(trial.contains(&format!("{{'{command}'")), "{script} uses {command}");
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Waits for what is wanted of what comes, with a guard.
pub(in super::super) async fn until<T>(wires: &mut Redis, mut wanted: impl FnMut(Wired) -> Option<T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            if let Some(found) = wanted(wires.next().await) {
                return found;
            }
        }
    })
    .await
    .expect("it comes")
}

/// Machines over real servers, in real time, through what happens to real servers.
mod driven {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use parking_lot::Mutex;
    use sse_fast_core::event::NewEvent;
    use sse_fast_core::options::StreamOptions;
    use tokio::sync::{Notify, oneshot};

    use super::super::super::driver::drive;
    use super::super::super::{
        Answer, Ask, Asks, Copies, Life, Make, Name, Opened, Publish, Published, Rules, SharedEvent, SharedOptions,
        SharedPatch, Tail, Totals,
    };
    use super::*;

    /// A process's copies: the data of each stream's events, in order, with every beginning.
    #[derive(Default)]
    struct Seen {
        events: Mutex<BTreeMap<Name, Vec<String>>>,
        lives: Mutex<Vec<u64>>,
        news: Notify,
    }

    fn texts(events: &[SharedEvent]) -> Vec<String> {
        events.iter().map(|event| String::from_utf8_lossy(event.fields().data).into_owned()).collect()
    }

    impl Copies for Seen {
        fn begin(&self, name: &Name, life: Life) {
            self.lives.lock().push(life.epoch.0);
            self.events.lock().insert(Arc::clone(name), texts(&life.entries));
            self.news.notify_one();
        }
        fn append(&self, name: &Name, tail: Tail) {
            self.events.lock().entry(Arc::clone(name)).or_default().extend(texts(&tail.events));
            self.news.notify_one();
        }
        fn options(&self, _: &Name, _: SharedOptions) {}
        fn removed(&self, _: &Name) {}
        fn present(&self, _: &Name, _: Totals) {}
        fn disconnect(&self, _: &Arc<str>, _: u64) {}
        fn away(&self, _: bool) {}
    }

    struct Machine {
        asks: Asks,
        seen: Arc<Seen>,
    }

    fn make() -> Make {
        let options = SharedOptions { history: 100_000, ..SharedOptions::of(&StreamOptions::default()) };
        Make { options: SharedOptions { history_bytes: 1 << 30, ..options }, given: SharedPatch::default() }
    }

    impl Machine {
        fn start(server: &Server, process: &str) -> Self {
            let (asks, received) = Asks::new();
            let seen = Arc::new(Seen::default());
            let (wires, copies) = (server.wires(process), Arc::clone(&seen));
            let rules = Rules { process: process.into(), timeout: Duration::from_secs(15), trust: false };
            tokio::spawn(async move { drive(rules, wires, received, &*copies, |_| ()).await });
            Self { asks, seen }
        }

        async fn open(&self) -> Opened {
            let (answer, opened) = oneshot::channel();
            let answer = Answer::new(|opened| drop(answer.send(opened)));
            self.asks.ask(Ask::Open { name: "s".into(), make: Some(make()), wait: false, answer });
            opened.await.expect("it is answered")
        }

        fn publish(&self, data: &[String]) -> oneshot::Receiver<Published> {
            let (answer, published) = oneshot::channel();
            let answer = Answer::new(|published| drop(answer.send(published)));
            let event = |data: &String| SharedEvent::new(&NewEvent { data: data.as_bytes(), ..NewEvent::default() });
            let events = data.iter().map(event).collect();
            let publish = Publish { events, snapshot: None, end: false, key: None, make: make() };
            self.asks.ask(Ask::Publish { name: "s".into(), publish, answer });
            published
        }

        /// Waits until the copy is this.
        async fn has(&self, all: &[String]) {
            let has = || self.seen.events.lock().get("s").is_some_and(|events| events == all);
            let waited = tokio::time::timeout(Duration::from_secs(30), async {
                while !has() {
                    self.seen.news.notified().await;
                }
            });
            if waited.await.is_err() {
                let events = self.seen.events.lock();
                panic!("{} of {} are here", events.get("s").map_or(0, Vec::len), all.len());
            }
        }
    }

    fn on_both<F: Future<Output = ()>>(test: impl Fn(Server) -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            for variable in SERVERS {
                test(Server::start(variable, &[])).await;
            }
        });
    }

    #[test]
    fn order_holds_through_flushed_scripts_and_cut_connections() {
        on_both(|server| async move {
            let (one, two) = (Machine::start(&server, "one"), Machine::start(&server, "two"));
            assert!(matches!(one.open().await, Opened::Open { made: true, .. }));
            assert!(matches!(two.open().await, Opened::Open { made: false, .. }));
            let mut all = Vec::new();
            for round in 0..40 {
                let mut answers = Vec::new();
                for part in 0..4 {
                    let batch: Vec<String> = (0..16).map(|at| format!("{round}-{part}-{at}")).collect();
                    answers.push(one.publish(&batch));
                    all.extend(batch);
                    match (round % 10, part) {
                        (2, 1) => server.ask(&["SCRIPT", "FLUSH"]).await,
                        (4, 1) => server.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).await,
                        (6, 1) => server.ask(&["CLIENT", "KILL", "TYPE", "normal"]).await,
                        _ => {}
                    }
                }
                for answer in answers {
                    let published = answer.await.expect("it is answered");
                    assert!(matches!(published, Published::New { .. }), "{published:?}");
                }
            }
            one.has(&all).await;
            two.has(&all).await;
            assert_eq!(two.seen.lives.lock().len(), 1, "one life");
        });
    }

    #[test]
    fn a_server_that_has_lost_everything_begins_another_life() {
        on_both(|mut server| async move {
            let (one, two) = (Machine::start(&server, "one"), Machine::start(&server, "two"));
            one.open().await;
            two.open().await;
            let before = ["a".to_owned(), "b".to_owned()];
            one.publish(&before).await.expect("it is answered");
            two.has(&before).await;
            server.restart();
            let after = ["c".to_owned()];
            let published = two.publish(&after).await.expect("it is answered");
            let lives = two.seen.lives.lock().clone();
            assert!(matches!(published, Published::New { epoch, first: 1 } if epoch.0 > lives[0]), "{published:?}");
            one.has(&after).await;
            two.has(&after).await;
        });
    }

    #[test]
    fn a_snapshot_travels_and_a_binary_name_is_one() {
        on_both(|server| async move {
            let one = Machine::start(&server, "one");
            one.open().await;
            let (answer, changed) = oneshot::channel();
            let answer = Answer::new(|changed| drop(answer.send(changed)));
            let data = Bytes::from_static(b"s\r\n$5\r\n");
            let snapshot = super::super::super::SharedSnapshot { event: "state".into(), data, position: 0 };
            one.asks.ask(Ask::Snapshot { name: "\r\n {*}".into(), snapshot, make: make(), answer });
            assert_eq!(changed.await.expect("it is answered"), super::super::super::Changed::Done);
        });
    }

    /// What one process publishes and two read in a second; for a look: `cargo test --release -- --ignored figures`.
    #[test]
    #[allow(clippy::cast_precision_loss, reason = "a figure for a reader")]
    #[ignore = "prints figures, and asserts none"]
    fn figures() {
        on_both(|server| async move {
            let (one, two) = (Machine::start(&server, "one"), Machine::start(&server, "two"));
            one.open().await;
            two.open().await;
            for (batch, under_way) in [(1, 1), (1, 64), (64, 4)] {
                let (rounds, began) = (20_000 / batch / under_way, Instant::now());
                for round in 0..rounds {
                    let publish = |at| one.publish(&vec![format!("{round} {at}"); batch]);
                    let answers: Vec<_> = (0..under_way).map(publish).collect();
                    for answer in answers {
                        answer.await.expect("it is answered");
                    }
                }
                let (events, took) = (rounds * under_way * batch, began.elapsed().as_secs_f64());
                println!("{} by {batch}, {under_way} under way: {:.0} events/s", server.program, events as f64 / took);
            }
        });
    }
}
