//! What can be wrong with a store: at its opening, and later.
//!
//! Owns: the texts that users see. Must not know: when which of them is the case.
//! Changes together with: the binding's `errors`, which gives each its exception.

use std::io;

use rustix::io::Errno;
use thiserror::Error;

/// Why a folder cannot be a server's store.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another server has it.
    #[error("cannot use the store {folder:?}: {holder} has it; a folder is one server's at a time")]
    Locked {
        /// The folder.
        folder: String,
        /// Which process that is, as far as it can be told.
        holder: String,
    },
    /// The system does not allow it.
    #[error("cannot use the store {folder:?}: no permission for {attempt}")]
    Denied {
        /// The folder.
        folder: String,
        /// What was attempted.
        attempt: &'static str,
    },
    /// It was written by another version.
    #[error("cannot use the store {folder:?}: its format is version {version}, and this one reads version {known}")]
    Version {
        /// The folder.
        folder: String,
        /// What it says.
        version: u32,
        /// What is read.
        known: u32,
    },
    /// The disk has no room to begin with.
    #[error("cannot use the store {folder:?}: {attempt}: {source}")]
    Full {
        /// The folder.
        folder: String,
        /// What was attempted.
        attempt: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Anything else the system refused.
    #[error("cannot use the store {folder:?}: {attempt}: {source}")]
    Io {
        /// The folder.
        folder: String,
        /// What was attempted.
        attempt: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Why something could not be kept.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// There is no room; it is tried again with the next event.
    #[error("the store {folder:?} has no room: {reason}; nothing was published")]
    Full {
        /// The folder.
        folder: String,
        /// What the system said.
        reason: String,
        /// The system's number of it.
        number: i32,
    },
    /// The disk has failed.
    #[error("the store {folder:?} cannot be written: {reason}")]
    Failed {
        /// The folder.
        folder: String,
        /// What the system said.
        reason: String,
        /// The system's number of it.
        number: i32,
    },
}

/// Whether the system refused because there is no room: on the disk, in a quota, or in a limit of this process.
pub(super) fn is_full(error: &io::Error) -> bool {
    let full = [Errno::NOSPC, Errno::DQUOT, Errno::FBIG].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|number| full.contains(&number))
}

impl StoreError {
    /// Whether there is no room.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }

    pub(super) fn of(folder: &str, error: &io::Error) -> Self {
        let (folder, reason, number) = (folder.to_owned(), error.to_string(), error.raw_os_error().unwrap_or(0));
        if is_full(error) { Self::Full { folder, reason, number } } else { Self::Failed { folder, reason, number } }
    }
}

impl OpenError {
    pub(super) fn of(folder: &str, attempt: &'static str, source: io::Error) -> Self {
        let folder = folder.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::Denied { folder, attempt },
            _ if is_full(&source) => Self::Full { folder, attempt, source },
            _ => Self::Io { folder, attempt, source },
        }
    }
}
