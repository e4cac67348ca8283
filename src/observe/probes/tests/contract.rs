//! Answers of the two sides, compared by their shape.

use serde_json::{Value, json};

use super::*;

fn comparing(mut watch: Watch) -> Watch {
    for probe in &mut watch.probes {
        let mut check = Check::clone(&probe.check);
        check.steps.iter_mut().for_each(|step| step.compare = Some(Compare::default()));
        probe.check = Arc::new(check);
    }
    watch
}

fn answering(bench: &Bench, canary: Value, stable: Value) {
    *bench.prober.bodies.lock().unwrap() = [canary, stable];
}

fn rest() -> Watch {
    Watch { about: "v1".to_owned(), stage: String::new(), ..comparing(at_rest(1)) }
}

#[tokio::test(start_paused = true)]
async fn a_field_that_stable_always_has_and_the_canary_lost_is_a_failure_of_the_canary_alone() {
    let bench = bench();
    answering(&bench, json!({"id": 1}), json!({"id": 1, "state": "open"}));
    bench.board.watch(&key(), rest());
    bench.pass(3 * 180_000).await;
    bench.board.watch(&key(), comparing(pair(1, 1)));
    bench.pass(100).await;
    let said = Seen::Fail("GET / answered without $.state (a string on stable)".to_owned());
    let samples = bench.samples();
    assert_eq!(
        samples.iter().map(|s| (s.turn, s.canary.clone(), s.stable.clone())).collect::<Vec<_>>(),
        [(Turn::First, said.clone(), Seen::Pass), (Turn::AtOnce, said, Seen::Pass)]
    );
}

#[tokio::test(start_paused = true)]
async fn what_stable_left_out_once_at_rest_is_no_loss() {
    let bench = bench();
    answering(&bench, json!({"id": 1}), json!({"id": 1, "state": "open"}));
    bench.board.watch(&key(), rest());
    bench.pass(2 * 180_000).await;
    answering(&bench, json!({"id": 1}), json!({"id": 1}));
    bench.pass(180_000).await;
    answering(&bench, json!({"id": 1}), json!({"id": 1, "state": "open"}));
    bench.board.watch(&key(), comparing(pair(1, 1)));
    bench.pass(100).await;
    assert_eq!(bench.samples().iter().map(|s| s.canary.clone()).collect::<Vec<_>>(), [Seen::Pass]);
}

#[tokio::test(start_paused = true)]
async fn without_history_a_loss_is_believed_when_stable_has_answered_three_times() {
    let bench = bench();
    answering(&bench, json!({"id": 1}), json!({"id": 1, "state": "open"}));
    bench.board.watch(&key(), comparing(pair(1, 1)));
    bench.pass(31_000).await;
    let seen: Vec<Seen> = bench.samples().into_iter().map(|s| s.canary).collect();
    assert!(matches!(&seen[..2], [Seen::Void(first), Seen::Void(_)] if first.contains("1 of 3 answers of stable are known")), "{seen:?}");
    assert!(matches!(seen.get(2), Some(Seen::Fail(_))), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_way_back_is_not_compared_and_another_version_begins_anew() {
    let bench = bench();
    answering(&bench, json!({"id": 1}), json!({"id": 1, "state": "open"}));
    bench.board.watch(&key(), rest());
    bench.pass(3 * 180_000).await;
    let mut back = comparing(pair(1, 1));
    back.probes.iter_mut().for_each(|probe| probe.compares = false);
    bench.board.watch(&key(), back);
    bench.pass(100).await;
    assert_eq!(bench.samples().iter().map(|s| s.canary.clone()).collect::<Vec<_>>(), [Seen::Pass]);
    // v2 lives now, without the field: v3 need not have it either.
    answering(&bench, json!({"id": 1}), json!({"id": 1}));
    bench.board.watch(&key(), Watch { about: "v2".to_owned(), ..rest() });
    bench.pass(3 * 180_000).await;
    bench.board.watch(&key(), Watch { about: "v3".to_owned(), ..comparing(pair(1, 1)) });
    bench.pass(100).await;
    assert_eq!(bench.samples().iter().map(|s| s.canary.clone()).collect::<Vec<_>>(), [Seen::Pass]);
}

#[tokio::test(start_paused = true)]
async fn both_failing_is_not_compared_and_new_fields_are_fine() {
    let bench = bench();
    answering(&bench, json!({"id": 1, "new": [1]}), json!({"id": 1}));
    bench.board.watch(&key(), comparing(pair(1, 1)));
    bench.pass(100).await;
    bench.prober.bad.lock().unwrap().extend([1, 101]);
    bench.pass(15_000).await;
    let seen: Vec<_> = bench.samples().into_iter().map(|s| (s.canary == Seen::Pass, s.stable == Seen::Pass)).collect();
    assert_eq!(seen, [(true, true), (false, false)]);
}
