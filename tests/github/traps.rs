//! What GitHub's facts look like and do not mean, one story for each.

use std::time::Duration;

use haldane::model::source::{Queue, When};

use crate::{
    forge::{Checks, Method},
    street::{Street, plan},
};

fn green() -> Checks {
    Checks::actions("ci").done("success")
}

#[tokio::test]
async fn image_and_checks_come_in_either_order() {
    let street = Street::new(plan());
    let first = street.repo.merge(street.repo.change("a", "Image first"), Method::Squash);
    street.repo.checks(&first, Checks::actions("ci").running(1));
    street.build(&first);
    street.sees(&["Image first (#1): waits for the workflow ci"]).await;
    street.repo.checks(&first, green());
    street.sees(&["Image first (#1): ready"]).await;
    let second = street.repo.merge(street.repo.change("b", "Checks first"), Method::Squash);
    street.repo.checks(&second, green());
    street.sees(&["Checks first (#2): waits for the image …", "Image first (#1): ready"]).await;
    street.build(&second);
    street.sees(&["Checks first (#2): ready", "Image first (#1): ready"]).await;
}

#[tokio::test]
async fn red_checks_are_not_delivered_and_a_second_run_revives() {
    let street = Street::new(plan());
    let commit = street.repo.merge(street.repo.change("a", "Red"), Method::Squash);
    street.build(&commit);
    street.repo.checks(&commit, Checks::actions("ci").done("failure"));
    street.sees(&["Red (#1): failed (the workflow ci: failed)"]).await;
    street.repo.checks(&commit, green());
    street.sees(&["Red (#1): ready"]).await;
}

/// Rule 5: `concurrency: cancel-in-progress` leaves `cancelled` on older commits.
#[tokio::test]
async fn a_cancelled_run_is_not_built_and_not_failed() {
    let street = Street::new(plan());
    let old = street.repo.merge(street.repo.change("a", "Old"), Method::Squash);
    street.repo.checks(&old, Checks::actions("ci").done("cancelled"));
    let new = street.repo.merge(street.repo.change("b", "New"), Method::Squash);
    street.repo.checks(&new, green());
    street.sees(&["New (#2): waits for the image …", "Old (#1): not built (the workflow ci: cancelled)"]).await;
}

/// Fact 5, rule 3: an app that is merely installed.
#[tokio::test]
async fn a_suite_that_stays_empty_is_waited_for_no_longer_than_its_grace() {
    let street = Street::new(plan());
    let commit = street.repo.merge(street.repo.change("a", "Quiet app"), Method::Squash);
    street.build(&commit);
    street.repo.checks(&commit, green());
    street.repo.checks(&commit, Checks::of("dependabot"));
    street.sees(&["Quiet app (#1): waits for the checks of dependabot"]).await;
    street.comes_to(&["Quiet app (#1): ready"]).await;
}

#[tokio::test]
async fn a_suite_of_another_app_with_a_run_counts() {
    let street = Street::new(plan());
    let commit = street.repo.merge(street.repo.change("a", "Scanned"), Method::Squash);
    street.build(&commit);
    street.repo.checks(&commit, green());
    street.repo.checks(&commit, Checks::of("scanner").running(1));
    tokio::time::sleep(Duration::from_secs(3)).await;
    street.sees(&["Scanned (#1): waits for the checks of scanner"]).await;
    street.repo.checks(&commit, Checks::of("scanner").done("failure"));
    street.sees(&["Scanned (#1): failed (the checks of scanner: failed)"]).await;
}

/// Fact 4: with a merge queue the commit is green before its own workflow starts.
#[tokio::test]
async fn runs_of_the_merge_queue_count_and_the_push_that_follows_is_waited_for() {
    let street = Street::new(plan());
    let (one, two) = (street.repo.change("a", "One"), street.repo.change("b", "Two"));
    let head = street.repo.merge_group(&[one, two]);
    street.repo.checks(&head, green().event("merge_group"));
    street.repo.checks(&head, Checks::actions("ci").running(1));
    street.build(&head);
    let none = "One (#1): waits for a check: none runs on this commit; deliver without: spec.source.github.when.onNoChecks: Proceed";
    tokio::time::sleep(Duration::from_secs(2)).await;
    street.sees(&["Two (#2): waits for the workflow ci", none]).await;
    street.repo.checks(&head, green());
    street.sees(&["Two (#2): ready", none]).await;
}

/// Runs for a pull request share the name and, after a fast-forward, the commit.
#[tokio::test]
async fn a_run_for_a_pull_request_says_nothing_of_the_branch() {
    let street = Street::new(plan());
    let commit = street.repo.merge(street.repo.change("a", "Forwarded"), Method::Rebase);
    street.build(&commit);
    street.repo.checks(&commit, Checks::actions("ci").event("pull_request").done("failure"));
    street.repo.checks(&commit, green());
    street.sees(&["Forwarded: ready"]).await;
}

/// Rule 4: the combined state of no statuses is `pending`, and no checks at all are not green.
#[tokio::test]
async fn without_any_check_it_waits_for_a_person_or_proceeds_if_told_to() {
    let mut street = Street::new(plan());
    let commit = street.repo.merge(street.repo.change("a", "Bare"), Method::Squash);
    street.build(&commit);
    street.sees(&["Bare (#1): waits for its first check"]).await;
    street
        .comes_to(&["Bare (#1): waits for a check: none runs on this commit; deliver without: spec.source.github.when.onNoChecks: Proceed"])
        .await;
    street.plan.rules.without_checks = true;
    street.watch();
    street.comes_to(&["Bare (#1): ready"]).await;
}

/// Rule 1: else we would wait for ourselves.
#[tokio::test]
async fn our_own_status_is_not_waited_for() {
    let street = Street::new(plan());
    let commit = street.repo.merge(street.repo.change("a", "Ours"), Method::Squash);
    street.build(&commit);
    street.repo.checks(&commit, green());
    street.repo.status(&commit, "haldane/production", "pending");
    street.repo.status(&commit, "jenkins", "pending");
    street.sees(&["Ours (#1): waits for the status jenkins"]).await;
    street.repo.status(&commit, "jenkins", "success");
    street.sees(&["Ours (#1): ready"]).await;
}

#[tokio::test]
async fn named_workflows_and_a_signal_are_all_that_is_waited_for() {
    for when in [When::Workflows(vec!["build".to_owned()]), When::Signal("ship-it".to_owned())] {
        let mut wanted = plan();
        wanted.rules.when = when.clone();
        let street = Street::new(wanted);
        let commit = street.repo.merge(street.repo.change("a", "Picky"), Method::Squash);
        street.build(&commit);
        street.repo.checks(&commit, Checks::actions("nightly").done("failure"));
        let waits = if matches!(when, When::Signal(_)) { "the status ship-it" } else { "a run of the workflow build" };
        street.sees(&[&format!("Picky (#1): waits for {waits}")]).await;
        street.repo.checks(&commit, Checks::actions("build").done("success"));
        street.repo.status(&commit, "ship-it", "success");
        street.sees(&["Picky (#1): ready"]).await;
    }
}

/// Each way to merge: a squash is one commit, of a merge the first parent's line counts, a rebase is several of which one is built.
#[tokio::test]
async fn squash_merge_and_rebase_are_the_first_parents_line() {
    let mut wanted = plan();
    wanted.rules.without_checks = true;
    wanted.rules.grace = Duration::ZERO;
    wanted.rules.image_timeout = Duration::ZERO;
    let street = Street::new(wanted);
    let squash = street.repo.merge(street.repo.change("a", "Squashed"), Method::Squash);
    street.repo.commit("b", "On the side");
    let merge = street.repo.merge(street.repo.change("b", "Merged"), Method::Merge);
    street.repo.commit("c", "Rebased one");
    let rebase = street.repo.merge(street.repo.change("c", "Rebased two"), Method::Rebase);
    for commit in [&squash, &merge, &rebase] {
        street.build(commit);
    }
    street
        .sees(&[
            "Rebased two: ready",
            "Rebased one: not built (no image … came)",
            "Merge pull request #2 from acme/b: ready",
            "Squashed (#1): ready",
        ])
        .await;
    assert_eq!(street.known().history.unwrap().commits[2].pull_request.as_ref().map(|p| p.number), Some(2));
}

#[tokio::test]
async fn a_branch_that_was_rewritten_is_told_and_what_is_not_on_it_is_gone() {
    let mut street = Street::new(plan());
    let first = street.repo.head("main");
    let gone = street.repo.merge(street.repo.change("a", "Gone"), Method::Squash);
    street.build(&gone);
    street.repo.checks(&gone, green());
    street.sees(&["Gone (#1): ready"]).await;
    street.since = Some(gone);
    street.watch();
    street.sees(&[]).await;
    street.repo.force_push("main", &first);
    let new = street.repo.commit("main", "Another history");
    street.repo.checks(&new, green());
    street.build(&new);
    street.stir();
    let rewritten = || street.thought().last().is_some_and(|line| line == "the branch was rewritten");
    for _ in 0..100 {
        if rewritten() && street.thought()[0] == "Another history: ready" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{:#?}", street.thought());
}

#[tokio::test]
async fn an_image_of_another_commit_or_of_none_is_refused() {
    let mut wanted = plan();
    wanted.image.revision_required = true;
    let street = Street::new(wanted);
    let commit = street.repo.merge(street.repo.change("a", "Labelled"), Method::Squash);
    street.repo.checks(&commit, green());
    street.shelf.put(&format!("sha-{commit}"), "1", Some(&street.repo.resolve("main~1")));
    street.sees(&["Labelled (#1): refused (… says that it was built from …)"]).await;
    let bare = street.repo.merge(street.repo.change("b", "Bare"), Method::Squash);
    street.repo.checks(&bare, green());
    street.shelf.put(&format!("sha-{bare}"), "2", None);
    street
        .sees(&[
            "Bare (#2): refused (… does not say from which commit it was built; label it org.opencontainers.image.revision)",
            "Labelled (#1): refused (… says that it was built from …)",
        ])
        .await;
    // Put right under the same tag, it is that commit's.
    street.shelf.put(&format!("sha-{bare}"), "3", Some(&bare));
    street.sees(&["Bare (#2): ready", "Labelled (#1): refused (… says that it was built from …)"]).await;
}

#[tokio::test]
async fn a_tag_that_moves_or_is_forgotten_changes_nothing_after_it_was_read() {
    let street = Street::new(plan());
    let commit = street.repo.merge(street.repo.change("a", "Moved"), Method::Squash);
    street.repo.checks(&commit, Checks::actions("ci").running(1));
    street.build(&commit);
    street.sees(&["Moved (#1): waits for the workflow ci"]).await;
    let image = || street.known().facts.values().next().unwrap().image.clone();
    let taken = image();
    street.shelf.put(&format!("sha-{commit}"), "bad", Some(&commit));
    street.repo.checks(&commit, green());
    street.sees(&["Moved (#1): ready"]).await;
    assert_eq!(image(), taken, "by the digest that was read");
    street.shelf.take_away(&format!("sha-{commit}"));
    street.stir();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(image(), taken);
    assert_eq!(street.thought(), ["Moved (#1): ready"]);
}

/// `[skip ci]`: no run, no image, and no alarm.
#[tokio::test]
async fn a_commit_that_skips_ci_ends_quietly_and_the_next_one_goes() {
    let mut wanted = plan();
    (wanted.queue, wanted.rules.when, wanted.rules.image_timeout) = (Queue::Each, When::Image, Duration::from_secs(2));
    let street = Street::new(wanted);
    street.repo.commit("main", "Typo [skip ci]");
    let next = street.repo.commit("main", "Real");
    street.build(&next);
    street.sees(&["Real: ready", "Typo [skip ci]: waits for the image …"]).await;
    street.comes_to(&["Real: ready", "Typo [skip ci]: not built (no image … came)"]).await;
}

#[tokio::test]
async fn a_repository_that_is_renamed_is_followed_and_one_that_is_gone_is_told() {
    let street = Street::new(plan());
    let commit = street.repo.merge(street.repo.change("a", "Before"), Method::Squash);
    street.build(&commit);
    street.repo.checks(&commit, green());
    street.sees(&["Before (#1): ready"]).await;
    street.repo.rename("store");
    street.sees(&["Before (#1): ready"]).await;
    assert_eq!(street.known().unsaid, None, "the old name leads to the new one");
    street.stir();
    let renamed = || street.known().history.unwrap().renamed.map(|now| now.to_string());
    while renamed().is_none() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(renamed().as_deref(), Some("acme/store"));
    street.repo.delete();
    street.stir();
    street.says("acme/shop does not exist at the forge").await;
    assert!(street.known().unsaid.is_some_and(|unsaid| unsaid.person));
    assert_eq!(street.thought(), ["Before (#1): ready"], "what was known stands");
}
