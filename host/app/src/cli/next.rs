//! What a person is likely to do next. Every verb says it: what does something with what it did, what shows something on
//! a terminal, beside what it prints. There is no verb this table does not name.

use super::render::{Paint, Style};
use super::{
    Verb, audit, bench, db, dev, execution, host, import, plugin, plugin_config, quota, secret,
    task, task_parameters, task_state, tenant, token,
};
use std::io::IsTerminal;

/// How a verb says what is likely next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It only shows something, so that it may be repeated; this command often follows.
    Shows(&'static str),
    /// It works on this machine; this command often follows.
    Works(&'static str),
    /// It ends its own words with the command, since that names what it made.
    Says,
    /// What it prints is for a program, or it goes on until it is ended.
    Nothing,
}

use Next::{Nothing, Says, Shows, Works};

/// What follows a verb.
pub(super) fn after(verb: &Verb) -> Next {
    match verb {
        Verb::Serve(arguments) if arguments.check => Works("horarium serve"),
        Verb::Serve(_) | Verb::Completions(_) => Nothing,
        Verb::Man(arguments) if arguments.dir.is_none() => Nothing,
        Verb::Man(_) => Says,
        Verb::Task(verb) => after_task(verb),
        Verb::Execution(verb) => after_execution(verb),
        Verb::Plugin(verb) => after_plugin(verb),
        Verb::Secret(verb) => match verb {
            secret::Verb::List(_) | secret::Verb::Show(_) => {
                Shows("horarium plugin grant TYPE --add 'secret NAME in …'")
            }
            secret::Verb::Set(_) | secret::Verb::Delete(_) | secret::Verb::Rekey(_) => Says,
        },
        Verb::Host(host::Verb::List(_)) => Shows("horarium execution list --state running"),
        Verb::Tenant(verb) => match verb {
            tenant::Verb::List(_) | tenant::Verb::Show(_) => {
                Shows("horarium token create NAME --role admin --tenant TENANT")
            }
            tenant::Verb::Retention(bounds) if bounds.only_shows() => {
                Shows("horarium tenant retention --succeeded 30d")
            }
            tenant::Verb::Create(_)
            | tenant::Verb::Update(_)
            | tenant::Verb::Delete(_)
            | tenant::Verb::Retention(_) => Says,
        },
        Verb::Token(verb) => match verb {
            token::Verb::List(_) => Shows("horarium token show ID"),
            token::Verb::Show(_) => Shows("horarium token rotate ID, or token revoke ID"),
            token::Verb::Whoami => Shows("horarium task list"),
            token::Verb::Create(_) | token::Verb::Rotate(_) | token::Verb::Revoke(_) => Says,
        },
        Verb::Audit(audit::Verb::List(_)) => Shows("horarium audit list --token ID"),
        Verb::Quota(quota::Verb::Show) => Shows("horarium quota set QUOTA=NUMBER"),
        Verb::Quota(quota::Verb::Set(_)) => Says,
        Verb::Usage(_) => Shows("horarium quota show"),
        Verb::Import(
            import::Verb::Sqlalchemy(_) | import::Verb::Crontab(_) | import::Verb::CeleryBeat(_),
        ) => Says,
        Verb::Db(verb) => match verb {
            db::Verb::Status(_) => Shows("horarium serve"),
            db::Verb::Migrate(_) => Works("horarium serve"),
            db::Verb::Backup(_) => Works("horarium db restore FILE, where it is needed"),
            db::Verb::Restore(_) => Works("horarium serve, then horarium doctor"),
            db::Verb::Copy(_) | db::Verb::Prune(_) => Says,
        },
        Verb::Dev(verb) => match verb {
            dev::Verb::New(_) | dev::Verb::Build(_) | dev::Verb::Wit(_) => Says,
            dev::Verb::Inspect(_) => Works("horarium dev run FILE --params '{…}'"),
            dev::Verb::Run(_) | dev::Verb::Test(_) => Works("horarium plugin register TYPE FILE"),
        },
        Verb::Bench(verb) => match verb {
            bench::Verb::Drain(_) => Works("horarium bench latency"),
            bench::Verb::Latency(_) => Works("horarium bench schedule"),
            bench::Verb::Schedule(_) => Works("horarium bench growth --picture growth.svg"),
            bench::Verb::Growth(_) => Works("horarium bench waiting"),
            bench::Verb::Waiting(_) => Works("horarium bench guest --plugin FILE"),
            bench::Verb::Guest(_) => Works("horarium bench host"),
            bench::Verb::Host(_) => Works("horarium serve --slots N"),
        },
        Verb::Doctor(_) => Shows("horarium serve, or horarium plugin list"),
    }
}

fn after_task(verb: &task::Verb) -> Next {
    match verb {
        task::Verb::List(_) => Shows("horarium task show TASK"),
        task::Verb::Show(_) => Shows("horarium task why TASK, or task trigger TASK --wait"),
        task::Verb::Next(_) => Shows("horarium task why TASK"),
        task::Verb::Why(_) => Shows("horarium execution list --task TASK"),
        task::Verb::Parameters(task_parameters::Verb::Show(_)) => {
            Shows("horarium task parameters set TASK --set KEY=VALUE")
        }
        task::Verb::State(task_state::Verb::Show(_)) => {
            Shows("horarium task state set TASK KEY TEXT, or task state reset TASK KEY")
        }
        task::Verb::Retention(arguments) if arguments.bounds.only_shows() => {
            Shows("horarium task retention TASK --succeeded 30d")
        }
        task::Verb::Create(_)
        | task::Verb::Update(_)
        | task::Verb::Delete(_)
        | task::Verb::Apply(_)
        | task::Verb::Pause(_)
        | task::Verb::Resume(_)
        | task::Verb::Trigger(_)
        | task::Verb::Retention(_)
        | task::Verb::Parameters(task_parameters::Verb::Set(_))
        | task::Verb::State(task_state::Verb::Set(_) | task_state::Verb::Reset(_)) => Says,
    }
}

fn after_execution(verb: &execution::Verb) -> Next {
    match verb {
        execution::Verb::List(arguments) if arguments.follow => Nothing,
        execution::Verb::List(_) => Shows("horarium execution show TASK_ID"),
        execution::Verb::Show(_) => Shows("horarium execution logs TASK_ID"),
        execution::Verb::Logs(arguments) if arguments.follow => {
            Works("horarium execution show TASK_ID")
        }
        execution::Verb::Logs(_) => Shows("horarium execution show TASK_ID"),
        execution::Verb::Http(_) => Shows("horarium execution logs TASK_ID"),
        execution::Verb::Why(_) => Shows("horarium execution show TASK_ID"),
        execution::Verb::Cancel(_) | execution::Verb::Retry(_) => Says,
    }
}

fn after_plugin(verb: &plugin::Verb) -> Next {
    match verb {
        plugin::Verb::List(_) => Shows("horarium plugin show TYPE"),
        plugin::Verb::Show(_) => Shows("horarium task create --name NAME --type TYPE"),
        plugin::Verb::Diff(_) => Shows("horarium plugin show TYPE"),
        plugin::Verb::Config(plugin_config::Verb::List(_)) => {
            Shows("horarium plugin config set TYPE KEY TEXT")
        }
        plugin::Verb::Grant(arguments) if arguments.only_shows() => {
            Shows("horarium plugin grant TYPE --add GRANT")
        }
        plugin::Verb::Limit(arguments) if arguments.only_shows() => {
            Shows("horarium plugin limit TYPE --max N")
        }
        plugin::Verb::Breaker(arguments) if arguments.only_shows() => {
            Shows("horarium execution list --type TYPE --state failed")
        }
        plugin::Verb::Register(_)
        | plugin::Verb::Activate(_)
        | plugin::Verb::Rollback(_)
        | plugin::Verb::Remove(_)
        | plugin::Verb::Disable(_)
        | plugin::Verb::Limit(_)
        | plugin::Verb::Breaker(_)
        | plugin::Verb::Grant(_)
        | plugin::Verb::Config(plugin_config::Verb::Set(_) | plugin_config::Verb::Unset(_)) => Says,
    }
}

/// Says it where a person sees it and a pipe does not.
pub(super) fn tell(next: Next) {
    if let Shows(next) | Works(next) = next
        && std::io::stdout().is_terminal()
        && std::io::stderr().is_terminal()
    {
        let style = Style::of_stderr();
        eprintln!("{}", style.paint(Paint::Dim, &format!("Next: {next}")));
    }
}
