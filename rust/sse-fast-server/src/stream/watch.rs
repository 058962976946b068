//! Those in this process that wait for a stream: threads that are parked, and event loops.
//!
//! Owns: who is to be woken. Most wait for news, few for it to be empty (`empty`). Must not know: what a reader is given (`reader`), what an event loop is. A publish takes the
//! list under the stream's lock and wakes after it, so that its cost does not grow with the tasks that wait: an event
//! loop is one entry here, however many of its tasks read the stream, and gets one wake-up for all its streams.
//! Invariant: who looked at the stream under its lock and found nothing is on the list before it sleeps.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use tokio::sync::Notify;

use super::Stream;
use crate::mailbox::{Latch, Mailbox, Wake};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Thread, assert_may_wake, current};

/// Who waits for news of one stream; under the stream's lock.
#[derive(Default)]
pub(super) struct Watchers {
    /// Event loops; replaced as a whole when one comes or goes, so that a publish shares it.
    loops: Option<Arc<[Arc<Entry>]>>,
    /// Threads, each once.
    threads: Vec<Thread>,
}

/// Those to be woken by one publish.
pub(super) struct Listening {
    loops: Option<Arc<[Arc<Entry>]>>,
    threads: Vec<Thread>,
}

/// An event loop that waits for one stream, or one of its tasks.
struct Entry {
    token: u64,
    /// Whether the token lies in the mailbox. Relaxed: the stream's lock orders it. It is cleared before the tasks look
    /// under that lock, so a publisher that comes after their look finds it cleared, and what one before it appended is
    /// seen. A token too many is a look in vain.
    signalled: AtomicBool,
    mailbox: Arc<Mailbox<u64>>,
}

/// How one that waits sleeps.
#[derive(Clone)]
pub(super) enum Sleeper {
    /// A thread, parked.
    Thread(Thread),
    /// A task of an event loop.
    Task(TaskSleep),
}

/// The sleep of one task.
#[derive(Clone)]
pub struct TaskSleep(Bed);

/// What ends it.
#[derive(Clone)]
enum Bed {
    /// Its token, which is brought to an event loop of the application's.
    Loop(Arc<Entry>),
    /// A notice to a task of the engine's own.
    Own(Arc<Notify>),
}

/// What wakes an event loop: a descriptor that becomes readable when streams that its tasks watch have news.
pub struct Wakeups {
    mailbox: Arc<Mailbox<u64>>,
    readable: Arc<OwnedFd>,
}

/// The watching of one stream for an event loop; it ends when this is dropped.
pub struct Watch {
    stream: Stream,
    topic: Topic,
    entry: Arc<Entry>,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    /// Events, and the end.
    News,
    /// That nobody reads the stream any more.
    Empty,
}

/// What publishers write to.
struct Bell(Arc<OwnedFd>);

impl Wake for Bell {
    fn wake(&self) {
        // It fails only where it is full: then it is readable already.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

/// The end to be read and the end to be written: where the system has event descriptors, one and the same.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn ends() -> io::Result<(Arc<OwnedFd>, Arc<OwnedFd>)> {
    use rustix::event::{EventfdFlags, eventfd};
    let both = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    Ok((Arc::clone(&both), both))
}

/// The end to be read and the end to be written.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn ends() -> io::Result<(Arc<OwnedFd>, Arc<OwnedFd>)> {
    let (readable, written) = std::os::unix::net::UnixStream::pair()?;
    readable.set_nonblocking(true)?;
    written.set_nonblocking(true)?;
    Ok((Arc::new(readable.into()), Arc::new(written.into())))
}

impl Watchers {
    /// Whether anybody waits.
    #[cfg(test)]
    pub(super) fn is_anybody(&self) -> bool {
        self.loops.is_some() || !self.threads.is_empty()
    }

    /// The event loops among them, for the next life of the name.
    pub(super) fn of_loops(&self) -> Self {
        Self { loops: self.loops.clone(), threads: Vec::new() }
    }

    fn remove(&mut self, entry: &Arc<Entry>) {
        let others = self.loops.iter().flat_map(|loops| loops.iter()).filter(|other| !Arc::ptr_eq(other, entry));
        let others: Arc<[_]> = others.cloned().collect();
        self.loops = Some(others).filter(|loops| !loops.is_empty());
    }

    /// Those to be woken now, if anybody is: threads once, event loops each time.
    pub(super) fn listening(&mut self) -> Option<Listening> {
        if self.loops.is_none() && self.threads.is_empty() {
            return None;
        }
        Some(Listening { loops: self.loops.clone(), threads: std::mem::take(&mut self.threads) })
    }

    /// The calling thread is to be woken by the next news.
    pub(super) fn park_me(&mut self) {
        self.forget_me();
        self.threads.push(current());
    }

    /// The calling thread waits no longer.
    pub(super) fn forget_me(&mut self) {
        if !self.threads.is_empty() {
            let me = current().id();
            self.threads.retain(|thread| thread.id() != me);
        }
    }
}

/// Wakes them; without the stream's lock.
pub(super) fn wake(listening: &Listening) {
    assert_may_wake();
    listening.threads.iter().for_each(Thread::unpark);
    listening.loops.iter().flat_map(|loops| loops.iter()).for_each(|entry| entry.signal());
}

impl Entry {
    fn signal(&self) {
        if !self.signalled.swap(true, Ordering::Relaxed) {
            // The event loop may have ended.
            let _ = self.mailbox.push(self.token);
        }
    }
}

impl Sleeper {
    /// The calling thread.
    pub(super) fn this_thread() -> Self {
        Self::Thread(current())
    }

    pub(super) fn is_task(&self) -> bool {
        matches!(self, Self::Task(_))
    }

    /// Ends its sleep, or the next one; without the stream's lock.
    pub(super) fn wake(&self) {
        match self {
            Self::Thread(thread) => thread.unpark(),
            Self::Task(TaskSleep(Bed::Loop(entry))) => entry.signal(),
            Self::Task(TaskSleep(Bed::Own(notify))) => notify.notify_one(),
        }
    }
}

impl TaskSleep {
    /// Of a task of the engine's own, which is told so.
    pub(super) fn notified(notify: &Arc<Notify>) -> Self {
        Self(Bed::Own(Arc::clone(notify)))
    }

    /// The token was taken, if it was brought: what wakes the task from here on brings it again. The task looks after this.
    pub(super) fn rearm(&self) {
        match &self.0 {
            Bed::Loop(entry) => entry.signalled.store(false, Ordering::Relaxed),
            // What told it is kept until it is awaited.
            Bed::Own(_) => {}
        }
    }
}

impl Wakeups {
    /// For one event loop.
    pub fn new() -> io::Result<Self> {
        let (readable, written) = ends()?;
        let mailbox = Arc::new(Mailbox::new(&Latch::new(Bell(written))));
        Ok(Self { mailbox, readable })
    }

    /// The same with another bell, which a test hears.
    #[cfg(test)]
    pub(crate) fn waking(wake: impl Wake + 'static) -> io::Result<Self> {
        let (readable, _) = ends()?;
        Ok(Self { mailbox: Arc::new(Mailbox::new(&Latch::new(wake))), readable })
    }

    /// The sleep of one of the loop's tasks, which nobody else has; `token` is among its wake-ups when it is woken.
    pub fn task(&self, token: u64) -> TaskSleep {
        let signalled = AtomicBool::new(false);
        TaskSleep(Bed::Loop(Arc::new(Entry { token, signalled, mailbox: Arc::clone(&self.mailbox) })))
    }

    /// Takes the tokens of the streams that have news; the descriptor is quiet then until there is more.
    pub fn take(&self) -> Vec<u64> {
        let mut bytes = [0; 64];
        while rustix::io::read(&*self.readable, &mut bytes).is_ok_and(|read| read == bytes.len()) {}
        self.mailbox.latch().clear();
        let mut tokens = Vec::new();
        self.mailbox.take(&mut tokens);
        tokens
    }
}

impl Drop for Wakeups {
    fn drop(&mut self) {
        // Watchings that outlive it leave nothing here.
        self.mailbox.close();
    }
}

impl AsFd for Wakeups {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }
}

impl Stream {
    /// Watches the stream for an event loop: `token` is among its wake-ups after each piece of news.
    pub fn watch(&self, wakeups: &Wakeups, token: u64) -> Watch {
        self.watch_for(Topic::News, wakeups, token)
    }

    /// Likewise: `token` is among its wake-ups once nobody reads the stream any more.
    pub fn watch_empty(&self, wakeups: &Wakeups, token: u64) -> Watch {
        self.watch_for(Topic::Empty, wakeups, token)
    }

    fn watch_for(&self, topic: Topic, wakeups: &Wakeups, token: u64) -> Watch {
        let signalled = AtomicBool::new(false);
        let entry = Arc::new(Entry { token, signalled, mailbox: Arc::clone(&wakeups.mailbox) });
        let mut inner = self.lock();
        let loops = &mut inner.watchers_of(topic).loops;
        let others = loops.iter().flat_map(|loops| loops.iter().cloned());
        *loops = Some(others.chain([Arc::clone(&entry)]).collect());
        drop(inner);
        Watch { stream: self.clone(), topic, entry }
    }
}

impl Watch {
    /// The token was taken: what is published from here on brings it again. Tasks look after this.
    pub fn rearm(&self) {
        self.entry.signalled.store(false, Ordering::Relaxed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // A life that came after took the list over.
        let mut stream = Some(&self.stream);
        while let Some(life) = stream {
            life.lock().watchers_of(self.topic).remove(&self.entry);
            stream = life.next_life();
        }
    }
}
