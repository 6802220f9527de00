//! Executions that ended in another system.

use super::lab::{Lab, TENANT, TYPE, at};
use crate::store::{EndedElsewhere, ExecutionFilter, ImportNote, Page, Store, StoreError};
use horarium_model::TaskId;
use serde_json::{Value, json};
use std::sync::Arc;

fn ended(task_id: TaskId, is_success: bool) -> EndedElsewhere {
    EndedElsewhere {
        task_id,
        config_id: None,
        task_type: TYPE.to_owned(),
        is_success,
        started_at: Some(at(-86_400 * 400)),
        completed_at: at(-86_400 * 400 + 3),
        duration_seconds: Some(2.5),
        result: None,
        error_message: None,
        error_traceback: None,
        notes: Vec::new(),
    }
}

/// Every field comes back, ids go on, and what is known stays as it is.
pub async fn what_ended_elsewhere_is_taken_in_once(store: Arc<dyn Store>) {
    let lab = Lab::new(store).await;
    let config = lab.config(json!({})).await;
    let live = lab.put_due(Some(config.id), at(1)).await;
    let results = [
        json!({"deep": [1.5, null, "\u{1F600}"], "n": u64::MAX}),
        json!("only text"),
        json!([]),
        json!(false),
        json!(0),
    ];
    let mut items: Vec<EndedElsewhere> = results
        .iter()
        .map(|result| EndedElsewhere {
            result: Some(result.clone()),
            config_id: Some(config.id),
            ..ended(lab.task_id(), true)
        })
        .collect();
    items.push(EndedElsewhere {
        error_message: Some("it broke".to_owned()),
        error_traceback: Some("Traceback:\n  line 1".to_owned()),
        notes: vec![
            ImportNote {
                message: "its task_id was `celery-7`".to_owned(),
                fields: Some(json!({"task_id": "celery-7"})),
            },
            ImportNote {
                message: "another".to_owned(),
                fields: None,
            },
        ],
        started_at: None,
        duration_seconds: None,
        completed_at: at(5),
        ..ended(lab.task_id(), false)
    });
    let taken = lab.store.take_in(TENANT, items.clone()).await;
    assert_eq!(taken.expect("takes in"), vec![true; items.len()]);
    let mut last = 0;
    for item in &items {
        let found = lab.store.execution(TENANT, item.task_id).await;
        let found = found.expect("answers").expect("is there");
        assert!(found.id > last, "in their order");
        last = found.id;
        assert_eq!(found, item.execution(found.id, TENANT));
        let log = lab.store.logs(TENANT, item.task_id, &Page::first(10)).await;
        assert_eq!(log.expect("answers").items, item.log());
        let attempts = lab.store.attempts(TENANT, item.task_id).await;
        assert!(attempts.expect("answers").is_empty());
    }
    let filter = ExecutionFilter {
        config_id: Some(config.id),
        ..ExecutionFilter::default()
    };
    let page = Page::first(100);
    let listed = lab.store.executions(TENANT, &filter, &page).await;
    assert_eq!(listed.expect("answers").items.len(), results.len() + 1);
    // Again, changed, beside what lives, what is new and what is given twice: only the new one is taken.
    let changed = EndedElsewhere {
        result: Some(Value::from("another")),
        completed_at: at(9),
        ..items[0].clone()
    };
    let fresh = ended(lab.task_id(), true);
    let again = vec![changed, ended(live, true), fresh.clone(), fresh.clone()];
    let taken = lab.store.take_in(TENANT, again).await;
    assert_eq!(taken.expect("takes in"), [false, false, true, false]);
    let first = lab.store.execution(TENANT, items[0].task_id).await;
    assert_eq!(
        first.expect("answers").and_then(|e| e.result),
        Some(results[0].clone())
    );
    // Another tenant's are its own.
    let id = lab.store.create_tenant(at(0), "other", 1).await;
    let other = id.expect("is made").id;
    let taken = lab
        .store
        .take_in(other, vec![ended(fresh.task_id, false)])
        .await;
    assert_eq!(taken.expect("takes in"), [true]);
    let nothing = lab.store.take_in(TENANT, Vec::new()).await;
    assert!(nothing.expect("answers").is_empty());
    lab.store
        .delete_tenant(at(9), other)
        .await
        .expect("deletes");
    let gone = lab
        .store
        .take_in(other, vec![ended(lab.task_id(), true)])
        .await;
    assert!(matches!(gone, Err(StoreError::NotFound(_))), "{gone:?}");
}
