//! One of the two connections, kept up: a task that connects, says so, carries, and begins again.
//!
//! Owns: the order of requests and replies on it, and what an error of the server means. Must not know: the machine.
//! Invariants: what is read goes into a bounded queue, so a slow engine stops the reading, and the server notices; requests
//! are written in the order given. A task is aborted to end its connection: then nothing more comes of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::super::Name;
use super::super::protocol::{Line, Reply, Request, RequestId, Wired};
use super::calls::{self, Names};
use super::connect::{self, ConnectError, Ready};
use super::resp::{self, Value};
use super::url::Address;

/// How long it rests before it connects again: the first time, and at most.
const FIRST_REST: Duration = Duration::from_millis(50);
const LONGEST_REST: Duration = Duration::from_secs(2);
/// How much may lie between a connection and the machine.
pub(super) const QUEUE: usize = 256;
/// The most channels of one SUBSCRIBE.
const MOST_CHANNELS: usize = 1000;
/// How much is read at a time.
const READ_BYTES: usize = 64 << 10;

/// What a connection is given to do.
pub(super) enum Order {
    Request(RequestId, Request),
    Subscribe(Vec<Name>),
    Unsubscribe(Vec<Name>),
}

/// What both connections are made of.
#[derive(Clone)]
pub(super) struct Ends {
    pub(super) address: Arc<Address>,
    pub(super) names: Names,
    pub(super) process: Arc<str>,
    /// Called with why a connection was lost, or could not be made.
    pub(super) lost: Arc<dyn Fn(&str) + Send + Sync>,
}

/// Keeps one up: tells when it is there and when it is lost. Ends when nobody gives orders any more.
pub(super) async fn keep(
    line: Line,
    ends: Ends,
    mut orders: mpsc::UnboundedReceiver<Order>,
    said: mpsc::Sender<Wired>,
) {
    let mut rest = FIRST_REST;
    loop {
        let ended = match begin(line, &ends).await {
            Ok((ready, fence)) => {
                rest = FIRST_REST;
                // What was ordered for a connection that is gone.
                while orders.try_recv().is_ok() {}
                let up = fence.map_or(Wired::SubscriberUp, Wired::CommandUp);
                if said.send(up).await.is_err() {
                    return;
                }
                let mut carried =
                    Carried { line, ends: &ends, ready, out: BytesMut::new(), sent: VecDeque::new(), ending: None };
                let why = carried.carry(&mut orders, &said).await;
                if said.send(Wired::Down(line)).await.is_err() {
                    return;
                }
                match why {
                    Ok(()) => return,
                    Err(why) => why,
                }
            }
            Err(error) => error.to_string(),
        };
        (ends.lost)(&ended);
        tokio::time::sleep(rest).await;
        rest = (rest * 2).min(LONGEST_REST);
        if orders.is_closed() {
            return;
        }
    }
}

async fn begin(line: Line, ends: &Ends) -> Result<(Ready, Option<Arc<str>>), ConnectError> {
    let mut ready = connect::connect(&ends.address).await?;
    match line {
        Line::Command => {
            ready.check_version().await?;
            let fence = ready.fence().await?;
            Ok((ready, Some(fence)))
        }
        Line::Subscriber => {
            // A replica would bring everything, too, but not in time.
            ready.fence().await?;
            Ok((ready, None))
        }
    }
}

/// A connection that is up.
struct Carried<'a> {
    line: Line,
    ends: &'a Ends,
    ready: Ready,
    /// Written, but not sent.
    out: BytesMut,
    /// Requests whose replies are to come, in order; and whether the script itself was sent.
    sent: VecDeque<(RequestId, Request, bool)>,
    /// Why it is to end: the server does nothing now.
    ending: Option<String>,
}

impl Carried<'_> {
    /// Until it is lost, or nobody gives orders: then `Ok`.
    async fn carry(
        &mut self,
        orders: &mut mpsc::UnboundedReceiver<Order>,
        said: &mpsc::Sender<Wired>,
    ) -> Result<(), String> {
        if self.line == Line::Subscriber {
            let own = self.ends.names.own_channels(&self.ends.process);
            self.channels(b"SUBSCRIBE", own.into_iter());
        }
        loop {
            if !self.out.is_empty() {
                self.ready.socket.write_all_buf(&mut self.out).await.map_err(|error| error.to_string())?;
            }
            self.ready.input.reserve(READ_BYTES);
            tokio::select! {
                read = self.ready.socket.read_buf(&mut self.ready.input) => {
                    if read.map_err(|error| error.to_string())? == 0 {
                        return Err("the server closed the connection".to_owned());
                    }
                    if self.read(said).await?.is_none() {
                        return Ok(());
                    }
                }
                order = orders.recv() => {
                    let Some(order) = order else { return Ok(()) };
                    self.order(order);
                    while let Ok(order) = orders.try_recv() {
                        self.order(order);
                    }
                }
            }
        }
    }

    /// Says what was read; `None` where nobody listens.
    async fn read(&mut self, said: &mpsc::Sender<Wired>) -> Result<Option<()>, String> {
        let mut subscribed = Vec::new();
        while let Some(value) = self.ready.reader.take(&mut self.ready.input).map_err(|error| error.to_string())? {
            let wired = match self.line {
                Line::Command => self.reply(value)?,
                Line::Subscriber => self.pushed(value, &mut subscribed)?,
            };
            // A push that follows a confirmation must not be heard before it.
            if wired.is_some() && !subscribed.is_empty() {
                let names = std::mem::take(&mut subscribed);
                if said.send(Wired::Subscribed(names)).await.is_err() {
                    return Ok(None);
                }
            }
            if let Some(wired) = wired
                && said.send(wired).await.is_err()
            {
                return Ok(None);
            }
            if let Some(ending) = self.ending.take() {
                return Err(ending);
            }
        }
        if !subscribed.is_empty() && said.send(Wired::Subscribed(subscribed)).await.is_err() {
            return Ok(None);
        }
        Ok(Some(()))
    }

    fn order(&mut self, order: Order) {
        let names = &self.ends.names;
        match order {
            Order::Request(id, request) => self.send(id, request, false),
            Order::Subscribe(streams) => {
                self.channels(b"SUBSCRIBE", streams.iter().map(|stream| names.channel(stream)));
            }
            Order::Unsubscribe(streams) => {
                self.channels(b"UNSUBSCRIBE", streams.iter().map(|stream| names.channel(stream)));
            }
        }
    }

    fn send(&mut self, id: RequestId, request: Request, whole: bool) {
        resp::put(&mut self.out, &self.ends.names.command(&request).arguments(whole));
        self.sent.push_back((id, request, whole));
    }

    fn channels(&mut self, verb: &'static [u8], mut channels: impl Iterator<Item = Bytes>) {
        loop {
            let mut command = vec![Bytes::from_static(verb)];
            command.extend(channels.by_ref().take(MOST_CHANNELS));
            if command.len() == 1 {
                return;
            }
            resp::put(&mut self.out, &command);
        }
    }

    fn reply(&mut self, value: Value) -> Result<Option<Wired>, String> {
        let Some((id, request, whole)) = self.sent.pop_front() else {
            return Err("the server answered what was not asked".to_owned());
        };
        let reply = match value {
            Value::Error(error) => {
                let error = String::from_utf8_lossy(&error).into_owned();
                match Meaning::of(&error) {
                    // No publish overtakes it: the machine has one call of a stream under way. What else does is said again.
                    Meaning::NoScript if !whole => {
                        self.send(id, request, true);
                        return Ok(None);
                    }
                    Meaning::NotNow => {
                        self.ending = Some(error);
                        Reply::NotNow
                    }
                    Meaning::NoScript | Meaning::Refusal => Reply::Refused(error.into()),
                }
            }
            value => calls::reply(&request, value).ok_or_else(|| match request {
                Request::Fence => "the server is a replica now".to_owned(),
                _ => "the server answered what this version cannot read".to_owned(),
            })?,
        };
        Ok(Some(Wired::Reply(id, reply)))
    }

    fn pushed(&self, value: Value, subscribed: &mut Vec<Name>) -> Result<Option<Wired>, String> {
        let values = match value {
            Value::Error(error) => return Err(String::from_utf8_lossy(&error).into_owned()),
            value => value.array().unwrap_or_default(),
        };
        let [kind, channel, data] = &values[..] else { return Ok(None) };
        let (Some(kind), Some(channel)) = (kind.text(), channel.bytes()) else { return Ok(None) };
        match (kind, data) {
            ("message", Value::Text(data)) => {
                let push = calls::push(&self.ends.names, &self.ends.process, channel, data);
                Ok(push.map(Wired::Push))
            }
            ("subscribe", _) => {
                subscribed.extend(self.ends.names.stream_of(channel).map(Arc::from));
                Ok(None)
            }
            _ => Ok(None),
        }
    }
}

/// What an error of the server means here.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    /// It does not have the script.
    NoScript,
    /// This server cannot do anything now, or is not the master any more.
    NotNow,
    /// It refuses this request.
    Refusal,
}

impl Meaning {
    /// Before Redis 7 an error inside a script stands in the middle of its text.
    fn of(error: &str) -> Self {
        if error.starts_with("NOSCRIPT") {
            Self::NoScript
        } else if ["READONLY", "LOADING", "MASTERDOWN", "BUSY ", "NOAUTH", "UNBLOCKED"]
            .iter()
            .any(|word| error.starts_with(word) || error.contains(&format!("-{word}")))
        {
            Self::NotNow
        } else {
            Self::Refusal
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_old_and_new_servers_mean_the_same() {
        for (error, meaning) in [
            ("NOSCRIPT No matching script. Please use EVAL.", Meaning::NoScript),
            ("READONLY You can't write against a read only replica.", Meaning::NotNow),
            ("ERR Error running script (call to f_0a): @user_script:9: -READONLY You can't write", Meaning::NotNow),
            ("LOADING Redis is loading the dataset in memory", Meaning::NotNow),
            ("BUSY Redis is busy running a script.", Meaning::NotNow),
            ("OOM command not allowed when used memory > 'maxmemory'.", Meaning::Refusal),
            ("NOPERM this user has no permissions to run the 'evalsha' command", Meaning::Refusal),
        ] {
            assert_eq!(Meaning::of(error), meaning, "{error}");
        }
    }
}
