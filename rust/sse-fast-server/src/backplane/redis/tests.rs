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
