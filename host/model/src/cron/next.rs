//! From wall times to instants: the two DST rules, forwards and backwards.
//!
//! Everything here is in whole seconds; an instant with a fraction counts as the second it
//! lies in, which is right because slots fall on whole seconds.

use super::walls::WallTimes;
use super::zone::ZoneTable;

/// Which instants a wall time means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DstRule {
    /// Second, minute and hour are fixed: every wall time means one instant, the first at
    /// which the clock shows it or has jumped over it.
    EachOnce,
    /// Some of them start with `*`: every instant whose wall time matches, and no other.
    RealTime,
}

/// A schedule resolved in a zone.
pub(super) struct Resolver<'a> {
    pub(super) walls: &'a WallTimes,
    pub(super) zone: &'a ZoneTable,
    pub(super) rule: DstRule,
}

impl Resolver<'_> {
    /// The first slot after `instant`.
    pub(super) fn after(&self, instant: i64) -> Option<i64> {
        match self.rule {
            // A wall time has fired exactly if the clock has ever shown as much, so what the
            // clock has shown at most says where to go on, in gaps and in repeated hours.
            DstRule::EachOnce => self
                .walls
                .after(self.zone.latest_wall(instant))
                .map(|wall| self.zone.first_reaching(wall)),
            DstRule::RealTime => self.real_time_after(instant),
        }
    }

    /// The last slot at or before `instant`.
    pub(super) fn at_or_before(&self, instant: i64) -> Option<i64> {
        match self.rule {
            DstRule::EachOnce => self
                .walls
                .at_or_before(self.zone.latest_wall(instant))
                .map(|wall| self.zone.first_reaching(wall)),
            DstRule::RealTime => self.real_time_at_or_before(instant),
        }
    }

    /// Walks the spans of constant offset, in each of which wall and real time run alike.
    fn real_time_after(&self, instant: i64) -> Option<i64> {
        let mut index = self.zone.index_at(instant);
        let mut from = instant;
        // No wall time matches between these two: spans inside need no new enumeration.
        let mut silent: Option<(i64, i64)> = None;
        loop {
            let offset = self.zone.offset(index);
            let wall = from + offset;
            let next = match silent {
                Some((since, until)) if (since..until).contains(&wall) => until,
                _ => {
                    let until = self.walls.after(wall).unwrap_or(i64::MAX);
                    silent = Some((wall, until));
                    until
                }
            };
            let end = self.zone.end(index);
            if next != i64::MAX && next - offset < end {
                return Some(next - offset);
            }
            index += 1;
            if index == self.zone.len() {
                return None;
            }
            from = end - 1;
        }
    }

    fn real_time_at_or_before(&self, instant: i64) -> Option<i64> {
        let mut index = self.zone.index_at(instant);
        let mut until = instant;
        let mut silent: Option<(i64, i64)> = None;
        loop {
            let offset = self.zone.offset(index);
            let wall = until + offset;
            let last = match silent {
                Some((since, until)) if since <= wall && wall <= until => since,
                _ => {
                    let since = self.walls.at_or_before(wall).unwrap_or(i64::MIN);
                    silent = Some((since, wall));
                    since
                }
            };
            let begin = self.zone.begin(index);
            if last != i64::MIN && last - offset >= begin {
                return Some(last - offset);
            }
            if index == 0 {
                return None;
            }
            index -= 1;
            until = begin - 1;
        }
    }
}
