//! What the shop counts: requests by handler and code, and how long they took.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder};

/// In seconds.
const BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// `shop_requests_total{handler,code,version}` and `shop_request_seconds{handler,version}`.
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    seconds: HistogramVec,
}

impl Metrics {
    pub(crate) fn new(version: &str) -> prometheus::Result<Self> {
        let options = Opts::new("shop_requests_total", "Requests answered, by handler and code").const_label("version", version);
        let requests = IntCounterVec::new(options, &["handler", "code"])?;
        let registry = Registry::new();
        registry.register(Box::new(requests.clone()))?;
        let options = HistogramOpts::new("shop_request_seconds", "How long an answer took, by handler").const_label("version", version);
        let seconds = HistogramVec::new(options.buckets(BUCKETS.to_vec()), &["handler"])?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self { registry, requests, seconds })
    }

    /// `handler` is one of a handful of names, never a raw path: the number of series must not depend on who asks.
    pub(crate) fn count(&self, handler: &str, code: u16, took: Duration) {
        self.requests.with_label_values(&[handler, &code.to_string()]).inc();
        self.seconds.with_label_values(&[handler]).observe(took.as_secs_f64());
    }

    pub(crate) fn text(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}
