//! What a person is likely to do next: verbs that show something say it on a terminal, beside what they print. Verbs
//! that do something say it with what they did.

use super::render::{Paint, Style};
use super::{Verb, audit, db, dev, execution, host, plugin, secret, task, tenant, token};
use std::io::IsTerminal;

/// The command that often follows a verb that shows something.
pub(super) fn after(verb: &Verb) -> Option<&'static str> {
    Some(match verb {
        Verb::Task(verb) => match verb {
            task::Verb::List(_) => "horarium task show TASK",
            task::Verb::Show(_) => "horarium task why TASK, or task trigger TASK --wait",
            task::Verb::Next(_) => "horarium task why TASK",
            task::Verb::Why(_) => "horarium execution list --task TASK",
            _ => return None,
        },
        Verb::Execution(verb) => match verb {
            execution::Verb::List(_) => "horarium execution show TASK_ID",
            execution::Verb::Show(_) => "horarium execution logs TASK_ID",
            execution::Verb::Logs(_) => "horarium execution show TASK_ID",
            execution::Verb::Http(_) => "horarium execution logs TASK_ID",
            execution::Verb::Why(_) => "horarium execution show TASK_ID",
            _ => return None,
        },
        Verb::Plugin(verb) => match verb {
            plugin::Verb::List(_) => "horarium plugin show TYPE",
            plugin::Verb::Show(_) => "horarium task create --name NAME --type TYPE",
            _ => return None,
        },
        Verb::Secret(secret::Verb::List(_)) => {
            "horarium plugin grant TYPE --add 'secret NAME in …'"
        }
        Verb::Host(host::Verb::List(_)) => "horarium execution list --state running",
        Verb::Tenant(tenant::Verb::List(_) | tenant::Verb::Show(_)) => {
            "horarium token create NAME --role admin --tenant TENANT"
        }
        Verb::Token(verb) => match verb {
            token::Verb::List(_) => "horarium token show ID",
            token::Verb::Show(_) => "horarium token rotate ID, or token revoke ID",
            token::Verb::Whoami => "horarium task list",
            _ => return None,
        },
        Verb::Audit(audit::Verb::List(_)) => "horarium audit list --token ID",
        Verb::Db(verb) => match verb {
            db::Verb::Migrate(_) | db::Verb::Status(_) => "horarium serve",
            db::Verb::Backup(_) => "horarium db restore FILE, where it is needed",
            db::Verb::Restore(_) => "horarium serve, then horarium doctor",
            db::Verb::Copy(_) | db::Verb::Prune(_) => return None,
        },
        Verb::Dev(verb) => match verb {
            dev::Verb::Inspect(_) => "horarium dev run FILE --params '{…}'",
            dev::Verb::Run(_) | dev::Verb::Test(_) => "horarium plugin register TYPE FILE",
            _ => return None,
        },
        Verb::Doctor(_) => "horarium serve, or horarium plugin list",
        _ => return None,
    })
}

/// Says it where a person sees it and a pipe does not.
pub(super) fn tell(next: &str) {
    if std::io::stdout().is_terminal() && std::io::stderr().is_terminal() {
        let style = Style::of_stderr();
        eprintln!("{}", style.paint(Paint::Dim, &format!("Next: {next}")));
    }
}
