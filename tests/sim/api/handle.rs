//! The life of one request: it waits, may meet a fault, has its effect, may meet another, is answered.

use std::io;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use serde_json::Value;

use super::{
    ApiServer, State, access,
    faults::{Stage, Turn},
    log::{Entry, Outcome},
    refusal::Refusal,
    request::{Call, Verb},
    serve, watch,
};

type Body = UnsyncBoxBody<Bytes, io::Error>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl ApiServer {
    pub(super) async fn handle(
        self,
        user: String,
        incarnation: u32,
        request: Request<kube::client::Body>,
    ) -> Result<Response<Body>, BoxError> {
        let (parts, body) = request.into_parts();
        let bytes = body.collect().await?.to_bytes();
        self.stop_the_dead(incarnation).await;
        let latency = self.with(|state| state.latency(parts.method.as_str(), parts.uri.path(), &bytes));
        tokio::time::sleep(latency).await;
        self.stop_the_dead(incarnation).await;
        let call = match Call::parse(&parts.method, &parts.uri, &parts.headers, &bytes) {
            Ok(call) => self.open(Call { user, incarnation, ..call }),
            Err(refusal) => return refused(&refusal),
        };
        let stale = match self.stage(&call, Stage::Before).await? {
            Passed::On { stale } => stale,
            Passed::Answered(refusal) => return refused(&refusal),
        };
        if call.verb == Verb::Watch {
            return self.watch(call);
        }
        let answer = self.with(|state| {
            let State { store, rule, .. } = state;
            serve::serve(store, &call, rule, stale)
        });
        let code = answer.as_ref().map_or_else(|refusal| refusal.code, |(code, _)| *code);
        self.with(|state| state.close(call.number, Outcome::Answered(code)));
        match (self.stage(&call, Stage::After { code }).await?, answer) {
            (Passed::Answered(refusal), _) | (_, Err(refusal)) => refused(&refusal),
            (_, Ok((code, body))) => whole(code, &body, None),
        }
    }

    /// A process that has crashed asks nothing more and hears nothing more.
    async fn stop_the_dead(&self, incarnation: u32) {
        if self.with(|state| state.crashed.contains(&incarnation)) {
            std::future::pending::<()>().await;
        }
    }

    fn open(&self, mut call: Call) -> Call {
        self.with(|state| {
            call.number = state.log.len() as u64;
            call.at = state.store.now();
            state.log.push(Entry { call: call.clone(), outcome: Outcome::Open });
        });
        call
    }

    async fn stage(&self, call: &Call, stage: Stage) -> Result<Passed, BoxError> {
        let fault = self.with(|state| state.ask_hooks(call, stage));
        let close = |outcome| self.with(|state| state.close(call.number, outcome));
        match Turn::of(fault, stage) {
            Turn::GoOn { stale } => return Ok(Passed::On { stale }),
            Turn::Wait(time) => {
                tokio::time::sleep(time).await;
                self.stop_the_dead(call.incarnation).await;
                return Ok(Passed::On { stale: None });
            }
            Turn::Refuse(refusal, outcome) => {
                close(outcome);
                return Ok(Passed::Answered(refusal));
            }
            Turn::Disconnect(outcome) => {
                close(outcome);
                return Err(io::Error::new(io::ErrorKind::ConnectionReset, "connection reset by the simulated network").into());
            }
            Turn::Hang(outcome) => close(outcome),
            Turn::Crash(outcome) => {
                close(outcome);
                self.kill(call.incarnation);
            }
        }
        std::future::pending().await
    }

    fn watch(&self, call: Call) -> Result<Response<Body>, BoxError> {
        let number = call.number;
        let Some(kind) = call.kind else { return refused(&Refusal::of(404, "nothing to watch here")) };
        let opened = self.with(|state| {
            if (state.rule)(&access::Access::of(&call)) {
                watch::stream(self, state, call, kind)
            } else {
                Err(Refusal::of(403, format!("{} is forbidden: cannot watch", kind.resource())))
            }
        });
        let code = opened.as_ref().map_or_else(|refusal| refusal.code, |_| 200);
        self.with(|state| state.close(number, Outcome::Answered(code)));
        match opened {
            Ok(stream) => Ok(Response::builder().status(200).body(StreamBody::new(stream.boxed()).boxed_unsync())?),
            Err(refusal) => refused(&refusal),
        }
    }
}

enum Passed {
    On { stale: Option<u64> },
    Answered(Refusal),
}

fn refused(refusal: &Refusal) -> Result<Response<Body>, BoxError> {
    whole(refusal.code, &refusal.status(), refusal.retry_after)
}

fn whole(code: u16, body: &Value, retry_after: Option<u32>) -> Result<Response<Body>, BoxError> {
    let mut response = Response::builder().status(code).header("content-type", "application/json");
    if let Some(seconds) = retry_after {
        response = response.header("retry-after", seconds);
    }
    let body = Full::new(Bytes::from(body.to_string())).map_err(|never| match never {});
    Ok(response.body(body.boxed_unsync())?)
}
