//! What became of one request; a line of the log.

use std::fmt;
use std::sync::Arc;

use crate::args::Ask;

pub(crate) const LOG_HEADER: &str = "start_us,connect_us,total_us,kind,path,result,version,reconnect";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Fresh,
    Keepalive,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Status(u16),
    Error(Class),
}

/// Why there was no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Refused,
    Reset,
    Eof,
    Timeout,
    Other,
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    /// Unix µs.
    pub(crate) start_us: i64,
    /// 0 on a connection that was open already.
    pub(crate) connect_us: u32,
    pub(crate) total_us: u32,
    pub(crate) kind: Kind,
    pub(crate) ask: Arc<Ask>,
    pub(crate) end: End,
    pub(crate) version: Option<String>,
    /// The first attempt met a connection that the server was closing.
    pub(crate) reconnect: bool,
    /// What `Class::Other` was.
    pub(crate) detail: Option<String>,
}

impl Outcome {
    /// 4xx counts as failed: the load asks only for what exists.
    pub(crate) fn failed(&self) -> bool {
        !matches!(self.end, End::Status(code) if code < 400)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(code) => write!(f, "{code}"),
            Self::Error(class) => f.write_str(match class {
                Class::Refused => "refused",
                Class::Reset => "reset",
                Class::Eof => "eof",
                Class::Timeout => "timeout",
                Class::Other => "other",
            }),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fresh => "fresh",
            Self::Keepalive => "keepalive",
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start_us, connect_us, total_us, kind, end, .. } = self;
        let (path, version) = (&self.ask.name, self.version.as_deref().unwrap_or_default());
        write!(f, "{start_us},{connect_us},{total_us},{kind},{path},{end},{version},{}", u8::from(self.reconnect))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_has_the_columns_of_its_header() {
        let ask = Arc::new("POST /orders".parse().unwrap());
        let outcome = Outcome {
            start_us: 1_795_000_000_000_000,
            connect_us: 90,
            total_us: 850,
            kind: Kind::Fresh,
            ask,
            end: End::Error(Class::Reset),
            version: None,
            reconnect: false,
            detail: None,
        };
        assert_eq!(outcome.to_string(), "1795000000000000,90,850,fresh,POST /orders,reset,,0");
        assert_eq!(outcome.to_string().split(',').count(), LOG_HEADER.split(',').count());
    }
}
