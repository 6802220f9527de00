//! The command line as a whole.

use super::*;
use clap::CommandFactory;

fn parses(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("horarium").chain(line.split(' ')))
}

#[test]
fn clap_finds_no_fault_in_the_definitions() {
    Cli::command().debug_assert();
}

/// Every verb at least once.
const LINES: &[&str] = &[
    "serve --data-dir d --listen 127.0.0.1:0 --database-url sqlite:x --slots 200 --config f --check --migrate",
    "dev run f.wasm --params {} --grant state --timeout 5 --limit fuel=1 --attempt 2 --json",
    "dev inspect f.wasm --json",
    "plugin register hello f.wasm --grant state --grant-asked --descriptor d --no-activate",
    "plugin list --limit 5 --cursor x --json",
    "plugin show hello --json",
    "plugin activate hello abc",
    "plugin rollback hello --json",
    "plugin diff hello",
    "plugin diff hello abc",
    "plugin diff hello abc abd --json",
    "plugin remove hello --cancel-waiting",
    "plugin disable hello --undo",
    "task create --name n --type t --params {} --set a=1 --cron @daily --timezone UTC --json",
    "task create --name n --type t --at 2030-01-01T00:00:00Z --max-retries -1 --timeout 0 --priority -5",
    "task list --paused --type t --limit 1000",
    "task show 7",
    "task update 7 --set a=1 --clear priority",
    "task delete 7 --history delete",
    "task pause 7 --reason why",
    "task resume 7",
    "task trigger 7 --params {} --priority 5 --if-running refuse --wait",
    "task next 7 --count 3 --after 2030-01-01T00:00:00Z",
    "task next --cron @daily --timezone Europe/Berlin",
    "task why 7 --slot 2030-01-01T00:00:00Z --json",
    "task parameters show 7 --pointer /a --default 1",
    "task parameters set 7 --merge {}",
    "task state show 7",
    "task state set 7 k v",
    "task state reset 7 --all",
    "execution list --task 7 --state failed,cancelled --since 2030-01-01T00:00:00Z",
    "execution show u --tenant other",
    "execution logs u --follow",
    "execution cancel u",
    "execution retry u --wait",
    "tenant create acme --weight 3",
    "tenant list --limit 5 --json",
    "tenant show acme",
    "tenant update acme --weight 2",
    "tenant delete acme",
    "token create ci --role trigger --scope tasks:trigger,tasks:read --expires +90d --tenant acme",
    "token list --cursor x",
    "token show 7 --json",
    "token rotate 7 --keep 1h",
    "token revoke 7",
    "token whoami",
    "audit list --action tasks:write --token 7 --since 2030-01-01T00:00:00Z --until +1h --json",
    "db migrate",
    "db status --json",
    "db copy --from sqlite:a --to postgres://b/c --restart --config f --json",
    "bench drain --plugin f --tasks 100 --database-url sqlite:x --slots 4 --runs 1 --json",
    "bench drain --parameters-bytes 1000000",
    "bench growth --up-to 1000000 --tasks 9 --due 8 --rounds 2 --picture f.svg --database-url sqlite:x --json",
    "bench waiting --slots 2000 --plugin f --params {} --loops 3 --iterations 9 --json",
    "bench guest --plugin f --params {} --runs 9 --loads 2 --iterations 9",
    "bench host --plugins 50 --starts 2 --idle 5",
    "bench latency --tasks 5 --json",
    "bench schedule --configs 100 --due-per-second 10 --for 5 --database-url postgres://h/d --json",
    "doctor --json",
    "completions bash",
    "man --dir d",
    "task apply -f tasks.toml --dry-run --prune --yes --take-over --json",
    "task list --set team/tasks -o wide --watch",
    "execution show u --watch=5 -o json",
    "import sqlalchemy --from postgres://h/d --schema s --naive-timezone Europe/Berlin --map A=b --apply --no-history",
    "import crontab - --system --timezone UTC --map a=b --map c=d --set cron --paused",
    "import celery-beat f.json --timezone UTC --apply --json",
    "dev new counter --lang js",
    "dev build",
    "dev test f.wasm",
    "dev wit",
    "plugin limit hello",
    "plugin limit hello --max 3 --backlog none",
    "plugin breaker hello",
    "plugin breaker hello reset",
    "plugin grant hello",
    "plugin grant hello --add state",
    "plugin config list hello",
    "plugin config set hello k v",
    "plugin config unset hello k",
    "task apply -f tasks.toml",
    "task retention 7",
    "task retention 7 --keep 5",
    "execution list --follow --state failed --task 7 --json",
    "execution logs u",
    "execution http u",
    "execution why u",
    "secret set k --from-file f",
    "secret list",
    "secret show k",
    "secret delete k",
    "secret rekey --new-key",
    "host list --watch",
    "tenant retention --failed 30d",
    "quota show",
    "quota set configs=5",
    "usage --from 2030-01-01",
    "db prune --older-than 30d --dry-run",
    "db backup f",
    "db restore f",
    "bench latency",
];

#[test]
fn every_verb_takes_the_global_flags_and_its_own() {
    for line in LINES {
        if let Err(error) = parses(line) {
            panic!("{line}: {error}");
        }
    }
}

/// Full names of the verbs that have none below them.
fn leaves(command: &clap::Command, path: &str, found: &mut Vec<String>) {
    let mut below = command.get_subcommands().peekable();
    if below.peek().is_none() {
        found.push(path.trim_start().to_owned());
    }
    for command in below {
        leaves(command, &format!("{path} {}", command.get_name()), found);
    }
}

#[test]
fn every_verb_names_what_is_likely_next() {
    let mut verbs = Vec::new();
    leaves(&Cli::command(), "", &mut verbs);
    assert!(verbs.len() > 70, "{verbs:?}");
    for verb in &verbs {
        let begins = |line: &&&str| line.split(' ').zip(verb.split(' ')).all(|(a, b)| a == b);
        let of_verb: Vec<_> = LINES.iter().filter(begins).collect();
        assert!(!of_verb.is_empty(), "no line of `{verb}`");
        for line in of_verb {
            let next = next::after(&parses(line).expect("a line").verb);
            // A script for a shell, and what goes on until it is ended.
            let has_none = verb == "completions"
                || (verb == "serve" && !line.contains("--check"))
                || (verb == "execution list" && line.contains("--follow"));
            assert_eq!(next == next::Next::Nothing, has_none, "{line}: {next:?}");
        }
    }
}

#[test]
fn what_changes_something_is_never_repeated() {
    for (line, shows) in [
        ("task list", true),
        ("task parameters show 7", true),
        ("plugin grant hello", true),
        ("plugin grant hello --add state", false),
        ("plugin limit hello --max 3", false),
        ("plugin breaker hello reset", false),
        ("task retention 7", true),
        ("task retention 7 --keep 5", false),
        ("execution list", true),
        ("execution list --follow", false),
        ("execution logs u --follow", false),
        ("db status", true),
        ("db migrate", false),
        ("dev run f.wasm", false),
    ] {
        let verb = parses(line).expect(line).verb;
        assert_eq!(watch::only_shows(&verb), shows, "{line}");
    }
}

#[test]
fn bad_usage_exits_with_2() {
    for line in [
        "frobnicate",
        "task create --name n",
        "task create --name n --type t --cron @daily --at +5s",
        "task next",
        "task state reset 7",
        "task parameters set 7",
        "bench drain --tasks 0",
        "task apply",
        "task list --watch=0",
        "execution list --follow --limit 5",
        "import crontab f --timezone Berlin",
        "import crontab f --map a=B",
    ] {
        let error = parses(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
    assert_eq!(parses("--help").expect_err("help").exit_code(), 0);
}

#[test]
fn lists_ask_for_fifty_unless_told() {
    let page = PageArguments {
        limit: 50,
        cursor: Some("x".into()),
    };
    assert_eq!(
        page.query(),
        [("limit", "50".to_owned()), ("cursor", "x".to_owned())]
    );
}

/// What every verb understands, reviewed as a whole when it changes.
#[test]
fn help_is_as_reviewed() {
    let mut command = Cli::command();
    command.build();
    let mut text = String::new();
    collect(&mut command, "horarium", &mut text);
    insta::assert_snapshot!(text);
}

fn collect(command: &mut clap::Command, path: &str, text: &mut String) {
    let help = command.clone().term_width(100).render_help();
    text.push_str(&format!("# {path}\n{help}\n"));
    for sub in command.get_subcommands_mut() {
        let path = format!("{path} {}", sub.get_name());
        collect(sub, &path, text);
    }
}
