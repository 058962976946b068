//! What an application says of who may read while its server runs.
//!
//! Owns: the order in which a reader is disconnected, and when an open server is said to be one. Must not know: tokens, how a
//! connection ends. Invariant: a reader is noted as disconnected before the shards are told: who is on the way to one is there
//! by then, or is not let in.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::Server;
use crate::calls::Lane;
use crate::clock;
use crate::logs::Level;
use crate::pattern::PatternError;
use crate::respond::Context;
use crate::rights::Check;
use crate::shard::Order;

/// How long a program has to say who may read, after its server has started; the first reader ends it.
const UNTIL_WARNED: Duration = Duration::from_secs(1);

/// How long other processes are told that start or come back later: tokens that live longer are rare, and are refused here
/// as long as this process lives.
const KEPT_ELSEWHERE: Duration = Duration::from_secs(24 * 3600);

impl Server {
    /// The application decides who may read, by the check with this key, on this lane; false where another does already.
    pub fn authorize(&self, lane: Lane, key: u64) -> bool {
        self.0.context.rights.ask(Check { lane, key })
    }

    /// Whether tickets would be good in this process alone, although its streams are shared with others.
    pub fn tickets_need_a_key(&self) -> bool {
        self.directory().sharing.is_some() && self.0.context.rights.has_random_tickets()
    }

    /// A ticket for the streams that these patterns match, for so many seconds.
    pub fn ticket(&self, subscribe: &[String], reader: Option<&str>, ttl: Duration) -> Result<String, PatternError> {
        self.0.context.rights.ticket(subscribe, reader, ttl.as_secs_f64())
    }

    /// Ends every connection of a reader, and refuses what was issued to it until now; how many connections that were.
    /// Waits for the shards, which is a matter of milliseconds.
    pub fn disconnect(&self, reader: &str) -> usize {
        let (reader, now): (Arc<str>, _) = (reader.into(), clock::unix_us());
        if let Some(sharing) = &self.directory().sharing {
            sharing.disconnect(&reader, now, KEPT_ELSEWHERE);
        }
        let count = disconnect(&self.0.context, &reader, now);
        let text = format!("reader {reader:?} was disconnected: {count} connections");
        self.directory().logs.put(Level::Info, "sse_fast.access", text);
        count
    }
}

/// Ends a reader's connections here, and refuses what was issued to it before `wall`, in microseconds of the Unix epoch.
pub(super) fn disconnect(context: &Context, reader: &Arc<str>, wall: u64) -> usize {
    // Before the shards are told: who is on the way to one is there by then, or is not let in.
    let until = clock::now().saturating_sub(clock::unix_us().saturating_sub(wall));
    context.rights.disconnected.add(reader, wall, until);
    let (told, counts) = mpsc::channel();
    for shard in context.directory.shards() {
        shard.order(Order::Disconnect { reader: Arc::clone(reader), until, told: told.clone() });
    }
    drop(told);
    // It ends once every shard has answered, or is gone.
    counts.iter().sum()
}

/// Says that everybody may read, where that may be news, unless the program has said by then who may.
pub(super) async fn warn_if_open(context: Arc<Context>) {
    tokio::time::sleep(UNTIL_WARNED).await;
    context.warn_if_open();
}
