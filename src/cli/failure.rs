//! Why a command failed. Every failure ends the tool with status 1, but a reader of stdout who went away is none.

use std::io;

/// The result of a command and its parts.
pub type Result<T = ()> = std::result::Result<T, Failure>;

/// What is told on stderr.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The input or the request is at fault, or the answer is bad news.
    #[error("{0}")]
    Told(String),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] chanlog::Error),
    /// Stdout could not be written.
    #[error("stdout: {0}")]
    Output(#[from] io::Error),
}

/// A result, unless the failure is that the reader of stdout went away: who reads only a beginning has what they wanted.
pub fn unless_unread(result: Result) -> Result {
    match result {
        Err(failure) if failure.is_broken_pipe() => Ok(()),
        result => result,
    }
}

impl Failure {
    /// A failure in the tool's own words.
    pub fn told(what: impl Into<String>) -> Failure {
        Failure::Told(what.into())
    }

    /// Whether the reader of stdout went away.
    fn is_broken_pipe(&self) -> bool {
        matches!(self, Failure::Output(e) if e.kind() == io::ErrorKind::BrokenPipe)
    }
}
