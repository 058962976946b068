//! Requests as commands, and values as replies and pushes.
//!
//! Owns: keys, channels, the arguments of each script, how its answers are read. Must not know: connections.
//! Invariants: every key and channel begins with the prefix, which names the version of all this and the database (pub/sub
//! knows no databases). A reply that does not read is refused by what it is for, never a panic: another version of this
//! program may have written it.
//! It is long because requests and replies of all scripts are in one place.
//! Changes together with: the scripts in `../lua/`, whose heads say what they take and give.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use ring::digest;
use sse_fast_core::id::Epoch;

use super::super::Name;
use super::super::protocol::{Guard, Mark, News, Open, Opening, Push, Reply, Request, Seen, Unit, UnitOutcome};
use super::super::shared::{SharedEvent, SharedOptions, SharedPatch, SharedSnapshot};
use super::resp::Value;

/// How long it is known what was answered to whom under which key.
const ANSWERS_KEPT: &str = "300000";
/// How long it is known that a name was removed.
const REMOVAL_KEPT: &str = "900000";

/// A script with what names it.
pub(super) struct Script {
    pub(super) text: Bytes,
    pub(super) sha: Bytes,
}

impl Script {
    fn new(text: &'static str) -> Self {
        let text = Bytes::from(concat_life(text));
        let sha = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &text);
        let digit = |digit: u8| char::from_digit(digit.into(), 16).unwrap_or('0');
        let hex: String = sha.as_ref().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
        Self { text, sha: hex.into() }
    }
}

fn concat_life(text: &str) -> String {
    [include_str!("../lua/life.lua"), text].concat()
}

static PUBLISH: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../lua/publish.lua")));
static OPEN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../lua/open.lua")));
static COMPARE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../lua/compare.lua")));
static CONFIGURE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../lua/configure.lua")));
static REMOVE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../lua/remove.lua")));
static PRESENT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../lua/present.lua")));
static LEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../lua/lease.lua")));
static TRIAL: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../lua/trial.lua")));
static DISCONNECT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../lua/disconnect.lua")));

/// A command: a script with keys and arguments, or a plain one.
pub(super) enum Command {
    Script(&'static Script, Vec<Bytes>, Vec<Bytes>),
    Plain(Vec<Bytes>),
}

impl Command {
    /// Its arguments; `whole` sends the script itself, for a server that does not have it.
    pub(super) fn arguments(self, whole: bool) -> Vec<Bytes> {
        match self {
            Self::Plain(arguments) => arguments,
            Self::Script(script, keys, arguments) => {
                let mut all = Vec::with_capacity(3 + keys.len() + arguments.len());
                if whole {
                    all.extend([text("EVAL"), script.text.clone()]);
                } else {
                    all.extend([text("EVALSHA"), script.sha.clone()]);
                }
                all.push(number(keys.len() as u64));
                all.extend(keys);
                all.extend(arguments);
                all
            }
        }
    }
}

/// The names on the server.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// `<prefix>:v1:<db>:`.
    prefix: Arc<str>,
}

impl Names {
    pub(crate) fn new(prefix: &str, database: u32) -> Self {
        Self { prefix: format!("{prefix}:v1:{database}:").into() }
    }

    fn of(&self, kind: &str, name: &str) -> Bytes {
        [&self.prefix, kind, ":", name].concat().into()
    }

    /// The channel of a stream.
    pub(super) fn channel(&self, name: &str) -> Bytes {
        self.of("c", name)
    }

    /// The channel that every process listens to, and the one that is a process's own.
    pub(super) fn own_channels(&self, process: &str) -> [Bytes; 2] {
        [self.of("all", ""), self.of("probe", process)]
    }

    /// The stream that a channel is of.
    pub(super) fn stream_of<'a>(&self, channel: &'a [u8]) -> Option<&'a str> {
        std::str::from_utf8(channel).ok()?.strip_prefix(&*self.prefix)?.strip_prefix("c:")
    }

    /// What tries every command of the scripts, on keys of a process's own.
    pub(super) fn trial(&self, process: &str) -> Command {
        let [_, own] = self.own_channels(process);
        let keys = ["h", "s", "z", "t"].map(|kind| self.of("trial", &[process, ":", kind].concat()));
        Command::Script(&TRIAL, keys.into(), vec![own])
    }

    fn log_keys(&self, name: &str) -> Vec<Bytes> {
        vec![self.of("m", name), self.of("l", name)]
    }

    /// A request as a command.
    pub(super) fn command(&self, request: &Request) -> Command {
        match request {
            Request::Publish { name, guard, process, call, units, make } => {
                let mut keys = self.log_keys(name);
                keys.extend([self.of("q", name), self.of("r", name)]);
                let mut arguments = self.guarded(name, guard);
                arguments.extend([text(process), number(*call)]);
                arguments.extend(options(&make.options.patched(&make.given)));
                arguments.extend([text(ANSWERS_KEPT), number(units.len() as u64)]);
                for unit in units.iter() {
                    self.put_unit(name, unit, &mut keys, &mut arguments);
                }
                Command::Script(&PUBLISH, keys, arguments)
            }
            Request::Open(open) => self.open(open),
            Request::Compare { names } => {
                let mut keys = Vec::with_capacity(3 * names.len());
                for (name, _) in names.iter() {
                    keys.extend(self.log_keys(name));
                    keys.push(self.of("r", name));
                }
                Command::Script(&COMPARE, keys, names.iter().map(|(_, touch)| flag(*touch)).collect())
            }
            Request::Configure { name, guard, patch } => {
                let mut arguments = self.guarded(name, guard);
                arguments.extend(given(patch));
                let mut keys = self.log_keys(name);
                keys.push(self.of("r", name));
                Command::Script(&CONFIGURE, keys, arguments)
            }
            Request::Remove { name, process, call } => {
                let mut keys = self.log_keys(name);
                keys.push(self.of("q", name));
                let of = [text(process), number(*call), text(ANSWERS_KEPT)];
                let arguments = [self.channel(name), text(REMOVAL_KEPT)].into_iter().chain(of).collect();
                Command::Script(&REMOVE, keys, arguments)
            }
            Request::Present { name, process, readers } => {
                let arguments = vec![self.channel(name), text(process), readers.clone()];
                let mut keys = vec![self.of("r", name)];
                keys.extend(self.log_keys(name));
                Command::Script(&PRESENT, keys, arguments)
            }
            Request::Lease { process, lease } => {
                Command::Script(&LEASE, vec![self.of("alive", "")], vec![text(process), millis(*lease)])
            }
            Request::Disconnect { reader, before, keep } => {
                let [all, _] = self.own_channels("");
                let arguments = vec![all, text(reader), number(*before), millis(*keep)];
                Command::Script(&DISCONNECT, vec![self.of("gone", "")], arguments)
            }
            Request::Disconnected => Command::Script(&DISCONNECT, vec![self.of("gone", "")], Vec::new()),
            Request::Probe { process, number: count } => {
                let [_, own] = self.own_channels(process);
                Command::Plain(vec![text("PUBLISH"), own, number(*count)])
            }
            Request::Fence => Command::Plain(vec![text("INFO"), text("replication")]),
        }
    }

    fn guarded(&self, name: &str, guard: &Guard) -> Vec<Bytes> {
        let fence = text(guard.fence.as_deref().unwrap_or_default());
        vec![self.channel(name), fence, flag(guard.sure), number(guard.epoch)]
    }

    fn put_unit(&self, name: &str, unit: &Unit, keys: &mut Vec<Bytes>, arguments: &mut Vec<Bytes>) {
        let (mut index, mut body) = (0, 0);
        if let Some(key) = &unit.key {
            keys.push(self.of("i", &[name, "\0", &key.key].concat()));
            (index, body) = (keys.len() as u64, key.body);
        }
        arguments.extend([number(index), number(body), number(unit.events.len() as u64), flag(unit.end)]);
        match &unit.snapshot {
            Some(snapshot) => arguments.extend([
                number(snapshot.with as u64 + 1),
                text(snapshot.event.as_deref().unwrap_or_default()),
                snapshot.data.clone(),
            ]),
            None => arguments.extend([number(0), Bytes::new(), Bytes::new()]),
        }
        arguments.extend(unit.events.iter().map(|event| event.bytes().clone()));
    }

    fn open(&self, open: &Open) -> Command {
        let mut keys = self.log_keys(&open.name);
        keys.push(self.of("r", &open.name));
        let mut arguments = self.guarded(&open.name, &open.guard);
        arguments.push(flag(open.make.is_some()));
        match &open.make {
            Some(make) => {
                arguments.extend(options(&make.options));
                arguments.extend(given(&make.given));
            }
            None => arguments.extend(std::iter::repeat_n(text("-"), 14)),
        }
        let Mark { epoch, newest, version } = open.from;
        arguments.extend([open.above, epoch, newest, version].map(number));
        Command::Script(&OPEN, keys, arguments)
    }
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn number(number: u64) -> Bytes {
    text(itoa::Buffer::new().format(number))
}

fn flag(flag: bool) -> Bytes {
    Bytes::from_static(if flag { b"1" } else { b"" })
}

fn millis(time: Duration) -> Bytes {
    number(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// The most events and bytes that are asked for: beyond it the scripts' numbers are not exact.
const MOST: u64 = 1 << 50;

fn options(options: &SharedOptions) -> [Bytes; 7] {
    [
        number(options.history.min(MOST)),
        number(options.history_bytes.min(MOST)),
        text(&options.start.to_string()),
        number(options.ids.into()),
        millis(options.linger),
        options.expire.map(millis).unwrap_or_default(),
        number(options.private.into()),
    ]
}

fn given(patch: &SharedPatch) -> [Bytes; 7] {
    let not = || text("-");
    [
        patch.history.map_or_else(not, |history| number(history.min(MOST))),
        patch.history_bytes.map_or_else(not, |bytes| number(bytes.min(MOST))),
        patch.start.map_or_else(not, |start| text(&start.to_string())),
        patch.ids.map_or_else(not, |ids| number(ids.into())),
        patch.linger.map_or_else(not, millis),
        patch.expire.map_or_else(not, |expire| expire.map(millis).unwrap_or_default()),
        patch.private.map_or_else(not, |private| number(private.into())),
    ]
}

fn read_options(text: &str) -> Option<SharedOptions> {
    let mut fields = text.split(' ');
    let mut next = || fields.next();
    Some(SharedOptions {
        history: next()?.parse().ok()?,
        history_bytes: next()?.parse().ok()?,
        start: next()?.parse().ok()?,
        ids: next()? == "1",
        linger: Duration::from_millis(next()?.parse().ok()?),
        expire: match next()? {
            "" => None,
            millis => Some(Duration::from_millis(millis.parse().ok()?)),
        },
        private: next()? == "1",
    })
}

/// Three numbers with spaces between.
fn mark(text: &str) -> Option<Mark> {
    let mut numbers = text.split(' ').map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some(Mark { epoch: next()?, newest: next()?, version: next()? })
}

/// What a value is as the reply to a request; none where it is nothing that one can be.
pub(super) fn reply(request: &Request, value: Value) -> Option<Reply> {
    match request {
        Request::Compare { .. } => {
            return value.array()?.iter().map(seen).collect::<Option<_>>().map(Reply::Compared);
        }
        Request::Lease { .. } => {
            let leases = value.array()?.iter().map(|value| value.text().map(Arc::from)).collect::<Option<_>>()?;
            return Some(Reply::Leases(leases));
        }
        Request::Disconnected => {
            let readers = value.array()?.iter().map(disconnected).collect::<Option<_>>()?;
            return Some(Reply::Disconnected(readers));
        }
        Request::Probe { .. } => return Some(Reply::Done),
        Request::Fence => return fence(value.text()?).map(Reply::Fence),
        _ => {}
    }
    let values = value.array()?;
    let mut values = values.into_iter();
    let mut next = || values.next();
    match (next()?.text()?, request) {
        ("FENCE", _) => Some(Reply::Fenced),
        ("STALE", _) => Some(Reply::Stale),
        ("DONE", _) => Some(Reply::Done),
        ("NONE", _) => Some(Reply::Unknown { removed: None }),
        ("GONE", _) => {
            let mut number = || next()?.text()?.parse().ok();
            Some(Reply::Removed(Mark { epoch: number()?, newest: number()?, version: number()? }))
        }
        ("REMOVED", _) => {
            let mut number = || next()?.text()?.parse().ok();
            Some(Reply::Unknown { removed: Some(Mark { epoch: number()?, newest: number()?, version: number()? }) })
        }
        ("OK", Request::Publish { .. }) => {
            let said = next()?;
            said.text()?.split('\n').map(outcome).collect::<Option<_>>().map(Reply::Published)
        }
        ("OK", _) => opening(&mut next).map(|opening| Reply::Opened(Box::new(opening))),
        _ => None,
    }
}

fn outcome(text: &str) -> Option<UnitOutcome> {
    let mut parts = text.split(' ');
    let kind = parts.next()?;
    let mut number = || parts.next()?.parse().ok();
    Some(match kind {
        "N" => UnitOutcome::New { epoch: Epoch(number()?), first: number()? },
        "A" => UnitOutcome::Again { epoch: Epoch(number()?), first: number()? },
        "C" => UnitOutcome::Conflict,
        "E" => UnitOutcome::Ended,
        _ => return None,
    })
}

fn seen(value: &Value) -> Option<Seen> {
    let text = value.text()?;
    let Some((kind, rest)) = text.split_once(' ') else { return (text == "G").then_some(Seen::Gone) };
    let (marks, presence) = rest.rsplit_once(' ')?;
    let mark = mark(marks)?;
    Some(if kind == "R" { Seen::Removed(mark) } else { Seen::There { mark, presence: presence.parse().ok()? } })
}

fn disconnected(value: &Value) -> Option<(Arc<str>, u64)> {
    let (before, reader) = value.text()?.split_once(' ')?;
    Some((reader.into(), before.parse().ok()?))
}

fn opening(next: &mut impl FnMut() -> Option<Value>) -> Option<Opening> {
    let mut number = || next()?.text()?.parse::<u64>().ok();
    let mark = Mark { epoch: number()?, newest: number()?, version: number()? };
    let (made, ended) = (number()? == 1, number()? == 1);
    let options = read_options(next()?.text()?)?;
    let base = next()?.text()?.parse().ok()?;
    let mut entries = Vec::new();
    for value in next()?.array()? {
        entries.push(SharedEvent::take(&mut value.bytes()?.clone())?);
    }
    let saved = next()?.array()?;
    let snapshot = match &saved[..] {
        [position, event, data] => Some(SharedSnapshot {
            event: event.text()?.into(),
            data: data.bytes()?.clone(),
            position: position.text()?.parse().ok()?,
        }),
        _ => None,
    };
    let (mut readers, mut presence) = (Vec::new(), 0);
    let fields = next()?.array()?;
    for pair in fields.chunks_exact(2) {
        match pair[0].text()? {
            "" => presence = pair[1].text()?.parse().ok()?,
            process => readers.push((Arc::from(process), pair[1].bytes()?.clone())),
        }
    }
    let carried = next()?.text()?.parse().ok()?;
    // It says -1 where it stays.
    let left = next()?.text()?.parse().ok().map(Duration::from_millis);
    Some(Opening { mark, carried, made, ended, left, options, base, entries, snapshot, readers, presence })
}

/// The fence in what `INFO replication` says; none where this is a replica. A server that hides it has an empty one, which
/// counts as trusted.
pub(super) fn fence(info: &str) -> Option<Arc<str>> {
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    (field("role") != Some("slave")).then(|| field("master_replid").unwrap_or_default().into())
}

/// Something that was pushed on a channel; none where it cannot be read.
pub(super) fn push(names: &Names, process: &str, channel: &[u8], data: &Bytes) -> Option<Push> {
    let [all, own] = names.own_channels(process);
    if channel == own {
        return Some(Push::Echo { number: std::str::from_utf8(data).ok()?.parse().ok()? });
    }
    let line = memchr::memchr(b'\n', data)?;
    let head = std::str::from_utf8(&data[..line]).ok()?;
    let mut rest = data.slice(line + 1..);
    let (kind, fields) = head.split_once(' ')?;
    if channel == all {
        let reader = std::str::from_utf8(&rest).ok()?.into();
        return Some(Push::Disconnect { reader, before: fields.parse().ok()? });
    }
    let name: Name = names.stream_of(channel)?.into();
    let news = match kind {
        "E" => tail(fields, &mut rest)?,
        "O" => News::Options { mark: mark(fields)?, options: read_options(std::str::from_utf8(&rest).ok()?)? },
        "L" => News::Begun { mark: mark(fields)? },
        "R" => News::Removed { mark: mark(fields)? },
        "P" => {
            let (after, fields) = fields.split_once(' ')?;
            let (presence, process) = fields.split_once(' ')?;
            let (after, presence) = (after.parse().ok()?, presence.parse().ok()?);
            News::Present { process: process.into(), readers: rest, after, presence }
        }
        _ => return None,
    };
    Some(Push::Stream(name, news))
}

fn tail(fields: &str, rest: &mut Bytes) -> Option<News> {
    let mark = mark(fields)?;
    let mut parts = fields.split(' ').skip(3);
    let first = parts.next()?.parse().ok()?;
    let count: usize = parts.next()?.parse().ok()?;
    let ended = parts.next()? == "1";
    let position = parts.next()?;
    let name = rest.split_to(Some(parts.next()?.parse().ok()?).filter(|length| *length <= rest.len())?);
    let mut events = Vec::with_capacity(count.min(rest.len()));
    for _ in 0..count {
        events.push(SharedEvent::take(rest)?);
    }
    let snapshot = match position {
        "-" => None,
        position => Some(SharedSnapshot {
            event: std::str::from_utf8(&name).ok()?.into(),
            data: rest.clone(),
            position: position.parse().ok()?,
        }),
    };
    Some(News::Tail { mark, first, events, snapshot, ended })
}
