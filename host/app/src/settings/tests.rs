use super::*;

fn load(env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let flags: Vec<(&str, String)> = flags.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
    Settings::load(None, env, &flags)
}

fn from_toml(text: &str) -> Result<Settings, SettingsError> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("horarium.toml");
    std::fs::write(&path, text).expect("written");
    Settings::load(Some(&path), [], &[])
}

#[test]
fn flags_win_over_variables_over_the_file() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("horarium.toml");
    std::fs::write(
        &path,
        "listen = \"127.0.0.1:1\"\n[executor]\nslots = 1\ngrace_seconds = 1\n[limits]\nfuel = 7\nmemory_bytes = \"1 MiB\"\n",
    )
    .expect("written");
    let env = [
        ("HORARIUM__EXECUTOR__SLOTS".to_owned(), "2".to_owned()),
        ("HORARIUM__LIMITS__FUEL".to_owned(), "8".to_owned()),
        ("HORARIUM_URL".to_owned(), "not a setting".to_owned()),
    ];
    let settings = Settings::load(Some(&path), env, &[("listen", "127.0.0.1:3".to_owned())])
        .expect("accepted");
    assert_eq!(settings.listen, ([127, 0, 0, 1], 3).into());
    assert_eq!((settings.slots, settings.grace.as_secs()), (2, 1));
    assert_eq!(settings.limits.fuel, Some(8));
    assert_eq!(settings.limits.memory_bytes, Some(1 << 20));
}

#[test]
fn every_default_can_be_told_and_every_key_has_a_variable() {
    assert!(Settings::load(None, [], &[]).is_ok());
    let mut variables: Vec<String> = TABLE.iter().map(Setting::variable).collect();
    variables.sort();
    variables.dedup();
    assert_eq!(variables.len(), TABLE.len());
    for name in LimitOverrides::NAMES {
        assert!(
            TABLE.iter().any(|s| s.key == format!("limits.{name}")),
            "{name}"
        );
    }
}

#[test]
fn refusals_name_the_setting_and_what_would_be_right() {
    for (toml, parts) in [
        ("lissten = 1", ["lissten", "did you mean `listen`"]),
        (
            "[executor]\nslot = 1",
            ["executor.slot", "did you mean `executor.slots`"],
        ),
        ("[nonsense]", ["nonsense", "unknown setting"]),
        ("[executor]\nslots = 0", ["executor.slots", "1 to 100000"]),
        (
            "[executor]\nslots = \"many\"",
            ["executor.slots", "whole number"],
        ),
        ("[engine]\nmemory = \"1 XB\"", ["engine.memory", "512 MiB"]),
        (
            "[engine]\npooling = \"onn\"",
            ["engine.pooling", "did you mean `on`"],
        ),
        (
            "[network]\nallow_private = [\"ten\"]",
            ["network.allow_private", "10.1.0.0/16"],
        ),
        ("[limits]\nfuel = 0", ["limits.fuel", "from 1"]),
        (
            "[log]\nlevel = \"loud and clear\"",
            ["log.level", "neither a level"],
        ),
        (
            "[limits]\nmemory_bytes = \"5 GiB\"",
            ["limits.memory_bytes", "4294967296"],
        ),
        (
            "[database]\nurl = \"mysql://x\"",
            ["database.url", "sqlite:"],
        ),
        (
            "listen = \"0.0.0.0:7411\"",
            ["listen", "danger_listen_without_tls"],
        ),
        ("listen = ", ["horarium.toml", "not TOML"]),
    ] {
        let refused = from_toml(toml).expect_err(toml).to_string();
        for part in parts {
            assert!(refused.contains(part), "{toml}: {refused}");
        }
    }
    let refused = load(&[("HORARIUM__EXECUTER__SLOTS", "1")], &[]).expect_err("a typo");
    assert!(
        refused.to_string().contains("HORARIUM__EXECUTER__SLOTS")
            && refused.to_string().contains("executor.slots"),
        "{refused}"
    );
    assert!(load(&[], &[("listen", "nowhere")]).is_err());
}

#[test]
fn another_address_needs_the_explicit_word() {
    let open = from_toml("listen = \"0.0.0.0:7411\"\ndanger_listen_without_tls = true");
    assert!(open.is_ok(), "{open:?}");
}

#[test]
fn the_documentation_is_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/settings.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, markdown()).expect("written");
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == markdown(),
        "docs/settings.md is stale; run UPDATE_DOCS=1 cargo test -p horarium settings"
    );
}

#[test]
fn a_refused_database_keeps_its_password_to_itself() {
    for url in [
        "postgress://me:SECRET@db/h",
        "POSTGRES://me:SECRET@db/h",
        "me:SECRET@db",
    ] {
        let refused = load(&[], &[("database.url", url)]).expect_err(url);
        assert!(!refused.to_string().contains("SECRET"), "{refused}");
        assert!(refused.to_string().contains("postgres://"), "{refused}");
    }
}
