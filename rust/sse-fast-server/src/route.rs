//! Paths and what answers them.
//!
//! Owns the table of endpoints, and what is registered in it: checked and resolved here, once, so that
//! a request meets only whole routes. Must not know: requests, streams, threads.
//! Invariants: exact paths win over templates, templates over `/streams/{name}`; all are compared decoded, so that no
//! encoding of a path leads around its answer. A path has at most one
//! answer for each method; a fixed asset gives way to what is registered after it, nothing else does.
//! Changes together with `dispatch`, which asks this table; `template` has what a template may be, `endpoint` the methods.

mod endpoint;
mod template;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use matchit::Router;
use parking_lot::RwLock;
use sse_fast_core::options::StreamPatch;
use thiserror::Error;

pub(crate) use self::endpoint::{CHANGES, Endpoint, Read};
pub(crate) use self::template::{Piece, Unfilled, render};
use self::template::{check_template, pieces};
use crate::calls::Lane;

/// A URL template mapped to a stream's name.
#[derive(Clone, Debug)]
pub struct RouteSpec {
    /// The path, with `{placeholders}`.
    pub template: String,
    /// The stream's name, with the same placeholders.
    pub stream: String,
    /// How long a request for a stream that does not exist yet is held.
    pub wait: Duration,
    /// How long between two checks of `exists`.
    pub retry_delay: Duration,
    /// The key of the application's `exists`.
    pub exists: Option<u64>,
    /// Whether a request makes the stream.
    pub create: bool,
    /// Options of streams made so.
    pub options: StreamPatch,
}

/// What kind of callable a handler is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandlerKind {
    /// It returns its answer, on a thread of the application's.
    Function,
    /// It returns its answer, on the application's event loop.
    Coroutine,
    /// It fills a stream, on a thread of its own.
    Generator,
    /// It fills a stream, on the application's event loop.
    AsyncGenerator,
}

impl HandlerKind {
    /// Who takes its calls.
    pub(crate) fn lane(self) -> Lane {
        match self {
            Self::Function => Lane::Threads,
            Self::Coroutine | Self::AsyncGenerator => Lane::Loop,
            Self::Generator => Lane::Generators,
        }
    }

    /// Whether its answer can only be a stream.
    pub(crate) fn generates(self) -> bool {
        matches!(self, Self::Generator | Self::AsyncGenerator)
    }
}

/// A path that calls the application.
#[derive(Clone, Debug)]
pub struct HandlerSpec {
    /// `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
    pub method: String,
    /// The path, with `{placeholders}`.
    pub template: String,
    /// The key of the application's handler.
    pub key: u64,
    /// What kind of callable that is.
    pub kind: HandlerKind,
    /// Whether the head and heartbeats of an event stream may go out while the handler works.
    pub early_head: bool,
    /// The heartbeat of such an early head.
    pub options: StreamPatch,
}

/// Why a route was refused.
#[derive(Debug, Error)]
pub enum RouteError {
    /// The template is not one.
    #[error("{template:?} is not a path: {reason}")]
    Template {
        /// What was given.
        template: String,
        /// What is wrong.
        reason: String,
    },
    /// The place is taken.
    #[error("{method} {template:?} is taken: it would match what {other:?} matches")]
    Taken {
        /// The method.
        method: String,
        /// What was given.
        template: String,
        /// What is there.
        other: String,
    },
    /// A method without handlers.
    #[error("a handler's method must be GET, POST, PUT, PATCH or DELETE: got {method:?}")]
    Method {
        /// What was given.
        method: String,
    },
    /// An option of the streams it makes is wrong.
    #[error(transparent)]
    Option(#[from] sse_fast_core::error::OptionError),
    /// The stream's name has braces that do not pair.
    #[error("{stream:?} is not a template of a stream's name: {reason}")]
    Stream {
        /// What was given.
        stream: String,
        /// What is wrong.
        reason: String,
    },
}

/// A URL template mapped to a stream's name, resolved from a [`RouteSpec`].
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) name: Vec<Piece>,
    pub(crate) missing: Missing,
}

/// What a route does for a stream that does not exist.
#[derive(Debug)]
pub(crate) enum Missing {
    /// Nothing: 404 at once.
    Refuse,
    /// Hold the request until the stream exists, at most for `limit`.
    Wait { limit: Duration, check: Option<Check> },
    /// Make it, with these options.
    Create(StreamPatch),
}

/// The application's `exists`, asked while requests are held.
#[derive(Debug)]
pub(crate) struct Check {
    /// The application's key of it.
    pub(crate) key: u64,
    /// How long between two questions.
    pub(crate) every: Duration,
    /// The options of a stream that exists by its word.
    pub(crate) options: StreamPatch,
}

impl From<RouteSpec> for Missing {
    fn from(spec: RouteSpec) -> Self {
        let RouteSpec { wait, retry_delay, exists, create, options, .. } = spec;
        let check = exists.map(|key| Check { key, every: retry_delay, options: options.clone() });
        match check {
            _ if create => Self::Create(options),
            None if wait.is_zero() => Self::Refuse,
            check => Self::Wait { limit: wait, check },
        }
    }
}

/// A fixed response.
#[derive(Debug)]
pub(crate) struct Asset {
    pub(crate) content_type: String,
    pub(crate) body: Bytes,
}

/// A path's endpoint with what its placeholders matched.
pub(crate) struct Match {
    pub(crate) params: Vec<(String, String)>,
    pub(crate) endpoint: Endpoint,
}

/// Every path of a server.
#[derive(Default)]
pub(crate) struct Routes {
    /// Held for a look-up or an insert; nothing is called under it.
    table: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    /// Each template with what answers it.
    endpoints: Vec<(String, Endpoint)>,
    /// Indices into `endpoints`, of paths without placeholders.
    exact: HashMap<String, usize>,
    /// Indices into `endpoints`, of the others.
    templates: Router<usize>,
}

impl Routes {
    pub(crate) fn route(&self, spec: RouteSpec) -> Result<(), RouteError> {
        let name = pieces(&spec.stream).map_err(|reason| RouteError::Stream { stream: spec.stream.clone(), reason })?;
        let template = spec.template.clone();
        let route = Arc::new(Route { name, missing: Missing::from(spec) });
        self.put("GET", &template, |endpoint| endpoint.put_read(Read::Stream(route)))
    }

    pub(crate) fn handler(&self, spec: HandlerSpec) -> Result<(), RouteError> {
        let spec = Arc::new(spec);
        let handler = Arc::clone(&spec);
        let method = spec.method.as_str();
        if method == "GET" {
            return self.put(method, &spec.template, |endpoint| endpoint.put_read(Read::Handler(handler)));
        }
        match CHANGES.iter().position(|change| *change == method) {
            Some(change) => self.put(method, &spec.template, |endpoint| endpoint.put_change(change, handler)),
            None => Err(RouteError::Method { method: method.to_owned() }),
        }
    }

    pub(crate) fn asset(&self, path: &str, asset: Asset) -> Result<(), RouteError> {
        self.put("GET", path, |endpoint| endpoint.put_read(Read::Asset(Arc::new(asset))))
    }

    /// What answers a path, which is decoded: however it was written, it leads to the same answer.
    pub(crate) fn find(&self, path: &str) -> Option<Match> {
        let table = self.table.read();
        let (index, params) = if let Some(&index) = table.exact.get(path) {
            (index, Vec::new())
        } else {
            let found = table.templates.at(path).ok()?;
            let params = found.params.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
            (*found.value, params.collect())
        };
        let (_, endpoint) = table.endpoints.get(index)?;
        Some(Match { params, endpoint: endpoint.clone() })
    }

    /// Registers something at a path; `put` says whether the place was free.
    /// How many requests found each path or template.
    pub(crate) fn requests(&self) -> Vec<(String, u64)> {
        let table = self.table.read();
        table.endpoints.iter().map(|(template, endpoint)| (template.clone(), endpoint.requests())).collect()
    }

    fn put(&self, method: &str, template: &str, put: impl FnOnce(&mut Endpoint) -> bool) -> Result<(), RouteError> {
        check_template(template)?;
        let mut table = self.table.write();
        let known = table.endpoints.iter().position(|(known, _)| known == template);
        let index = match known {
            Some(index) => index,
            None => table.add(method, template)?,
        };
        let free = table.endpoints.get_mut(index).is_some_and(|(_, endpoint)| put(endpoint));
        if free {
            return Ok(());
        }
        let (method, template) = (method.to_owned(), template.to_owned());
        Err(RouteError::Taken { method, other: template.clone(), template })
    }
}

impl Table {
    fn add(&mut self, method: &str, template: &str) -> Result<usize, RouteError> {
        let index = self.endpoints.len();
        if template.contains('{') {
            self.templates.insert(template, index).map_err(|error| match error {
                matchit::InsertError::Conflict { with } => {
                    RouteError::Taken { method: method.to_owned(), template: template.to_owned(), other: with }
                }
                other => RouteError::Template { template: template.to_owned(), reason: other.to_string() },
            })?;
        } else {
            self.exact.insert(template.to_owned(), index);
        }
        self.endpoints.push((template.to_owned(), Endpoint::default()));
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(template: &str) -> RouteSpec {
        RouteSpec {
            template: template.to_owned(),
            stream: "s".to_owned(),
            wait: Duration::ZERO,
            retry_delay: Duration::from_millis(200),
            exists: None,
            create: false,
            options: StreamPatch::default(),
        }
    }

    fn handler(method: &str, template: &str) -> HandlerSpec {
        let (method, template) = (method.to_owned(), template.to_owned());
        let (kind, options) = (HandlerKind::Function, StreamPatch::default());
        HandlerSpec { method, template, key: 1, kind, early_head: false, options }
    }

    #[test]
    fn a_route_is_resolved_to_one_answer_for_a_stream_that_is_missing() {
        let wait = Duration::from_secs(1);
        assert!(matches!(Missing::from(spec("/")), Missing::Refuse));
        assert!(matches!(Missing::from(RouteSpec { wait, ..spec("/") }), Missing::Wait { check: None, .. }));
        let checked = Missing::from(RouteSpec { exists: Some(7), ..spec("/") });
        assert!(matches!(checked, Missing::Wait { check: Some(Check { key: 7, .. }), .. }), "{checked:?}");
        assert!(matches!(Missing::from(RouteSpec { create: true, ..spec("/") }), Missing::Create(_)));
    }

    #[test]
    fn an_asset_gives_way_and_nothing_else_does() {
        let asset = || Asset { content_type: "text/plain".to_owned(), body: Bytes::new() };
        let routes = Routes::default();
        routes.asset("/a", asset()).expect("free");
        routes.asset("/a", asset()).expect("an asset gives way to another");
        routes.handler(handler("GET", "/a")).expect("an asset gives way to a handler");
        routes.handler(handler("POST", "/a")).expect("another method");
        for refused in [
            routes.asset("/a", asset()),
            routes.route(spec("/a")),
            routes.handler(handler("GET", "/a")),
            routes.handler(handler("POST", "/a")),
        ] {
            assert!(matches!(refused, Err(RouteError::Taken { .. })), "{refused:?}");
        }
        assert!(matches!(routes.handler(handler("BREW", "/a")), Err(RouteError::Method { .. })));
        let found = routes.find("/a").expect("an endpoint").endpoint;
        assert!(matches!(found.read, Some(Read::Handler(_))) && found.change("POST").is_some());
    }

    #[test]
    fn each_method_has_an_answer_of_its_own_and_allow_lists_them() {
        let routes = Routes::default();
        for method in ["DELETE", "PUT"] {
            routes.handler(handler(method, "/a/{id}")).expect("free");
        }
        let found = routes.find("/a/7").expect("an endpoint").endpoint;
        assert_eq!(found.allow(), "PUT, DELETE, OPTIONS");
        assert!(found.read.is_none() && found.change("PUT").is_some() && found.change("POST").is_none());
        routes.handler(handler("GET", "/a/{id}")).expect("free");
        let found = routes.find("/a/7").expect("an endpoint").endpoint;
        assert_eq!(found.allow(), "GET, HEAD, PUT, DELETE, OPTIONS");
    }

    #[test]
    fn a_rest_takes_every_segment_and_at_least_one_character() {
        let routes = Routes::default();
        routes.handler(handler("GET", "/a/{*rest}")).expect("free");
        routes.handler(handler("GET", "/b/{x}")).expect("free");
        let params = |path: &str| {
            routes.find(path).map(|found| found.params.into_iter().map(|(_, value)| value).collect::<String>())
        };
        assert_eq!(params("/a/b/c d/").as_deref(), Some("b/c d/"));
        assert_eq!((params("/a/"), params("/a"), params("/b/"), params("/b/c/d")), (None, None, None, None));
    }
}
