//! Ends, retries, releases, cancels and expiry (rules E4 to E7).

use super::lab::{Lab, at, line, ok};
use crate::store::{
    CancelReceipt, Claimed, Completion, CompletionReceipt, End, NewExecution, ProgressReport,
    Store, Swept,
};
use horarium_model::execution::{AttemptOutcome, Progress, State};
use horarium_model::{ErrorKind, TaskId};
use serde_json::json;
use std::sync::Arc;

/// Everything of a success is in its row.
pub async fn a_success_is_recorded_whole(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.config(json!({})).await;
    let claimed = lab.running(Some(config.id), at(0)).await;
    let mut item = lab.completion(at(3), &claimed, End::Succeeded(Arc::from(r#"{"n":[1,2]}"#)));
    item.progress = Some(Progress {
        fraction: Some(1.0),
        message: "done".into(),
    });
    let (record, progress) = (item.record.clone(), item.progress.clone());
    assert_eq!(
        lab.complete(at(3), item).await,
        CompletionReceipt::Recorded(State::Succeeded)
    );
    let shown = lab.show(claimed.task_id).await;
    assert_eq!(shown.id, claimed.id);
    assert_eq!(shown.state, State::Succeeded);
    assert_eq!(shown.is_success, Some(true));
    assert_eq!(shown.config_id, Some(config.id));
    assert_eq!(shown.result, Some(json!({"n": [1, 2]})));
    assert_eq!(shown.parameters, Some(json!({"a": 1})));
    assert_eq!(shown.started_at, Some(record.started_at));
    assert_eq!(shown.first_started_at, Some(record.started_at));
    assert_eq!(shown.completed_at, Some(record.completed_at));
    assert_eq!(shown.duration_seconds, Some(0.25));
    assert_eq!((shown.attempt, shown.max_attempts, shown.lost), (1, 3, 0));
    assert_eq!((shown.error_kind, shown.error_message), (None, None));
    assert_eq!(shown.usage, record.usage);
    assert_eq!(shown.plugin_digest, record.plugin_digest);
    assert_eq!(shown.host, record.host);
    assert_eq!(shown.progress, progress);
    assert_eq!((shown.created_at, shown.due_at), (at(0), Some(at(0))));
    assert_eq!(lab.attempts(claimed.task_id).await, [record]);
}

/// Everything of a failure is in its row, and in its attempt.
pub async fn a_failure_is_recorded_whole(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let claimed = lab.running(None, at(0)).await;
    let item = lab.completion(at(3), &claimed, End::Failed);
    let record = item.record.clone();
    lab.complete(at(3), item).await;
    let shown = lab.show(claimed.task_id).await;
    assert_eq!(
        (shown.state, shown.is_success),
        (State::Failed, Some(false))
    );
    assert_eq!(shown.error_kind, Some(ErrorKind::Trap));
    assert_eq!(shown.error_message, record.error_message);
    assert_eq!(shown.error_traceback, record.error_traceback);
    assert_eq!(shown.result, None);
    assert_eq!(lab.attempts(claimed.task_id).await, [record]);
}

/// JSON null as a result is shown as no result, whatever keeps it.
pub async fn a_result_of_null_is_no_result(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    for (text, shown) in [
        ("null", None),
        ("false", Some(json!(false))),
        ("\"\"", Some(json!(""))),
    ] {
        let claimed = lab.running(None, at(0)).await;
        lab.finish(at(1), &claimed, End::Succeeded(Arc::from(text)))
            .await;
        assert_eq!(lab.show(claimed.task_id).await.result, shown);
    }
}

/// Guarded by (id, claim, incarnation); an end is recorded once.
pub async fn stale_completions_write_nothing(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let claimed = lab.running(None, at(0)).await;
    let good = lab.completion(at(1), &claimed, ok());
    let mut wrong_claim = good.clone();
    wrong_claim.claim += 1;
    let mut wrong_host = good.clone();
    wrong_host.incarnation += 1;
    let mut wrong_id = good.clone();
    wrong_id.id += 1000;
    for item in [wrong_claim, wrong_host, wrong_id] {
        assert_eq!(lab.complete(at(1), item).await, CompletionReceipt::Stale);
    }
    assert_eq!(lab.state(claimed.task_id).await, State::Running);
    assert!(lab.attempts(claimed.task_id).await.is_empty());
    lab.finish(at(1), &claimed, ok()).await;
    let mut again = lab.completion(at(2), &claimed, End::Failed);
    again.logs = vec![line(&claimed, 0, "late")];
    assert_eq!(lab.complete(at(2), again).await, CompletionReceipt::Stale);
    assert_eq!(lab.state(claimed.task_id).await, State::Succeeded);
    assert_eq!(lab.attempts(claimed.task_id).await.len(), 1);
    // Claimed again: the earlier claim is void. A dead host's claim is void.
    let first = lab.running(None, at(3)).await;
    lab.finish(at(3), &first, End::Retry(at(4))).await;
    lab.store.sweep_due(at(4), 10).await.expect("sweeps");
    let second = lab.claim_one(at(4)).await;
    assert_eq!((second.task_id, second.claim), (first.task_id, 2));
    let late = lab.completion(at(5), &first, ok());
    assert_eq!(lab.complete(at(5), late).await, CompletionReceipt::Stale);
    lab.store.stop_host(at(5), lab.host).await.expect("stops");
    let dead = lab.completion(at(5), &second, ok());
    assert_eq!(lab.complete(at(5), dead).await, CompletionReceipt::Stale);
    assert_eq!(lab.state(second.task_id).await, State::Running);
}

/// One receipt per item, in order; the same end twice in one batch is recorded once.
pub async fn one_item_of_a_batch_may_be_stale(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    for _ in 0..3 {
        lab.put_due(None, at(0)).await;
    }
    let claimed = lab.claim(at(0), 3).await;
    let mut items: Vec<_> = claimed
        .iter()
        .map(|c| lab.completion(at(1), c, ok()))
        .collect();
    items[1].claim = 9;
    items.push(items[0].clone());
    let receipts = lab
        .store
        .complete_many(at(1), items.into())
        .await
        .expect("answers");
    let recorded = CompletionReceipt::Recorded(State::Succeeded);
    assert_eq!(
        receipts,
        [
            recorded.clone(),
            CompletionReceipt::Stale,
            recorded,
            CompletionReceipt::Stale
        ]
    );
    assert_eq!(lab.state(claimed[1].task_id).await, State::Running);
    let none = lab.store.complete_many(at(1), Arc::new([])).await;
    assert!(none.expect("answers").is_empty());
}

/// However a store divides large batches, each execution keeps what is its own.
pub async fn each_of_a_large_batch_keeps_what_is_its_own(store: Arc<dyn Store>) {
    const MANY: usize = 1100;
    let lab = Lab::new(store).await;
    let numbered = |n: usize| NewExecution {
        parameters: match n % 100 {
            0 => format!(r#"{{"n":{n},"text":"{}"}}"#, "x".repeat(2000)).into(),
            _ => format!(r#"{{"n":{n}}}"#).into(),
        },
        ..lab.new_execution(None, at(0))
    };
    let items: Vec<NewExecution> = (0..MANY).map(numbered).collect();
    let ids: Vec<TaskId> = items.iter().map(|item| item.task_id).collect();
    lab.enqueue(at(0), items).await;
    let mut claimed = lab.claim(at(0), MANY as u32).await;
    claimed.extend(lab.claim(at(0), MANY as u32).await);
    assert_eq!(claimed.len(), MANY);
    let end = |claimed: &Claimed| {
        let n = ids.iter().position(|id| *id == claimed.task_id);
        let n = n.expect("it was enqueued");
        assert!(claimed.parameters.starts_with(&format!(r#"{{"n":{n}"#)));
        let end = match n % 3 {
            0 => End::Failed,
            1 => End::Retry(at(60)),
            _ => End::Succeeded(n.to_string().into()),
        };
        lab.completion(at(1), claimed, end)
    };
    let ends: Vec<Completion> = claimed.iter().map(end).collect();
    let done = lab.store.complete_many(at(1), ends.into()).await;
    assert_eq!(done.expect("complete_many answers").len(), MANY);
    for (n, id) in ids.iter().enumerate() {
        let shown = lab.show(*id).await;
        let (state, result) = match n % 3 {
            0 => (State::Failed, None),
            1 => (State::Retryable, None),
            _ => (State::Succeeded, Some(json!(n))),
        };
        assert_eq!((shown.state, shown.result), (state, result), "{n}");
        let parameters = shown.parameters.expect("it is shown whole");
        assert_eq!(parameters["n"], n);
    }
}

/// Rule E4: the same task id, the next attempt, not before its instant.
pub async fn a_retry_waits_and_runs_again(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let item = NewExecution {
        slot: Some(at(-60)),
        ..lab.new_execution(None, at(0))
    };
    lab.put(at(0), item).await;
    let first = lab.claim_one(at(0)).await;
    assert_eq!(
        lab.finish(at(1), &first, End::Retry(at(11))).await,
        State::Retryable
    );
    let waiting = lab.show(first.task_id).await;
    assert_eq!((waiting.attempt, waiting.due_at), (1, Some(at(11))));
    assert_eq!(waiting.error_kind, Some(ErrorKind::Trap));
    assert_eq!(waiting.error_message.as_deref(), Some("it ended with trap"));
    assert_eq!(waiting.completed_at, Some(at(1)));
    assert_eq!(waiting.is_success, None);
    assert!(lab.claim(at(10), 1).await.is_empty());
    let early = lab.store.sweep_due(at(10), 10).await.expect("sweeps");
    assert_eq!(early, Swept::default());
    let swept = lab.store.sweep_due(at(11), 10).await.expect("sweeps");
    assert_eq!(swept.available, 1);
    assert_eq!(lab.state(first.task_id).await, State::Available);
    let second = lab.claim_one(at(12)).await;
    assert_eq!((second.task_id, second.id), (first.task_id, first.id));
    assert_eq!((second.attempt, second.claim), (2, 2));
    assert_eq!((second.slot, second.due_at), (Some(at(-60)), at(11)));
    let running = lab.show(first.task_id).await;
    assert_eq!((running.error_kind, running.completed_at), (None, None));
    assert_eq!(running.started_at, Some(at(12)));
    lab.finish(at(13), &second, ok()).await;
    let shown = lab.show(first.task_id).await;
    assert_eq!((shown.attempt, shown.is_success), (2, Some(true)));
    assert_eq!(shown.error_message, None);
    let micros = chrono::Duration::milliseconds(250);
    assert_eq!(shown.first_started_at, Some(at(1) - micros));
    let outcomes: Vec<_> = lab
        .attempts(first.task_id)
        .await
        .into_iter()
        .map(|a| (a.attempt, a.claim, a.outcome))
        .collect();
    let expected = [
        (1, 1, AttemptOutcome::Failed),
        (2, 2, AttemptOutcome::Succeeded),
    ];
    assert_eq!(outcomes, expected);
}

/// The store decides: a retry of a cancelled execution ends `cancelled`, its attempt stays a failure.
pub async fn a_retry_whose_cancel_was_asked_for_ends(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let claimed = lab.running(None, at(0)).await;
    assert_eq!(
        lab.cancel(at(1), claimed.task_id).await,
        CancelReceipt::Requested
    );
    assert_eq!(
        lab.finish(at(2), &claimed, End::Retry(at(12))).await,
        State::Cancelled
    );
    let shown = lab.show(claimed.task_id).await;
    assert_eq!(shown.error_kind, Some(ErrorKind::Cancelled));
    assert_eq!(shown.is_success, Some(false));
    assert_eq!(shown.cancel_requested_at, Some(at(1)));
    assert_eq!(shown.completed_at, Some(at(2)));
    let attempts = lab.attempts(claimed.task_id).await;
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].outcome, AttemptOutcome::Failed);
    assert_eq!(attempts[0].error_kind, Some(ErrorKind::Trap));
}

/// The latest report of exactly this claim.
pub async fn progress_is_kept_and_guarded(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let claimed = lab.running(None, at(0)).await;
    let report = |claim, fraction: f64| ProgressReport {
        id: claimed.id,
        claim,
        progress: Progress {
            fraction: Some(fraction),
            message: format!("at {fraction}"),
        },
    };
    let items = vec![report(1, 0.25), report(1, 0.5), report(2, 0.75)];
    lab.store.report_progress(items).await.expect("kept");
    let shown = lab.show(claimed.task_id).await.progress;
    assert_eq!(shown, Some(report(1, 0.5).progress));
    lab.finish(at(1), &claimed, ok()).await;
    lab.store
        .report_progress(vec![report(1, 0.9)])
        .await
        .expect("ignored");
    let shown = lab.show(claimed.task_id).await.progress;
    assert_eq!(shown, Some(report(1, 0.5).progress), "the last stays");
}

/// Each move of the table is reached by an operation, `is_success` follows the state, and an ended
/// execution answers every operation with a refusal.
pub async fn every_legal_move_happens_and_nothing_moves_an_ended_one(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let mut moves = std::collections::BTreeSet::new();
    let mut note = |from: Option<State>, to: State, shown: &horarium_model::Execution| {
        assert!(State::may_become(from, to), "{from:?} to {to}");
        assert_eq!((shown.state, shown.is_success), (to, to.is_success()));
        moves.insert((from, to));
    };
    use State::{Available, Cancelled, Failed, Retryable, Running, Scheduled, Succeeded};
    // Waiting ones: born, swept, cancelled, expired.
    let soon = NewExecution {
        expires_at: Some(at(20)),
        ..lab.new_execution(None, at(10))
    };
    for way in ["swept", "cancelled", "expired"] {
        let mut item = soon.clone();
        item.task_id = lab.task_id();
        if way == "expired" {
            item.due_at = at(99);
        }
        let id = lab.put(at(0), item).await.1;
        note(None, Scheduled, &lab.show(id).await);
        match way {
            "swept" => {
                lab.store.sweep_due(at(10), 9).await.expect("sweeps");
                note(Some(Scheduled), Available, &lab.show(id).await);
                lab.store.sweep_due(at(20), 9).await.expect("sweeps");
                note(Some(Available), Failed, &lab.show(id).await);
            }
            "cancelled" => {
                lab.cancel(at(1), id).await;
                note(Some(Scheduled), Cancelled, &lab.show(id).await);
            }
            _ => {
                lab.store.sweep_due(at(20), 9).await.expect("sweeps");
                note(Some(Scheduled), Failed, &lab.show(id).await);
            }
        }
    }
    let id = lab.put_due(None, at(0)).await;
    note(None, Available, &lab.show(id).await);
    lab.cancel(at(1), id).await;
    note(Some(Available), Cancelled, &lab.show(id).await);
    // Running ones.
    for (end, to) in [
        (ok(), Succeeded),
        (End::Failed, Failed),
        (End::Cancelled, Cancelled),
    ] {
        let claimed = lab.running(None, at(30)).await;
        note(Some(Available), Running, &lab.show(claimed.task_id).await);
        lab.finish(at(31), &claimed, end).await;
        note(Some(Running), to, &lab.show(claimed.task_id).await);
        let late = lab.completion(at(32), &claimed, End::Retry(at(40)));
        assert_eq!(lab.complete(at(32), late).await, CompletionReceipt::Stale);
        assert_eq!(lab.release(at(32), &claimed, None, None).await, 0);
        assert_eq!(
            lab.cancel(at(32), claimed.task_id).await,
            CancelReceipt::AlreadyEnded(to)
        );
        note(Some(Running), to, &lab.show(claimed.task_id).await);
    }
    let back = lab.running(None, at(33)).await;
    lab.release(at(34), &back, None, None).await;
    note(Some(Running), Available, &lab.show(back.task_id).await);
    lab.cancel(at(34), back.task_id).await;
    // Retryable ones.
    for to in [Available, Cancelled, Failed] {
        let item = NewExecution {
            expires_at: Some(at(60)),
            ..lab.new_execution(None, at(40))
        };
        lab.put(at(40), item).await;
        let claimed = lab.claim_one(at(40)).await;
        let due = if to == Failed { at(90) } else { at(50) };
        lab.finish(at(41), &claimed, End::Retry(due)).await;
        note(Some(Running), Retryable, &lab.show(claimed.task_id).await);
        match to {
            Cancelled => {
                lab.cancel(at(42), claimed.task_id).await;
            }
            Available => drop(lab.store.sweep_due(at(50), 9).await),
            _ => drop(lab.store.sweep_due(at(60), 9).await),
        }
        note(Some(Retryable), to, &lab.show(claimed.task_id).await);
    }
    let config = lab.cron().await;
    let mut order = lab
        .order(config.id, &[600], horarium_model::schedule::Overlap::Skip)
        .await;
    order.skip_all = Some(horarium_model::execution::SkipReason::Quota);
    lab.fire(at(600), order).await;
    let order = lab
        .order(config.id, &[1200], horarium_model::schedule::Overlap::Allow)
        .await;
    lab.fire(at(1200), order).await;
    note(None, State::Skipped, &lab.skipped(config.id).await[0]);
    let froms = std::iter::once(None).chain(State::ALL.iter().copied().map(Some));
    for from in froms {
        for to in State::ALL {
            assert_eq!(
                State::may_become(from, *to),
                moves.contains(&(from, *to)),
                "{from:?} to {to}"
            );
        }
    }
}
