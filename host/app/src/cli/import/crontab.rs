//! `import crontab`: each line a task, whose plugin gets the command.

use super::spec::{settle, unschedule};
use super::types::{TypeMap, key, name, short_hash};
use super::zone::zone;
use super::{Common, Found, carry_over};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::values::read_text;
use crate::cli::{Remote, now};
use chrono_tz::Tz;
use clap::Args;
use horarium_model::Timestamp;
use horarium_model::text::one_line;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// What a shell reads more in than words.
const SHELL: &[char] = &[
    '|', '&', ';', '<', '>', '$', '`', '(', ')', '*', '?', '[', '~', '#', '{',
];
/// Programs that run another one, which is what the line is about.
const INTERPRETERS: &[&str] = &[
    "python", "python3", "bash", "sh", "node", "perl", "php", "ruby", "sudo", "env", "nice",
];
/// Settings of cron itself.
const OWN: &[&str] = &[
    "CRON_TZ",
    "MAILTO",
    "MAILFROM",
    "SHELL",
    "RANDOM_DELAY",
    "START_HOURS_RANGE",
];
/// cron knows no limit: the longest there is.
const TIMEOUT_SECONDS: u32 = 86_400;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What `crontab -l` prints, or /etc/crontab; - is standard input
    #[arg(value_name = "FILE")]
    file: String,
    /// Its lines name a user behind the time, as /etc/crontab and /etc/cron.d do
    #[arg(long)]
    system: bool,
    /// The zone its times are meant in, where no CRON_TZ says it [default: this machine's]
    #[arg(long, value_name = "ZONE", value_parser = zone)]
    timezone: Option<Tz>,
    #[command(flatten)]
    common: Common,
}

pub(crate) fn run(remote: &Remote, arguments: &Arguments) -> Outcome {
    let text = read_text(&arguments.file)?;
    let (zone, note) = match arguments.timezone {
        Some(zone) => (zone, None),
        None => {
            let (zone, said) = machine_zone();
            (
                zone,
                Some(format!(
                    "times are meant in {zone}, {said}; --timezone names another"
                )),
            )
        }
    };
    let set = arguments.common.set.as_deref().unwrap_or("crontab");
    let types = TypeMap::new(&arguments.common.map);
    let reading = Reading {
        set,
        types: &types,
        zone,
        has_user: arguments.system || is_system(&arguments.file),
        now: now(),
    };
    let found = reading.lines(&text)?;
    let mut report = carry_over(remote, &arguments.common, set, &found, &types)?;
    report.source = match arguments.file.as_str() {
        "-" => "standard input".to_owned(),
        file => file.to_owned(),
    };
    report.notes.extend(note);
    report.notes.push(
        "a plugin gets the command as the parameters `command` and `args`; as in cron, nothing is retried or made up, and \
         runs may overlap"
            .to_owned(),
    );
    report.show(remote)
}

fn is_system(file: &str) -> bool {
    file == "/etc/crontab" || file.starts_with("/etc/cron.d/")
}

/// The zone cron on this machine goes by.
fn machine_zone() -> (Tz, &'static str) {
    let link = std::fs::canonicalize("/etc/localtime").ok();
    let linked = link.and_then(|path| {
        let path = path.to_string_lossy().into_owned();
        path.split_once("zoneinfo/")?.1.parse::<Tz>().ok()
    });
    let written = || {
        std::fs::read_to_string("/etc/timezone")
            .ok()?
            .trim()
            .parse::<Tz>()
            .ok()
    };
    match linked.or_else(written) {
        Some(zone) => (zone, "this machine's zone"),
        None => (Tz::UTC, "since this machine's zone is not known"),
    }
}

/// What lines are read by.
struct Reading<'a> {
    set: &'a str,
    types: &'a TypeMap,
    zone: Tz,
    has_user: bool,
    now: Timestamp,
}

/// A line's parts.
#[derive(Debug, PartialEq)]
struct Line<'t> {
    schedule: String,
    user: Option<&'t str>,
    command: String,
    stdin: Option<String>,
}

impl Reading<'_> {
    fn lines(&self, text: &str) -> Result<Vec<Found>, Failure> {
        let mut found = Vec::new();
        let mut env: Vec<(String, String)> = Vec::new();
        let mut seen: HashMap<String, u32> = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some((variable, value)) = assignment(line) {
                env.retain(|(known, _)| *known != variable);
                env.push((variable, value));
                continue;
            }
            let parts = parts(line, self.has_user).ok_or_else(|| {
                Failure::refused(format!(
                    "line {number}: `{}` is neither a time and a command nor NAME=VALUE{}",
                    one_line(line, 80),
                    if self.has_user {
                        ", with a user between time and command"
                    } else {
                        ""
                    },
                ))
            })?;
            let place = format!("line {number}");
            found.push(self.task(place, &parts, &env, &mut seen)?);
        }
        Ok(found)
    }

    fn task(
        &self,
        place: String,
        line: &Line<'_>,
        env: &[(String, String)],
        seen: &mut HashMap<String, u32>,
    ) -> Result<Found, Failure> {
        let zone = match env.iter().find(|(variable, _)| variable == "CRON_TZ") {
            Some((_, text)) => zone(text)
                .map_err(|detail| Failure::refused(format!("{place}: CRON_TZ: {detail}")))?,
            None => self.zone,
        };
        let words = match line.command.contains(SHELL) {
            true => None,
            false => shlex::split(&line.command),
        };
        let from_type = program(&line.command, words.as_deref());
        let mut notes = Vec::new();
        let mut parameters = Map::new();
        parameters.insert("command".into(), line.command.clone().into());
        match words {
            Some(words) => drop(parameters.insert("args".into(), words.into())),
            None => {
                notes.push("its command is for a shell, and is given as `command` alone".to_owned())
            }
        }
        if let Some(stdin) = &line.stdin {
            parameters.insert("stdin".into(), stdin.clone().into());
        }
        let env: Map<String, Value> = env
            .iter()
            .filter(|(variable, _)| !OWN.contains(&variable.as_str()))
            .map(|(variable, value)| (variable.clone(), value.clone().into()))
            .collect();
        if !env.is_empty() {
            parameters.insert("env".into(), env.into());
        }
        if let Some(user) = line.user {
            notes.push(format!(
                "the user `{user}` means nothing here: plugins have no user"
            ));
        }
        // Twice the same line is two tasks.
        let hash = short_hash(&[&line.schedule, zone.name(), &line.command]);
        let count = seen.entry(hash.clone()).or_default();
        *count += 1;
        let id = match count {
            1 => hash,
            count => format!("{hash}-{count}"),
        };
        let task = json!({
            "key": key(self.set, &from_type, &id),
            "name": name(&line.command, &place),
            "task_type": self.types.of(&from_type),
            "scheduler_type": "cron",
            "schedule_config": {
                "cron_expression": line.schedule, "timezone": zone.name(), "catch_up": "skip",
            },
            "parameters": parameters,
            "overlap": "allow",
            "max_retries": 0,
            "timeout_seconds": TIMEOUT_SECONDS,
        });
        let mut task = task.as_object().cloned().unwrap_or_default();
        if line.schedule.eq_ignore_ascii_case("@reboot") {
            let reason = "it ran at each start of the machine (@reboot), which is no time";
            notes.push(reason.to_owned());
            unschedule(&mut task, reason);
        }
        settle(&mut task, &mut notes, self.now);
        Ok(Found {
            place,
            from_type,
            task,
            notes,
        })
    }
}

/// `NAME=VALUE`, the value perhaps in quotes.
fn assignment(line: &str) -> Option<(String, String)> {
    let (variable, value) = line.split_once('=')?;
    let bare = |text: &str| {
        let text = text.trim();
        let inner = ['"', '\''].iter().find_map(|quote| {
            text.strip_prefix(*quote)?
                .strip_suffix(*quote)
                .map(str::to_owned)
        });
        inner.unwrap_or_else(|| text.to_owned())
    };
    let variable = bare(variable);
    let fits = variable.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && variable
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_');
    fits.then(|| (variable, bare(value)))
}

/// The first `count` words of a line, and what follows them.
fn split_words(line: &str, count: usize) -> Option<(Vec<&str>, &str)> {
    let mut rest = line.trim_start();
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let end = rest.find(char::is_whitespace)?;
        words.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    (!rest.is_empty()).then_some((words, rest))
}

fn parts(line: &str, has_user: bool) -> Option<Line<'_>> {
    let count = if line.starts_with('@') { 1 } else { 5 };
    let (time, mut rest) = split_words(line, count)?;
    let mut user = None;
    if has_user {
        let (words, command) = split_words(rest, 1)?;
        user = words.first().copied();
        rest = command;
    }
    let (command, stdin) = percent(rest);
    Some(Line {
        schedule: time.join(" "),
        user,
        command,
        stdin,
    })
}

/// The first `%` ends the command, and what follows is its input, in which others end lines; `\%` is a `%`.
fn percent(text: &str) -> (String, Option<String>) {
    let mut parts = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek() == Some(&'%') => {
                chars.next();
                parts.last_mut().into_iter().for_each(|part| part.push('%'));
            }
            '%' => parts.push(String::new()),
            c => parts.last_mut().into_iter().for_each(|part| part.push(c)),
        }
    }
    let command = parts.remove(0).trim().to_owned();
    let stdin = (!parts.is_empty()).then(|| format!("{}\n", parts.join("\n")));
    (command, stdin)
}

/// What a command runs: its program's name, or that of the script or module an interpreter runs.
fn program(command: &str, words: Option<&[String]>) -> String {
    let split: Vec<String>;
    let words = match words {
        Some(words) => words,
        None => {
            split = command.split_whitespace().map(str::to_owned).collect();
            split.as_slice()
        }
    };
    let base = |word: &str| word.rsplit('/').next().unwrap_or(word).to_owned();
    let mut left = words
        .iter()
        .skip_while(|word| assignment(word).is_some())
        .peekable();
    let mut name = String::new();
    while let Some(word) = left.next() {
        name = base(word);
        if !INTERPRETERS.contains(&name.as_str()) {
            break;
        }
        // `python -m module` runs the module; other options are passed over.
        while left.peek().is_some_and(|word| word.starts_with('-')) {
            if left.next().is_some_and(|option| option == "-m") {
                break;
            }
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, has_user: bool) -> Result<Vec<Found>, Failure> {
        let types = TypeMap::new(&[("report.py".into(), "report".into())]);
        let reading = Reading {
            set: "crontab",
            types: &types,
            zone: Tz::Europe__Berlin,
            has_user,
            now: "2026-01-01T00:00:00Z".parse().expect("an instant"),
        };
        reading.lines(text)
    }

    #[test]
    fn lines_become_tasks() {
        let text = "# nightly\nMAILTO=ops@example.com\nPATH = \"/usr/bin:/bin\"\n\n\
            */5 * * * *  /usr/local/bin/backup.sh --full 'a b'\n\
            CRON_TZ=UTC\n\
            @daily python3 -u /srv/report.py >> /var/log/report 2>&1\n\
            0 9 * * 1 mail -s hi ada%Dear Ada,%100\\% yours\n";
        let found = read(text, false).expect("read");
        let brief: Vec<(&str, &str, &Value)> = found
            .iter()
            .map(|f| (f.place.as_str(), f.from_type.as_str(), &f.task["task_type"]))
            .collect();
        assert_eq!(
            brief,
            [
                ("line 5", "backup.sh", &json!("backup.sh")),
                ("line 7", "report.py", &json!("report")),
                ("line 8", "mail", &json!("mail")),
            ]
        );
        let first = &found[0].task;
        assert_eq!(
            first["parameters"],
            json!({"command": "/usr/local/bin/backup.sh --full 'a b'",
                "args": ["/usr/local/bin/backup.sh", "--full", "a b"], "env": {"PATH": "/usr/bin:/bin"}})
        );
        assert_eq!(
            first["schedule_config"],
            json!({"cron_expression": "*/5 * * * *", "timezone": "Europe/Berlin", "catch_up": "skip"})
        );
        assert_eq!(
            (&first["overlap"], &first["max_retries"]),
            (&json!("allow"), &json!(0))
        );
        let second = &found[1].task;
        assert_eq!(second["schedule_config"]["timezone"], "UTC");
        assert!(second["parameters"].get("args").is_none() && !found[1].notes.is_empty());
        assert_eq!(
            found[2].task["parameters"]["stdin"],
            "Dear Ada,\n100% yours\n"
        );
    }

    #[test]
    fn keys_stay_and_tell_lines_apart() {
        let text = "0 1 * * * a\n0 1 * * * a\n0 2 * * * a\n";
        let keys = |text: &str| -> Vec<Value> {
            let found = read(text, false).expect("read");
            found.iter().map(|f| f.task["key"].clone()).collect()
        };
        let all = keys(text);
        assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
        assert_eq!(keys(&format!("# moved\n\n{text}")), all);
    }

    #[test]
    fn what_is_no_time_is_paused_and_what_is_no_line_refused() {
        let found = read("@reboot /bin/start\n0 0 L * * /bin/last\n", false).expect("read");
        for found in &found {
            assert_eq!(
                (&found.task["scheduler_type"], &found.task["paused"]),
                (&json!("manual"), &json!(true))
            );
            assert!(
                found.task["pause_reason"]
                    .as_str()
                    .is_some_and(|r| r.len() > 20)
            );
        }
        let refused = read("* * * *\n", false).expect_err("refused").render(false);
        assert!(
            refused.contains("line 1: `* * * *` is neither"),
            "{refused}"
        );
        let system = read("0 1 * * * root /bin/true\n", true).expect("read");
        assert_eq!(system[0].task["parameters"]["command"], "/bin/true");
        assert!(system[0].notes.iter().any(|note| note.contains("`root`")));
    }

    #[test]
    fn the_program_is_what_a_line_is_about() {
        for (command, wanted) in [
            ("LANG=C sudo -n /opt/x/run.sh -v", "run.sh"),
            ("python -m app.jobs.clean --all", "app.jobs.clean"),
            ("/usr/bin/env python3 /srv/a.py", "a.py"),
            ("cd /srv && ./run", "cd"),
        ] {
            let words = shlex::split(command);
            assert_eq!(program(command, words.as_deref()), wanted, "{command}");
        }
    }
}
