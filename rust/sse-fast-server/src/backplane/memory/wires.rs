//! The server in memory with connections, in real time: several machines may run over it, each with wires of its own.
//!
//! Owns: who listens to what. Must not know: what the machines decide.
//! Invariants: a request is executed when it is sent, and its pushes are on their way before its reply is.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::super::Name;
use super::super::protocol::{Line, Push, Request, RequestId, Wired, Wires};
use super::Engine;

/// See the module. A clone is the same server.
#[derive(Clone)]
pub(crate) struct Server(Arc<Mutex<State>>);

struct State {
    engine: Engine,
    started: Instant,
    /// No connection is made, and those that were are cut.
    down: bool,
    clients: Vec<Weak<Mutex<Client>>>,
}

/// One machine's connections.
struct Client {
    process: Arc<str>,
    channels: HashSet<Name>,
    up: bool,
    said: UnboundedSender<Wired>,
}

/// See the module.
pub(crate) struct Memory {
    server: Server,
    client: Arc<Mutex<Client>>,
    said: UnboundedReceiver<Wired>,
}

impl Server {
    pub(crate) fn new() -> Self {
        let engine = Engine::new("fence-1");
        Self(Arc::new(Mutex::new(State { engine, started: Instant::now(), down: false, clients: Vec::new() })))
    }

    /// Both connections of one more process.
    pub(crate) fn wires(&self, process: &Arc<str>) -> Memory {
        let (say, said) = unbounded_channel();
        let client = Client { process: Arc::clone(process), channels: HashSet::new(), up: false, said: say };
        let client = Arc::new(Mutex::new(client));
        let mut state = self.0.lock();
        state.clients.push(Arc::downgrade(&client));
        if !state.down {
            client.lock().rise(&state.engine);
        }
        drop(state);
        Memory { server: self.clone(), client, said }
    }

    /// What a test does to its data.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Engine) -> T) -> T {
        act(&mut self.0.lock().engine)
    }

    /// Cuts every connection, and lets none be made.
    pub(crate) fn stop(&self) {
        let mut state = self.0.lock();
        state.down = true;
        for client in state.clients.iter().filter_map(Weak::upgrade) {
            client.lock().fall();
        }
    }

    /// Lets connections be made again, which all are.
    pub(crate) fn start(&self) {
        let mut state = self.0.lock();
        state.down = false;
        for client in state.clients.iter().filter_map(Weak::upgrade) {
            client.lock().rise(&state.engine);
        }
    }
}

impl Client {
    fn rise(&mut self, engine: &Engine) {
        if !self.up {
            self.up = true;
            let _ = self.said.send(Wired::CommandUp(Arc::clone(&engine.fence)));
            let _ = self.said.send(Wired::SubscriberUp);
        }
    }

    fn fall(&mut self) {
        if self.up {
            self.up = false;
            self.channels.clear();
            let _ = self.said.send(Wired::Down(Line::Command));
            let _ = self.said.send(Wired::Down(Line::Subscriber));
        }
    }
}

impl State {
    fn push(&mut self, from: &Arc<str>, push: &Push) {
        self.clients.retain(|client| client.strong_count() > 0);
        for client in self.clients.iter().filter_map(Weak::upgrade) {
            let client = client.lock();
            let hears = match push {
                Push::Stream(name, _) => client.channels.contains(name),
                Push::Disconnect { .. } => true,
                Push::Echo { .. } => client.process == *from,
            };
            if client.up && hears {
                let _ = client.said.send(Wired::Push(push.clone()));
            }
        }
    }
}

impl Wires for Memory {
    fn request(&mut self, id: RequestId, request: Request) {
        let mut state = self.server.0.lock();
        if !self.client.lock().up {
            return;
        }
        let now = state.started.elapsed();
        let mut pushes = Vec::new();
        let reply = state.engine.execute(now, &request, &mut pushes);
        let process = Arc::clone(&self.client.lock().process);
        for push in &pushes {
            state.push(&process, push);
        }
        let _ = self.client.lock().said.send(Wired::Reply(id, reply));
    }

    fn subscribe(&mut self, names: Vec<Name>) {
        let mut client = self.client.lock();
        if client.up {
            client.channels.extend(names.iter().cloned());
            let _ = client.said.send(Wired::Subscribed(names));
        }
    }

    fn unsubscribe(&mut self, names: Vec<Name>) {
        let mut client = self.client.lock();
        for name in names {
            client.channels.remove(&name);
        }
    }

    fn reconnect(&mut self, line: Line) {
        let state = self.server.0.lock();
        let client = self.client.lock();
        if client.up {
            let _ = client.said.send(match line {
                Line::Command => Wired::CommandUp(Arc::clone(&state.engine.fence)),
                Line::Subscriber => Wired::SubscriberUp,
            });
        }
    }

    async fn next(&mut self) -> Wired {
        match self.said.recv().await {
            Some(wired) => wired,
            // The sender is in this struct, too: it does not end.
            None => std::future::pending().await,
        }
    }
}
