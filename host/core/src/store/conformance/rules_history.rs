//! Reading what ran.

use super::lab::{Lab, TENANT, at, call, line, ok, spec};
use crate::store::{ConfigUpdate, End, ExecutionFilter, NewExecution, News, NewsMark, Page, Store};
use horarium_model::execution::{AttemptOutcome, LogLine, State, Trigger};
use horarium_model::{DEFAULT_TENANT, ErrorKind, ExecutionId, TaskId};
use serde_json::{Value, json};
use std::sync::Arc;

/// Newest first over live and ended ones, each filter, a cursor that neither repeats nor leaves out.
pub async fn executions_are_listed_by_filter_and_cursor(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.config(json!({})).await.id;
    let mut ids: Vec<TaskId> = Vec::new();
    for n in 0..12 {
        let item = NewExecution {
            trigger: if n % 2 == 0 {
                Trigger::Api
            } else {
                Trigger::Manual
            },
            task_type: if n < 6 { "echo" } else { "other" }.to_owned(),
            ..lab.new_execution(Some(config).filter(|_| n % 3 == 0), at(n))
        };
        ids.push(lab.put(at(n), item).await.1);
    }
    for (n, claimed) in lab.claim(at(20), 4).await.into_iter().enumerate() {
        let end = if n == 0 { End::Failed } else { ok() };
        lab.finish(at(21), &claimed, end).await;
    }
    lab.claim_types(at(22), 1, &["other"]).await;
    ids.reverse();
    let list = |filter: ExecutionFilter, page: Page| {
        let store = lab.store.clone();
        async move {
            store
                .executions(TENANT, &filter, &page)
                .await
                .expect("lists")
        }
    };
    let mut seen = Vec::new();
    let mut page = Page::first(5);
    loop {
        let listing = list(ExecutionFilter::default(), page.clone()).await;
        for item in &listing.items {
            assert_eq!((&item.parameters, &item.result), (&None, &None));
            assert_eq!(item.error_traceback, None);
        }
        seen.extend(listing.items.into_iter().map(|e| e.task_id));
        page.after = listing.next;
        if listing.next.is_none() {
            break;
        }
    }
    assert_eq!(seen, ids);
    let whole = list(ExecutionFilter::default(), Page::first(12)).await;
    assert_eq!(whole.next, None);
    let by = ExecutionFilter::default;
    let states = |states: &[State]| ExecutionFilter {
        states: states.to_vec(),
        ..by()
    };
    let cases = [
        (
            ExecutionFilter {
                config_id: Some(config),
                ..by()
            },
            4,
        ),
        (
            ExecutionFilter {
                config_id: Some(config + 9),
                ..by()
            },
            0,
        ),
        (
            ExecutionFilter {
                task_type: Some("other".into()),
                ..by()
            },
            6,
        ),
        (
            ExecutionFilter {
                trigger: Some(Trigger::Api),
                ..by()
            },
            6,
        ),
        (
            ExecutionFilter {
                error_kind: Some(ErrorKind::Trap),
                ..by()
            },
            1,
        ),
        (
            ExecutionFilter {
                error_kind: Some(ErrorKind::Exit),
                ..by()
            },
            0,
        ),
        (
            ExecutionFilter {
                text: Some("ENDED with tr".into()),
                ..by()
            },
            1,
        ),
        (
            ExecutionFilter {
                text: Some("50%_".into()),
                ..by()
            },
            0,
        ),
        (
            ExecutionFilter {
                created_from: Some(at(3)),
                created_until: Some(at(7)),
                ..by()
            },
            4,
        ),
        (states(&[State::Succeeded]), 3),
        (states(&[State::Failed]), 1),
        (states(&[State::Failed, State::Skipped]), 1),
        (states(&[State::Succeeded, State::Running]), 4),
        (states(&[State::Available, State::Failed]), 8),
        (
            ExecutionFilter {
                config_id: Some(config),
                ..states(&[State::Succeeded])
            },
            1,
        ),
        (
            ExecutionFilter {
                task_type: Some("other".into()),
                ..states(&[State::Running])
            },
            1,
        ),
    ];
    for (filter, count) in cases {
        let mut found = 0;
        let mut page = Page::first(2);
        loop {
            let listing = list(filter.clone(), page.clone()).await;
            found += listing.items.len();
            page.after = listing.next;
            if listing.next.is_none() {
                break;
            }
        }
        assert_eq!(found, count, "{filter:?}");
    }
}

/// Attempts oldest first, log lines by claim and line, the cursor counts lines.
pub async fn logs_and_attempts_are_kept_in_order(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let first = lab.running(None, at(0)).await;
    let mut item = lab.completion(at(1), &first, End::Retry(at(2)));
    item.logs = vec![line(&first, 0, "one"), line(&first, 5, "zwölf\u{1F600}")];
    let mut lines: Vec<LogLine> = item.logs.clone();
    lab.complete(at(1), item).await;
    lab.store.sweep_due(at(2), 9).await.expect("sweeps");
    let second = lab.claim_one(at(2)).await;
    let mut item = lab.completion(at(3), &second, ok());
    item.logs = (0..10).map(|n| line(&second, n, "later")).collect();
    item.logs[3].fields = None;
    lines.extend(item.logs.clone());
    lab.complete(at(3), item).await;
    let mut read = Vec::new();
    let mut page = Page::first(5);
    loop {
        let listing = lab.store.logs(TENANT, first.task_id, &page).await;
        let listing = listing.expect("lists");
        read.extend(listing.items);
        page.after = listing.next;
        if listing.next.is_none() {
            break;
        }
    }
    assert_eq!(read, lines);
    let all = lab
        .store
        .logs(TENANT, first.task_id, &Page::first(12))
        .await;
    assert_eq!(all.expect("lists").next, None);
    let attempts = lab.attempts(first.task_id).await;
    assert_eq!(attempts.len(), 2);
    assert_eq!(attempts[0].error_code.as_deref(), Some("E42"));
    assert_eq!(attempts[0].error_details, Some(json!({"line": 7})));
    assert_eq!(attempts[1].outcome, AttemptOutcome::Succeeded);
    let unknown = lab.task_id();
    assert!(lab.attempts(unknown).await.is_empty());
    let none = lab.store.logs(TENANT, unknown, &Page::first(5)).await;
    assert!(none.expect("lists").items.is_empty());
}

/// Requests by claim and number, the cursor counts requests.
pub async fn http_calls_are_kept_in_order(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let first = lab.running(None, at(0)).await;
    let mut item = lab.completion(at(1), &first, End::Retry(at(2)));
    item.calls = vec![call(&first, 0, "https://a.example/?k=[secret k]")];
    let mut calls = item.calls.clone();
    lab.complete(at(1), item).await;
    lab.store.sweep_due(at(2), 9).await.expect("sweeps");
    let second = lab.claim_one(at(2)).await;
    let mut item = lab.completion(at(3), &second, ok());
    item.calls = (0..6)
        .map(|n| call(&second, n, "http://ü.example"))
        .collect();
    calls.extend(item.calls.clone());
    lab.complete(at(3), item).await;
    let mut read = Vec::new();
    let mut page = Page::first(3);
    loop {
        let listing = lab.store.http_calls(TENANT, first.task_id, &page).await;
        let listing = listing.expect("lists");
        read.extend(listing.items);
        page.after = listing.next;
        if listing.next.is_none() {
            break;
        }
    }
    assert_eq!(read, calls);
    for (tenant, task) in [(TENANT + 1, first.task_id), (TENANT, lab.task_id())] {
        let none = lab.store.http_calls(tenant, task, &Page::first(5)).await;
        assert!(none.expect("lists").items.is_empty());
    }
}

/// Parameters and results are equal to what was given, small and large, and the claim's text too.
pub async fn json_comes_back_equal(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let nested = (0..90).fold(json!("deep"), |inner, _| json!([inner]));
    let documents: [Value; 8] = [
        json!({"exact": [1.0, 100.0, 1e16, -1.5e-7, 1.7976931348623157e308, 0.30000000000000004], "b": 1, "a": 2, "aa": 3}),
        json!({}),
        json!({"": "", " ": [[], {}], "a.b": {"$": 1, "[0]": 2}, "quote\"\\": "\u{7f}\u{2028}"}),
        json!({"numbers": [0, -1, u64::MAX, i64::MIN, 9_007_199_254_740_993_i64, 0.1, 1e300, 5e-324, -2.5]}),
        json!({"text": "Ünïcode \u{1F600} \u{10FFFF} '; DROP TABLE task_configs; --"}),
        json!({"nested": nested}),
        json!({"big": "x".repeat(1 << 20)}),
        json!({"many": (0..2000).map(|n| json!({"n": n, "s": format!("item {n}")})).collect::<Vec<_>>()}),
    ];
    for document in documents {
        let text: Arc<str> = document.to_string().into();
        let item = NewExecution {
            parameters: text.clone(),
            ..lab.new_execution(None, at(0))
        };
        let task_id = lab.put(at(0), item).await.1;
        assert_eq!(lab.show(task_id).await.parameters.as_ref(), Some(&document));
        let claimed = lab.claim_one(at(0)).await;
        let given: Value = serde_json::from_str(&claimed.parameters).expect("JSON");
        assert_eq!(given, document);
        assert_eq!(given.to_string(), document.to_string(), "also as text");
        lab.finish(at(1), &claimed, End::Succeeded(text)).await;
        let shown = lab.show(task_id).await;
        assert_eq!(shown.parameters.as_ref(), Some(&document));
        assert_eq!(shown.result.as_ref(), Some(&document));
        let config = lab.config(json!({"parameters": document.clone()})).await;
        let read = lab.read(config.id).await;
        assert_eq!(Value::Object(read.spec.parameters), document);
    }
}

/// Nothing is rounded to seconds or milliseconds, before 1970 or far ahead.
pub async fn instants_keep_their_microseconds(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let micro = chrono::Duration::microseconds(1);
    for now in [
        at(0) + micro,
        at(-4_000_000_000) - micro,
        at(9_000_000_000) + micro * 3,
    ] {
        let item = NewExecution {
            slot: Some(now - micro),
            ..lab.new_execution(None, now)
        };
        let task_id = lab.put(now, item).await.1;
        let claimed = lab.claim_one(now + micro).await;
        assert_eq!((claimed.slot, claimed.due_at), (Some(now - micro), now));
        let mut end = lab.completion(now, &claimed, ok());
        end.record.started_at = now + micro * 2;
        end.record.completed_at = now + micro * 5;
        lab.complete(now, end).await;
        let shown = lab.show(task_id).await;
        assert_eq!((shown.created_at, shown.due_at), (now, Some(now)));
        assert_eq!(shown.started_at, Some(now + micro * 2));
        assert_eq!(shown.completed_at, Some(now + micro * 5));
    }
}

/// Tenants are apart in every read.
pub async fn tenants_do_not_see_each_other(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let found = lab.store.tenant(DEFAULT_TENANT).await.expect("answers");
    assert_eq!(found, Some(TENANT));
    assert_eq!(lab.store.tenant("nobody").await.expect("answers"), None);
    let config = lab.config(json!({"key": "k"})).await;
    let claimed = lab.running(Some(config.id), at(0)).await;
    lab.finish(at(1), &claimed, ok()).await;
    let other = TENANT + 1;
    let store = &lab.store;
    let page = Page::first(9);
    assert!(
        store
            .config(other, config.id)
            .await
            .expect("answers")
            .is_none()
    );
    let configs = store.configs(other, &Default::default(), &page).await;
    assert!(configs.expect("lists").items.is_empty());
    let execution = store.execution(other, claimed.task_id).await;
    assert!(execution.expect("answers").is_none());
    let executions = store.executions(other, &Default::default(), &page).await;
    assert!(executions.expect("lists").items.is_empty());
    let attempts = store.attempts(other, claimed.task_id).await;
    assert!(attempts.expect("lists").is_empty());
    let deleted = store
        .delete_config(at(2), other, config.id, Default::default())
        .await;
    assert!(deleted.is_err());
    let update = crate::store::ConfigUpdate {
        expected_version: 1,
        spec: spec(json!({})),
        reanchor: None,
    };
    let updated = store.update_config(at(2), other, config.id, update).await;
    assert!(updated.is_err());
}

/// Counts by state.
pub async fn queue_counts_follow(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let counts = || async {
        let c = lab.store.queue_counts().await.expect("answers");
        (c.scheduled, c.available, c.running, c.retryable)
    };
    assert_eq!(counts().await, (0, 0, 0, 0));
    lab.put(at(0), lab.new_execution(None, at(9))).await;
    for _ in 0..3 {
        lab.put_due(None, at(0)).await;
    }
    let claimed = lab.claim(at(0), 2).await;
    assert_eq!(counts().await, (1, 1, 2, 0));
    lab.finish(at(1), &claimed[0], End::Retry(at(5))).await;
    lab.finish(at(1), &claimed[1], ok()).await;
    assert_eq!(counts().await, (1, 1, 0, 1));
}

/// What is new, what runs and what ended since a mark, each in its order, of one tenant, no more than asked for; configs that
/// changed since an instant.
pub async fn what_happens_is_news(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.config(json!({})).await;
    let before = lab.put(at(0), lab.new_execution(None, at(0))).await.0;
    let mark = NewsMark {
        id: before,
        ended_at: at(10),
        ended_id: 0,
    };
    let news = async |mark: NewsMark, limit: u32, running: u32| {
        let found = lab.store.news(TENANT, mark, limit, running).await;
        let News {
            created,
            running,
            ended,
        } = found.expect("reads");
        for execution in created.iter().chain(&running).chain(&ended) {
            assert_eq!((&execution.parameters, &execution.result), (&None, &None));
        }
        [created, running, ended].map(|found| found.iter().map(|e| e.id).collect::<Vec<_>>())
    };
    let none: Vec<ExecutionId> = Vec::new();
    assert_eq!(
        news(mark, 9, 9).await,
        [none.clone(), none.clone(), none.clone()]
    );
    let mut ids: Vec<ExecutionId> = Vec::new();
    for n in 1..5 {
        ids.push(
            lab.put(at(n), lab.new_execution(Some(config.id), at(n)))
                .await
                .0,
        );
    }
    assert_eq!(
        news(mark, 9, 9).await,
        [ids.clone(), none.clone(), none.clone()]
    );
    assert_eq!(news(mark, 2, 9).await[0], ids[..2]);
    let later = NewsMark { id: ids[1], ..mark };
    assert_eq!(news(later, 9, 9).await[0], ids[2..]);
    // The one from before the mark is claimed first.
    let claimed = lab.claim(at(9), 3).await;
    let claimed_ids: Vec<_> = claimed.iter().map(|claimed| claimed.id).collect();
    assert_eq!(claimed_ids[0], before);
    let mut running = news(mark, 9, 9).await[1].clone();
    running.sort_unstable();
    assert_eq!(running, claimed_ids);
    assert_eq!(news(mark, 9, 2).await[1].len(), 2);
    // Ended in another order than they began.
    lab.finish(at(9), &claimed[0], ok()).await;
    lab.finish(at(12), &claimed[1], ok()).await;
    lab.finish(at(10), &claimed[2], End::Failed).await;
    let [created, running, ended] = news(mark, 9, 9).await;
    assert_eq!((created, running), (ids.clone(), none.clone()));
    assert_eq!(ended, [claimed[2].id, claimed[1].id]);
    assert_eq!(news(mark, 1, 9).await[2], [claimed[2].id]);
    let later = NewsMark {
        ended_at: at(11),
        ..mark
    };
    assert_eq!(news(later, 9, 9).await[2], [claimed[1].id]);
    // And of those that ended at one instant, the ones with higher ids.
    let same = NewsMark {
        ended_at: at(12),
        ended_id: claimed[1].id,
        ..mark
    };
    assert_eq!(news(same, 9, 9).await[2], none);
    let same = NewsMark {
        ended_id: claimed[1].id - 1,
        ..same
    };
    assert_eq!(news(same, 9, 9).await[2], [claimed[1].id]);
    let others = lab.store.news(TENANT + 1, mark, 9, 9).await;
    assert_eq!(others.expect("reads"), News::default());
    // Configs.
    let second = lab.config(json!({})).await;
    let changed = async |tenant, since, limit| {
        let found = lab.store.changed_configs(tenant, since, limit).await;
        let found = found.expect("reads").into_iter();
        found
            .map(|config| (config.id, config.version))
            .collect::<Vec<_>>()
    };
    let update = ConfigUpdate {
        spec: spec(json!({"name": "another"})),
        expected_version: config.version,
        reanchor: None,
    };
    let updated = lab
        .store
        .update_config(at(50), TENANT, config.id, update)
        .await;
    let updated = updated.expect("updates");
    assert_eq!(
        changed(TENANT, at(20), 9).await,
        [(config.id, updated.version)]
    );
    let both = [(second.id, second.version), (config.id, updated.version)];
    assert_eq!(changed(TENANT, second.updated_at, 9).await, both);
    assert_eq!(changed(TENANT, second.updated_at, 1).await, both[..1]);
    assert_eq!(changed(TENANT + 1, at(0), 9).await, []);
}
