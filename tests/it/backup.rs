//! Backups of the database file: taken under load, checked, put back.

use crate::support::{Host, HostBuilder, horarium, text, until};
use std::collections::HashSet;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A server that fires every second, with runs that wait and run.
fn busy() -> (Host, i64) {
    let host = HostBuilder::default().flag("--slots", "2").start();
    host.register("hello", "");
    host.register("hostile/sleep", "");
    let clock = host.create("--name Clock --type hello --cron '* * * * * *' --overlap allow");
    until("two slots", || {
        let fired = host.executions(&format!("task={clock}&state=succeeded"));
        (fired.len() >= 2).then_some(())
    });
    let long = host.create("--name Long --type sleep --overlap allow --set milliseconds=300");
    for _ in 0..40 {
        host.trigger(long);
    }
    (host, clock)
}

#[test]
fn a_backup_under_load_goes_on_where_it_was() {
    let (mut host, clock) = busy();
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("backup.db");
    let backup = host.run(&format!("db backup '{}'", file.display()));
    assert_eq!(text(&backup, "file"), file.display().to_string());
    assert!(
        backup["live"].as_i64() > Some(0),
        "not under load: {backup:#}"
    );
    let mode = std::fs::metadata(&file).expect("it is there").permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);

    // Into a fresh place: the same counts.
    let fresh = folder.path().join("fresh");
    let restore = format!(
        "db restore '{}' --json --data-dir '{}'",
        file.display(),
        fresh.display()
    );
    let restored = horarium(&restore).exits(0).json();
    for count in ["configs", "live", "executions", "schema_version"] {
        assert_eq!(restored[count], backup[count], "{restored:#} {backup:#}");
    }
    assert!(restored["replaced"].is_null());

    // Into the old place: refused while the server runs and while something is there.
    let restore = format!("db restore '{}'", file.display());
    host.cli(&format!("{restore} --replace"))
        .exits(2)
        .complains(&["in use by process"]);
    host.kill();
    host.cli(&restore)
        .exits(2)
        .complains(&["holds a database already", "--replace"]);
    let restored = host.run(&format!("{restore} --replace"));
    let aside = text(&restored, "replaced");
    let old = horarium(&format!("db status --json --database-url 'sqlite:{aside}'"));
    let old = old.exits(0).json();
    assert!(
        old["executions"].as_i64() >= backup["executions"].as_i64(),
        "{old:#}"
    );

    host.start_again();
    until("what lived at the backup ends", || {
        let all = host.executions("");
        let ended = |e: &&serde_json::Value| !e["completed_at"].is_null();
        let manual: Vec<_> = all
            .iter()
            .filter(|e| text(e, "trigger") == "manual")
            .collect();
        (manual.len() == 40 && manual.iter().all(ended)).then_some(())
    });
    until("new slots fire", || {
        let fired = host.executions(&format!("task={clock}&state=succeeded"));
        (fired.len() >= 6).then_some(())
    });
    let fired = host.executions(&format!("task={clock}&state=succeeded"));
    let slots: HashSet<&str> = fired.iter().map(|e| text(e, "slot")).collect();
    assert_eq!(slots.len(), fired.len(), "a slot fired twice");
}

#[test]
fn what_is_no_sound_backup_is_refused_and_changes_nothing() {
    let host = Host::start();
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("backup.db");
    let backup = format!("db backup '{}'", file.display());
    host.run(&backup);
    host.cli(&backup)
        .exits(2)
        .complains(&["backup.db", "exists"]);
    let nowhere = folder.path().join("no/where.db");
    host.cli(&format!("db backup '{}'", nowhere.display()))
        .exits(2)
        .complains(&["is no folder"]);

    let fresh = folder.path().join("fresh");
    let refused = |file: &Path, words: &[&str]| {
        let line = format!(
            "db restore '{}' --data-dir '{}'",
            file.display(),
            fresh.display()
        );
        horarium(&line).exits(2).complains(words);
        assert!(!fresh.join("horarium.db").exists(), "something was written");
    };
    refused(
        &folder.path().join("none.db"),
        &["none.db", "does not exist"],
    );
    let other = folder.path().join("notes.txt");
    std::fs::write(&other, "no database at all").expect("written");
    refused(&other, &["is not a SQLite database"]);
    let mut damaged = std::fs::File::options()
        .write(true)
        .open(&file)
        .expect("opens");
    // The second page: a table's or an index's root.
    damaged.seek(SeekFrom::Start(4096)).expect("seeks");
    damaged.write_all(&[0xff; 4096]).expect("written");
    refused(&file, &["damaged"]);
    let empty = folder.path().join("empty-place");
    horarium(&format!(
        "db backup '{}' --data-dir '{}'",
        nowhere.display(),
        empty.display()
    ))
    .exits(2)
    .complains(&["nothing to back up"]);
}

#[test]
fn a_log_that_was_left_behind_is_no_part_of_what_is_restored() {
    let mut host = Host::start();
    host.register("hello", "");
    host.create("--name One --type hello");
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("backup.db");
    host.run(&format!("db backup '{}'", file.display()));
    host.create("--name Two --type hello");
    host.kill();
    let database = host.database();
    let log = database.with_extension("db-wal");
    assert!(std::fs::metadata(&log).expect("a log").len() > 0);

    // The file alone is gone; its log must not come over the restored one.
    let kept = folder.path().join("kept.db");
    std::fs::copy(&database, &kept).expect("copied");
    std::fs::copy(&log, folder.path().join("kept.db-wal")).expect("copied");
    std::fs::remove_file(&database).expect("removed");
    let restore = format!("db restore '{}'", file.display());
    host.cli(&restore)
        .exits(2)
        .complains(&["holds a database already"]);
    let moved = host.run(&format!("{restore} --replace"));
    let log_aside = format!("{}-wal", text(&moved, "replaced"));
    assert!(std::path::Path::new(&log_aside).exists() && !log.exists());
    assert_eq!(host.run("db status")["configs"], 1);

    // With its log beside it a file is no backup: a part of it would be lost.
    let with_log = format!("db restore '{}' --replace", kept.display());
    host.cli(&with_log)
        .exits(2)
        .complains(&["write-ahead log beside it", "db backup"]);
    let both = folder.path().join("both.db");
    let url = format!("--database-url 'sqlite:{}'", kept.display());
    host.run(&format!("db backup '{}' {url}", both.display()));
    let restored = host.run(&format!("db restore '{}' --replace", both.display()));
    assert_eq!(restored["configs"], 2);
    // What was moved aside is whole by itself: the undo.
    let undo = format!("db restore '{}' --replace", text(&restored, "replaced"));
    assert_eq!(host.run(&undo)["configs"], 1);
}
