//! Who listens on a port that is taken, in words for the error: a wrong guess there costs people an hour.
//!
//! Owns: finding the process by what Linux tells in `/proc`, and what to do about each kind. Must not know: sockets of this
//! server. It is asked once, when a start has failed, and takes a tenth of a second at most. Where nothing can be told
//! (another system, another user's process) the text says only that the address is in use.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long other processes are looked through.
const PATIENCE: Duration = Duration::from_millis(100);

/// The state of a listening socket in the kernel's table.
const LISTENING: &str = "0A";

/// Which process listens, as seen from this one.
#[derive(Debug, PartialEq, Eq)]
enum Occupant {
    ThisProcess,
    Parent(u32),
    /// It has the same command line, numbers aside.
    SameProgram(u32),
    Other(u32),
    Unknown,
}

/// The text for an address that is in use.
pub(super) fn describe(address: SocketAddr) -> String {
    let choose = "choose another port, or 0 for a free one";
    match find(address) {
        Occupant::ThisProcess => format!(
            "the address is in use by this very process: was a cell, or a module, run twice? Close the server that it has \
             started already, or {choose}"
        ),
        Occupant::Parent(pid) => format!(
            "the address is in use by the parent of this process, {}: where a reloader or a master starts this process, \
             call serve() in one of the two only, or {choose}",
            shown(pid)
        ),
        Occupant::SameProgram(pid) => format!(
            "the address is in use by another process of the same program, {}: one engine serves all its workers, so call \
             serve() in one process only, or {choose}",
            shown(pid)
        ),
        Occupant::Other(pid) => format!("the address is in use by {}; {choose}", shown(pid)),
        Occupant::Unknown => format!("the address is in use; {choose}"),
    }
}

fn find(address: SocketAddr) -> Occupant {
    let until = Instant::now() + PATIENCE;
    let sockets = listening_on(address);
    if sockets.is_empty() {
        return Occupant::Unknown;
    }
    let (this, parent) = (std::process::id(), std::os::unix::process::parent_id());
    if holds(this, &sockets) {
        return Occupant::ThisProcess;
    }
    if holds(parent, &sockets) {
        return Occupant::Parent(parent);
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    match pids.take_while(|_| Instant::now() < until).find(|pid| holds(*pid, &sockets)) {
        Some(pid) if program(pid).is_some() && program(pid) == program(this) => Occupant::SameProgram(pid),
        Some(pid) => Occupant::Other(pid),
        None => Occupant::Unknown,
    }
}

/// The sockets that listen there, as the links to them read in a process's folder of descriptors.
fn listening_on(address: SocketAddr) -> Vec<PathBuf> {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let rows = tables.iter().flat_map(|table| table.lines().skip(1));
    rows.filter_map(|row| socket_of(row, address)).collect()
}

fn socket_of(row: &str, address: SocketAddr) -> Option<PathBuf> {
    let fields: Vec<_> = row.split_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    let (ip, port) = local.split_once(':')?;
    let same_port = u16::from_str_radix(port, 16).ok()? == address.port();
    // One that listens on every address has the port, too.
    let same_ip = ip.bytes().all(|digit| digit == b'0') || ip == in_hex(address.ip());
    (*state == LISTENING && same_port && same_ip).then(|| format!("socket:[{inode}]").into())
}

/// An address as the kernel's table has it: words in the machine's own order.
fn in_hex(ip: IpAddr) -> String {
    let octets = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words = octets.chunks_exact(4).filter_map(|word| Some(u32::from_ne_bytes(word.try_into().ok()?)));
    words.fold(String::new(), |text, word| format!("{text}{word:08X}"))
}

/// Whether the process has one of these open; false where this one may not look.
fn holds(pid: u32, sockets: &[PathBuf]) -> bool {
    let mut descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    descriptors.any(|entry| fs::read_link(entry.path()).is_ok_and(|link| sockets.contains(&link)))
}

/// The command line without its numbers: workers are told apart by them.
fn program(pid: u32) -> Option<Vec<u8>> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok().filter(|line| !line.is_empty())?;
    Some(line.into_iter().filter(|byte| !byte.is_ascii_digit()).collect())
}

/// A process for people: its number, the program, and the script where it is an interpreter's. Nothing else of its command
/// line, which may hold secrets.
fn shown(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let name = words.next().filter(|name| !name.is_empty()).map(|name| file_name(&name));
    let script = words.next().filter(|word| Path::new(&**word).extension().is_some_and(|kind| kind == "py"));
    match (name, script) {
        (Some(name), Some(script)) => format!("process {pid} ({name} {})", file_name(&script)),
        (Some(name), None) => format!("process {pid} ({name})"),
        (None, _) => format!("process {pid}"),
    }
}

fn file_name(path: &str) -> String {
    Path::new(path).file_name().map_or_else(|| path.to_owned(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_row_of_the_kernel_s_table_is_recognised_by_port_address_and_state() {
        let row = |local: &str, state: &str| {
            format!(
                "   1: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 0"
            )
        };
        let address: SocketAddr = "127.0.0.1:8080".parse().expect("an address");
        let local = format!("{}:1F90", in_hex(address.ip()));
        assert_eq!(socket_of(&row(&local, "0A"), address), Some("socket:[4711]".into()));
        assert_eq!(socket_of(&row("00000000:1F90", "0A"), address), Some("socket:[4711]".into()));
        let others = [row(&local, "01"), row(&local.replace("1F90", "1F91"), "0A"), row("0500000A:1F90", "0A")];
        assert!(others.iter().all(|row| socket_of(row, address).is_none()));
        assert_eq!(socket_of("not a row", address), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_listener_of_this_process_is_found() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0"] {
            // A machine may have no IPv6.
            let Ok(listener) = TcpListener::bind(address) else { continue };
            assert_eq!(find(listener.local_addr().expect("bound")), Occupant::ThisProcess);
        }
    }
}
