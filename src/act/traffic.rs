//! What moves traffic: the pin of a Service, which is one key of its selector, and the rules of a route; each in one write.

use futures::future::{BoxFuture, FutureExt as _, join_all};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::{
    calls::{Calls, Kind, text, what},
    error::ActError,
    patch::Ops,
    route::{self, Sent},
    session::{Session, Touched},
};
use crate::{
    api::{self, PINNED_ANNOTATION, POD_TEMPLATE_HASH, TRACK_CANARY, TRACK_LABEL},
    model::{
        decision::{Effect, Target},
        world::{Pin, Service},
    },
};

/// Whether it moves traffic.
pub(super) fn moves(effect: &Effect) -> bool {
    matches!(effect, Effect::PinService { .. } | Effect::SendRoute { .. })
}

type Job<'a> = BoxFuture<'a, (Option<Touched>, Result<(), ActError>)>;

/// Moves traffic at several Services and routes at once: each moves when its own write arrives, and none waits for another.
pub(super) async fn move_all(session: &mut Session<'_>, effects: &[Effect]) -> Result<(), ActError> {
    // It says whose it is, so that no other Delivery takes it for a leftover, and ours finds it whatever the Service selects.
    let delivery = session.delivery.name_any();
    let marked = api::pinned(session.now, &delivery);
    let (calls, seen, now) = (session.calls, session.seen, session.now);
    let mut jobs: Vec<Job<'_>> = Vec::new();
    for effect in effects {
        match effect {
            Effect::PinService { service: name, pin } => {
                let service = seen.services.iter().find(|s| s.name == *name);
                let touched = session.take(&Target::Service(name.clone()));
                jobs.push(pin_one(calls, name, service, touched, (pin, &marked)).boxed());
            }
            Effect::SendRoute { route, course } => {
                let touched = session.take(&Target::Route(route.clone()));
                let sent = Sent { route, course, delivery: &delivery, now };
                jobs.push(async move { route::send(calls, seen, touched, &sent).await }.boxed());
            }
            _ => {}
        }
    }
    let mut first = Ok(());
    for (touched, done) in join_all(jobs).await {
        if let Some(touched) = touched {
            session.put(touched);
        }
        first = first.and(done);
    }
    first
}

async fn pin_one(
    calls: Calls<'_>,
    name: &str,
    seen: Option<&Service>,
    touched: Option<Touched>,
    pin: (&Pin, &str),
) -> (Option<Touched>, Result<(), ActError>) {
    let mut touched = match touched {
        Some(touched) => touched,
        None => match as_seen(calls, name, seen).await {
            Ok(touched) => touched,
            Err(error) => return (None, Err(error)),
        },
    };
    let done = pin_it(calls, &mut touched, pin).await;
    (Some(touched), done)
}

/// The Service, live; a write since it was seen that touches neither selector nor ports does not matter.
async fn as_seen(calls: Calls<'_>, name: &str, seen: Option<&Service>) -> Result<Touched, ActError> {
    let what = what(Kind::Service, name);
    let Some(seen) = seen else { return Err(ActError::Gone { what }) };
    let live = calls.get(Kind::Service, name).await?;
    let same = text(&live, "/metadata/uid") == seen.uid
        && (text(&live, "/metadata/resourceVersion") == seen.resource_version || Service::shape_of(&live) == seen.shape);
    if same { Ok(Touched::new(Target::Service(name.to_owned()), live)) } else { Err(ActError::Conflict { what }) }
}

async fn pin_it(calls: Calls<'_>, touched: &mut Touched, pin: (&Pin, &str)) -> Result<(), ActError> {
    let ops = ops(touched, pin);
    match touched.write(calls, ops).await {
        Err(ActError::Conflict { .. }) => {}
        done => return done,
    }
    // Once more, at once: the way back does not wait for somebody's edit of a label.
    let live = calls.get(Kind::Service, touched.name()).await?;
    let same = text(&live, "/metadata/uid") == touched.uid() && Service::shape_of(&live) == Service::shape_of(&touched.object);
    if !same {
        return Err(ActError::Conflict { what: touched.what() });
    }
    touched.object = live;
    let ops = self::ops(touched, pin);
    touched.write(calls, ops).await
}

/// One patch: the key of the other side goes, ours comes, and the annotation says since when and whose it is.
fn ops(touched: &Touched, (pin, marked): (&Pin, &str)) -> Ops {
    let service = &touched.object;
    let wanted = [(POD_TEMPLATE_HASH, stable(pin)), (TRACK_LABEL, canary(pin))];
    let key = |key: &str| service.pointer("/spec/selector").and_then(|s| s.get(key)).and_then(Value::as_str);
    let stands = wanted.iter().all(|(label, value)| key(label) == *value);
    let mut ops = touched.exactly();
    for (label, value) in wanted {
        ops = match (key(label), value) {
            (Some(_), None) => ops.remove(&["spec", "selector", label]),
            (None, Some(value)) => ops.add(&["spec", "selector", label], json!(value)),
            (Some(old), Some(value)) if old != value => ops.replace(&["spec", "selector", label], json!(value)),
            (Some(_), Some(_)) | (None, None) => ops,
        };
    }
    let since = text(service, "/metadata/annotations/haldane.dev~1pinned-since");
    match pin {
        Pin::Off => ops.annotation(service, PINNED_ANNOTATION, None),
        Pin::Stable(_) | Pin::Canary if stands && !since.is_empty() => ops,
        Pin::Stable(_) | Pin::Canary => ops.annotation(service, PINNED_ANNOTATION, Some(marked)),
    }
}

fn stable(pin: &Pin) -> Option<&str> {
    match pin {
        Pin::Stable(hash) => Some(hash.as_str()),
        Pin::Canary | Pin::Off => None,
    }
}

fn canary(pin: &Pin) -> Option<&'static str> {
    match pin {
        Pin::Canary => Some(TRACK_CANARY),
        Pin::Stable(_) | Pin::Off => None,
    }
}
