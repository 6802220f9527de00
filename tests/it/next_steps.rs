//! Every verb that does something ends by naming the command that is likely next. (What only shows something says it on
//! a terminal; `cli::tests` holds the list of both.)

use crate::support::{Host, horarium, horarium_fed, plugin};

#[test]
fn what_does_something_names_the_next_command() {
    let host = Host::start();
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let wasm = plugin("hello").display().to_string();
    let (value, lines) = (file("value", "v"), file("lines", "{}\n{}\n"));
    let tasks = file(
        "tasks.toml",
        "set = \"s\"\n[tasks.declared]\ntype = \"hello\"\n",
    );
    let crontab = file("crontab", "0 0 1 1 * /bin/true\n");
    let says = |line: &str| {
        let done = host.cli(line).exits(0);
        assert!(done.stdout.contains("horarium "), "{done:#?}");
        // A program gets the answer alone.
        done.stdout
    };
    says(&format!("plugin register hello '{wasm}'"));
    let digest = host.run("plugin show hello")["active_digest"].to_string();
    let digest = digest.trim_matches('"');
    says(&format!("plugin activate hello {digest}"));
    says("plugin grant hello --add state");
    says("plugin grant hello --remove state");
    says("plugin limit hello --max 3");
    says("plugin breaker hello reset");
    says("plugin config set hello k v");
    says("plugin config unset hello k");
    says("plugin disable hello");
    says("plugin disable hello --undo");
    says("task create --name One --type hello --key one");
    says("task update one --priority 5");
    says("task pause one");
    says("task resume one");
    says("task parameters set one --set name=Ada");
    says("task retention one --keep 5");
    says("task state set one k v");
    says("task state reset one k");
    says("task state reset one --all");
    says("task trigger one");
    says("task trigger one --wait");
    says(&format!("task trigger one --batch '{lines}'"));
    for dry in ["--dry-run", "", ""] {
        says(&format!("task apply -f '{tasks}' {dry}"));
    }
    let ended = host.run("task trigger one --wait")["task_id"].to_string();
    says(&format!("execution retry {}", ended.trim_matches('"')));
    says(&format!(
        "execution retry --wait {}",
        ended.trim_matches('"')
    ));
    let late = host.run("task trigger one --delay 3600")["task_id"].to_string();
    says(&format!("execution cancel {}", late.trim_matches('"')));
    for verb in ["retry --state succeeded", "cancel"] {
        says(&format!("execution {verb} --task one --dry-run"));
        says(&format!("execution {verb} --task one"));
    }
    says(&format!("secret set k --from-file '{value}'"));
    says("plugin grant hello --add 'secret k reveal'");
    says(&format!("secret set k --from-file '{value}'"));
    says("secret rekey");
    says("secret delete k");
    says("quota set configs=100");
    says("tenant create acme");
    says("tenant update acme --weight 2");
    says("tenant retention --failed 30d");
    says("tenant delete acme");
    says("token create ci --role viewer");
    let token = host.run("token create cd --role viewer")["id"].to_string();
    says(&format!("token rotate {token}"));
    says(&format!("token revoke {token}"));
    says(&format!("import crontab '{crontab}'"));
    says(&format!("import crontab '{crontab}' --apply"));
    says("task delete one");
    says("task delete declared");
    let fed = horarium_fed(&host.data_dir(), "secret set other", "v").exits(0);
    assert!(fed.stdout.contains("horarium "), "{fed:#?}");
    // Without a server.
    for line in [
        format!(
            "dev new thing --dir '{0}/thing'",
            directory.path().display()
        ),
        format!("dev wit '{0}/wit'", directory.path().display()),
        format!("man --dir '{0}/man1'", directory.path().display()),
    ] {
        let done = horarium(&line).exits(0);
        assert!(done.stdout.contains("horarium"), "{done:#?}");
    }
}
