//! Cron schedules against a table made by another program from the same words (`data/cron_reference.py`).

use chrono::{DateTime, Utc};
use horarium_model::cron::CronSchedule;

/// The table, or another one of the same form: `CRON_REFERENCE=FILE` takes as many rows as one likes.
fn table() -> String {
    match std::env::var("CRON_REFERENCE") {
        Ok(path) => std::fs::read_to_string(path).expect("a readable table"),
        Err(_) => include_str!("data/cron_reference.tsv").to_owned(),
    }
}

#[test]
fn every_row_of_the_reference_table_holds() {
    let table = table();
    let mut rows = 0;
    for line in table.lines() {
        let [expression, zone, after, slots] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("not a row: {line}");
        };
        let schedule = CronSchedule::parse(expression, zone, 0).expect(line);
        let after: DateTime<Utc> = after.parse().expect(line);
        let expected: Vec<DateTime<Utc>> = slots
            .split(' ')
            .map(|slot| slot.parse().expect(line))
            .collect();
        let found: Vec<_> = schedule.slots(after).take(expected.len()).collect();
        assert_eq!(found, expected, "`{expression}` in {zone} after {after}");
        rows += 1;
    }
    assert!(rows >= 200, "{rows} rows");
}
