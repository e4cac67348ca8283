//! Asks the Prometheus of the cluster for series as they are now.
//!
//! Deliberately absent: rates and sums. What `PromQL` would add up, it would add up over pods that were restarted and moments that differ;
//! counters are read as they stand, one for each pod.

use std::{collections::BTreeMap, time::Duration};

use http::{Request, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::body::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::time::timeout;

use super::registry::{SetupError, wire::Wire};

/// For one question.
const DEADLINE: Duration = Duration::from_secs(5);
/// 20 pods × 256 strata × ~300 bytes = 1.5 MiB; a histogram has some times that.
const ANSWER: usize = 16 * 1024 * 1024;
/// Of what Prometheus says of an error.
const SAID: usize = 200;

/// The client.
pub struct Prometheus {
    wire: Wire,
    url: String,
}

/// One series: its labels, and its value now.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// With `__name__`.
    pub labels: BTreeMap<String, String>,
    /// A number that can be a count: finite and not negative.
    pub value: f64,
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    error: String,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(default)]
    result: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

impl Prometheus {
    /// A client for the one at this URL, such as `http://prometheus.monitoring:9090`.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(url: &str) -> Result<Self, SetupError> {
        Ok(Self { wire: Wire::new(None)?, url: url.trim_end_matches('/').to_owned() })
    }

    /// The series that a query selects; why there are none, in a few words that go on "its metrics …".
    ///
    /// # Errors
    /// When it does not answer, or not with series.
    pub async fn series(&self, query: &str) -> Result<Vec<Series>, String> {
        let late = |_| format!("are not known: Prometheus did not answer within {} s", DEADLINE.as_secs());
        timeout(DEADLINE, self.asked(query)).await.map_err(late)?
    }

    async fn asked(&self, query: &str) -> Result<Vec<Series>, String> {
        let form = format!("query={}", utf8_percent_encode(query, NON_ALPHANUMERIC));
        let request = Request::post(format!("{}/api/v1/query", self.url)).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let request = request.body(Full::new(Bytes::from(form))).map_err(|_| "are not known: prometheus.url is no URL".to_owned())?;
        let answer = self.wire.ask(request, ANSWER).await.map_err(|_| "are not known: Prometheus does not answer".to_owned())?;
        let said: Result<Answer, _> = serde_json::from_slice(&answer.body);
        match said {
            Ok(Answer { status, data: Some(data), .. }) if status == "success" && answer.status.is_success() => {
                Ok(data.result.into_iter().filter_map(series).collect())
            }
            Ok(Answer { error, .. }) if !error.is_empty() => {
                let said: String = error.chars().filter(|letter| !letter.is_control()).take(SAID).collect();
                Err(format!("are not known: Prometheus says {said}"))
            }
            _ => Err(format!("are not known: Prometheus answered {} and no series", answer.status.as_u16())),
        }
    }
}

fn series(found: Found) -> Option<Series> {
    let value: f64 = found.value.1.parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some(Series { labels: found.metric, value })
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        sync::oneshot,
    };

    use super::*;

    /// Answers one question with this and tells what was asked.
    async fn asked(status: &str, body: &str) -> (Result<Vec<Series>, String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let (tell, told) = oneshot::channel();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = [0; 4096];
            let mut question = String::new();
            while !question.contains("query=") {
                let count = stream.read(&mut read).await.unwrap();
                question.push_str(&String::from_utf8_lossy(&read[..count]));
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            let _ = tell.send(question);
        });
        let series = Prometheus::new(&url).unwrap().series("up{pod=\"a\"}").await;
        (series, told.await.unwrap())
    }

    #[tokio::test]
    async fn series_are_read_as_they_are_documented() {
        let body = r#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"__name__":"up","job":"prometheus","instance":"localhost:9090"},"value":[1435781451.781,"1"]},
            {"metric":{"__name__":"up","job":"node"},"value":[1435781451.781,"NaN"]}]}}"#;
        let (series, question) = asked("200 OK", body).await;
        let series = series.unwrap();
        assert_eq!((series.len(), series[0].value, series[0].labels["job"].as_str()), (1, 1.0, "prometheus"));
        assert!(question.starts_with("POST /api/v1/query HTTP/1.1"), "{question}");
        assert!(question.ends_with("query=up%7Bpod%3D%22a%22%7D"), "{question}");
    }

    #[tokio::test]
    async fn what_is_no_series_says_what_prometheus_says() {
        let wrong = r#"{"status":"error","errorType":"bad_data","error":"parse error: unexpected end"}"#;
        assert!(asked("400 Bad Request", "no").await.0.unwrap_err().contains("answered 400"));
        assert!(asked("200 OK", wrong).await.0.unwrap_err().ends_with("Prometheus says parse error: unexpected end"), "an error in a 200");
        assert!(asked("200 OK", "<html>").await.0.unwrap_err().contains("answered 200 and no series"));
        assert!(asked("200 OK", r#"{"status":"success"}"#).await.0.unwrap_err().contains("no series"));
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert!(Prometheus::new(&format!("http://{closed}")).unwrap().series("up").await.unwrap_err().contains("does not answer"));
    }
}
