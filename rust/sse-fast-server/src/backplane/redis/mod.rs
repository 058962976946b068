//! The backplane's wires on Redis and Valkey.
//!
//! Owns: the two connections, each kept up by a task of its own on the runtime of the backplane's thread. Must not know:
//! the machine.
//! Invariants: requests go on the one, pushes come on the other: a long reply delays no event. What came of a connection
//! that was made anew by order is never heard.
//!
//! | file | owns |
//! |---|---|
//! | `url` | where the server is |
//! | `connect` | TCP, TLS, login, sentinels |
//! | `line` | one connection, kept up |
//! | `calls` | requests as commands; replies and pushes read |
//! | `resp` | the protocol's bytes |

mod calls;
mod connect;
mod line;
mod resp;
mod url;

#[cfg(test)]
pub(super) mod tests;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Name;
use super::protocol::{Line, Request, RequestId, Wired, Wires};
use line::{Ends, Order, QUEUE};

pub(crate) use calls::Names;
pub(crate) use connect::ConnectError;
pub(crate) use url::Address;

/// Connects: an error where there is no server, or none that will do. Later it connects by itself again; `warn` is told why a
/// connection was lost, or could not be made, and what of the server's settings may be wrong.
pub(crate) async fn connect(
    address: Address,
    prefix: &str,
    process: &Arc<str>,
    warn: impl Fn(&str) + Send + Sync + 'static,
) -> Result<Redis, ConnectError> {
    let mut ready = connect::connect(&address).await?;
    ready.check_version().await?;
    ready.fence().await?;
    let names = Names::new(prefix, address.database);
    ready.check_rights(&names, process).await?;
    if let Some(advice) = ready.advice().await? {
        warn(&advice);
    }
    Ok(Redis::new(Arc::new(address), names, Arc::clone(process), warn))
}

/// See the module. Dropping it ends both connections.
pub(crate) struct Redis {
    ends: Ends,
    command: Kept,
    subscriber: Kept,
}

/// A connection's task, and the ways to it.
struct Kept {
    orders: mpsc::UnboundedSender<Order>,
    said: mpsc::Receiver<Wired>,
    task: JoinHandle<()>,
}

impl Kept {
    fn begin(line: Line, ends: &Ends) -> Self {
        let (orders, received) = mpsc::unbounded_channel();
        let (say, said) = mpsc::channel(QUEUE);
        let task = tokio::spawn(line::keep(line, ends.clone(), received, say));
        Self { orders, said, task }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Redis {
    /// Begins to connect; `lost` is told why a connection was lost, or could not be made.
    pub(crate) fn new(
        address: Arc<Address>,
        names: Names,
        process: Arc<str>,
        lost: impl Fn(&str) + Send + Sync + 'static,
    ) -> Self {
        let ends = Ends { address, names, process, lost: Arc::new(lost) };
        let [command, subscriber] = [Line::Command, Line::Subscriber].map(|line| Kept::begin(line, &ends));
        Self { ends, command, subscriber }
    }
}

impl Wires for Redis {
    fn request(&mut self, id: RequestId, request: Request) {
        // A task ends only with this.
        let _ = self.command.orders.send(Order::Request(id, request));
    }

    fn subscribe(&mut self, names: Vec<Name>) {
        let _ = self.subscriber.orders.send(Order::Subscribe(names));
    }

    fn unsubscribe(&mut self, names: Vec<Name>) {
        let _ = self.subscriber.orders.send(Order::Unsubscribe(names));
    }

    fn reconnect(&mut self, line: Line) {
        let kept = Kept::begin(line, &self.ends);
        match line {
            Line::Command => self.command = kept,
            Line::Subscriber => self.subscriber = kept,
        }
    }

    async fn next(&mut self) -> Wired {
        let said = tokio::select! {
            said = self.command.said.recv() => said.ok_or(Line::Command),
            said = self.subscriber.said.recv() => said.ok_or(Line::Subscriber),
        };
        said.unwrap_or_else(|line| {
            // Its task has ended, which it does not: begin another.
            self.reconnect(line);
            Wired::Down(line)
        })
    }
}
