//! Whether a check can be run at all: every field bounded, every error naming the field and what to write instead.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Capture, Check, Compare, Expect, Place, RUN, Step, Sweep, aftermath::ITEM, shape};

/// Why a check cannot be run, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct CheckError {
    /// Where, as in the manifest: `steps[2].headers[0]`.
    pub field: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a check. No variant carries a value that may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No request at all.
    #[error("there is no step; give at least one")]
    NoSteps,
    /// A question without steps has nothing to prepare or to put right.
    #[error("only with steps; a probe of grpc, tcp or job asks nothing else")]
    OnlyWithSteps,
    /// See [`Compare::STEPS`].
    #[error("the answers of {count} steps are too many to compare; keep to {} and to steps that are no setup or teardown", Compare::STEPS)]
    TooManyCompared {
        /// How many there are.
        count: usize,
    },
    /// What is ignored is named as it is told.
    #[error("name at most {} fields as $.order.note or $.items[*].note; a name that is none of a field is *", Compare::IGNORED)]
    Ignored,
    /// See [`Check::MAX_STEPS`].
    #[error("{count} steps are too many; split the flow so that each has at most {}", Check::MAX_STEPS)]
    TooManySteps {
        /// How many there are.
        count: usize,
    },
    /// Names go into headers, labels and messages.
    #[error("use 1 to {} letters, digits, '-', '_' or '.'", Check::MAX_NAME)]
    Name,
    /// A result names the step.
    #[error("an earlier step has the same name; give each its own")]
    DuplicateName,
    /// An address is no host: nobody's certificate or route is for it.
    #[error("give the DNS name that customers use, such as shop.example.com or shop.example.com:8443, not a URL or an address")]
    Host,
    /// CONNECT and TRACE are left out on purpose.
    #[error("use one of {}, in capitals", METHODS.join(", "))]
    Method,
    /// Not an origin-form path.
    #[error("begin with '/', percent-encode spaces and everything outside ASCII, leave out '#', and stay within {} bytes", Step::MAX_PATH)]
    Path,
    /// See [`Step::MAX_HEADERS`].
    #[error("{count} headers are too many; keep to {}", Step::MAX_HEADERS)]
    TooManyHeaders {
        /// How many there are.
        count: usize,
    },
    /// Not a token of RFC 9110.
    #[error("not a header name; use letters, digits and '-'")]
    HeaderName,
    /// Not printable ASCII, or too long.
    #[error("not a header value; use printable ASCII on one line, at most {} bytes", Step::MAX_HEADER_VALUE)]
    HeaderValue,
    /// Framing, routing and marking are the prober's own.
    #[error("{name} is set by the prober itself; remove it (for Host, set the check's host)")]
    HeaderReserved {
        /// The header's name.
        name: String,
    },
    /// See [`Step::MAX_BODY`].
    #[error("{bytes} bytes are too many; send at most {}", Step::MAX_BODY)]
    BodyTooLarge {
        /// Its size as sent.
        bytes: usize,
    },
    /// Zero never passes; hours would keep a place from others.
    #[error("give more than 0 and at most {:?}", Check::MAX_DEADLINE)]
    Deadline,
    /// Not a final status.
    #[error("{code} is not a final HTTP status; use 200 to 599")]
    Status {
        /// As written.
        code: u16,
    },
    /// Could never be exceeded, so it would be a promise that nobody checks.
    #[error("give more than 0 and less than the step's deadline of {deadline:?}, or raise that")]
    Within {
        /// The step's.
        deadline: Duration,
    },
    /// Never set when it is needed.
    #[error("there is no ${{{name}}}; capture it in a step before this one, or use run.id or secrets.NAME")]
    Unknown {
        /// As written.
        name: String,
    },
    /// What a step of the run brings is not known when that is over.
    #[error("there is no ${{{name}}} here; use secrets.NAME, what a step of the setup captures, or, in delete, item.NAME")]
    UnknownToSweep {
        /// As written.
        name: String,
    },
    /// Any text ends with the name of a run then, and that may be a customer's.
    #[error("say what stands before the name of the run, as synth-")]
    Prefix,
    /// Variables are letters, digits and `_`.
    #[error("use a letter and then up to 62 letters, digits or '_'")]
    Variable,
    /// Neither RFC 9535 nor a header.
    #[error("{problem}")]
    Capture {
        /// What to write instead.
        problem: String,
    },
    /// Not CEL.
    #[error("{problem}")]
    That {
        /// What to write instead.
        problem: String,
    },
    /// It would never be asked again, or for ever.
    #[error("give every, more than 0, and within, not less than that and at most {:?}", Check::MAX_DEADLINE)]
    Until,
    /// A bundle without content would silently mean another trust.
    #[error("the CA bundle is empty; give PEM certificates, or leave it out to trust what the system trusts")]
    Trust,
}

/// What a step may do. CONNECT would open a tunnel and TRACE would echo our headers.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Headers that frame, route or mark the request. Letting a check set them would smuggle or unmark requests.
const RESERVED: [&str; 14] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "expect",
    "user-agent",
    "x-haldane-probe",
    "x-haldane-run",
];

impl Check {
    /// Whether this can be run at all; the first problem found.
    ///
    /// # Errors
    /// Names the field as in the manifest and says what to write instead.
    pub fn validate(&self) -> Result<(), CheckError> {
        require(is_name(&self.name), "name", Problem::Name)?;
        require(is_host(&self.host), "host", Problem::Host)?;
        require(is_deadline(self.deadline), "deadline", Problem::Deadline)?;
        require(self.trust.as_ref().is_none_or(|pem| !pem.trim_ascii().is_empty()), "trust", Problem::Trust)?;
        let is_header = |by: &super::AnsweredBy| http::HeaderName::from_bytes(by.header.as_bytes()).is_ok();
        require(self.answered_by.as_ref().is_none_or(is_header), "answeredBy.header", Problem::HeaderName)?;
        if self.knock.is_some() || self.suite.is_some() {
            let alone = self.all_steps().next().is_none() && self.sweep.is_none();
            return require(alone, "steps", Problem::OnlyWithSteps);
        }
        require(!self.steps.is_empty(), "steps", Problem::NoSteps)?;
        let count = self.all_steps().count();
        require(count <= Self::MAX_STEPS, "steps", Problem::TooManySteps { count })?;
        let compared = |steps: &[Step]| steps.iter().filter(|step| step.compare.is_some()).count();
        let (count, beside) = (compared(&self.steps), compared(&self.setup) + compared(&self.teardown));
        require(count <= Compare::STEPS && beside == 0, "steps", Problem::TooManyCompared { count: count + beside })?;
        let (mut names, mut known) = (BTreeSet::new(), BTreeSet::from([RUN.to_owned()]));
        known.extend(self.secrets.names().map(str::to_owned));
        for (at, step) in self.all_steps() {
            require(names.insert(step.name.as_str()), format!("{at}.name"), Problem::DuplicateName)?;
            step.validate(&at)?;
            let unknown = step.names().find(|name| !known.contains(*name)).map(str::to_owned);
            require(unknown.is_none(), &*at, Problem::Unknown { name: unknown.unwrap_or_default() })?;
            known.extend(step.capture.iter().map(|capture| capture.name.clone()));
        }
        self.sweep.as_deref().map_or(Ok(()), |sweep| self.sweep_is_valid(sweep))
    }

    /// It is asked when the steps are over, so it knows no more than the secrets and what the setup brings.
    fn sweep_is_valid(&self, sweep: &Sweep) -> Result<(), CheckError> {
        let mut known: BTreeSet<&str> = self.secrets.names().collect();
        known.extend(self.setup.iter().flat_map(|step| &step.capture).map(|capture| capture.name.as_str()));
        for (at, step, items) in [("sweep.list", &sweep.list, false), ("sweep.delete", &sweep.delete, true)] {
            step.validate(at)?;
            let unknown = step.names().find(|name| !(known.contains(name) || (items && name.starts_with(ITEM))));
            require(unknown.is_none(), at, Problem::UnknownToSweep { name: unknown.unwrap_or_default().to_owned() })?;
        }
        for (at, path) in [("sweep.items", &sweep.items), ("sweep.named.jsonPath", &sweep.named)] {
            let problem = Capture { name: at.to_owned(), from: Place::Json(path.clone()) }.problem();
            require(problem.is_none(), at, Problem::Capture { problem: problem.unwrap_or_default() })?;
        }
        require(!sweep.prefix.is_empty(), "sweep.named.prefix", Problem::Prefix)
    }
}

impl Step {
    fn validate(&self, at: &str) -> Result<(), CheckError> {
        require(is_name(&self.name), format!("{at}.name"), Problem::Name)?;
        require(METHODS.contains(&self.method.as_str()), format!("{at}.method"), Problem::Method)?;
        require(is_path(&self.path), format!("{at}.path"), Problem::Path)?;
        require(is_deadline(self.deadline), format!("{at}.deadline"), Problem::Deadline)?;
        let count = self.headers.len();
        require(count <= Self::MAX_HEADERS, format!("{at}.headers"), Problem::TooManyHeaders { count })?;
        for (index, (name, value)) in self.headers.iter().enumerate() {
            header(name, value).map_err(|problem| CheckError { field: format!("{at}.headers[{index}]"), problem })?;
        }
        for (index, capture) in self.capture.iter().enumerate() {
            let at = format!("{at}.capture[{index}]");
            require(is_variable(&capture.name), format!("{at}.name"), Problem::Variable)?;
            let problem = capture.problem();
            require(problem.is_none(), at, Problem::Capture { problem: problem.unwrap_or_default() })?;
        }
        let ignored = self.compare.iter().flat_map(|compare| &compare.ignore);
        let few = self.compare.as_ref().is_none_or(|compare| compare.ignore.len() <= Compare::IGNORED);
        require(few && ignored.into_iter().all(|path| shape::path_is_valid(path)), format!("{at}.compare.ignore"), Problem::Ignored)?;
        let waits = |until: super::Until| !until.every.is_zero() && until.every <= until.within && is_deadline(until.within);
        require(self.until.is_none_or(waits), format!("{at}.until"), Problem::Until)?;
        let bytes = self.body.as_ref().map_or(0, |body| body.bytes().len());
        require(bytes <= Self::MAX_BODY, format!("{at}.body"), Problem::BodyTooLarge { bytes })?;
        self.expect.validate(&format!("{at}.expect"), self.deadline)
    }
}

impl Expect {
    fn validate(&self, at: &str, deadline: Duration) -> Result<(), CheckError> {
        for (index, &code) in self.status.iter().enumerate() {
            require((200..=599).contains(&code), format!("{at}.status[{index}]"), Problem::Status { code })?;
        }
        for (index, that) in self.that.iter().enumerate() {
            let problem = that.problem();
            require(problem.is_none(), format!("{at}.that[{index}]"), Problem::That { problem: problem.unwrap_or_default() })?;
        }
        let judged = |within: Duration| !within.is_zero() && within < deadline;
        require(self.within.is_none_or(judged), format!("{at}.within"), Problem::Within { deadline })
    }
}

fn require(holds: bool, field: impl Into<String>, problem: Problem) -> Result<(), CheckError> {
    if holds { Ok(()) } else { Err(CheckError { field: field.into(), problem }) }
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=Check::MAX_NAME).contains(&name.len()) && name.bytes().all(allowed)
}

fn is_variable(name: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=Check::MAX_NAME).contains(&name.len()) && name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.bytes().all(rest)
}

fn is_host(host: &str) -> bool {
    let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    let port_is_valid = port.is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0));
    let label = |label: &str| {
        let inside = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        (1..=63).contains(&label.len()) && inside && !label.starts_with('-') && !label.ends_with('-')
    };
    // A last label of digits only is an IPv4 address, however it is written (WHATWG URL, "ends in a number").
    let number_at_end = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(label) && !number_at_end && port_is_valid
}

fn is_path(path: &str) -> bool {
    let legal = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    path.starts_with('/') && legal && path.len() <= Step::MAX_PATH && path.parse::<http::uri::PathAndQuery>().is_ok()
}

fn is_deadline(deadline: Duration) -> bool {
    !deadline.is_zero() && deadline <= Check::MAX_DEADLINE
}

fn header(name: &str, value: &str) -> Result<(), Problem> {
    let parsed = http::HeaderName::from_bytes(name.as_bytes()).map_err(|_| Problem::HeaderName)?;
    if RESERVED.contains(&parsed.as_str()) {
        return Err(Problem::HeaderReserved { name: parsed.to_string() });
    }
    let legal = value.len() <= Step::MAX_HEADER_VALUE && http::HeaderValue::from_str(value).is_ok();
    if legal { Ok(()) } else { Err(Problem::HeaderValue) }
}
