//! Why a request was refused, or what came was none.
//!
//! Owns: the reasons. Must not know: what is said, or counted, of each (`refusals`).

/// What was wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It is addressed to a name that the server does not answer to.
    Host,
    /// It would change something, and comes from a page of another origin.
    Origin,
    /// Its head is longer than it may be.
    Head,
    /// Its body is.
    Body,
    /// Its head or body did not come in time.
    Late,
    /// It cannot be read, or asks for what HTTP here cannot do.
    Malformed,
    /// It would make a stream, of which there are as many as may be.
    Streams,
}
