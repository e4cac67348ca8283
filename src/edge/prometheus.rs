//! Asks the Prometheus of the cluster for series as they are now, and for the numbers of an owner's own query.
//!
//! Deliberately absent: rates and sums of ours. What `PromQL` would add up, it would add up over pods that were restarted and moments that differ;
//! counters are read as they stand, one for each pod.

use std::{collections::BTreeMap, time::Duration};

use http::{Request, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::body::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, de::IgnoredAny};
use tokio::time::timeout;

use super::registry::{SetupError, wire::Wire};

/// For one question.
const DEADLINE: Duration = Duration::from_secs(5);
/// 20 pods × 256 strata × ~300 bytes = 1.5 MiB; a histogram has some times that.
const ANSWER: usize = 16 * 1024 * 1024;
/// Of numbers that are looked at one by one: some thousands of series.
const NUMBERS: usize = 1024 * 1024;
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

/// What a query comes to, by its type.
#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Vector(Vec<Found>),
    Scalar((f64, String)),
    /// Series over time, which an instant query gives for a range.
    Matrix(IgnoredAny),
    String(IgnoredAny),
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
        match self.asked(query, ANSWER).await {
            Ok(Data::Vector(found)) => Ok(found.into_iter().filter_map(series).collect()),
            Ok(Data::Scalar(_) | Data::Matrix(_) | Data::String(_)) => Err("are not known: Prometheus answered no series".to_owned()),
            Err(why) => Err(format!("are not known: {why}")),
        }
    }

    /// The numbers that a query comes to, one for each series; why there are none, in a clause. What Prometheus itself calls no number
    /// (NaN, infinities) is among them.
    ///
    /// # Errors
    /// When it does not answer, or not with numbers of one moment.
    pub async fn numbers(&self, query: &str) -> Result<Vec<f64>, String> {
        let number = |text: &str| text.parse().map_err(|_| "Prometheus answered what is no number".to_owned());
        match self.asked(query, NUMBERS).await? {
            Data::Vector(found) => found.iter().map(|found| number(&found.value.1)).collect(),
            Data::Scalar((_, value)) => number(&value).map(|value| vec![value]),
            Data::Matrix(_) | Data::String(_) => Err("it is no number of one moment; see whether it ends with a range, as [5m]".to_owned()),
        }
    }

    async fn asked(&self, query: &str, most: usize) -> Result<Data, String> {
        let late = |_| format!("Prometheus did not answer within {} s", DEADLINE.as_secs());
        timeout(DEADLINE, self.told(query, most)).await.map_err(late)?
    }

    async fn told(&self, query: &str, most: usize) -> Result<Data, String> {
        // It need not work on when nobody waits any more.
        let form = format!("timeout={}s&query={}", DEADLINE.as_secs(), utf8_percent_encode(query, NON_ALPHANUMERIC));
        let request = Request::post(format!("{}/api/v1/query", self.url)).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let request = request.body(Full::new(Bytes::from(form))).map_err(|_| "prometheus.url is no URL".to_owned())?;
        let answer = self.wire.ask(request, most).await.map_err(|_| "Prometheus does not answer".to_owned())?;
        let said: Result<Answer, _> = serde_json::from_slice(&answer.body);
        match said {
            Ok(Answer { status, data: Some(data), .. }) if status == "success" && answer.status.is_success() => Ok(data),
            Ok(Answer { error, .. }) if !error.is_empty() => {
                let said: String = error.chars().filter(|letter| !letter.is_control()).take(SAID).collect();
                Err(format!("Prometheus says {said}"))
            }
            _ => Err(format!("Prometheus answered {} and no series", answer.status.as_u16())),
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

    /// Answers one question for series with this and tells what was asked.
    async fn asked(status: &str, body: &str) -> (Result<Vec<Series>, String>, String) {
        let (prometheus, told) = one_that_answers(status, body).await;
        let series = prometheus.series("up{pod=\"a\"}").await;
        (series, told.await.unwrap())
    }

    /// What a query for numbers comes to when this is the answer.
    async fn numbers(status: &str, body: &str) -> Result<Vec<f64>, String> {
        one_that_answers(status, body).await.0.numbers("vector(1)").await
    }

    /// Answers one question with this and tells what was asked.
    async fn one_that_answers(status: &str, body: &str) -> (Prometheus, oneshot::Receiver<String>) {
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
        (Prometheus::new(&url).unwrap(), told)
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
        assert!(question.ends_with("timeout=5s&query=up%7Bpod%3D%22a%22%7D"), "{question}");
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

    fn success(kind: &str, result: &str) -> String {
        format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":{result}}}}}"#)
    }

    #[tokio::test]
    async fn numbers_are_those_of_every_series_or_of_a_scalar() {
        let several =
            r#"[{"metric":{"pod":"a"},"value":[1.5,"0.25"]},{"metric":{},"value":[1.5,"NaN"]},{"metric":{},"value":[1.5,"-Inf"]}]"#;
        let read = numbers("200 OK", &success("vector", several)).await.unwrap();
        assert_eq!(format!("{read:?}"), "[0.25, NaN, -inf]");
        assert_eq!(numbers("200 OK", &success("scalar", r#"[1.5,"3"]"#)).await, Ok(vec![3.0]));
        assert_eq!(numbers("200 OK", &success("vector", "[]")).await, Ok(vec![]));
    }

    #[tokio::test]
    async fn what_is_no_number_of_one_moment_says_why() {
        let over_time = success("matrix", r#"[{"metric":{},"values":[[1.5,"1"],[2.5,"2"]]}]"#);
        assert!(numbers("200 OK", &over_time).await.unwrap_err().contains("as [5m]"));
        assert!(numbers("200 OK", &success("string", r#"[1.5,"a"]"#)).await.unwrap_err().contains("no number of one moment"));
        let wrong = r#"{"status":"error","errorType":"execution","error":"found duplicate series"}"#;
        assert_eq!(numbers("200 OK", wrong).await, Err("Prometheus says found duplicate series".to_owned()), "an error in a 200");
        assert_eq!(numbers("422 Unprocessable Entity", wrong).await, Err("Prometheus says found duplicate series".to_owned()));
        assert_eq!(numbers("503 Service Unavailable", "away").await, Err("Prometheus answered 503 and no series".to_owned()));
        assert_eq!(
            numbers("200 OK", &success("vector", r#"[{"metric":{},"value":[1.5,"?"]}]"#)).await.unwrap_err(),
            "Prometheus answered what is no number"
        );
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(Prometheus::new(&format!("http://{closed}")).unwrap().numbers("1").await, Err("Prometheus does not answer".to_owned()));
    }
}
