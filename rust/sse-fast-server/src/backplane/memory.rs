//! The backplane's server in memory: what the scripts do, in Rust, one step at a time.
//!
//! Owns: the same states and answers as the scripts in `lua/`, and the faults that a test makes it have. Must not know:
//! who asks, connections, a clock: time comes in. For tests: the simulation steps it, and `conformance` holds it against
//! both real servers.
//! Changes together with: the scripts. It is long because it is all of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sse_fast_core::id::Epoch;

use super::protocol::{Fence, Guard, Mark, News, Open, Opening, Push, Reply, Request, Seen, Unit, UnitOutcome, later};
use super::{Name, SharedEvent, SharedOptions, SharedPatch, SharedSnapshot};

/// What is read is kept so much longer than asked.
const SLACK: Duration = Duration::from_secs(30);
const ANSWERS_KEPT: Duration = Duration::from_secs(300);
const REMOVAL_KEPT: Duration = Duration::from_secs(900);

/// The server's data. A clone is a replica as it was at that moment.
#[derive(Clone)]
pub(crate) struct Engine {
    pub(crate) fence: Fence,
    streams: HashMap<Name, Stored>,
    keys: HashMap<(Name, Arc<str>), Keyed>,
    leases: BTreeMap<Arc<str>, Duration>,
    disconnected: BTreeMap<Arc<str>, (u64, Duration)>,
    /// Every write is refused.
    pub(crate) out_of_memory: bool,
}

/// What was done under a key: a hash of it, the life, the first position, and how long that is known.
type Keyed = (u64, Epoch, u64, Duration);

#[derive(Clone, Default)]
struct Stored {
    meta: Option<Meta>,
    /// Of the life in `meta`, or of an older one where that was evicted.
    log: Vec<(u64, u64, SharedEvent)>,
    answers: HashMap<Arc<str>, (u64, Vec<UnitOutcome>)>,
    removals: HashMap<Arc<str>, (u64, Mark)>,
    readers: BTreeMap<Arc<str>, Bytes>,
    presence: u64,
}

#[derive(Clone)]
struct Meta {
    mark: Mark,
    /// The newest position when its life began.
    carried: u64,
    fence: Arc<str>,
    bytes: usize,
    ended: bool,
    removed: bool,
    snapshot: Option<SharedSnapshot>,
    options: SharedOptions,
    until: Option<Duration>,
}

/// What a step pushes.
type Pushes = Vec<Push>;

impl Engine {
    pub(crate) fn new(fence: &str) -> Self {
        Self {
            fence: fence.into(),
            streams: HashMap::new(),
            keys: HashMap::new(),
            leases: BTreeMap::new(),
            disconnected: BTreeMap::new(),
            out_of_memory: false,
        }
    }

    /// Executes one request at `now`.
    pub(crate) fn execute(&mut self, now: Duration, request: &Request, pushes: &mut Pushes) -> Reply {
        self.expire(now);
        match request {
            Request::Open(open) => return self.open(now, open, pushes),
            Request::Publish { name, guard, process, call, units, make } => {
                let options = make.options.patched(&make.given);
                return self.publish(now, name, guard, (process, *call), units, options, pushes);
            }
            _ => {}
        }
        match request {
            Request::Compare { names } => {
                Reply::Compared(names.iter().map(|(name, touch)| self.compare(now, name, *touch)).collect())
            }
            Request::Configure { name, guard, patch } => self.configure(now, name, guard, patch, pushes),
            Request::Remove { name, process, call } => self.remove(now, name, (process, *call), pushes),
            Request::Present { name, process, readers } => self.present(now, name, process, readers, pushes),
            Request::Lease { process, lease } => {
                if lease.is_zero() {
                    self.leases.remove(process);
                } else {
                    self.leases.insert(Arc::clone(process), now + *lease);
                }
                let mut all: Vec<_> =
                    self.leases.iter().map(|(process, until)| (*until, Arc::clone(process))).collect();
                all.sort();
                Reply::Leases(all.into_iter().map(|(_, process)| process).collect())
            }
            Request::Disconnect { reader, before, keep } => {
                self.disconnected.insert(Arc::clone(reader), (*before, now + *keep));
                pushes.push(Push::Disconnect { reader: Arc::clone(reader), before: *before });
                Reply::Done
            }
            Request::Disconnected => Reply::Disconnected(
                self.disconnected.iter().map(|(reader, (before, _))| (Arc::clone(reader), *before)).collect(),
            ),
            Request::Probe { number, .. } => {
                pushes.push(Push::Echo { number: *number });
                Reply::Done
            }
            Request::Fence => Reply::Fence(Arc::clone(&self.fence)),
            Request::Open(_) | Request::Publish { .. } => Reply::Refused("done above".into()),
        }
    }

    fn expire(&mut self, now: Duration) {
        for stored in self.streams.values_mut() {
            if stored.meta.as_ref().is_some_and(|meta| meta.until.is_some_and(|until| until <= now)) {
                stored.meta = None;
                stored.log.clear();
            }
        }
        self.keys.retain(|_, (.., until)| *until > now);
        self.leases.retain(|_, until| *until > now);
        self.disconnected.retain(|_, (_, until)| *until > now);
    }

    #[allow(clippy::too_many_arguments, reason = "a request's fields")]
    fn publish(
        &mut self,
        now: Duration,
        name: &Name,
        guard: &Guard,
        (process, call): (&Arc<str>, u64),
        units: &[Unit],
        options: SharedOptions,
        pushes: &mut Pushes,
    ) -> Reply {
        let stored = self.streams.entry(Arc::clone(name)).or_default();
        match stored.answers.get(process) {
            Some((last, answer)) if *last == call => return Reply::Published(answer.clone()),
            Some((last, _)) if *last > call => return Reply::Stale,
            _ => {}
        }
        let mut append = Append::of(stored, guard, options, self.out_of_memory);
        let mut outcomes = Vec::new();
        for unit in units {
            let key = unit.key.as_ref().map(|key| ((Arc::clone(name), Arc::clone(&key.key)), key.body));
            let before = key.as_ref().and_then(|(key, body)| Some((self.keys.get(key)?, *body)));
            let outcome = if let Some((&(said, epoch, first, _), body)) = before {
                if said == body { UnitOutcome::Again { epoch, first } } else { UnitOutcome::Conflict }
            } else {
                match append.unit(unit) {
                    Ok(outcome) => outcome,
                    Err(reply) => return reply,
                }
            };
            if let (UnitOutcome::New { epoch, first }, Some((key, body))) = (&outcome, key) {
                self.keys.insert(key, (body, *epoch, *first, now + ANSWERS_KEPT));
            }
            outcomes.push(outcome);
        }
        if let Some(news) = append.finish(now) {
            let stored = self.streams.entry(Arc::clone(name)).or_default();
            stored.answers.insert(Arc::clone(process), (call, outcomes.clone()));
            pushes.push(Push::Stream(Arc::clone(name), news));
        }
        Reply::Published(outcomes)
    }

    fn open(&mut self, now: Duration, open: &Open, pushes: &mut Pushes) -> Reply {
        let stored = self.streams.entry(Arc::clone(&open.name)).or_default();
        let mut made = false;
        let begun;
        match &mut stored.meta {
            Some(meta) if !meta.removed => {
                let given = open.make.map_or_else(SharedPatch::default, |make| make.given);
                let options = meta.options.patched(&given);
                let changes = options != meta.options;
                let differs = open.guard.fence.as_ref().is_some_and(|fence| *fence != meta.fence) && !meta.ended;
                if changes && differs && !open.guard.sure {
                    return Reply::Fenced;
                }
                let above = open.above > 0 && meta.mark.epoch <= open.above;
                begun = !meta.ended && (above || (changes && differs));
                if (begun || changes) && self.out_of_memory {
                    return out_of_memory();
                }
                if begun {
                    stored.begin(&open.guard, None);
                }
                if changes {
                    stored.put_in_force(now, options);
                    if !begun {
                        pushes.extend(stored.options_news(&open.name));
                    }
                }
            }
            meta => {
                let Some(maker) = &open.make else {
                    return Reply::Unknown { removed: meta.as_ref().map(|meta| meta.mark) };
                };
                if self.out_of_memory {
                    return out_of_memory();
                }
                let options = maker.options.patched(&maker.given);
                stored.begin(&open.guard, Some(options));
                made = true;
                begun = true;
            }
        }
        let read = stored.is_read();
        if begun && let Some(meta) = &mut stored.meta {
            meta.expire(now, read);
            pushes.push(Push::Stream(Arc::clone(&open.name), News::Begun { mark: meta.mark }));
        }
        stored.read(now, open.from, made).map_or(Reply::Unknown { removed: None }, |read| Reply::Opened(Box::new(read)))
    }

    fn compare(&mut self, now: Duration, name: &Name, touch: bool) -> Seen {
        let Some(stored) = self.streams.get_mut(name) else { return Seen::Gone };
        let presence = stored.presence;
        match &mut stored.meta {
            None => Seen::Gone,
            Some(meta) if meta.removed => Seen::Removed(meta.mark),
            Some(meta) => {
                if touch && !meta.ended {
                    meta.expire(now, true);
                }
                Seen::There { mark: meta.mark, presence }
            }
        }
    }

    fn configure(
        &mut self,
        now: Duration,
        name: &Name,
        guard: &Guard,
        patch: &SharedPatch,
        pushes: &mut Pushes,
    ) -> Reply {
        let Some(stored) = self.streams.get_mut(name) else { return Reply::Unknown { removed: None } };
        let Some(meta) = stored.meta.as_ref().filter(|meta| !meta.removed) else {
            return Reply::Unknown { removed: None };
        };
        let options = meta.options.patched(patch);
        if options == meta.options {
            return Reply::Done;
        }
        if guard.fence.as_ref().is_some_and(|fence| *fence != meta.fence) && !meta.ended {
            if !guard.sure {
                return Reply::Fenced;
            }
            if self.out_of_memory {
                return out_of_memory();
            }
            stored.begin(guard, None);
        }
        if self.out_of_memory {
            return out_of_memory();
        }
        stored.put_in_force(now, options);
        pushes.extend(stored.options_news(name));
        Reply::Done
    }

    fn remove(&mut self, now: Duration, name: &Name, (process, call): (&Arc<str>, u64), pushes: &mut Pushes) -> Reply {
        let Some(stored) = self.streams.get_mut(name) else { return Reply::Unknown { removed: None } };
        match stored.removals.get(process) {
            Some((last, mark)) if *last == call => return Reply::Removed(*mark),
            Some((last, _)) if *last > call => return Reply::Stale,
            _ => {}
        }
        let Some(meta) = stored.meta.as_mut().filter(|meta| !meta.removed) else {
            return Reply::Unknown { removed: None };
        };
        meta.mark.version += 1;
        (meta.removed, meta.ended, meta.snapshot) = (true, false, None);
        meta.until = Some(now + REMOVAL_KEPT);
        stored.log.clear();
        stored.removals.insert(Arc::clone(process), (call, meta.mark));
        pushes.push(Push::Stream(Arc::clone(name), News::Removed { mark: meta.mark }));
        Reply::Removed(meta.mark)
    }

    fn present(
        &mut self,
        now: Duration,
        name: &Name,
        process: &Arc<str>,
        readers: &Bytes,
        pushes: &mut Pushes,
    ) -> Reply {
        let stored = self.streams.entry(Arc::clone(name)).or_default();
        let before = stored.is_read();
        let changed = if readers.is_empty() {
            stored.readers.remove(process).is_some()
        } else {
            stored.readers.insert(Arc::clone(process), readers.clone()).as_ref() != Some(readers)
        };
        let read = stored.is_read();
        if read != before
            && let Some(meta) = stored.meta.as_mut().filter(|meta| !meta.ended && !meta.removed)
        {
            meta.expire(now, read);
        }
        if changed {
            let after = stored.presence;
            let presence = (after + 1).max(u64::try_from(now.as_micros()).unwrap_or(u64::MAX));
            stored.presence = presence;
            let (process, readers) = (Arc::clone(process), readers.clone());
            pushes.push(Push::Stream(Arc::clone(name), News::Present { process, readers, after, presence }));
        }
        Reply::Done
    }

    // ---- What a test does to it ----

    /// It evicts a log.
    pub(crate) fn evict_log(&mut self, name: &Name) {
        if let Some(stored) = self.streams.get_mut(name) {
            stored.log.clear();
        }
    }

    /// It evicts everything but a log.
    pub(crate) fn evict_meta(&mut self, name: &Name) {
        if let Some(stored) = self.streams.get_mut(name) {
            stored.meta = None;
        }
    }

    /// A stream as it is at `now`; none where there is none.
    pub(crate) fn peek(&self, now: Duration, name: &Name) -> Option<Opening> {
        let stored = self.streams.get(name)?;
        stored.meta.as_ref().filter(|meta| !meta.removed && meta.until.is_none_or(|until| until > now))?;
        stored.read(now, Mark::default(), false)
    }
}

impl Stored {
    /// Whether somebody reads it.
    fn is_read(&self) -> bool {
        !self.readers.is_empty()
    }

    /// Begins a life: an empty one with `options`, and without what is there, under ids of the new life.
    fn begin(&mut self, guard: &Guard, options: Option<SharedOptions>) {
        let old = self.meta.take();
        let mark = old.as_ref().map_or_else(Mark::default, |meta| meta.mark);
        let epoch = later(guard.epoch, mark.epoch);
        let lives_on = old.filter(|_| options.is_none());
        match &lives_on {
            Some(_) => {
                self.log.retain(|(life, ..)| *life == mark.epoch);
                self.log.iter_mut().for_each(|(life, ..)| *life = epoch);
            }
            None => self.log.clear(),
        }
        let newest = lives_on.as_ref().map_or(0, |old| old.mark.newest);
        // One of the two is there: a stream is made with options, and lives on with its own.
        let Some(options) = options.or(lives_on.as_ref().map(|old| old.options)) else { return };
        self.meta = Some(Meta {
            mark: Mark { epoch, newest, version: mark.version + 1 },
            carried: newest,
            fence: guard.fence.clone().unwrap_or_default(),
            bytes: lives_on.as_ref().map_or(0, |old| old.bytes),
            ended: false,
            removed: false,
            snapshot: lives_on.and_then(|old| old.snapshot),
            options,
            until: None,
        });
    }

    fn put_in_force(&mut self, now: Duration, options: SharedOptions) {
        let read = self.is_read();
        if let Some(meta) = &mut self.meta {
            meta.mark.version += 1;
            meta.options = options;
            meta.expire(now, read);
        }
        self.trim_events();
    }

    fn options_news(&self, name: &Name) -> Option<Push> {
        let meta = self.meta.as_ref()?;
        Some(Push::Stream(Arc::clone(name), News::Options { mark: meta.mark, options: meta.options }))
    }

    fn trim_events(&mut self) {
        let Some(meta) = &self.meta else { return };
        let beyond = self.log.len().saturating_sub(usize::try_from(meta.options.history).unwrap_or(usize::MAX));
        self.log.drain(..beyond);
    }

    fn trim_bytes(&mut self) {
        let Some(meta) = &mut self.meta else { return };
        let most = usize::try_from(meta.options.history_bytes).unwrap_or(usize::MAX);
        if meta.bytes <= most {
            return;
        }
        let (mut kept, mut first) = (0, self.log.len());
        for (at, (_, _, event)) in self.log.iter().enumerate().rev() {
            let size = event.bytes().len() + 32;
            if kept + size > most && kept > 0 {
                break;
            }
            kept += size;
            first = at;
        }
        self.log.drain(..first);
        meta.bytes = kept;
    }

    fn read(&self, now: Duration, from: Mark, made: bool) -> Option<Opening> {
        let meta = self.meta.as_ref()?;
        let Mark { epoch, newest, version } = meta.mark;
        let after = if from.epoch == epoch { from.newest } else { 0 };
        let found: Vec<_> = self.log.iter().filter(|(life, position, _)| *life == epoch && *position > after).collect();
        let base = found.first().map_or(newest, |(_, position, _)| position - 1);
        let differs = from.epoch != epoch || from.version != version || base > from.newest;
        Some(Opening {
            mark: meta.mark,
            carried: meta.carried,
            made,
            ended: meta.ended,
            options: meta.options,
            base,
            entries: found.into_iter().map(|(_, _, event)| event.clone()).collect(),
            snapshot: meta.snapshot.clone().filter(|_| differs),
            readers: self.readers.iter().map(|(process, readers)| (Arc::clone(process), readers.clone())).collect(),
            presence: self.presence,
            left: meta.until.map(|until| until.saturating_sub(now)),
        })
    }
}

impl Meta {
    /// Sets how long it stays.
    fn expire(&mut self, now: Duration, read: bool) {
        self.until = if self.ended {
            Some(now + self.options.linger)
        } else {
            self.options.expire.map(|after| now + after + if read { SLACK } else { Duration::ZERO })
        };
    }
}

/// A call of publishers, between its first unit and its last.
struct Append<'a> {
    stored: &'a mut Stored,
    guard: &'a Guard,
    options: SharedOptions,
    out_of_memory: bool,
    first: Option<u64>,
    events: Vec<SharedEvent>,
    snapshot: Option<SharedSnapshot>,
    wrote: bool,
}

impl Append<'_> {
    fn unit(&mut self, unit: &Unit) -> Result<UnitOutcome, Reply> {
        let meta = self.stored.meta.as_ref().filter(|meta| !meta.removed);
        if meta.is_some_and(|meta| meta.ended) {
            return Ok(UnitOutcome::Ended);
        }
        let same = meta.is_some_and(|meta| self.guard.fence.as_ref().is_none_or(|fence| *fence == meta.fence));
        if meta.is_some() && !same && !self.guard.sure {
            return Err(Reply::Fenced);
        }
        if self.out_of_memory {
            return Err(out_of_memory());
        }
        let exists = meta.is_some();
        if !same {
            self.stored.begin(self.guard, (!exists).then_some(self.options));
        }
        let Some(meta) = &mut self.stored.meta else { return Err(Reply::Refused("it was just made".into())) };
        self.wrote = true;
        let epoch = Epoch(meta.mark.epoch);
        let first = meta.mark.newest + u64::from(!unit.events.is_empty());
        if let Some(set) = &unit.snapshot {
            let position = if unit.events.is_empty() { meta.mark.newest } else { first + set.with as u64 };
            let last = self.snapshot.as_ref().or(meta.snapshot.as_ref());
            let event = set.event.clone().or_else(|| last.map(|last| last.event.clone()));
            let event = event.unwrap_or_else(|| "snapshot".into());
            self.snapshot = Some(SharedSnapshot { event, data: set.data.clone(), position });
        }
        for event in &unit.events {
            meta.mark.newest += 1;
            meta.bytes += event.bytes().len() + 32;
            self.first.get_or_insert(meta.mark.newest);
            self.stored.log.push((meta.mark.epoch, meta.mark.newest, event.clone()));
            self.events.push(event.clone());
        }
        meta.ended = unit.end;
        Ok(UnitOutcome::New { epoch, first })
    }

    fn finish(self, now: Duration) -> Option<News> {
        if !self.wrote {
            return None;
        }
        let read = self.stored.is_read();
        let meta = self.stored.meta.as_mut()?;
        if let Some(snapshot) = &self.snapshot {
            meta.mark.version += 1;
            meta.snapshot = Some(snapshot.clone());
        }
        meta.expire(now, read);
        let (mark, ended) = (meta.mark, meta.ended);
        self.stored.trim_events();
        self.stored.trim_bytes();
        let first = self.first.unwrap_or(mark.newest + 1);
        Some(News::Tail { mark, first, events: self.events, snapshot: self.snapshot, ended })
    }
}

impl<'a> Append<'a> {
    fn of(stored: &'a mut Stored, guard: &'a Guard, options: SharedOptions, out_of_memory: bool) -> Self {
        let (first, events, snapshot, wrote) = (None, Vec::new(), None, false);
        Self { stored, guard, options, out_of_memory, first, events, snapshot, wrote }
    }
}

fn out_of_memory() -> Reply {
    Reply::Refused("OOM command not allowed when used memory > 'maxmemory'.".into())
}
