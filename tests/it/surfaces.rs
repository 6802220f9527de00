//! What holds for every answer of a server.

use crate::harness::{Server, binary, run};

#[test]
fn a_second_server_on_the_same_directory_is_refused() {
    let server = Server::start(2);
    let outcome = run(binary()
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(server.dir()));
    outcome.refused(&format!("process {}", server.pid()));
    assert_eq!(server.raw("GET", "/readyz", &[], b"").0, 200);
}

#[test]
fn who_has_no_token_learns_nothing_else() {
    let server = Server::start(2);
    for path in ["/v1/tasks", "/v1/tasks/999", "/nowhere", "/metrics"] {
        let (status, problem) = server.raw("GET", path, &[], b"");
        assert_eq!(status, 401, "{path}: {problem}");
        assert_eq!(problem["type"], "urn:horarium:problem:unauthorized");
        let wrong = [("authorization", "Bearer wrong")];
        assert_eq!(server.raw("GET", path, &wrong, b"").0, 401, "{path}");
    }
    for path in ["/v1/tasks/999", "/nowhere"] {
        let (status, problem) = server.text("GET", path, "");
        assert_eq!(status, 404, "{path}: {problem}");
    }
    let outcome = run(binary()
        .args(["task", "list", "--json"])
        .env("HORARIUM_URL", server.url())
        .env("HORARIUM_TOKEN", "wrong"));
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
}
