//! plain-hyper: one body for every request, on one thread. Part of `make bars`.
//!
//! Owns: the least that an HTTP/1.1 server made of hyper does for a request. Must not know: paths, methods, streams.
//! Usage: `plain-hyper PORT FILE`.

use std::convert::Infallible;
use std::error::Error;

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(port), Some(file)) = (arguments.next(), arguments.next()) else {
        return Err("plain-hyper PORT FILE".into());
    };
    let (port, body) = (port.parse::<u16>()?, Bytes::from(std::fs::read(file)?));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        loop {
            let (connection, _) = listener.accept().await?;
            connection.set_nodelay(true)?;
            tokio::spawn(serve(connection, body.clone()));
        }
    })
}

async fn serve(connection: TcpStream, body: Bytes) {
    let answer = service_fn(move |_: Request<Incoming>| {
        let response = Response::builder()
            .header("content-type", "text/javascript")
            .header("cache-control", "no-cache")
            .body(Full::new(body.clone()));
        std::future::ready(Ok::<_, Infallible>(response.unwrap_or_default()))
    });
    // A client that goes away is no event here.
    let _ = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(connection), answer).await;
}
