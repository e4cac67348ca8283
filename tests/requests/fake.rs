//! An API that notes each request, applies JSON patches as the real one does, and can be told to fail.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use kube::{Client, client::Body};
use serde_json::{Value, json};

pub type Change = fn(&mut Value);

#[derive(Default)]
pub struct Inner {
    pub objects: BTreeMap<String, Value>,
    pub log: Vec<String>,
    /// What to do to an object right before the next patch of it: a foreign write.
    pub before_patch: Option<(String, Change)>,
}

#[derive(Clone, Default)]
pub struct Fake(pub Arc<Mutex<Inner>>);

impl Fake {
    pub fn with(objects: &[(&str, Value)]) -> Self {
        let fake = Self::default();
        fake.0.lock().unwrap().objects = objects.iter().map(|(path, object)| ((*path).to_owned(), object.clone())).collect();
        fake
    }

    pub fn client(&self) -> Client {
        let fake = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let fake = fake.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let (code, answer) = fake.answer(parts.method.as_str(), &parts.uri, &body);
                let response = Response::builder().status(code).header("content-type", "application/json");
                Ok::<_, Infallible>(response.body(Full::new(Bytes::from(answer.to_string()))).unwrap())
            }
        });
        Client::new(service, "default")
    }

    pub fn log(&self) -> Vec<String> {
        self.0.lock().unwrap().log.clone()
    }

    pub fn writes(&self) -> Vec<String> {
        self.log().into_iter().filter(|line| !line.starts_with("GET")).collect()
    }

    pub fn object(&self, path: &str) -> Value {
        self.0.lock().unwrap().objects.get(path).cloned().unwrap_or_default()
    }

    fn answer(&self, method: &str, uri: &http::Uri, body: &[u8]) -> (u16, Value) {
        let mut inner = self.0.lock().unwrap();
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let asked = uri.path_and_query().map(|p| p.as_str().trim_end_matches('?').to_owned()).unwrap_or_default();
        inner.log.push(if body.is_null() { format!("{method} {asked}") } else { format!("{method} {asked} {body}") });
        let path = uri.path().trim_end_matches("/status").to_owned();
        if method == "PATCH"
            && let Some((of, change)) = inner.before_patch.take()
        {
            inner.objects.get_mut(&of).map(change);
        }
        match (method, inner.objects.get_mut(&path)) {
            ("POST", _) => {
                let path = format!("{path}/{}", body.pointer("/metadata/name").and_then(Value::as_str).unwrap());
                if inner.objects.contains_key(&path) {
                    return failure(409, "AlreadyExists");
                }
                inner.objects.insert(path, body.clone());
                (201, body)
            }
            (_, None) => failure(404, "NotFound"),
            ("PATCH", Some(object)) if body.is_array() => {
                let ops: json_patch::Patch = serde_json::from_value(body).unwrap();
                match json_patch::patch(object, &ops) {
                    Ok(()) => (200, bumped(object)),
                    Err(_) => failure(422, "Invalid"),
                }
            }
            ("PATCH", Some(object)) => {
                json_patch::merge(object, &body);
                (200, bumped(object))
            }
            ("DELETE", Some(_)) => (200, inner.objects.remove(&path).unwrap()),
            (_, Some(object)) => (200, object.clone()),
        }
    }
}

fn bumped(object: &mut Value) -> Value {
    let version: u64 = object.pointer("/metadata/resourceVersion").and_then(Value::as_str).map_or(0, |v| v.parse().unwrap());
    object["metadata"]["resourceVersion"] = json!((version + 1).to_string());
    object.clone()
}

fn failure(code: u16, reason: &str) -> (u16, Value) {
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": reason, "details": {}, "code": code}),
    )
}
