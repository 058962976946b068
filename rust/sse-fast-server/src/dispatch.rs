//! Which endpoint answers a request, by path and method.
//!
//! Owns the order: application's routes and handlers, then `/streams` and `/streams/{name}`, then 404; and which
//! methods each allows. Must not know: how is published (`publish_api`), how a stream is waited for, how a handler is called.
//! Invariants: a request that changes something reaches no handler before its origin was checked. Whether a request may read a
//! name is decided before anybody looks what that leads to.
//! Changes together with `route`, the table that is asked here.

use std::sync::Arc;

use hyper::header::{self, HeaderValue};
use hyper::{Method, Response};

use crate::directory::check_name;
use crate::refusals::bad_name;
use crate::request::ParsedRequest;
use crate::respond::{Action, Context};
use crate::response::{self, HttpResponse, Refusal, not_allowed};
use crate::route::{Asset, Match, Read};
use crate::several;
use crate::socket::RequestBody;

/// What `/streams` allows, and what is not known yet.
const STREAM_METHODS: &str = "GET, HEAD, OPTIONS";

impl Context {
    pub(crate) async fn dispatch(
        self: &Arc<Self>,
        request: &ParsedRequest,
        body: RequestBody,
    ) -> Result<Action, Refusal> {
        if request.method == Method::OPTIONS && request.uri.path() == "*" {
            return Ok(Action::Respond(self.options("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")));
        }
        if let Some(found) = self.routes.find(&request.path) {
            return self.matched(request, found, body).await;
        }
        if self.is_for_several(request) {
            if request.method == Method::OPTIONS {
                return Ok(Action::Respond(self.options(STREAM_METHODS)));
            }
            if !request.is_read() {
                return Err(not_allowed(STREAM_METHODS));
            }
            return self.several(request, &body.signals).await;
        }
        let Some(name) = request.path.strip_prefix("/streams/").filter(|name| !name.is_empty()) else {
            if request.method == Method::OPTIONS && self.is_settling() {
                return Ok(Action::Respond(self.options(STREAM_METHODS)));
            }
            return self.settled(request, Refusal::new(404, "not_found", "there is nothing at this path"));
        };
        if request.method == Method::OPTIONS {
            return Ok(Action::Respond(self.options(self.stream_methods())));
        }
        if self.is_to_publish(request) {
            return self.publish_api(request, name, body).await;
        }
        if !request.is_read() {
            return Err(not_allowed(self.stream_methods()));
        }
        check_name(name).map_err(|error| bad_name(&error))?;
        let answer = |admitted| async {
            if let Some(action) = self.look_elsewhere(request, name).await {
                return Ok(action);
            }
            match self.directory.find_public(name) {
                Some(stream) => self.read(request, &stream, admitted).await,
                None => self.appears_or_settles(request, name, admitted, &body.signals).await,
            }
        };
        self.for_reader(request, &[name], answer).await
    }

    /// Whether it asks for several streams. Proxies and frameworks redirect to a path that ends in a slash; what the
    /// application has at the one without is its own there, too.
    fn is_for_several(&self, request: &ParsedRequest) -> bool {
        let has_names = || request.query.iter().any(|(key, _)| key == "name");
        match request.path.strip_prefix(several::PATH) {
            Some("") => true,
            Some("/") => has_names() && self.routes.find(several::PATH).is_none(),
            _ => false,
        }
    }

    fn options(&self, allow: &str) -> HttpResponse {
        response::options(allow, self.cors.may_send())
    }

    async fn matched(
        self: &Arc<Self>,
        request: &ParsedRequest,
        Match { params, endpoint }: Match,
        body: RequestBody,
    ) -> Result<Action, Refusal> {
        endpoint.count();
        if request.method == Method::OPTIONS {
            return Ok(Action::Respond(self.options(&endpoint.allow())));
        }
        if let Some(handler) = endpoint.change(request.method.as_str()) {
            if !self.cors.may_change(&request.headers, request.host(), request.requester.scheme.as_deref()) {
                return Err(self.origin_refused(request));
            }
            return self.call_handler(request, handler, params, body).await;
        }
        match endpoint.read.as_ref().filter(|_| request.is_read()) {
            Some(Read::Handler(handler)) => self.call_handler(request, handler, params, body).await,
            Some(Read::Asset(asset)) => Ok(Action::Respond(fixed(asset))),
            Some(Read::Stream(route)) => self.follow(request, route, &params, &body.signals).await,
            None => Err(not_allowed(&endpoint.allow())),
        }
    }
}

fn fixed(asset: &Asset) -> HttpResponse {
    let mut response = Response::new(asset.body.clone().into());
    let content_type = HeaderValue::from_str(&asset.content_type);
    response.headers_mut().extend(content_type.map(|value| (header::CONTENT_TYPE, value)));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
