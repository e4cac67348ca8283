//! What each signal of the forge proves and what it does not, one story for each: nothing that is announced is believed, nothing
//! beside the branch counts, and nothing is written.

use haldane::model::source::When;

use crate::{
    forge::{Checks, Method, hooks::Release},
    street::{Street, plan},
};

fn green() -> Checks {
    Checks::actions("ci").done("success")
}

/// An `ETag` of GitHub's depends on the token, which is another one each hour: what leans on it pays the full price then.
#[tokio::test]
async fn another_token_makes_no_difference_because_nothing_is_asked_conditionally() {
    let street = Street::new(plan());
    let installation = *street.github.hub().lock().installations.keys().next().unwrap();
    for (at, title) in ["One", "Two"].into_iter().enumerate() {
        let commit = street.repo.merge(street.repo.change(title, title), Method::Squash);
        street.build(&commit);
        street.repo.checks(&commit, green());
        let all = [&["One (#1): ready"][..], &["Two (#2): ready", "One (#1): ready"]];
        street.sees(all[at]).await;
        street.github.revoke_tokens(installation);
    }
    let seen = street.github.seen();
    assert_eq!(seen.iter().filter(|seen| seen.path.ends_with("/access_tokens")).count(), 2);
    assert!(seen.iter().all(|seen| seen.status != 304), "{seen:#?}");
}

/// 80 writes a minute are all that GitHub takes, and the defaults of its deployments merge branches: there are none.
#[tokio::test]
async fn nothing_is_written_to_the_forge() {
    let street = Street::new(plan());
    let good = street.repo.merge(street.repo.change("a", "Good"), Method::Merge);
    street.build(&good);
    street.repo.checks(&good, green());
    let bad = street.repo.merge(street.repo.change("b", "Bad"), Method::Squash);
    street.repo.checks(&bad, Checks::actions("ci").done("failure"));
    street.sees(&["Bad (#2): failed (the workflow ci: failed)", "Merge pull request #1 from acme/a: ready"]).await;
    let reads = |method: &str, path: &str| method == "GET" || path == "/graphql" || path.ends_with("/access_tokens");
    let wrote: Vec<_> = street.github.seen().into_iter().filter(|seen| !reads(&seen.method, &seen.path)).collect();
    assert!(wrote.is_empty(), "{wrote:#?}");
}

/// One for each manifest of an image, some before its index is there: a hint to look, and no truth.
#[tokio::test]
async fn package_events_of_an_image_are_hints_and_the_registry_decides() {
    let mut street = Street::new(plan());
    street.open_the_door().await;
    let commit = street.repo.merge(street.repo.change("a", "Two platforms"), Method::Squash);
    street.repo.checks(&commit, green());
    street.comes_to(&["Two platforms (#1): waits for the image …"]).await;
    let (tag, before) = (format!("sha-{commit}"), street.github.seen().len());
    for _ in 0..3 {
        street.repo.package("shop", &tag);
    }
    street.github.hooks_settle().await;
    while street.github.seen().len() == before {
        tokio::task::yield_now().await;
    }
    assert_eq!(street.thought(), ["Two platforms (#1): waits for the image …"]);
    street.build(&commit);
    street.repo.package("shop", &tag);
    street.comes_to(&["Two platforms (#1): ready"]).await;
}

#[tokio::test]
async fn a_branch_that_is_deleted_is_told_and_what_was_known_stands() {
    let mut wanted = plan();
    wanted.branch.name = Some("release".to_owned());
    let street = Street::new(wanted);
    let commit = street.repo.commit("release", "Cut");
    street.build(&commit);
    street.repo.checks(&commit, green());
    street.sees(&["Cut: ready"]).await;
    street.repo.delete_branch("release");
    street.stir();
    street.says("branch release of acme/shop does not exist at the forge").await;
    assert_eq!(street.thought(), ["Cut: ready"]);
}

/// Suites and pushes of pull requests, tags and other branches arrive at the same door.
#[tokio::test]
async fn what_happens_beside_the_branch_changes_nothing() {
    let mut street = Street::new(plan());
    street.open_the_door().await;
    street.comes_to(&[]).await;
    let aside = street.repo.commit("feature", "On a branch");
    street.build(&aside);
    street.repo.checks(&aside, green());
    street.repo.force_push("elsewhere", &aside);
    let commit = street.repo.merge(street.repo.change("a", "On main"), Method::Squash);
    street.build(&commit);
    street.repo.checks(&commit, green());
    street.comes_to(&["On main (#1): ready"]).await;
    street.repo.checks(&aside, Checks::actions("ci").done("failure"));
    street.repo.status(&aside, "jenkins", "failure");
    street.github.hooks_settle().await;
    street.sees(&["On main (#1): ready"]).await;
}

/// The checks are green between two jobs of which one needs the other; their suite is not over.
#[tokio::test]
async fn between_two_jobs_a_workflow_is_not_over() {
    let street = Street::new(plan());
    let commit = street.repo.merge(street.repo.change("a", "Two jobs"), Method::Squash);
    street.build(&commit);
    street.repo.checks(&commit, Checks::of("scanner").done("success"));
    street.repo.checks(&commit, Checks::actions("ci").running(1));
    street.sees(&["Two jobs (#1): waits for the workflow ci"]).await;
    street.repo.checks(&commit, Checks { runs: 2, ..green() });
    street.sees(&["Two jobs (#1): ready"]).await;
}

/// What is required before a merge need never run after it, and what ran on the branch was another commit.
#[tokio::test]
async fn checks_of_the_pull_requests_head_do_not_carry_over_to_its_squash() {
    let street = Street::new(plan());
    let pull = street.repo.change("a", "Green before");
    let head = street.repo.head("a");
    street.repo.checks(&head, green().event("pull_request"));
    street.repo.status(&head, "jenkins", "success");
    let commit = street.repo.merge(pull, Method::Squash);
    street.build(&commit);
    street.sees(&["Green before (#1): waits for its first check"]).await;
    street.repo.checks(&commit, green());
    street.sees(&["Green before (#1): ready"]).await;
}

/// `paths:` and `if:` skip whole workflows; that is no failure, and no build.
#[tokio::test]
async fn a_workflow_that_was_skipped_has_built_nothing() {
    let mut wanted = plan();
    wanted.rules.when = When::Workflows(vec!["build".to_owned()]);
    let street = Street::new(wanted);
    let commit = street.repo.merge(street.repo.change("a", "Docs alone"), Method::Squash);
    street.repo.checks(&commit, Checks::actions("build").done("skipped"));
    street.sees(&["Docs alone (#1): not built (the workflow build was skipped)"]).await;
}

/// Pushes arrive in the wrong order, one of them of a commit that is not on the branch any more: they only say that it is time to look.
#[tokio::test]
async fn what_a_payload_says_is_not_believed() {
    let mut street = Street::new(plan());
    street.open_the_door().await;
    let commit = street.repo.merge(street.repo.change("a", "Merged"), Method::Squash);
    street.build(&commit);
    street.repo.checks(&commit, green());
    street.comes_to(&["Merged (#1): ready"]).await;
    street.github.hold_hooks();
    let rewritten = street.repo.merge(street.repo.change("b", "Taken back at once"), Method::Squash);
    street.build(&rewritten);
    street.repo.checks(&rewritten, green());
    street.repo.force_push("main", &commit);
    let after = street.repo.commit("main", "After it");
    street.build(&after);
    street.repo.checks(&after, green());
    street.github.release_hooks(Release::Reversed);
    street.comes_to(&["After it: ready", "Merged (#1): ready"]).await;
}
