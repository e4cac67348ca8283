//! A server that is asked for its word: what it may say, and what it may try.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
};

use super::*;

const NOW: i64 = 1_800_000_000;

fn here(_: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
    Box::pin(async move { Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]) })
}

fn nowhere(_: String, _: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
    Box::pin(async { Err(io::Error::other("no such name")) })
}

/// One address that may be dialled, and the cloud's metadata.
fn both(_: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
    Box::pin(async move { Ok(vec![SocketAddr::from(([10, 0, 0, 1], port)), SocketAddr::from(([169, 254, 169, 254], port))]) })
}

fn question(url: &str, secret: Option<&[u8]>) -> Question {
    let secret = secret.and_then(Secret::new);
    let to = Address::parse(url).unwrap();
    Question { name: "board".to_owned(), to, secret, within: Duration::from_millis(500), body: r#"{"at":"Start"}"#.to_owned() }
}

async fn asked(question: &Question, reach: Reach, lookup: Lookup) -> Answer {
    Asker { trust: &Trust::default(), reach, lookup }.ask(question, Timestamp::from_second(NOW).unwrap()).await
}

/// How a server goes on after what it says first.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Ends,
    Stays,
    /// A byte now and then, for ever.
    Drips,
    /// As much as anybody reads.
    Pours,
}

/// The port of a server that says this to everybody, and what it was asked.
async fn serves(first: &'static str, then: Then) -> (u16, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                let (mut question, mut bytes) = (String::new(), [0; 4096]);
                while !question.contains("\r\n\r\n{") {
                    let read = stream.read(&mut bytes).await.unwrap_or(0);
                    if read == 0 {
                        return;
                    }
                    question.push_str(&String::from_utf8_lossy(&bytes[..read]));
                }
                let _ = tell.send(question);
                let _ = stream.write_all(first.as_bytes()).await;
                if then == Then::Ends {
                    return;
                }
                loop {
                    let more: &[u8] = if then == Then::Pours { &[b'x'; 4096] } else { b" " };
                    if then != Then::Stays && stream.write_all(more).await.is_err() {
                        return;
                    }
                    if then != Then::Pours {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            });
        }
    });
    (port, told)
}

/// What a server that says this is taken to say.
async fn said(first: &'static str, then: Then) -> Answer {
    let (port, _told) = serves(first, then).await;
    asked(&question(&format!("http://board.shop.svc:{port}/"), None), Reach::Anywhere, here).await
}

fn waits(answer: &Answer) -> &str {
    match &answer.word {
        Word::Wait(said) => said,
        word => panic!("{word:?}"),
    }
}

#[tokio::test]
async fn a_question_is_signed_with_its_time_and_says_who_is_meant() {
    let (port, mut told) = serves("HTTP/1.1 204 No Content\r\n\r\n", Then::Ends).await;
    let secret = b"0123456789abcdef";
    let url = format!("http://board.shop.svc:{port}/haldane?x=1");
    assert_eq!(asked(&question(&url, Some(secret)), Reach::Anywhere, here).await.word, Word::Pass);
    let question = told.recv().await.unwrap();
    let (head, body) = question.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /haldane?x=1 HTTP/1.1\r\n"), "{head}");
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default().to_owned();
    assert_eq!((header("host"), header("content-type")), (format!("board.shop.svc:{port}"), "application/json".to_owned()));
    assert_eq!((body, header("x-haldane-timestamp")), (r#"{"at":"Start"}"#, NOW.to_string()));
    // As anybody would compute it: printf '1800000000.{"at":"Start"}' | openssl dgst -sha256 -hmac 0123456789abcdef
    assert_eq!(header("x-haldane-signature"), "sha256=af8020646bb90979d1b8472ed282d85826ec67bab123c462d915ef7170d52c40");
}

#[tokio::test]
async fn without_a_secret_nothing_is_signed() {
    let (port, mut told) = serves("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Then::Ends).await;
    let url = format!("http://board.shop.svc:{port}");
    assert_eq!(asked(&question(&url, None), Reach::Anywhere, here).await.word, Word::Pass);
    assert!(!told.recv().await.unwrap().contains("x-haldane-"));
}

#[tokio::test]
async fn an_answer_says_one_word_or_none() {
    let answer = |body: &str| word(StatusCode::OK, body.as_bytes());
    for passes in ["", "ok", "[]", "\"Fail\"", "{}", r#"{"verdict": "Pass", "by": "ana"}"#, "<html>"] {
        assert_eq!(answer(passes), Word::Pass, "{passes}");
    }
    assert_eq!(answer(r#"{"verdict":"Fail","why":"secret"}"#), Word::Fail(200));
    for (body, says) in [
        (r#"{"verdict":"Hold"}"#, "was answered 200 and Hold"),
        (r#"{"verdict":"fail <b>"}"#, "was answered 200 and a verdict that is none of Pass, Hold and Fail"),
        (r#"{"verdict":null}"#, "was answered 200 and a verdict that is none of Pass, Hold and Fail"),
        (r#" {"verdict":"Hold""#, "was answered 200 and JSON that cannot be read"),
    ] {
        assert_eq!(answer(body), Word::Wait(says.to_owned()), "{body}");
    }
}

#[tokio::test]
async fn only_a_fine_answer_decides_and_a_redirect_is_not_followed() {
    let answer = said("HTTP/1.1 403 Forbidden\r\nContent-Length: 18\r\n\r\n{\"verdict\":\"Fail\"}", Then::Ends).await;
    assert_eq!((waits(&answer), answer.again), ("was answered 403", AGAIN), "who is not let in says nothing about a version");
    let (metadata, mut reached) = serves("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Then::Ends).await;
    let away = format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:{metadata}/latest/\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(waits(&said(away.leak(), Then::Ends).await), "was answered 307");
    assert!(reached.try_recv().is_err(), "the redirect was followed");
}

#[tokio::test]
async fn it_says_itself_when_to_ask_again_within_bounds() {
    for (says, again) in
        [("60", 60), ("0", 5), ("86400", 300), ("-1", 15), ("Wed, 21 Oct 2026 07:28:00 GMT", 15), ("18446744073709551616", 15)]
    {
        let first = format!("HTTP/1.1 503 Service Unavailable\r\nRetry-After: {says}\r\nContent-Length: 0\r\n\r\n");
        let answer = said(first.leak(), Then::Ends).await;
        assert_eq!((waits(&answer), answer.again), ("was answered 503", Duration::from_secs(again)), "{says}");
    }
}

#[tokio::test]
async fn a_body_without_end_a_dripping_one_and_one_that_breaks_off_are_no_word() {
    let chunked = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n";
    assert_eq!(waits(&said(chunked, Then::Pours).await), "was answered 200 and more than 4 KiB");
    assert_eq!(waits(&said(chunked, Then::Drips).await), "got no end of the answer's body within 500ms");
    assert_eq!(waits(&said("HTTP/1.1 200 OK\r\nX: ", Then::Drips).await), "got no first byte of an answer within 500ms");
    assert_eq!(waits(&said("", Then::Stays).await), "got no first byte of an answer within 500ms");
    assert_eq!(waits(&said(chunked, Then::Ends).await), "found the connection closed before the answer was complete");
    assert_eq!(waits(&said("SSH-2.0-OpenSSH_9.6\r\n", Then::Stays).await), "was answered with something that is not HTTP/1.1");
}

#[tokio::test]
async fn a_name_that_leads_where_nobody_may_go_is_not_asked_at_all() {
    let (port, mut told) = serves("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Then::Ends).await;
    let url = format!("http://board.shop.svc:{port}/");
    let refused = asked(&question(&url, None), Reach::Cluster, here).await;
    assert_eq!(waits(&refused), "was not sent: board.shop.svc leads to a loopback address");
    let refused = asked(&question(&url, None), Reach::Cluster, both).await;
    assert_eq!(waits(&refused), "was not sent: board.shop.svc leads to an address that belongs to no pod", "one of two is enough");
    let literal = asked(&question("https://169.254.169.254/latest", None), Reach::Cluster, system).await;
    assert_eq!(waits(&literal), "was not sent: 169.254.169.254 leads to an address that belongs to no pod");
    assert_eq!(waits(&asked(&question(&url, None), Reach::Cluster, nowhere).await), "was not sent: board.shop.svc is not found");
    assert!(told.try_recv().is_err(), "it was asked");
}

#[tokio::test]
async fn nobody_who_listens_and_a_certificate_of_nobody_are_told() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let refused = asked(&question(&format!("http://board.shop.svc:{closed}/"), None), Reach::Anywhere, here).await;
    assert_eq!(waits(&refused), "found the connection refused: nothing listens on the port");
    let (plain, _told) = serves("HTTP/1.1 200 OK\r\n\r\n", Then::Ends).await;
    let plain = asked(&question(&format!("https://board.example.com:{plain}/"), None), Reach::Anywhere, here).await;
    assert!(!waits(&plain).is_empty(), "no TLS is no word");
}

fn counting(url: &str, body: Option<&str>) -> kept::Question {
    let mut key = HeaderValue::from_static("canary-of-the-key");
    key.set_sensitive(true);
    let headers = vec![(HeaderName::from_static("dd-api-key"), key)];
    kept::Question { to: Address::parse(url).unwrap(), headers, body: body.map(|body| body.as_bytes().to_vec()) }
}

async fn numbers(question: kept::Question, reach: Reach, lookup: Lookup) -> Result<Value, String> {
    Asker { trust: &Trust::default(), reach, lookup }.numbers(question).await
}

#[tokio::test]
async fn numbers_are_asked_for_with_the_owners_headers() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"hits\":12}";
    let (port, mut told) = serves(answer, Then::Ends).await;
    let url = format!("http://numbers.monitoring.svc:{port}/query?from=1&to=2");
    let said = numbers(counting(&url, Some("{\"q\":1}")), Reach::Anywhere, here).await;
    assert_eq!(said.unwrap()["hits"], 12);
    let asked = told.recv().await.unwrap().to_ascii_lowercase();
    assert!(asked.starts_with("post /query?from=1&to=2 http/1.1\r\n"), "{asked}");
    assert!(asked.contains("dd-api-key: canary-of-the-key\r\n") && asked.ends_with("{\"q\":1}"), "{asked}");
}

#[tokio::test]
async fn numbers_that_do_not_come_are_told_without_what_was_answered() {
    for (answer, then, word) in [
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\nsecret", Then::Ends, "answered 403"),
        ("HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n", Then::Ends, "answered 302"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret", Then::Ends, "did not answer in JSON"),
        ("HTTP/1.1 200 OK\r\n\r\n", Then::Pours, "answered more than 256 KiB"),
    ] {
        let (port, _told) = serves(answer, then).await;
        let question = counting(&format!("http://numbers.monitoring.svc:{port}/"), Some("{\"q\":1}"));
        let said = numbers(question, Reach::Anywhere, here).await.unwrap_err();
        assert!(said.starts_with("are not known: numbers.monitoring.svc ") && said.contains(word), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
    let question = || counting("https://numbers.example.com/", None);
    assert!(numbers(question(), Reach::Cluster, both).await.unwrap_err().contains("leads to"), "the cloud's metadata");
    assert!(numbers(question(), Reach::Anywhere, nowhere).await.unwrap_err().contains("is not found"));
}
