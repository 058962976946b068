//! Paths to what answers them.
//!
//! Exact paths win over templates, templates over `/streams/{name}`. A template's placeholders
//! come from the path, or else from the query string. What is registered is checked here, once:
//! a request meets only whole routes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use matchit::Router;
use parking_lot::RwLock;
use sse_fast_core::options::StreamPatch;
use thiserror::Error;

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

/// A path that calls the application.
#[derive(Clone, Debug)]
pub struct HandlerSpec {
    /// `GET` or `POST`.
    pub method: String,
    /// The path, with `{placeholders}`.
    pub template: String,
    /// The key of the application's handler.
    pub key: u64,
    /// Whether the head and heartbeats of an event stream may go out while the handler works.
    pub early_head: bool,
    /// The heartbeat of such an early head.
    pub options: StreamPatch,
}

/// Why a route was refused.
#[derive(Debug, Error)]
pub enum RouteError {
    /// The template is not one.
    #[error("{template:?} is no path: {reason}")]
    Template {
        /// What was given.
        template: String,
        /// What is wrong.
        reason: String,
    },
    /// Somebody answers there already.
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
    #[error("a handler's method must be GET or POST: got {method:?}")]
    Method {
        /// What was given.
        method: String,
    },
    /// An option of the streams it makes is wrong.
    #[error(transparent)]
    Option(#[from] sse_fast_core::error::OptionError),
    /// The stream's name has braces that do not pair.
    #[error("{stream:?} is no stream template: {reason}")]
    Stream {
        /// What was given.
        stream: String,
        /// What is wrong.
        reason: &'static str,
    },
}

/// A stream's name in pieces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Piece {
    Text(String),
    Placeholder(String),
}

/// What answers a path, by method.
#[derive(Default)]
pub(crate) struct Endpoint {
    pub(crate) template: String,
    pub(crate) route: Option<Arc<Route>>,
    pub(crate) get: Option<Arc<HandlerSpec>>,
    pub(crate) post: Option<Arc<HandlerSpec>>,
    pub(crate) asset: Option<Arc<Asset>>,
}

pub(crate) struct Route {
    pub(crate) spec: RouteSpec,
    pub(crate) name: Vec<Piece>,
}

/// A fixed response.
pub(crate) struct Asset {
    pub(crate) content_type: String,
    pub(crate) body: Bytes,
}

/// Every path of a server.
#[derive(Default)]
pub(crate) struct Routes(RwLock<Table>);

#[derive(Default)]
struct Table {
    endpoints: Vec<Endpoint>,
    exact: HashMap<String, usize>,
    templates: Router<usize>,
}

/// A path's endpoint with what its placeholders matched.
pub(crate) struct Match {
    pub(crate) params: Vec<(String, String)>,
    pub(crate) route: Option<Arc<Route>>,
    pub(crate) get: Option<Arc<HandlerSpec>>,
    pub(crate) post: Option<Arc<HandlerSpec>>,
    pub(crate) asset: Option<Arc<Asset>>,
}

impl Match {
    /// What `Allow` says.
    pub(crate) fn allow(&self) -> &'static str {
        let get = self.get.is_some() || self.route.is_some() || self.asset.is_some();
        match (get, self.post.is_some()) {
            (true, true) => "GET, HEAD, POST, OPTIONS",
            (false, true) => "POST, OPTIONS",
            _ => "GET, HEAD, OPTIONS",
        }
    }
}

impl Routes {
    pub(crate) fn route(&self, spec: RouteSpec) -> Result<(), RouteError> {
        let name = pieces(&spec.stream).map_err(|reason| RouteError::Stream { stream: spec.stream.clone(), reason })?;
        let route = Arc::new(Route { spec, name });
        self.put("GET", &route.spec.template, |endpoint| {
            let free = endpoint.route.is_none() && endpoint.get.is_none() && endpoint.asset.is_none();
            endpoint.route = Some(Arc::clone(&route));
            free
        })
    }

    pub(crate) fn handler(&self, spec: HandlerSpec) -> Result<(), RouteError> {
        let get = match spec.method.as_str() {
            "GET" => true,
            "POST" => false,
            _ => return Err(RouteError::Method { method: spec.method }),
        };
        let spec = Arc::new(spec);
        self.put(&spec.method, &spec.template, |endpoint| {
            let free = if get { endpoint.get.is_none() && endpoint.route.is_none() } else { endpoint.post.is_none() };
            *(if get { &mut endpoint.get } else { &mut endpoint.post }) = Some(Arc::clone(&spec));
            free
        })
    }

    pub(crate) fn asset(&self, path: &str, asset: Asset) -> Result<(), RouteError> {
        let asset = Arc::new(asset);
        self.put("GET", path, |endpoint| {
            endpoint.asset = Some(Arc::clone(&asset));
            endpoint.get.is_none() && endpoint.route.is_none()
        })
    }

    /// What answers a path: exact ones are compared decoded, templates match it as it was sent, so
    /// that an encoded slash does not end a placeholder.
    pub(crate) fn find(&self, path: &str, raw_path: &str) -> Option<Match> {
        let table = self.0.read();
        let (index, params) = if let Some(&index) = table.exact.get(path) {
            (index, Vec::new())
        } else {
            let found = table.templates.at(raw_path).ok()?;
            let decoded = |value: &str| crate::request::decode(value).unwrap_or_default();
            let params = found.params.iter().map(|(name, value)| (name.to_owned(), decoded(value)));
            (*found.value, params.collect())
        };
        let endpoint = table.endpoints.get(index)?;
        Some(Match {
            params,
            route: endpoint.route.clone(),
            get: endpoint.get.clone(),
            post: endpoint.post.clone(),
            asset: endpoint.asset.clone(),
        })
    }

    /// Puts something on a path; `put` says whether the place was free.
    fn put(&self, method: &str, template: &str, put: impl FnOnce(&mut Endpoint) -> bool) -> Result<(), RouteError> {
        check_template(template)?;
        let mut table = self.0.write();
        let known = table.endpoints.iter().position(|endpoint| endpoint.template == template);
        let index = match known {
            Some(index) => index,
            None => table.add(method, template)?,
        };
        let Some(endpoint) = table.endpoints.get_mut(index) else { return Ok(()) };
        let mut changed = Endpoint {
            template: endpoint.template.clone(),
            route: endpoint.route.clone(),
            get: endpoint.get.clone(),
            post: endpoint.post.clone(),
            asset: endpoint.asset.clone(),
        };
        if !put(&mut changed) {
            let (method, template) = (method.to_owned(), template.to_owned());
            return Err(RouteError::Taken { method, other: template.clone(), template });
        }
        *endpoint = changed;
        Ok(())
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
        self.endpoints.push(Endpoint { template: template.to_owned(), ..Endpoint::default() });
        Ok(index)
    }
}

/// A stream's name from its pieces; an error is the placeholder nothing was given for.
pub(crate) fn render<'a>(
    pieces: &'a [Piece],
    params: &[(String, String)],
    query: &[(String, String)],
) -> Result<String, &'a str> {
    let value = |wanted: &str| {
        let mut pairs = params.iter().chain(query);
        pairs.find(|(name, value)| name == wanted && !value.is_empty()).map(|(_, value)| value.as_str())
    };
    let mut name = String::new();
    for piece in pieces {
        name.push_str(match piece {
            Piece::Text(text) => text,
            Piece::Placeholder(wanted) => value(wanted).ok_or(wanted.as_str())?,
        });
    }
    Ok(name)
}

fn pieces(template: &str) -> Result<Vec<Piece>, &'static str> {
    let (mut pieces, mut rest) = (Vec::new(), template);
    while let Some(open) = rest.find(['{', '}']) {
        let close = rest[open..].find('}').map(|at| open + at);
        let Some(close) = close.filter(|&close| close > open + 1 && rest.as_bytes()[open] == b'{') else {
            return Err("braces must pair around a placeholder's name");
        };
        if open > 0 {
            pieces.push(Piece::Text(rest[..open].to_owned()));
        }
        pieces.push(Piece::Placeholder(rest[open + 1..close].to_owned()));
        rest = &rest[close + 1..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    if pieces.is_empty() { Err("it is empty") } else { Ok(pieces) }
}

fn check_template(template: &str) -> Result<(), RouteError> {
    let bad = |reason: &str| Err(RouteError::Template { template: template.to_owned(), reason: reason.to_owned() });
    if !template.starts_with('/') {
        return bad("it must begin with /");
    }
    if template.contains(['?', '#']) || template.chars().any(char::is_control) {
        return bad("it must hold neither a query nor a fragment nor control characters");
    }
    let pieces = match pieces(template) {
        Ok(pieces) => pieces,
        Err(reason) => return bad(reason),
    };
    let mut names: Vec<_> = pieces.iter().filter(|piece| matches!(piece, Piece::Placeholder(_))).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    if names.len() < count { bad("a placeholder's name stands in it twice") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn placeholders_come_from_the_path_then_from_the_query() {
        let name = pieces("a/{x}-{y}").unwrap_or_default();
        let rendered = render(&name, &[pair("x", "1")], &[pair("x", "9"), pair("y", "2")]);
        assert_eq!(rendered, Ok("a/1-2".to_owned()));
        assert_eq!(render(&name, &[pair("x", "1")], &[pair("y", "")]), Err("y"));
    }

    #[test]
    fn braces_that_do_not_pair_are_refused() {
        for template in ["", "{", "}", "{}", "a{b", "a}b", "{a}}"] {
            assert!(pieces(template).is_err(), "{template:?}");
        }
    }
}
