//! From an address to a connection that is ready: TCP, TLS, user and password, database, and which server this is.
//!
//! Owns: what is said before anything else. Must not know: requests, pushes.
//! Invariants: all of it is bounded by [`PATIENCE`]; no error holds a password, and one says what was attempted, and where.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::calls::{self, Names};
use super::resp::{self, Reader, Value};
use super::url::Address;

/// How long a connection may take to be ready.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("cannot reach {at}: {source}")]
    Unreachable { at: String, source: io::Error },
    #[error("{at} did not answer within {} s", PATIENCE.as_secs())]
    Silent { at: String },
    #[error("{at} answered {what} with: {answer}")]
    Refused { at: String, what: &'static str, answer: String },
    #[error("{at} is a replica: the backplane is its master, or redis+sentinel:// to find it")]
    Replica { at: String },
    #[error("{at} is {found}: the backplane needs Redis 6.2 or Valkey 7.2, or newer")]
    Old { at: String, found: String },
    #[error("none of the sentinels of {at} knows the service {service:?}")]
    NoService { at: String, service: String },
    #[error(
        "the user of {at} lacks rights: it may not use {commands} ({answer}); all that it needs is under \"Several \
         processes, several machines\" in the documentation"
    )]
    Rights { at: String, commands: String, answer: String },
    #[error("cannot speak TLS with {at}: {why}")]
    Tls { at: String, why: String },
}

/// What a connection is made of, whatever lies under it.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// A connection with what was read of it and not taken.
pub(super) struct Ready {
    pub(super) socket: Box<dyn Socket>,
    pub(super) input: BytesMut,
    pub(super) reader: Reader,
    at: String,
}

/// Connects to the server; through the sentinels, where the address names them.
pub(super) async fn connect(address: &Address) -> Result<Ready, ConnectError> {
    let at = || address.to_string();
    timeout(PATIENCE, async {
        let Some(service) = &address.service else {
            let (host, port) = address.hosts.first().map_or(("", 0), |(host, port)| (host, *port));
            return connect_to(address, host, port, true).await;
        };
        let mut last = None;
        for (host, port) in &address.hosts {
            match master(address, host, *port, service).await {
                Ok(Some((host, port))) => return connect_to(address, &host, port, true).await,
                // One that answers says more than one that does not.
                Ok(None) => last = Some(ConnectError::NoService { at: at(), service: service.clone() }),
                Err(error) => last = last.filter(|last| matches!(last, ConnectError::NoService { .. })).or(Some(error)),
            }
        }
        Err(last.unwrap_or_else(|| ConnectError::NoService { at: at(), service: service.clone() }))
    })
    .await
    .unwrap_or_else(|_| Err(ConnectError::Silent { at: at() }))
}

/// Where a sentinel says that the master is. Sentinels have no user here: few have one, and it would be another.
async fn master(
    address: &Address,
    host: &str,
    port: u16,
    service: &str,
) -> Result<Option<(String, u16)>, ConnectError> {
    let sentinel = timeout(PATIENCE / 3, connect_to(address, host, port, false));
    let Ok(sentinel) = sentinel.await else {
        return Err(ConnectError::Silent { at: format!("the sentinel {host}:{port}") });
    };
    let asked = ["SENTINEL", "get-master-addr-by-name", service];
    let found = sentinel?.ask("SENTINEL", &asked).await?.array();
    Ok(found.and_then(|found| match &found[..] {
        [host, port] => Some((host.text()?.to_owned(), port.text()?.parse().ok()?)),
        _ => None,
    }))
}

async fn connect_to(address: &Address, host: &str, port: u16, login: bool) -> Result<Ready, ConnectError> {
    let at = format!("{host}:{port}");
    let unreachable = |source| ConnectError::Unreachable { at: at.clone(), source };
    let socket = TcpStream::connect((host, port)).await.map_err(unreachable)?;
    socket.set_nodelay(true).map_err(unreachable)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(15));
    socket2::SockRef::from(&socket).set_tcp_keepalive(&keepalive).map_err(unreachable)?;
    let socket: Box<dyn Socket> = if address.tls { Box::new(tls(socket, host, &at).await?) } else { Box::new(socket) };
    let mut ready = Ready { socket, input: BytesMut::new(), reader: Reader::default(), at };
    if login {
        if let Some(password) = &address.password {
            match &address.user {
                Some(user) => ready.ask("AUTH", &["AUTH", user, password]).await?,
                None => ready.ask("AUTH", &["AUTH", password]).await?,
            };
        }
        if address.database != 0 {
            ready.ask("SELECT", &["SELECT", &address.database.to_string()]).await?;
        }
    }
    Ok(ready)
}

async fn tls(socket: TcpStream, host: &str, at: &str) -> Result<impl Socket + use<>, ConnectError> {
    let wrong = |why: String| ConnectError::Tls { at: at.to_owned(), why };
    let name = rustls::pki_types::ServerName::try_from(host.to_owned()).map_err(|error| wrong(error.to_string()))?;
    let connector = TlsConnector::from(tls_config().map_err(|why| wrong(why.clone()))?);
    connector.connect(name, socket).await.map_err(|error| wrong(error.to_string()))
}

/// The system's certificates, read once; `SSL_CERT_FILE` names others.
fn tls_config() -> Result<Arc<rustls::ClientConfig>, &'static String> {
    static CONFIG: OnceLock<Result<Arc<rustls::ClientConfig>, String>> = OnceLock::new();
    let made = CONFIG.get_or_init(|| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
    });
    made.as_ref().map(Arc::clone)
}

/// Whether an error in a script is one of the user's rights; what else is wrong now may be right later.
fn is_of_rights(error: &str) -> bool {
    let error = error.to_lowercase();
    ["permission", "can't run this command", "can't access"].iter().any(|said| error.contains(said))
}

impl Ready {
    /// Asks something by itself; an error that the server answers is one here.
    pub(super) async fn ask(&mut self, what: &'static str, arguments: &[&str]) -> Result<Value, ConnectError> {
        let arguments: Vec<Bytes> = arguments.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect();
        self.ask_bytes(what, &arguments).await
    }

    async fn ask_bytes(&mut self, what: &'static str, arguments: &[Bytes]) -> Result<Value, ConnectError> {
        let mut out = BytesMut::new();
        resp::put(&mut out, arguments);
        let unreachable = |source| ConnectError::Unreachable { at: self.at.clone(), source };
        self.socket.write_all(&out).await.map_err(unreachable)?;
        loop {
            match self.reader.take(&mut self.input) {
                Ok(Some(Value::Error(answer))) => {
                    let answer = String::from_utf8_lossy(&answer).into_owned();
                    return Err(ConnectError::Refused { at: self.at.clone(), what, answer });
                }
                Ok(Some(value)) => return Ok(value),
                Ok(None) => {}
                Err(error) => {
                    return Err(ConnectError::Refused { at: self.at.clone(), what, answer: error.to_string() });
                }
            }
            if self.socket.read_buf(&mut self.input).await.map_err(unreachable)? == 0 {
                return Err(unreachable(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// The fence of this server.
    pub(super) async fn fence(&mut self) -> Result<Arc<str>, ConnectError> {
        let info = self.ask("INFO replication", &["INFO", "replication"]).await?;
        calls::fence(info.text().unwrap_or_default()).ok_or_else(|| ConnectError::Replica { at: self.at.clone() })
    }

    /// Whether the user may do all that is needed: what is missing is told at the start, not in the middle of an event.
    pub(super) async fn check_rights(&mut self, names: &Names, process: &str) -> Result<(), ConnectError> {
        let mut refused = Vec::new();
        // The second time by its name.
        for (what, whole) in [("EVAL", true), ("EVALSHA", false)] {
            let tried = self.ask_bytes(what, &names.trial(process).arguments(whole)).await?;
            refused = tried.array().unwrap_or_default();
        }
        let refused: Vec<(&str, &str)> = refused
            .iter()
            .filter_map(|said| said.text()?.split_once(' '))
            .filter(|(_, why)| is_of_rights(why))
            .collect();
        if let Some((_, answer)) = refused.first() {
            let mut commands: Vec<&str> = refused.iter().map(|(command, _)| *command).collect();
            commands.dedup();
            return Err(ConnectError::Rights {
                at: self.at.clone(),
                commands: commands.join(", "),
                answer: (*answer).to_owned(),
            });
        }
        let own = names.own_channels(process).into_iter().chain([names.channel(process)]);
        for channel in own {
            self.ask_bytes("SUBSCRIBE", &[Bytes::from_static(b"SUBSCRIBE"), channel.clone()]).await?;
            self.ask_bytes("UNSUBSCRIBE", &[Bytes::from_static(b"UNSUBSCRIBE"), channel]).await?;
        }
        Ok(())
    }

    /// What may be wrong with how the server is set up.
    pub(super) async fn advice(&mut self) -> Result<Option<String>, ConnectError> {
        let info = self.ask("INFO memory", &["INFO", "memory"]).await?;
        let info = info.text().unwrap_or_default();
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let policy = field("maxmemory_policy:").filter(|policy| policy.starts_with("allkeys"));
        let limited = field("maxmemory:").is_some_and(|most| most != "0");
        Ok(policy.filter(|_| limited).map(|policy| {
            format!(
                "{} evicts streams that are in use when its memory is full (maxmemory-policy {policy}): readers get gaps; \
                 noeviction makes publishing raise instead",
                self.at
            )
        }))
    }

    /// Whether this server is one that is new enough.
    pub(super) async fn check_version(&mut self) -> Result<(), ConnectError> {
        let info = self.ask("INFO server", &["INFO", "server"]).await?;
        let info = info.text().unwrap_or_default();
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let (name, found, least) = match (field("valkey_version:"), field("redis_version:")) {
            (Some(version), _) => ("Valkey", version, (7, 2)),
            (None, Some(version)) => ("Redis", version, (6, 2)),
            // Some services hide it.
            (None, None) => return Ok(()),
        };
        let mut numbers = found.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
        if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < least {
            return Err(ConnectError::Old { at: self.at.clone(), found: format!("{name} {found}") });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::ConnectError;

    const GUIDE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guides/machines.md"));

    #[test]
    fn the_guide_about_rights_is_named_by_its_title() {
        let [at, commands, answer] = ["a", "b", "c"].map(str::to_owned);
        let said = ConnectError::Rights { at, commands, answer }.to_string();
        let title = GUIDE.lines().next().and_then(|line| line.strip_prefix("# ")).expect("it has a title");
        assert!(said.contains(&format!("under \"{title}\"")), "{said}");
    }
}
