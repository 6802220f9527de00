//! Parameters under concurrent writers.

use crate::harness::Server;
use serde_json::json;

#[test]
fn no_merge_patch_of_concurrent_writers_is_lost() {
    let server = Server::start(2);
    server.register("jq", "jq");
    let task = server.task(&json!({
        "name": "t", "task_type": "jq", "parameters": {"filter": ".", "input": {}},
    }));
    let path = format!("/v1/tasks/{task}/parameters");
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let (server, path) = (&server, &path);
            scope.spawn(move || {
                for n in 0..5 {
                    let key = format!("w{writer}n{n}");
                    server.send("PATCH", path, &json!({"input": {key: n}}));
                }
            });
        }
    });
    let parameters = server.get(&path);
    let input = parameters["input"].as_object().expect("an object");
    assert_eq!(input.len(), 40, "{parameters}");
    let value = server.get(&format!("{path}?pointer=/input/w7n4"));
    assert_eq!(value, json!(4));
    let absent = server.get(&format!("{path}?pointer=/input/none&default=7"));
    assert_eq!(absent, json!(7));
    assert_eq!(
        server.text("GET", &format!("{path}?pointer=/none"), "").0,
        404
    );
    assert_eq!(server.get(&format!("/v1/tasks/{task}"))["version"], 41);
}
