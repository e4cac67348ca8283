//! Health, readiness and metrics, for the kubelet and for Prometheus.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;

use crate::{
    control::{controller::Synced, lease::Leadership},
    metrics::Metrics,
};

/// How the process is.
pub struct Health {
    ended: AtomicBool,
    synced: Vec<Arc<Synced>>,
    leadership: Leadership,
}

impl Health {
    /// From what the parts say.
    #[must_use]
    pub fn new(synced: Vec<Arc<Synced>>, leadership: Leadership) -> Self {
        Self { ended: AtomicBool::new(false), synced, leadership }
    }

    /// The loop is over: the process is of no use any more.
    pub fn ended(&self) {
        self.ended.store(true, Ordering::Release);
    }

    fn healthy(&self) -> bool {
        !self.ended.load(Ordering::Acquire)
    }

    /// A follower is ready: it takes over when it has to. The leader is, when it knows all Deliveries that it may read.
    fn ready(&self) -> bool {
        let known = self.synced.iter().any(|s| s.done()) && self.synced.iter().all(|s| s.done() || s.refused());
        self.healthy() && (known || self.leadership.current().is_none())
    }
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, health: Arc<Health>, metrics: Arc<Metrics>) {
    // axum's serve never returns an error: a broken connection is that of one caller.
    if let Err(error) = axum::serve(listener, router(health, metrics)).await {
        tracing::error!(error = &error as &dyn std::error::Error, "health and metrics are served no more");
    }
}

fn router(health: Arc<Health>, metrics: Arc<Metrics>) -> Router {
    let about = Router::new()
        .route("/healthz", get(async |State(health): State<Arc<Health>>| answer(health.healthy(), "the loop has ended")))
        .route("/readyz", get(async |State(health): State<Arc<Health>>| answer(health.ready(), "the Deliveries are not all known yet")))
        .with_state(health);
    about.merge(Router::new().route("/metrics", get(text)).with_state(metrics))
}

fn answer(good: bool, otherwise: &'static str) -> Response {
    if good { "ok\n".into_response() } else { (StatusCode::SERVICE_UNAVAILABLE, otherwise).into_response() }
}

async fn text(State(metrics): State<Arc<Metrics>>) -> Response {
    match metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use http_body_util::BodyExt as _;
    use jiff::Timestamp;
    use tower::ServiceExt as _;

    use super::*;
    use crate::{clock::Clock, control::lease::Elector};

    struct Epoch;

    impl Clock for Epoch {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }
    }

    async fn get(router: &Router, path: &str) -> (u16, String) {
        let answer = router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        (status, String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn the_leader_is_ready_when_it_knows_its_deliveries_and_nothing_is_when_the_loop_has_ended() {
        let synced = Arc::new(Synced::default());
        let health = Arc::new(Health::new(vec![synced.clone()], Elector::alone(&Epoch)));
        let router = router(health.clone(), Arc::new(Metrics::new().unwrap()));
        assert_eq!(get(&router, "/healthz").await.0, 200);
        assert_eq!(get(&router, "/readyz").await.0, 503);
        synced.set_done();
        assert_eq!(get(&router, "/readyz").await, (200, "ok\n".to_owned()));
        assert!(get(&router, "/metrics").await.1.contains("haldane_leader 0"));
        health.ended();
        assert_eq!(get(&router, "/healthz").await.0, 503);
        assert_eq!(get(&router, "/readyz").await.0, 503);
    }
}
