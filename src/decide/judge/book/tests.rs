use super::super::{
    bet::Fair,
    block::{Block, Manner},
    probes::{self, ProbeTerms},
    state::{Stored, size},
    words,
};
use super::*;

fn terms() -> Terms {
    let manner = Some(Manner::of(Block::S5));
    let probe = |name: &str| ProbeTerms { name: name.to_owned(), runs: 1000, flakes: 5, paired: 1000, ..ProbeTerms::default() };
    Terms {
        errors: manner,
        latency: manner,
        logs: manner,
        restarts: Some(1),
        strata: vec!["GET /".to_owned(), "POST /orders".to_owned()],
        probes: vec![probe("home"), probe("order")],
        ..Terms::default()
    }
}

fn tally(canary: (u32, u32), stable: (u32, u32)) -> Tally {
    let mut tally = Tally::default();
    tally.scrape(Side::new(canary.0, canary.1), Side::new(stable.0, stable.1), Fair::by_requests(1.0));
    tally
}

/// One input a second.
fn dated(inputs: impl IntoIterator<Item = Input>) -> Vec<Dated> {
    (1..).zip(inputs).map(|(second, input)| Dated { at: Timestamp::from_second(second).unwrap(), input }).collect()
}

fn book(terms: Terms, inputs: impl IntoIterator<Item = Input>) -> Book {
    Book::open(terms).with(&dated(inputs))
}

fn pair(probe: &str, turn: Turn, canary: bool, stable: bool) -> Input {
    let seen = |good| if good { Seen::Pass } else { Seen::Fail("GET / answered 500, expected 200".to_owned()) };
    Input::Pair(Pair { probe: probe.to_owned(), turn, canary: seen(canary), stable: seen(stable) })
}

fn broken(probe: &str) -> Vec<Input> {
    let mut pairs = vec![pair(probe, Turn::First, false, true), pair(probe, Turn::AtOnce, false, true)];
    pairs.extend((0..4).map(|_| pair(probe, Turn::Repeat, false, true)));
    pairs
}

fn good(probe: &str) -> Input {
    pair(probe, Turn::First, true, true)
}

fn failing(blocks: usize) -> Vec<Input> {
    vec![Input::Errors(vec![(0, tally((25, 2), (475, 2)))]); blocks]
}

#[test]
fn an_empty_book_is_one_and_fine() {
    assert!((book(terms(), []).wealth() - 1.0).abs() < 1e-12);
    assert_eq!(book(terms(), []).verdict(), Verdict::Fine);
    assert!((book(Terms::default(), failing(9)).wealth() - 1.0).abs() < 1e-12, "nobody speaks");
}

#[test]
fn the_sum_by_hand() {
    let book = book(terms(), failing(3));
    let (pooled, first) = (book.errors.wealth(), book.strata[0].wealth());
    let by_hand = 0.40 * (0.75 * pooled + 0.25 * (first + 1.0) / 2.0) + 0.60;
    assert!((book.wealth() - by_hand).abs() < 1e-9, "{} {by_hand}", book.wealth());
}

#[test]
fn errors_fail_with_both_sides_and_stay_failed() {
    let mut inputs = failing(6);
    inputs.extend(vec![Input::Errors(vec![(0, tally((25, 0), (475, 9)))]); 500]);
    let book = book(terms(), inputs);
    let Verdict::Fail(failure) = book.verdict() else { panic!("{:?}", book.verdict()) };
    assert_eq!(failure.purse, Purse::Errors);
    assert!(failure.wealth >= 1000.0 && book.wealth() < 1000.0, "it stays so though the evidence went: {}", book.wealth());
    assert!(failure.says.starts_with("errors: "), "{}", failure.says);
    assert!(failure.says.contains("(8.00 %) failed on canary, ") && failure.says.contains("(0.42 %) on stable"), "{}", failure.says);
    assert!(failure.says.ends_with("1000 is a verdict"), "{}", failure.says);
}

#[test]
fn a_fault_of_one_endpoint_is_named() {
    let quiet = tally((500, 50), (9500, 950));
    let block = Input::Errors(vec![(0, quiet), (1, tally((5, 1), (95, 0)))]);
    let book = book(terms(), vec![block; 20]);
    let Verdict::Fail(failure) = book.verdict() else { panic!("{:?}", book.verdict()) };
    assert!(
        failure.says.starts_with("errors of POST /orders: 3 of 15 (20.00 %)") || failure.says.starts_with("errors of POST /orders: "),
        "{}",
        failure.says
    );
}

#[test]
fn a_broken_probe_suspends_at_its_second_pair_and_fails_after_two_samples() {
    let terms = Terms { probes: terms().probes[..1].to_vec(), ..terms() };
    let one = broken("home");
    assert_eq!(book(terms.clone(), one[..1].to_vec()).verdict(), Verdict::Fine, "one pair is nothing");
    let said = "home: GET / answered 500, expected 200 on canary, passed on stable";
    assert_eq!(book(terms.clone(), one[..2].to_vec()).verdict(), Verdict::Suspend(said.to_owned()));
    assert!(matches!(book(terms.clone(), one.clone()).verdict(), Verdict::Suspend(_)));
    let two = book(terms, [one.clone(), one].concat());
    let Verdict::Fail(failure) = two.verdict() else { panic!("{:?}", two.verdict()) };
    assert_eq!(failure.purse, Purse::Probes);
    assert!(failure.says.contains("2 of 2 samples failed on the canary alone; evidence "), "{}", failure.says);
}

#[test]
fn a_broken_probe_among_twenty_is_out_after_two_samples_too() {
    let probes = (0..20).map(|at| ProbeTerms { name: format!("probe-{at}"), ..terms().probes[0].clone() }).collect();
    let terms = Terms { probes, ..terms() };
    assert!(matches!(book(terms, [broken("probe-7"), broken("probe-7")].concat()).verdict(), Verdict::Fail(_)));
}

#[test]
fn doubt_ends_with_two_good_samples_or_more_and_the_fourth_suspension_is_too_much() {
    let doubt = [pair("home", Turn::First, false, true), pair("home", Turn::AtOnce, false, true), pair("home", Turn::Repeat, true, true)];
    let round = [doubt.to_vec(), vec![good("home"); 6]].concat();
    // A probe without history, so that four unsure samples are no verdict.
    let probes = ["home", "order"].map(|name| ProbeTerms { name: name.to_owned(), ..ProbeTerms::default() });
    let terms = || Terms { probes: probes.to_vec(), ..terms() };
    let after = |rounds: usize, more: &[Input]| book(terms(), [vec![round.clone(); rounds].concat(), more.to_vec()].concat()).verdict();
    assert_eq!(after(1, &[]), Verdict::Fine);
    assert!(matches!(after(2, &doubt), Verdict::Suspend(_)));
    assert!(matches!(after(3, &doubt), Verdict::TooOften(_)));
    assert!(matches!(after(4, &[]), Verdict::TooOften(_)), "good samples lift it no more");
    let other = [doubt.to_vec(), vec![good("order"), good("order")]].concat();
    assert!(matches!(book(terms(), other).verdict(), Verdict::Suspend(_)), "another probe does not clear it");
    let whole = [vec![Input::Whole(true)], round.clone(), doubt.to_vec()].concat();
    assert!(matches!(book(terms(), whole).verdict(), Verdict::TooOften(_)), "under all of the traffic the second is");
}

#[test]
fn both_and_void_hold_until_somebody_learns_something() {
    assert!(matches!(book(terms(), [pair("home", Turn::First, false, false)]).verdict(), Verdict::Both(_)));
    let void = Input::Pair(Pair {
        probe: "home".to_owned(),
        turn: Turn::First,
        canary: Seen::Void("no stable pod is ready".to_owned()),
        stable: Seen::Pass,
    });
    assert_eq!(book(terms(), [void.clone()]).verdict(), Verdict::Void("no stable pod is ready".to_owned()));
    assert_eq!(book(terms(), [void, good("home")]).verdict(), Verdict::Fine);
}

#[test]
fn under_all_of_the_traffic_users_are_not_compared_and_the_weak_is_void() {
    let mut inputs = vec![Input::Whole(true)];
    inputs.extend(failing(99));
    let busy = Input::Pair(Pair {
        probe: "home".to_owned(),
        turn: Turn::First,
        canary: Seen::Busy("GET / answered 503".to_owned()),
        stable: Seen::Pass,
    });
    inputs.push(busy.clone());
    assert!(matches!(book(terms(), inputs).verdict(), Verdict::Void(_)));
    assert_eq!(book(terms(), [busy]).probes[0].open, 1, "before that it votes");
}

#[test]
fn a_jump_asks_for_the_split_three_times_and_then_a_person() {
    let terms = Terms { usual_rate: Some(0.01), ..terms() };
    let quiet = Input::Errors(vec![(0, tally((250, 1), (250, 1)))]);
    let round = vec![Input::Whole(true), Input::Alone(Side::new(500, 50)), Input::Alone(Side::new(500, 50))];
    let after = |rounds: usize| {
        let mut inputs = vec![quiet.clone()];
        for at in 0..rounds {
            inputs.extend(round.clone());
            if at + 1 < rounds {
                inputs.push(Input::Whole(false));
            }
        }
        book(terms.clone(), inputs).verdict()
    };
    let Verdict::Recheck(says) = after(1) else { panic!("{:?}", after(1)) };
    assert!(says.starts_with("100 failures in two blocks") && says.ends_with("side by side 0.40 % failed"), "{says}");
    assert!(matches!(after(3), Verdict::Recheck(_)));
    assert!(matches!(after(4), Verdict::Unexplained(_)));
}

#[test]
fn a_good_canary_is_sent_on_and_silence_is_not_evidence() {
    let mirror = |canary: (u32, u32), stable: (u32, u32)| {
        let fair = [20.0, 5.0, 2.0].map(|ratio| {
            let mut tally = Tally::default();
            tally.scrape(Side::new(canary.0, canary.1), Side::new(stable.0, stable.1), Fair::by_requests(ratio));
            tally.fair
        });
        Input::Mirror { canary: Side::new(canary.0, canary.1), stable: Side::new(stable.0, stable.1), fair: fair.to_vec() }
    };
    assert!(book(terms(), []).promotion(0) < 20.0);
    let some = book(terms(), vec![mirror((50, 0), (150, 1)); 9]);
    assert!(some.promotion(0) >= 20.0 && some.promotion(2) < 20.0, "{} {}", some.promotion(0), some.promotion(2));
    assert_eq!(some.promotion(7), some.promotion(2), "the last ratio is that of all later steps");
    let quiet = book(terms(), vec![mirror((100, 0), (100, 0)); 9]);
    assert!(quiet.promotion(2) >= 20.0, "900 without a failure clear half a percent: {}", quiet.promotion(2));
    let strict = Terms { margin: 0.0, ..terms() };
    assert_eq!(book(strict, vec![mirror((100, 0), (100, 0)); 9]).promotion(2), 1.0);
}

#[test]
fn every_probe_must_have_spoken_at_this_stage() {
    let of_each = |inputs: &[Input]| book(terms(), inputs.to_vec()).good_of_each(["home", "order"]);
    assert_eq!(of_each(&[good("home"), good("home")]), 0);
    assert_eq!(of_each(&[good("home"), good("order")]), 1);
    assert_eq!(of_each(&[good("home"), good("order"), Input::Stage]), 0);
    assert_eq!(book(terms(), [good("home"), good("order")]).next_stage(false).good_of_each(["home"]), 0);
    assert_eq!(book(terms(), [good("home")]).good_of_each(["home", "new"]), 0, "one that the book does not know has not spoken");
    assert_eq!(book(terms(), [good("home")]).good_of_each([]), 0);
    assert_eq!(book(terms(), [good("stranger")]), Book { until: Timestamp::from_second(1).ok(), ..book(terms(), []) });
}

#[test]
fn each_way_of_a_probe_has_its_own_evidence_and_either_way_is_good() {
    let by_route = probes::by_route("home");
    let ways = ["home", &by_route].map(|name| ProbeTerms { name: name.to_owned(), ..ProbeTerms::default() });
    let terms = Terms { probes: ways.to_vec(), ..Terms::default() };
    assert_eq!(book(terms.clone(), [good(&by_route)]).good_of_each(["home"]), 1);
    let rounds = [broken(&by_route), vec![good("home"); 3]].concat();
    let Verdict::Fail(failure) = book(terms, [rounds.clone(), rounds].concat()).verdict() else { panic!("pods that answer hid it") };
    assert!(failure.says.starts_with("home by the route: GET / answered 500, expected 200 on canary"), "{}", failure.says);
}

#[test]
fn a_probe_may_come_later_and_none_goes() {
    let one = Terms { probes: terms().probes[..1].to_vec(), ..Terms::default() };
    let doubted = book(one.clone(), broken("home"));
    let more = doubted.admitting(&terms().probes);
    assert_eq!(more.each_probe().map(|(terms, _)| terms.name.as_str()).collect::<Vec<_>>(), ["home", "order"]);
    assert_eq!(more.admitting(&terms().probes), more);
    assert!(more.wealth() < doubted.wealth() && matches!(more.verdict(), Verdict::Suspend(_)));
    let text = serde_json::to_string(&more).unwrap();
    assert_eq!(serde_json::from_str::<Book>(&text).unwrap(), more);
    let many: Vec<ProbeTerms> = (0..99).map(|at| ProbeTerms { name: format!("p{at}"), ..ProbeTerms::default() }).collect();
    assert_eq!(more.admitting(&many).each_probe().count(), PROBES);
}

#[test]
fn inputs_are_never_counted_twice() {
    let inputs = dated([failing(3), broken("home")].concat());
    let once = Book::open(terms()).with(&inputs);
    assert_eq!(once.with(&inputs), once);
    assert_eq!(Book::open(terms()).with(&inputs[..4]).with(&inputs), once);
}

#[test]
fn a_stored_book_goes_on_as_if_it_had_never_been_away() {
    let inputs = dated([failing(9), broken("home"), vec![good("order"), pair("order", Turn::First, false, false)], failing(3)].concat());
    let (before, after) = inputs.split_at(11);
    let book = Book::open(terms()).with(before);
    let text = serde_json::to_string(&book).unwrap();
    let read: Book = serde_json::from_str(&text).unwrap();
    assert_eq!(read, book);
    assert_eq!(read.with(after), Book::open(terms()).with(&inputs));
}

#[test]
fn what_was_cut_off_or_changed_is_not_read() {
    let stored = Stored::from(&book(terms(), [failing(3), broken("home")].concat()));
    let with = |state: String| Book::try_from(Stored { state, ..stored.clone() });
    assert!(with(stored.state.clone()).is_ok());
    let bytes = stored.state.len();
    for end in 0..bytes {
        assert!(with(stored.state[..end].to_owned()).is_err(), "{end} of {bytes}");
    }
    assert!(with(stored.state.clone() + "AAAA").is_err());
    assert!(with("A".repeat(bytes)).is_err(), "another layout");
    let fewer = Stored { terms: Terms { probes: vec![], ..terms() }, ..stored.clone() };
    assert!(Book::try_from(fewer).is_err());
}

#[test]
fn twenty_probes_and_nine_strata_are_some_three_kilobytes() {
    let probes = (0..20).map(|at| ProbeTerms { name: format!("place-order-{at}"), ..terms().probes[0].clone() }).collect();
    let strata = (0..8).map(|at| format!("POST /api/v1/orders/{at}")).collect();
    let terms = Terms { strata, probes, ..terms() };
    let block = Input::Errors((0..9).map(|at| (at, tally((2500, 5), (47_500, 95)))).collect());
    let mut inputs = vec![block; 400];
    inputs.extend(broken("place-order-3"));
    inputs.extend((0..20).flat_map(|at| vec![good(&format!("place-order-{at}")); 300]));
    let book = book(terms, inputs);
    let stored = Stored::from(&book);
    let all = serde_json::to_string(&book).unwrap().len();
    println!("state {} B, base64 {} B, terms {} B", size(&book), stored.state.len(), all - stored.state.len());
    assert!(stored.state.len() <= 3000, "{} B of base64", stored.state.len());
}

#[test]
fn little_traffic_is_said_with_what_the_probes_rule_out() {
    let mut inputs = vec![Input::Mirror { canary: Side::new(3, 0), stable: Side::new(57, 0), fair: vec![] }];
    inputs.extend(vec![good("home"); 30]);
    let one = Terms { probes: terms().probes[..1].to_vec(), ..terms() };
    assert_eq!(
        words::little_traffic(&book(one.clone(), inputs), 30).as_deref(),
        Some(
            "errors: 3 requests in 30 min, 600 needed; judged by probes: 30 of 30 pairs passed, a fault share above 10 % is ruled out at 95 %"
        )
    );
    let without = Terms { probes: vec![], ..one.clone() };
    assert_eq!(words::little_traffic(&book(without, []), 30).as_deref(), Some("errors: 0 requests in 30 min, 600 needed"));
    let enough = Input::Mirror { canary: Side::new(600, 0), stable: Side::new(57, 0), fair: vec![] };
    assert_eq!(words::little_traffic(&book(one, [enough]), 30), None);
}

#[test]
fn nothing_is_ever_no_number() {
    let most = u32::MAX;
    let lies = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, 1e-320, 1e300, 3.0];
    let mut inputs = Vec::new();
    for fair in lies {
        for (canary, stable) in [((0, most), (most, 0)), ((most, most), (most, most)), ((1, 0), (0, 1)), ((3, 2), (9, 1))] {
            let tally = Tally { fair, ..tally(canary, stable) };
            inputs.push(Input::Errors(vec![(0, tally), (1, tally), (usize::MAX, tally)]));
            inputs.push(Input::Latency([tally; 3]));
            inputs.push(Input::Logs(vec![("panic".to_owned(), tally), (String::new(), tally)]));
            inputs.push(Input::Mirror { canary: tally.canary, stable: tally.stable, fair: vec![fair; 9] });
            inputs.push(Input::Platform { pod_minutes: canary.0, events: canary.1 });
            inputs.push(Input::Alone(tally.canary));
        }
    }
    for (rate, margin) in [(f64::NAN, f64::NAN), (0.0, 1.0), (-1.0, -1.0), (2.0, 1e-300)] {
        let terms = Terms { false_rollback_rate: rate, margin, ratios: vec![f64::NAN, 0.0, 1e300], usual_rate: Some(f64::NAN), ..terms() };
        for _ in 0..3 {
            let book = book(terms.clone(), inputs.clone());
            assert!(book.wealth().is_finite() && book.wealth() > 0.0);
            assert!((0..4).all(|step| book.promotion(step).is_finite()));
        }
    }
}
