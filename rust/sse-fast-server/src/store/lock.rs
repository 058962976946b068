//! Whose a folder is: one server's at a time; and how the one before it has ended.
//!
//! Owns: the lock, and the file that says whether the server was closed and since which start of the machine it ran. Must
//! not know: segments. Invariants: the lock is the kernel's, so that it is gone with the process, however that ends; the
//! process number in the file is for people. A forked child closes its copies of the folder's
//! descriptors (`_fork.py`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::error::OpenError;

const LOCK: &str = "lock";
const SESSION: &str = "session.json";

/// The folder is this server's until this is dropped.
pub(super) struct Lock {
    _file: File,
}

/// How a server used the folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Session {
    /// Since which start of the machine; empty where the system does not say.
    pub(super) boot: String,
    /// Whether what was published was on the disk.
    pub(super) disk: bool,
    /// The last segment and how many bytes of it count, where the server was closed.
    pub(super) closed: Option<(u64, u64)>,
}

impl Lock {
    pub(super) fn take(folder: &Path, shown: &str) -> Result<Self, OpenError> {
        let path = folder.join(LOCK);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = opened.map_err(|error| OpenError::of(shown, "opening its lock", error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // It is only shown.
                let _ = file.read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "another process".to_owned(),
                    pid if pid == std::process::id().to_string() => "another server of this process".to_owned(),
                    pid => format!("process {pid}"),
                };
                return Err(OpenError::Locked { folder: shown.to_owned(), holder });
            }
            Err(error) => return Err(OpenError::of(shown, "locking it", error.into())),
        }
        // Likewise; a full disk is found out where it matters.
        let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

impl Session {
    /// How the folder was last used; `None` where it was not, or nobody can tell.
    pub(super) fn read(folder: &Path) -> Option<Self> {
        let text = fs::read_to_string(folder.join(SESSION)).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Replaces it as a whole.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let new = folder.join("session.new");
        let mut file = File::create(&new)?;
        file.write_all(serde_json::to_string(self).unwrap_or_default().as_bytes())?;
        file.sync_all()?;
        fs::rename(new, folder.join(SESSION))?;
        super::segment::sync_folder(folder)
    }
}

/// What tells this start of the machine from others; empty where the system does not say.
pub(super) fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
