//! What the shop counts: requests by handler and code, so that a test can see how many reached this version.

use prometheus::{IntCounterVec, Opts, Registry, TextEncoder};

/// `shop_requests_total{handler,code,version}`.
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
}

impl Metrics {
    pub(crate) fn new(version: &str) -> prometheus::Result<Self> {
        let options = Opts::new("shop_requests_total", "Requests answered, by handler and code").const_label("version", version);
        let requests = IntCounterVec::new(options, &["handler", "code"])?;
        let registry = Registry::new();
        registry.register(Box::new(requests.clone()))?;
        Ok(Self { registry, requests })
    }

    /// `handler` is one of a handful of names, never a raw path: the number of series must not depend on who asks.
    pub(crate) fn count(&self, handler: &str, code: u16) {
        self.requests.with_label_values(&[handler, &code.to_string()]).inc();
    }

    pub(crate) fn text(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}
