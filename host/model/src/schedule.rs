//! When a task config fires: `scheduler_type` and `schedule_config` (design section 5).

use crate::Timestamp;
use crate::cron::CronSchedule;
use crate::input::Fields;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;

/// How a config is fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SchedulerType {
    /// By a cron expression.
    Cron,
    /// Once, at an instant.
    Date,
    /// By a person or a program only.
    Manual,
}

impl SchedulerType {
    /// The stored and shown name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cron => "cron",
            Self::Date => "date",
            Self::Manual => "manual",
        }
    }
}

/// What happens to slots that passed while nothing could fire them (rule S4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CatchUp {
    /// Only the newest, if still within the grace.
    Skip,
    /// The newest within the window.
    #[default]
    Once,
    /// Each within the window, oldest first, the newest 1000 at most.
    All,
}

impl CatchUp {
    /// The words of the contract.
    pub const CHOICES: &[(&str, Self)] = &[
        ("skip", Self::Skip),
        ("once", Self::Once),
        ("all", Self::All),
    ];

    /// The stored and shown name.
    pub fn as_str(self) -> &'static str {
        word(Self::CHOICES, self)
    }
}

/// The word of a choice.
fn word<T: Copy + PartialEq>(choices: &[(&'static str, T)], wanted: T) -> &'static str {
    let found = choices.iter().find(|(_, value)| *value == wanted);
    found.map_or("", |(word, _)| word)
}

/// What happens when a slot comes while an execution of the config lives (rule S6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// Always enqueue.
    Allow,
    /// Enqueue only if none lives.
    Skip,
    /// Enqueue only if none waits.
    QueueOne,
    /// Waiting ones end, running ones are cancelled, the new one starts when they ended.
    CancelRunning,
}

impl Overlap {
    /// Whether what lives makes a difference. Where it does not, nobody needs to count it, however much waits.
    pub fn looks_at_live(self) -> bool {
        self != Self::Allow
    }

    /// The words of the contract.
    pub const CHOICES: &[(&str, Self)] = &[
        ("allow", Self::Allow),
        ("skip", Self::Skip),
        ("queue_one", Self::QueueOne),
        ("cancel_running", Self::CancelRunning),
    ];

    /// The stored and shown name.
    pub fn as_str(self) -> &'static str {
        word(Self::CHOICES, self)
    }
}

/// Rules for slots that passed, shared by cron and date schedules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Misfire {
    /// What to do about missed slots.
    pub catch_up: CatchUp,
    /// How old a missed slot may be to be made up.
    pub window: Duration,
    /// How late a slot may fire and still count as on time.
    pub grace: Duration,
}

impl Default for Misfire {
    fn default() -> Self {
        Self {
            catch_up: CatchUp::Once,
            window: Duration::from_secs(86_400),
            grace: Duration::from_secs(60),
        }
    }
}

/// `schedule_config`, read.
#[derive(Debug, Clone, PartialEq)]
pub enum ScheduleConfig {
    /// Recurring.
    Cron(CronConfig),
    /// Once.
    Date {
        /// The instant.
        run_at: Timestamp,
        /// Rules for an instant missed by the host.
        misfire: Misfire,
    },
    /// Never by itself.
    Manual,
}

/// `schedule_config` of a cron config.
#[derive(Debug, Clone, PartialEq)]
pub struct CronConfig {
    /// As the user wrote it.
    pub cron_expression: String,
    /// IANA name.
    pub timezone: String,
    /// Rules for missed slots.
    pub misfire: Misfire,
    /// Spread of fires after their slot (rule S3).
    pub jitter: Duration,
    /// First instant at which slots count, inclusive.
    pub start_at: Option<Timestamp>,
    /// Instant from which slots no longer count, exclusive.
    pub end_at: Option<Timestamp>,
}

impl CronConfig {
    /// The compiled expression; `seed` (the config's id) spreads `H`.
    ///
    /// # Errors
    /// When the expression or zone is refused, which a saved config's never is.
    pub fn compile(&self, seed: u64) -> Result<CronSchedule, crate::cron::CronError> {
        CronSchedule::parse(&self.cron_expression, &self.timezone, seed)
    }

    /// Where to look for slots after `after`: `start_at` is inclusive.
    pub fn from(&self, after: Timestamp) -> Timestamp {
        let just_before = |start| start - chrono::Duration::microseconds(1);
        self.start_at
            .map_or(after, |start| after.max(just_before(start)))
    }

    /// Whether a slot lies before `end_at`, which is exclusive.
    pub fn counts(&self, slot: Timestamp) -> bool {
        self.end_at.is_none_or(|end| slot < end)
    }

    /// The part of `(after, until]` in which slots count.
    pub fn bounds(&self, after: Timestamp, until: Timestamp) -> (Timestamp, Timestamp) {
        let just_before = |end| end - chrono::Duration::microseconds(1);
        let until = self.end_at.map_or(until, |end| until.min(just_before(end)));
        (self.from(after), until)
    }
}

/// Highest number of seconds in the schedule's settings: a year.
const YEAR: u64 = 366 * 86_400;
/// How many of the next slots the jitter is checked against (rule S3).
const JITTER_HORIZON: usize = 100;

/// `schedule_config` as [`ScheduleConfig::to_json`] writes it, of any kind.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptSchedule {
    cron_expression: String,
    timezone: String,
    catch_up: CatchUp,
    catch_up_window_seconds: u64,
    misfire_grace_seconds: u64,
    jitter_seconds: u64,
    start_at: Option<Timestamp>,
    end_at: Option<Timestamp>,
    run_at: Option<Timestamp>,
}

impl ScheduleConfig {
    /// Reads `schedule_config` for `kind`. `now` refuses a `run_at` in the past, unless it is `kept`,
    /// the instant an existing config already has (rule S11).
    pub fn read(
        fields: &mut Fields<'_>,
        kind: SchedulerType,
        now: Timestamp,
        kept: Option<Timestamp>,
    ) -> Self {
        match kind {
            SchedulerType::Manual => Self::Manual,
            SchedulerType::Date => {
                let misfire = read_misfire(fields);
                let run_at = fields.instant("run_at");
                match run_at {
                    None if !fields.has_problems() => fields.missing(
                        "run_at",
                        "is missing; a date task needs an instant like 2030-01-31T09:00:00+01:00",
                    ),
                    Some(at) if at <= now && Some(at) != kept => {
                        fields.problem(
                            "run_at",
                            format!("{} is in the past; it is {} now", wire(at), wire(now)),
                        );
                    }
                    _ => {}
                }
                Self::Date {
                    run_at: run_at.unwrap_or(now),
                    misfire,
                }
            }
            SchedulerType::Cron => Self::Cron(read_cron(fields, now)),
        }
    }

    /// Which kind this is.
    pub fn kind(&self) -> SchedulerType {
        match self {
            Self::Cron(_) => SchedulerType::Cron,
            Self::Date { .. } => SchedulerType::Date,
            Self::Manual => SchedulerType::Manual,
        }
    }

    /// The misfire rules, the default for manual configs, which never miss.
    pub fn misfire(&self) -> Misfire {
        match self {
            Self::Cron(c) => c.misfire,
            Self::Date { misfire, .. } => *misfire,
            Self::Manual => Misfire::default(),
        }
    }

    /// The schedule of a kind as it was kept. Not checked again: an expression that was good when it was
    /// saved must stay readable whatever zone data says today.
    ///
    /// # Errors
    /// A sentence, when the two do not fit.
    pub fn from_kept(kind: &str, kept: KeptSchedule) -> Result<Self, String> {
        let misfire = Misfire {
            catch_up: kept.catch_up,
            window: Duration::from_secs(kept.catch_up_window_seconds),
            grace: Duration::from_secs(kept.misfire_grace_seconds),
        };
        match (kind, kept.run_at) {
            ("manual", _) => Ok(Self::Manual),
            ("date", Some(run_at)) => Ok(Self::Date { run_at, misfire }),
            ("cron", _) => Ok(Self::Cron(CronConfig {
                cron_expression: kept.cron_expression,
                timezone: kept.timezone,
                misfire,
                jitter: Duration::from_secs(kept.jitter_seconds),
                start_at: kept.start_at,
                end_at: kept.end_at,
            })),
            _ => Err(format!("`{kind}` does not fit its schedule_config")),
        }
    }

    /// Whether a change from `old` moves the anchor to now (rule S2): expression, zone, start or the
    /// instant itself.
    pub fn moves_anchor(&self, old: &Self) -> bool {
        match (self, old) {
            (Self::Cron(a), Self::Cron(b)) => {
                (&a.cron_expression, &a.timezone, a.start_at)
                    != (&b.cron_expression, &b.timezone, b.start_at)
            }
            (Self::Date { run_at: a, .. }, Self::Date { run_at: b, .. }) => a != b,
            (Self::Manual, Self::Manual) => false,
            _ => true,
        }
    }

    /// Whether the schedule begins anew at `now` when it replaces `old` (rule S2): also when `old` had ended and
    /// its end is moved, since what lies between was no slot when it came.
    pub fn begins_anew(&self, old: &Self, now: Timestamp) -> bool {
        let end = |schedule: &Self| match schedule {
            Self::Cron(cron) => cron.end_at,
            _ => None,
        };
        self.moves_anchor(old) || (end(self) != end(old) && end(old).is_some_and(|end| end <= now))
    }

    /// The JSON object as stored and shown, defaults filled in.
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        let misfire = |map: &mut Map<String, Value>, m: &Misfire| {
            map.insert(
                "catch_up".into(),
                serde_json::to_value(m.catch_up).unwrap_or_default(),
            );
            map.insert("catch_up_window_seconds".into(), m.window.as_secs().into());
            map.insert("misfire_grace_seconds".into(), m.grace.as_secs().into());
        };
        match self {
            Self::Manual => {}
            Self::Date { run_at, misfire: m } => {
                map.insert("run_at".into(), wire(*run_at).into());
                misfire(&mut map, m);
            }
            Self::Cron(c) => {
                map.insert("cron_expression".into(), c.cron_expression.clone().into());
                map.insert("timezone".into(), c.timezone.clone().into());
                misfire(&mut map, &c.misfire);
                map.insert("jitter_seconds".into(), c.jitter.as_secs().into());
                map.insert("start_at".into(), c.start_at.map(wire).into());
                map.insert("end_at".into(), c.end_at.map(wire).into());
            }
        }
        Value::Object(map)
    }
}

fn read_misfire(fields: &mut Fields<'_>) -> Misfire {
    let default = Misfire::default();
    Misfire {
        catch_up: fields
            .choice("catch_up", CatchUp::CHOICES)
            .unwrap_or_default(),
        window: fields
            .unsigned("catch_up_window_seconds", 0, YEAR)
            .map_or(default.window, Duration::from_secs),
        grace: fields
            .unsigned("misfire_grace_seconds", 0, YEAR)
            .map_or(default.grace, Duration::from_secs),
    }
}

fn read_cron(fields: &mut Fields<'_>, now: Timestamp) -> CronConfig {
    let misfire = read_misfire(fields);
    let jitter = Duration::from_secs(fields.unsigned("jitter_seconds", 0, 86_400).unwrap_or(0));
    let (start_at, end_at) = (fields.instant("start_at"), fields.instant("end_at"));
    let timezone = fields
        .text("timezone", 1, 64)
        .unwrap_or_else(|| "UTC".into());
    let absent = fields.value("cron_expression").is_none();
    let cron_expression = fields.text("cron_expression", 1, 256).unwrap_or_default();
    if absent {
        fields.missing(
            "cron_expression",
            "is missing; a cron task needs one like `*/5 * * * *`",
        );
    }
    if let (Some(start), Some(end)) = (start_at, end_at)
        && end <= start
    {
        fields.problem("end_at", "is not after start_at; no slot would ever count");
    }
    let cron = CronConfig {
        cron_expression,
        timezone,
        misfire,
        jitter,
        start_at,
        end_at,
    };
    if !cron.cron_expression.is_empty() {
        // Unlike a stored expression, a new one must have a slot ahead.
        match CronSchedule::parse_at(&cron.cron_expression, &cron.timezone, 0, now) {
            Err(error) => {
                let key = if error.field == Some("timezone") {
                    "timezone"
                } else {
                    "cron_expression"
                };
                fields.problem_at(key, error.message.clone(), error.position);
            }
            Ok(schedule) => {
                check_jitter(fields, &schedule, &cron, now);
            }
        }
    }
    cron
}

/// Rule S3: a jitter as long as the gap between two slots would let fires overtake one another.
fn check_jitter(
    fields: &mut Fields<'_>,
    schedule: &CronSchedule,
    config: &CronConfig,
    now: Timestamp,
) {
    if config.jitter.is_zero() {
        return;
    }
    let slots: Vec<Timestamp> = schedule
        .slots(config.from(now))
        .take_while(|slot| config.counts(*slot))
        .take(JITTER_HORIZON)
        .collect();
    let smallest = slots.windows(2).map(|pair| pair[1] - pair[0]).min();
    if let Some(gap) = smallest.and_then(|gap| gap.to_std().ok())
        && config.jitter >= gap
    {
        let seconds = gap.as_secs();
        fields.problem("jitter_seconds", format!("is not below the smallest gap between slots, {seconds} s; choose less than {seconds}"));
    }
}

/// An instant as it is written on the wire: RFC 3339, UTC, `Z`, no more digits than needed.
pub fn wire(instant: Timestamp) -> String {
    instant.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

/// Serde for instants in the wire form, cut to microseconds as databases keep them.
pub mod wire_time {
    use super::{Timestamp, wire};
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the wire form.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(instant: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&wire(*instant))
    }

    /// Reads the wire form.
    ///
    /// # Errors
    /// When the text is no RFC 3339 instant.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        crate::input::parse_instant(&text).map_err(serde::de::Error::custom)
    }

    /// The same for optional instants.
    pub mod option {
        use super::{Timestamp, wire};
        use serde::{Deserialize, Deserializer, Serializer};

        /// Writes the wire form or null.
        ///
        /// # Errors
        /// The serializer's.
        pub fn serialize<S: Serializer>(
            instant: &Option<Timestamp>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match instant {
                Some(instant) => serializer.serialize_str(&wire(*instant)),
                None => serializer.serialize_none(),
            }
        }

        /// Reads the wire form or null.
        ///
        /// # Errors
        /// When the text is no RFC 3339 instant.
        pub fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Timestamp>, D::Error> {
            Option::<String>::deserialize(deserializer)?
                .map(|text| crate::input::parse_instant(&text).map_err(serde::de::Error::custom))
                .transpose()
        }
    }
}
