//! Cron schedules: expressions as Unix means them, in a time zone, with stated DST rules.
//!
//! The way of one slot: [`parse`](CronSchedule::parse) reads the fields (`parse`, `items`, `fields`),
//! the `cron` crate enumerates their wall times (`walls`), the zone's transitions (`zone`)
//! turn wall times into instants by the two DST rules (`next`).
//!
//! - Five fields `minute hour day-of-month month day-of-week`; six have seconds first; seven
//!   have the year (1970-2100) last. Sunday is 0 or 7. `@daily` and the like.
//! - Day-of-month and day-of-week: a day needs only one of them when neither field starts
//!   with `*`, else both, as Debian's cron does.
//! - `H` is a value chosen by the seed, so that many configs do not fire at once.
//! - Second, minute and hour fixed (none starts with `*`; an omitted second is fixed): a wall
//!   time that does not exist fires at the first instant after the gap, one that exists twice
//!   fires once, at the first. Otherwise real time is followed: slots in a repeated hour fire
//!   in both, slots in a gap do not exist.

mod count;
mod fields;
mod items;
mod next;
mod parse;
mod remark;
mod walls;
mod zone;

use std::sync::Arc;

use chrono::{DateTime, Months, Utc};
use chrono_tz::Tz;

use fields::{Field, Fields};
use next::{DstRule, Resolver};
use walls::WallTimes;
use zone::ZoneTable;

/// The release of the zone database that is compiled in, such as `2025b`.
pub const ZONE_DATA: &str = chrono_tz::IANA_TZDB_VERSION;

/// An expression without a slot for this long is refused: eight years part the leap days
/// around 1900 and 2100, so every possible date comes within nine.
const HORIZON_MONTHS: u32 = 9 * 12;

/// How many choices of `H` are tried until the expression has a slot (`0 0 31 H *`: a month
/// that has a day 31), so that one config's seed is not refused what another's is allowed.
const HASH_ATTEMPTS: u32 = 64;

/// Earliest and latest instants worth asking about, Unix seconds (1969-12-02 and 2101-01-31):
/// all slots lie between, and arithmetic between them cannot overflow.
const EARLIEST: i64 = -30 * 86_400;
const LATEST: i64 = 4_133_980_800 + 30 * 86_400;

/// Why an expression or zone was refused. Displays as one line saying what is wrong, where,
/// and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CronError {
    /// `second`, `minute`, `hour`, `day-of-month`, `month`, `day-of-week`, `year` or
    /// `timezone`; `None` when the expression as a whole is wrong.
    pub field: Option<&'static str>,
    /// Index of the first wrong character in the expression, counted in characters from 0.
    pub position: Option<usize>,
    /// The whole message, field and position included.
    pub message: String,
}

/// A parsed cron expression in a time zone: an ordered set of instants.
///
/// All slots lie on whole seconds between the years 1970 and 2100 of the zone. Two schedules
/// parsed from the same expression, zone and seed have the same slots.
#[derive(Clone, Debug)]
pub struct CronSchedule {
    expression: String,
    timezone: Tz,
    fields: Fields,
    walls: WallTimes,
    zone: Arc<ZoneTable>,
    rule: DstRule,
}

impl CronSchedule {
    /// Parses `expression` in the IANA zone `timezone`. `hash_seed` decides what `H` stands
    /// for: give each config its own (its id).
    ///
    /// Does not look at the clock, so that a stored expression can always be read back. To
    /// check what a person enters, use [`parse_at`](Self::parse_at).
    ///
    /// # Errors
    /// A [`CronError`] for anything that is no expression, a date that never comes
    /// (`0 0 31 2 *`) or an unknown zone.
    pub fn parse(expression: &str, timezone: &str, hash_seed: u64) -> Result<Self, CronError> {
        Self::parse_in(expression, zone::parse_timezone(timezone)?, hash_seed)
    }

    /// As [`parse`](Self::parse), with the zone at hand.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), the zone aside.
    pub fn parse_in(expression: &str, timezone: Tz, hash_seed: u64) -> Result<Self, CronError> {
        let mut seed = hash_seed;
        let mut attempts = if expression.contains(['H', 'h']) {
            HASH_ATTEMPTS
        } else {
            1
        };
        loop {
            let schedule = Self::build(expression, timezone, parse::parse(expression, seed)?)?;
            if schedule.next_second(EARLIEST).is_some() {
                return Ok(schedule);
            }
            attempts -= 1;
            if attempts == 0 {
                return Err(schedule.without_slot(EARLIEST, LATEST));
            }
            // Any odd number would do: the seeds only have to differ.
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        }
    }

    /// As [`parse`](Self::parse), and refuses an expression without a slot in the nine years
    /// after `now`, such as one whose years are past.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); the field is the one that leaves no slot.
    pub fn parse_at(
        expression: &str,
        timezone: &str,
        hash_seed: u64,
        now: DateTime<Utc>,
    ) -> Result<Self, CronError> {
        let schedule = Self::parse(expression, timezone, hash_seed)?;
        let from = clamped(now);
        let until = now
            .checked_add_months(Months::new(HORIZON_MONTHS))
            .map_or(LATEST, clamped);
        if schedule.next_second(from).is_none_or(|slot| slot > until) {
            return Err(schedule.without_slot(from, until));
        }
        Ok(schedule)
    }

    fn build(expression: &str, timezone: Tz, fields: Fields) -> Result<Self, CronError> {
        Ok(CronSchedule {
            expression: expression.to_owned(),
            timezone,
            walls: WallTimes::new(&fields)?,
            zone: ZoneTable::of(timezone),
            rule: if fields.follows_real_time() {
                DstRule::RealTime
            } else {
                DstRule::EachOnce
            },
            fields,
        })
    }

    /// The expression as it was written.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// The zone whose wall time the expression means.
    pub fn timezone(&self) -> Tz {
        self.timezone
    }

    /// The first slot strictly after `after`; `None` when there is none up to the year 2100.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.next_second(clamped(after)).and_then(instant)
    }

    /// The last slot at or before `until`; `None` when there is none since 1970.
    pub fn previous_at_or_before(&self, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.resolver()
            .at_or_before(clamped(until))
            .and_then(instant)
    }

    /// The newest slot in `(after, until]`.
    pub fn newest_in(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.previous_at_or_before(until)
            .filter(|slot| *slot > after)
    }

    /// All slots strictly after `after`, oldest first.
    pub fn slots(&self, after: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> + '_ {
        std::iter::successors(self.next_after(after), |slot| self.next_after(*slot))
    }

    /// All slots at or before `until`, newest first: the newest thousand of a window are
    /// `slots_before(until).take_while(|slot| *slot > after).take(1000)`.
    pub fn slots_before(&self, until: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> + '_ {
        let before = |seconds: i64| self.resolver().at_or_before(seconds);
        std::iter::successors(before(clamped(until)), move |slot| before(slot - 1))
            .filter_map(instant)
    }

    /// How many slots lie in `(after, until]`. Costs a step a day of the window, however
    /// many slots a day holds.
    pub fn count_in(&self, after: DateTime<Utc>, until: DateTime<Utc>) -> u64 {
        count::slots(
            &self.fields,
            &self.zone,
            self.rule,
            clamped(after),
            clamped(until),
        )
    }

    /// What changed clocks did to `slot`, the next one after `after`, in one line; none when nothing.
    pub fn remark(&self, after: DateTime<Utc>, slot: DateTime<Utc>) -> Option<String> {
        remark::of(self, clamped(after), clamped(slot))
    }

    fn resolver(&self) -> Resolver<'_> {
        Resolver {
            walls: &self.walls,
            zone: &self.zone,
            rule: self.rule,
        }
    }

    fn next_second(&self, after: i64) -> Option<i64> {
        self.resolver().after(after)
    }

    /// The error of an expression without a slot in `(from, until]`. Blames the first field
    /// that would leave one if it were open.
    fn without_slot(&self, from: i64, until: i64) -> CronError {
        let opened = |open: fn(&mut Fields) -> &mut Field| {
            let mut fields = self.fields.clone();
            let field = open(&mut fields);
            let blamed = field.clone();
            *field = Field::every(field.spec);
            let slot = Self::build(&self.expression, self.timezone, fields)
                .ok()
                .and_then(|schedule| schedule.next_second(from));
            slot.filter(|slot| *slot <= until).map(|_| blamed)
        };
        let Some(field) = opened(|fields| &mut fields.year)
            .or_else(|| opened(|fields| &mut fields.day_of_month))
            .or_else(|| opened(|fields| &mut fields.day_of_week))
        else {
            return CronError {
                field: None,
                position: None,
                message: "cron expression has no slot within nine years; use dates that will come"
                    .to_owned(),
            };
        };
        let right = match field.spec.name {
            "year" => "use a year soon to come, or leave the year out",
            _ => "use a day that its month has",
        };
        field.spec.error(
            field.position,
            format!(
                "`{}` at position {} leaves no slot within nine years; {right}",
                parse::quoted(&field.text),
                field.position
            ),
        )
    }
}

/// Whole seconds of an instant, within the range that has slots.
fn clamped(instant: DateTime<Utc>) -> i64 {
    instant.timestamp().clamp(EARLIEST, LATEST)
}

fn instant(seconds: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(seconds, 0)
}
