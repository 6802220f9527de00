//! Tenants, tokens and TLS from outside.

use crate::many_hosts::{database, member};
use crate::support::{
    Host, HostBuilder, Output, binary, horarium, horarium_as, items, text, until,
};
use serde_json::{Value, json};
use std::path::Path;

/// `horarium LINE --json` with a token, from anywhere.
pub(crate) fn with(host: &Host, token: &str, line: &str) -> Output {
    horarium_as(token, &format!("{line} --json --url {}", host.url()))
}

/// GET with a token: the status.
fn status(host: &Host, token: &str, path: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    host.send_bare("GET", path, &headers, b"").status
}

#[test]
fn a_tenant_works_with_tokens_of_its_own() {
    let host = Host::start();
    host.run("tenant create acme --weight 2");
    let admin = host.run("token create boss --role admin --tenant acme");
    let admin = text(&admin, "token").to_owned();
    assert_eq!(
        with(&host, &admin, "token whoami").exits(0).json()["tenant"],
        "acme"
    );
    let ci = with(
        &host,
        &admin,
        "token create ci --role trigger --scope tasks:trigger --expires +1h",
    );
    let ci = ci.exits(0).json();
    let (ci_id, ci) = (ci["id"].clone(), text(&ci, "token").to_owned());
    // Plugins and tasks are the tenant's: the same names are free in another.
    let file = crate::support::plugin("hello");
    let register = format!("plugin register hello '{}'", file.display());
    with(&host, &admin, &register).exits(0);
    let task = "task create --name Greet --key greet --type hello --set name=Ada";
    let task = with(&host, &admin, task).exits(0).json()["id"].clone();
    assert_eq!(items(&host.run("task list")).len(), 0);
    host.cli(&format!("task show {task}"))
        .exits(2)
        .complains(&["no task"]);
    assert_eq!(items(&host.run("task list --tenant acme")).len(), 1);
    // The scope holds, and says what is missing.
    let triggered = with(&host, &ci, "task trigger greet").exits(0).json();
    let task_id = text(&triggered, "task_id").to_owned();
    let refused = with(&host, &ci, "task list").exits(3);
    assert!(
        refused.stderr.contains("scope does not have tasks:read"),
        "{refused:?}"
    );
    let human = horarium_as(&ci, &format!("task list --url {}", host.url())).exits(3);
    assert!(
        human.stderr.contains("hint: `horarium token whoami`"),
        "{human:?}"
    );
    let foreign = with(&host, &ci, "task trigger greet --tenant default").exits(2);
    assert!(
        foreign.stderr.contains("no tenant `default`"),
        "{foreign:?}"
    );
    until("the end", || {
        let shown = with(&host, &admin, &format!("execution show {task_id}"))
            .exits(0)
            .json();
        (shown["state"] == "succeeded").then_some(())
    });
    // Who did what.
    let log = with(&host, &admin, &format!("audit list --token {ci_id}"))
        .exits(0)
        .json();
    let log: Vec<Value> = items(&log)
        .iter()
        .map(|entry| json!([entry["actor"], entry["action"], entry["status"]]))
        .collect();
    assert_eq!(log, [json!(["ci", "tasks:trigger", 202])]);
    let human = host.cli("audit list --tenant acme").exits(0).stdout;
    assert!(human.contains("POST /v1/tasks/greet/trigger"), "{human}");
    assert!(!human.contains("Ada"), "{human}");
    // Revoked, it is nobody's.
    with(&host, &admin, &format!("token revoke {ci_id}")).exits(0);
    with(&host, &ci, "task trigger greet").exits(3);
    // A database on disk has no token's text in it.
    let secret = &admin[admin.len() - 64..];
    for file in std::fs::read_dir(host.data_dir()).expect("read").flatten() {
        if file.file_type().expect("known").is_file() {
            let bytes = std::fs::read(file.path()).expect("read");
            let found = bytes.windows(64).any(|window| window == secret.as_bytes());
            assert!(!found, "{}", file.path().display());
        }
    }
    host.cli("tenant delete acme")
        .exits(2)
        .complains(&["1 tasks"]);
    with(&host, &admin, "task delete greet").exits(0);
    host.cli("tenant delete acme").exits(0);
    assert_eq!(status(&host, &admin, "/v1/me"), 401);
}

#[test]
fn a_token_revoked_on_one_host_is_refused_by_all() {
    let (_cluster, url) = database();
    let one = member("one", &url, "1").start();
    let two = member("two", &url, "1").start();
    // This one hears nothing: its heartbeat has to tell it.
    let deaf = member("deaf", &url, "1")
        .setting("database.pooler", "transaction")
        .start();
    for kept in [false, true] {
        let created = one.run("token create x --role viewer");
        let (id, token) = (created["id"].clone(), text(&created, "token").to_owned());
        for host in [&one, &two, &deaf] {
            // Known by heart from the second time on, if a heartbeat vouches for it.
            for _ in 0..if kept { 3 } else { 1 } {
                assert_eq!(status(host, &token, "/v1/tasks"), 200);
            }
        }
        one.cli(&format!("token revoke {id}")).exits(0);
        assert_eq!(status(&one, &token, "/v1/tasks"), 401, "here at once");
        for host in [&two, &deaf] {
            until("it is refused", || {
                (status(host, &token, "/v1/tasks") == 401).then_some(())
            });
        }
    }
}

fn certificate(folder: &Path) {
    let names = vec!["localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("made");
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).expect("written");
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).expect("written");
}

#[test]
fn beyond_loopback_there_is_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    let (cert, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    let data = folder.path().join("data");
    let line = format!("serve --listen 0.0.0.0:0 --data-dir {}", data.display());
    horarium(&line)
        .exits(2)
        .complains(&["listen", "tls.certificate", "danger_listen_without_tls"]);
    assert!(!data.exists(), "nothing was begun");
    certificate(folder.path());
    let host = HostBuilder::default()
        .listen("0.0.0.0:0")
        .setting("tls.certificate", &cert.display().to_string())
        .setting("tls.key", &key.display().to_string())
        .start();
    assert!(
        host.url().starts_with("https://127.0.0.1:"),
        "{}",
        host.url()
    );
    // On the machine itself nobody needs the certificate.
    host.run("token whoami");
    let token = text(&host.run("token create x --role viewer"), "token").to_owned();
    // From elsewhere it must be one that is trusted.
    let port = host.url().rsplit(':').next().expect("a port");
    let line = format!("token whoami --json --url https://localhost:{port}");
    horarium_as(&token, &line).exits(3);
    let mut command = binary();
    command
        .args(line.split(' '))
        .env("HORARIUM_TOKEN", &token)
        .env("HORARIUM_CA_FILE", &cert);
    let output = command.output().expect("the binary starts");
    assert!(output.status.success(), "{output:?}");
    command.env("HORARIUM_CA_FILE", &key);
    let output = command.output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
