//! How we hear of what happened: told, by looking, or told late. All ways come to the same.

use std::time::Duration;

use haldane::{
    clock::{Clock as _, SystemClock},
    edge::forge::Forge as _,
};
use tokio::net::TcpListener;

use crate::{
    forge::{Checks, HookFault, Method},
    street::{SECRET, Street, plan},
};

fn green() -> Checks {
    Checks::actions("ci").done("success")
}

#[tokio::test]
async fn a_merge_is_known_within_two_seconds_of_the_last_webhook() {
    let mut street = Street::new(plan());
    street.open_the_door().await;
    street.comes_to(&[]).await;
    let commit = street.repo.merge(street.repo.change("a", "Told"), Method::Squash);
    street.build(&commit);
    street.comes_to(&["Told (#1): waits for its first check"]).await;
    street.repo.checks(&commit, green());
    street.comes_to(&["Told (#1): ready"]).await;
    // Nothing else has asked it to look: the next look of its own is 30 s away.
    street.github.hooks_settle().await;
    assert!(street.github.deliveries().iter().all(|delivery| delivery.status_code == 202), "{:#?}", street.github.deliveries());
}

#[tokio::test]
async fn lost_doubled_late_and_forged_webhooks_and_one_look_come_to_the_same() {
    use HookFault::{Drop, Late, None, Twice, WrongSecret};
    for faults in [[None, None, None, None], [Drop, Drop, Drop, Drop], [Twice, Late, Twice, Late], [WrongSecret, Late, Drop, Twice]] {
        let mut street = Street::new(plan());
        street.open_the_door().await;
        street.github.hook_faults(&faults.repeat(3));
        let one = street.repo.merge(street.repo.change("a", "One"), Method::Squash);
        street.build(&one);
        street.repo.checks(&one, green());
        let two = street.repo.merge(street.repo.change("b", "Two"), Method::Merge);
        street.repo.checks(&two, Checks::actions("ci").done("failure"));
        let three = street.repo.merge(street.repo.change("c", "Three"), Method::Squash);
        street.build(&three);
        street.repo.checks(&three, green());
        street.github.hooks_settle().await;
        street.sees(&["Three (#3): ready", "Merge pull request #2 from acme/b: failed (the workflow ci: failed)", "One (#1): ready"]).await;
    }
}

#[tokio::test]
async fn what_did_not_arrive_is_sent_again_when_we_ask_and_only_that() {
    let mut street = Street::new(plan());
    // An address where nobody listens yet.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    street.github.webhook(&format!("http://{address}/github"), SECRET);
    street.comes_to(&[]).await;
    let commit = street.repo.merge(street.repo.change("a", "Missed"), Method::Squash);
    street.build(&commit);
    street.repo.checks(&commit, green());
    street.github.hooks_settle().await;
    let tried = street.github.deliveries().len();
    assert_eq!(street.thought(), Vec::<String>::new(), "nobody was told");
    street.open_the_door_at(TcpListener::bind(address).await.unwrap());
    let since = SystemClock.now() - Duration::from_mins(10);
    assert_eq!(street.client.repeat_missed(since).await, Ok(tried));
    street.comes_to(&["Missed (#1): ready"]).await;
    street.github.hooks_settle().await;
    assert_eq!(street.client.repeat_missed(since).await, Ok(0), "all has arrived");
}
