//! From the dicts that `_settings.py` has checked and completed to the engine's typed options.
//!
//! Owns: which field of the engine each setting's name means.
//! Must not know: defaults, limits, the environment; the table of `_settings.py` has those.
//! Invariants: only `_settings.py` makes these dicts, so an unknown name here is a defect of its table.
//! Changes together with: `_settings.py`, and the engine's `Config` and `StreamPatch`.

use std::str::FromStr;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use sse_fast_server::{
    BackplaneConfig, Config, Durable, MetricsAt, Network, NoNetwork, RightsConfig, StreamPatch, check_secret,
};

use crate::convert;
use crate::errors::{option_error, setting_error};
use crate::rights::rules;

/// A server's configuration; `stream` are the defaults of its streams.
pub(crate) fn config(settings: &Bound<'_, PyDict>, stream: &Bound<'_, PyDict>) -> PyResult<(Config, RightsConfig)> {
    let (mut config, mut rights) = (Config::default(), RightsConfig::default());
    let mut backplane = BackplaneConfig::default();
    for (name, value) in settings {
        let name: String = name.extract()?;
        match name.as_str() {
            "host" => convert::name("host", &value, setting_error)?.clone_into(&mut config.host),
            "port" => config.port = value.extract()?,
            "allowed_hosts" => config.allowed_hosts = value.extract()?,
            "cors_headers" => config.cors_headers = value.extract()?,
            "cors" => config.cors = value.extract()?,
            // 0 lets the engine choose by the limit on open files.
            "max_connections" => config.max_connections = value.extract::<Option<usize>>()?.unwrap_or(0),
            "max_connections_per_address" => config.max_connections_per_address = value.extract()?,
            "trusted_proxies" => config.trusted_proxies = networks(value.extract()?)?,
            "forwarded" => config.forwarded = choice("forwarded", &value)?,
            "max_head_bytes" => config.max_head_bytes = value.extract()?,
            "max_event_bytes" => config.max_event_bytes = value.extract()?,
            "max_streams" => config.max_streams = value.extract()?,
            "max_created_streams" => config.max_created_streams = value.extract()?,
            "handler_queue" => config.handler_queue = value.extract()?,
            "max_body_bytes" => config.max_body_bytes = value.extract()?,
            "header_timeout" => config.header_timeout = seconds(&value)?,
            "wait" => config.wait = seconds(&value)?,
            "settle" => config.settle = seconds(&value)?,
            "stall_timeout" => config.stall_timeout = seconds(&value)?,
            "publish_wait" => config.publish_wait = optional_seconds(&value)?,
            "heartbeat_pace" => config.heartbeat_pace = value.extract()?,
            // 0 has the engine choose: one for each core.
            "shards" => config.shards = value.extract::<Option<usize>>()?.unwrap_or(0),
            "chunked" => config.chunked = value.extract()?,
            "reuse_port" => config.reuse_port = value.extract()?,
            "health" => config.health = value.extract()?,
            "ready" => config.ready = value.extract()?,
            "metrics" => config.metrics = metrics(&value)?,
            "metrics_key" => config.metrics_key = value.extract()?,
            "access_log" => config.access_log = value.extract()?,
            "backplane" => {
                if let Some(url) = value.extract()? {
                    backplane.url = url;
                }
            }
            "backplane_prefix" => backplane.prefix = value.extract()?,
            "backplane_timeout" => backplane.timeout = seconds(&value)?,
            "engine_loss" => backplane.trust = value.extract::<String>()? == "trust",
            "cookie" => rights.cookie = value.extract()?,
            "ticket_key" => rights.ticket_key = ticket_key(&value)?,
            "publish_key" => rights.publish_keys = publish_keys(&value)?,
            "tokens" => rights.tokens = rules(&value)?,
            "store" => config.store = value.extract()?,
            "durable" => config.durable = durable(&value)?,
            "streams" => config.streams = by_pattern(&value)?,
            other => return Err(unknown(other)),
        }
    }
    config.backplane = (!backplane.url.is_empty()).then_some(backplane);
    config.stream = config.stream.patched(&patch(Some(stream))?).map_err(|error| option_error(&error))?;
    Ok((config, rights))
}

/// What lets its holder publish.
fn publish_keys(given: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    let keys: Vec<String> = given.extract()?;
    // Tickets may be signed with what is derived from it, and the rest of the world must not know it.
    let checked = keys.iter().try_for_each(|key| check_secret(key.as_bytes()));
    checked.map_err(|error| setting_error(&format!("publish_key is not allowed: {error}")))?;
    Ok(keys)
}

/// What tickets are signed with.
fn ticket_key(given: &Bound<'_, PyAny>) -> PyResult<Option<Vec<u8>>> {
    let key: Option<Vec<u8>> = given.extract()?;
    let checked = key.as_deref().map_or(Ok(()), check_secret);
    checked.map_err(|error| setting_error(&format!("ticket_key is not allowed: {error}")))?;
    Ok(key)
}

/// Options by patterns of names, in the order in which they were given.
fn by_pattern(given: &Bound<'_, PyAny>) -> PyResult<Vec<(String, StreamPatch)>> {
    let mut rules = Vec::new();
    for rule in given.try_iter()? {
        let (pattern, options): (String, Bound<'_, PyDict>) = rule?.extract()?;
        rules.push((pattern, patch(Some(&options))?));
    }
    Ok(rules)
}

/// The stream options that were given; without a dict, none.
pub(crate) fn patch(options: Option<&Bound<'_, PyDict>>) -> PyResult<StreamPatch> {
    let mut patch = StreamPatch::default();
    let Some(options) = options else { return Ok(patch) };
    for (name, value) in options {
        let name: String = name.extract()?;
        match name.as_str() {
            "history" => patch.history = Some(value.extract()?),
            "history_bytes" => patch.history_bytes = Some(value.extract()?),
            "start" => patch.start = Some(choice("start", &value)?),
            "max_lag" => patch.max_lag = Some(value.extract()?),
            "on_lag" => patch.on_lag = Some(choice("on_lag", &value)?),
            "heartbeat" => patch.heartbeat = Some(optional_seconds(&value)?),
            "heartbeat_event" => patch.heartbeat_event = Some(value.extract()?),
            "heartbeat_comment" => patch.heartbeat_comment = Some(value.extract()?),
            "retry" => patch.retry = Some(optional_seconds(&value)?),
            "ids" => patch.ids = Some(value.extract()?),
            "linger" => patch.linger = Some(seconds(&value)?),
            "private" => patch.private = Some(value.extract()?),
            "stall_after" => patch.stall_after = Some(optional_seconds(&value)?),
            "expire" => patch.expire = Some(optional_seconds(&value)?),
            other => return Err(unknown(other)),
        }
    }
    Ok(patch)
}

/// One of an option's words, such as `start="all"`.
pub(crate) fn choice<T>(name: &str, value: &Bound<'_, PyAny>) -> PyResult<T>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    let word = convert::string(name, value)?;
    word.to_str()?.parse().map_err(|error: T::Err| setting_error(&format!("{name}: {error}")))
}

/// What a publish into the store outlives.
fn durable(value: &Bound<'_, PyAny>) -> PyResult<Durable> {
    match value.extract::<String>()?.as_str() {
        "process" => Ok(Durable::Process),
        "disk" => Ok(Durable::Disk),
        other => Err(setting_error(&format!("durable: {other:?} is neither \"process\" nor \"disk\""))),
    }
}

/// True, False, or ``(host, port)``.
fn metrics(value: &Bound<'_, PyAny>) -> PyResult<MetricsAt> {
    if let Ok((host, port)) = value.extract() {
        return Ok(MetricsAt::Address { host, port });
    }
    Ok(if value.extract()? { MetricsAt::MainPort } else { MetricsAt::Nowhere })
}

fn networks(texts: Vec<String>) -> PyResult<Vec<Network>> {
    let network = |text: String| {
        text.parse().map_err(|error: NoNetwork| setting_error(&format!("trusted_proxies: {text:?}: {error}")))
    };
    texts.into_iter().map(network).collect()
}

fn seconds(value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let seconds: f64 = value.extract()?;
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| setting_error(&format!("{seconds} is not a finite number of seconds from 0 up")))
}

fn optional_seconds(value: &Bound<'_, PyAny>) -> PyResult<Option<Duration>> {
    if value.is_none() { Ok(None) } else { seconds(value).map(Some) }
}

fn unknown(name: &str) -> PyErr {
    setting_error(&format!("the engine has no setting {name}"))
}
