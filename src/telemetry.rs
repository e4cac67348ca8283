//! Logs: one event per line, for people as text or for machines as JSON.

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Says what we do and what goes wrong; nothing of single requests, whose failures we tell ourselves.
const DEFAULT: &str = "info,kube_client=off,octocrab=off,kube_runtime=warn,hyper=warn,tower=warn";

/// Starts writing logs to stderr. What is written, says `RUST_LOG`; without it, a sensible default.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A second start in one process changes nothing.
    let _ = match format {
        LogFormat::Json => logs.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
        LogFormat::Text => logs.compact().try_init(),
    };
    // A panic is a line like any other, so that it does not tear JSON logs apart.
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string);
        let words = panic.payload_as_str().unwrap_or("no words");
        tracing::error!(at, words, "a panic: this is a defect, please report it");
    }));
}
