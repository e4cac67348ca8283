//! The whole, from start to stop.

use std::time::Duration;

use http::{Request, Response};
use jiff::Timestamp;
use kube::client::Body;
use tokio::time::{Instant, sleep};

use super::*;
use crate::edge::probe::{HttpProber, Reach};

struct Epoch;

impl Clock for Epoch {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

/// An API server that never answers.
fn silent() -> Client {
    Client::new(tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, std::io::Error>>()), "default")
}

fn parts(identity: Identity) -> Parts {
    let options = Options::default();
    Parts {
        client: silent(),
        clock: Arc::new(Epoch),
        prober: Arc::new(HttpProber::new(Reach::Anywhere)),
        sources: None,
        hooks: None,
        identity,
        options,
    }
}

#[tokio::test(start_paused = true)]
async fn it_stops_within_three_seconds_even_if_the_api_server_is_silent() {
    let holder = Holder::new("pod", "1").unwrap();
    let candidate = Identity::Candidate { namespace: "haldane-system".to_owned(), lease: "haldane".to_owned(), holder };
    for (identity, after) in [(Identity::Alone, 5), (Identity::Alone, 15), (candidate, 15)] {
        let stop = CancellationToken::new();
        let running = tokio::spawn(run(parts(identity.clone()), stop.clone()));
        // Before and after the first look at the definitions has been given up.
        sleep(Duration::from_secs(after)).await;
        assert!(!running.is_finished(), "{identity:?}");
        let asked = Instant::now();
        stop.cancel();
        running.await.unwrap().unwrap();
        assert!(asked.elapsed() < Duration::from_secs(3), "{identity:?}: {:?}", asked.elapsed());
    }
}

#[tokio::test]
async fn an_address_that_is_taken_is_told_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut parts = parts(Identity::Alone);
    parts.options.listen = Some(taken.local_addr().unwrap());
    let error = run(parts, CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains("--listen"), "{error}");
}

#[test]
fn a_namespace_named_twice_is_watched_once() {
    assert_eq!(Scope::all(&unique(&["b".to_owned(), "a".to_owned(), "b".to_owned()])).len(), 2);
    assert_eq!(Scope::all(&[]), [Scope::Cluster]);
}
