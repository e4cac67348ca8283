//! Numbers of what is shared are asked for in the background.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;

use super::{Bench, bench, key};
use crate::{
    model::query::{Bound, Gauged, PlannedQuery, Queried},
    observe::probes::Watch,
};

fn load(query: &str) -> Watch {
    let queries = vec![PlannedQuery { name: "db-load".into(), query: query.into(), bound: Bound::Above(0.8) }];
    Watch { about: "v2".into(), stage: "Preflight".into(), queries, ..Watch::default() }
}

fn answers(bench: &Bench, answer: Result<&[f64], &str>) {
    *bench.prober.numbers.lock().unwrap() = Some(answer.map(<[f64]>::to_vec).map_err(str::to_owned));
}

fn known(bench: &Bench) -> Queried {
    bench.board.queried(&key()).remove("db-load").unwrap_or_default()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_query_is_asked_every_quarter_of_a_minute_and_what_changes_is_told() {
    let mut bench = bench();
    answers(&bench, Ok(&[0.1, 0.5]));
    bench.board.watch(&key(), load("load"));
    bench.pass(100).await;
    assert_eq!((known(&bench).last, bench.nudged()), (Some(Gauged { value: 0.5, beyond: false, since: at(0) }), 1), "the worst of them");
    answers(&bench, Ok(&[0.6]));
    bench.board.watch(&key(), load("load"));
    bench.pass(15_000).await;
    assert_eq!((known(&bench).last.map(|last| last.value), bench.nudged()), (Some(0.6), 0), "a number that is fine is no news");
    answers(&bench, Ok(&[0.9]));
    bench.pass(30_000).await;
    assert_eq!((known(&bench).last, bench.nudged()), (Some(Gauged { value: 0.9, beyond: true, since: at(30) }), 1));
    answers(&bench, Ok(&[]));
    bench.pass(15_000).await;
    let silent = known(&bench).silent.unwrap();
    assert_eq!((silent.since, silent.why.as_str(), bench.nudged()), (at(60), "it finds nothing", 1));
    bench.pass(15_000).await;
    assert_eq!(bench.nudged(), 1, "that it lasts is told once");
    bench.pass(60_000).await;
    assert_eq!((bench.nudged(), known(&bench).silent.map(|silent| silent.since)), (0, Some(at(60))));
    assert_eq!(bench.prober.queries.lock().unwrap().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn another_query_is_asked_anew_and_none_when_no_version_is_on_its_way() {
    let bench = bench();
    answers(&bench, Ok(&[0.9]));
    bench.board.watch(&key(), load("load"));
    bench.pass(100).await;
    bench.board.watch(&key(), load("other"));
    assert_eq!(known(&bench), Queried::default(), "nothing is known of it yet");
    bench.pass(6_000).await;
    assert_eq!(*bench.prober.queries.lock().unwrap(), ["load", "other"]);
    assert!(known(&bench).last.is_some());
    bench.board.watch(&key(), Watch { queries: vec![], ..load("other") });
    sleep(Duration::from_mins(5)).await;
    assert_eq!((bench.board.queried(&key()).len(), bench.prober.queries.lock().unwrap().len()), (0, 2));
}
