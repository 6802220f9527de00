//! Starting and stopping: drains, locks, versions of the database.

use crate::support::{Host, HostBuilder, horarium, text, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

#[test]
fn sigterm_hands_back_what_runs_without_using_an_attempt() {
    let mut host = HostBuilder::default()
        .setting("executor.grace_seconds", "0")
        .start();
    host.register("hostile/sleep", "");
    let task = host.create("--name Long --type sleep --max-retries 0 --set milliseconds=3000");
    let id = host.trigger(task);
    host.reaches(&id, "running");
    assert_eq!(host.stop(), Some(0), "{}", host.last_words());
    assert!(
        !host.data_dir().join("server.json").exists(),
        "a server that is gone leaves no address"
    );

    host.start_again();
    let ended = host.ended(&id);
    assert_eq!(
        (text(&ended, "state"), &ended["attempt"]),
        ("succeeded", &json!(1)),
        "{ended:#}"
    );
    assert_eq!(ended["lost"], 0, "handed back is not lost: {ended:#}");
    let outcomes: Vec<Value> = host
        .attempts(&id)
        .iter()
        .map(|a| a["outcome"].clone())
        .collect();
    assert_eq!(outcomes, ["handed_back", "succeeded"]);
}

#[test]
fn sigterm_lets_what_runs_finish_within_the_grace() {
    let mut host = HostBuilder::default()
        .setting("executor.grace_seconds", "30")
        .start();
    host.register("hostile/sleep", "");
    let task = host.create("--name Short --type sleep --max-retries 0 --set milliseconds=1500");
    let id = host.trigger(task);
    host.reaches(&id, "running");
    assert_eq!(host.stop(), Some(0));
    host.start_again();
    let ended = host.execution(&id);
    assert_eq!(
        (text(&ended, "state"), host.attempts(&id).len()),
        ("succeeded", 1),
        "{ended:#}"
    );
}

#[test]
fn a_second_sigterm_does_not_wait_for_the_grace() {
    let grace = HostBuilder::default().setting("executor.grace_seconds", "3600");
    let mut host = grace.start();
    host.register("hostile/sleep", "");
    let task = host.create("--name Long --type sleep --timeout 3600 --max-retries 0");
    let id = host.trigger(task);
    host.reaches(&id, "running");
    host.signal(Signal::SIGTERM);
    until("readiness withdrawn", || {
        (host.get("/readyz").status == 503).then_some(())
    });
    host.stop();
    host.start_again();
    let again = host.reaches(&id, "running");
    assert_eq!(again["attempt"], 1, "{again:#}");
}

#[test]
fn a_second_server_on_the_same_file_is_refused() {
    let host = Host::start();
    host.register("hello", "");
    let data = host.data_dir();
    let second = horarium(&format!(
        "serve --listen 127.0.0.1:0 --data-dir '{}'",
        data.display()
    ));
    let pid = host.pid().to_string();
    second.exits(2).complains(&["horarium.db", "in use", &pid]);
    // From another data directory too.
    let other = tempfile::tempdir().expect("a directory");
    let second = horarium(&format!(
        "serve --listen 127.0.0.1:0 --data-dir '{}' --database-url 'sqlite:{}'",
        other.path().display(),
        host.database().display()
    ));
    second.exits(2).complains(&["in use", &pid]);
    host.cli("db migrate").exits(2).complains(&["in use"]);
    // The first one noticed nothing.
    assert_eq!(host.run_once("--type hello")["state"], "succeeded");
}

#[test]
fn a_database_from_a_newer_version_is_refused_and_not_touched() {
    let mut host = Host::start();
    assert_eq!(host.stop(), Some(0));
    let database = host.database();
    set_schema_version(&database, 4711);
    let before = std::fs::read(&database).expect("read");
    let data = host.data_dir();
    for verb in ["serve --listen 127.0.0.1:0", "db migrate", "db status"] {
        let refused = horarium(&format!("{verb} --data-dir '{}'", data.display()));
        refused.exits(2).complains(&["4711", "newer"]);
    }
    assert!(
        std::fs::read(&database).expect("read") == before,
        "the file was changed"
    );

    std::fs::write(&database, "not a database at all, but somebody's notes").expect("written");
    let refused = horarium(&format!(
        "serve --listen 127.0.0.1:0 --data-dir '{}'",
        data.display()
    ));
    refused.exits(2).complains(&["is not a SQLite database"]);
}

/// SQLite's `user_version` is the big-endian integer at offset 60 of a file whose log is closed.
fn set_schema_version(database: &Path, version: u32) {
    let wal = database.with_extension("db-wal");
    assert!(!wal.exists(), "a clean stop leaves no write-ahead log");
    let mut file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(database)
        .expect("opened");
    let mut old = [0; 4];
    file.seek(SeekFrom::Start(60)).expect("there");
    file.read_exact(&mut old).expect("read");
    assert!(u32::from_be_bytes(old) >= 1, "the schema has a version");
    file.seek(SeekFrom::Start(60)).expect("there");
    file.write_all(&version.to_be_bytes()).expect("written");
}

#[test]
#[cfg(target_os = "linux")]
fn code_that_only_the_start_needed_does_not_stay_in_memory() {
    const MIB: u64 = 1 << 20;
    let mut host = HostBuilder::default().start();
    until("the code is let go of", || {
        let memory = host.memory();
        (memory.peak - memory.resident > 4 * MIB).then_some(())
    });
    host.register("hello", "");
    let task = host.create("--name Hello --type hello");
    let id = host.trigger(task);
    assert_eq!(text(&host.ended(&id), "state"), "succeeded");
    assert_eq!(host.stop(), Some(0), "{}", host.last_words());
}

#[test]
fn a_wrong_setting_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("horarium.toml");
    for (settings, wanted) in [
        (
            "[executor]\nslot = 5\n",
            ["executor.slot", "executor.slots"],
        ),
        ("[executor]\nslots = 0\n", ["executor.slots", "1"]),
        (
            "listen = \"0.0.0.0:80\"\n",
            ["listen", "danger_listen_without_tls"],
        ),
        (
            "[network]\nallow_private = [\"10.0.0.0/99\"]\n",
            ["network.allow_private", "10.0.0.0/99"],
        ),
    ] {
        std::fs::write(&file, settings).expect("written");
        let refused = horarium(&format!(
            "serve --check --data-dir '{}' --config '{}'",
            dir.path().join("data").display(),
            file.display()
        ));
        refused.exits(2).complains(&wanted);
    }
    assert!(!dir.path().join("data").exists(), "a check writes nothing");
}
