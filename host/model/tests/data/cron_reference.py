#!/usr/bin/env python3
"""Makes cron_reference.tsv: `python3 cron_reference.py [SEED [RANDOM_ROWS]] > cron_reference.tsv`.

A second reading of docs/cron.md that shares nothing with the module it checks: Python's zoneinfo over the
system's zone data (the table was made with 2025b, which the host embeds too), expressions read by a regular
expression, wall times enumerated day by day. Each row: expression, zone, the instant after which slots are
asked for, and the slots.
"""

import datetime
import random
import re
import sys
import zoneinfo

UTC = datetime.timezone.utc
DAY = datetime.timedelta(days=1)
SECOND = datetime.timedelta(seconds=1)
MONTHS = {n: i + 1 for i, n in enumerate("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split())}
DAYS = {n: i for i, n in enumerate("SUN MON TUE WED THU FRI SAT".split())}
NICKNAMES = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}
ITEM = re.compile(r"(\*|[A-Za-z0-9]+)(?:-([A-Za-z0-9]+))?(?:/([0-9]+))?")


def value(text, names):
    return int(text) if text.isdigit() else names[text.upper()]


def field(text, low, high, names={}):
    found = set()
    for item in text.split(","):
        first, last, step = ITEM.fullmatch(item).groups()
        if first == "*":
            start, end = low, high
        else:
            start = value(first, names)
            end = value(last, names) if last else start
        assert low <= start <= end <= high and (last or first == "*" or not step), item
        found |= set(range(start, end + 1, int(step or 1)))
    return found


class Cron:
    def __init__(self, expression):
        words = expression.split()
        if words[0].startswith("@"):
            words = NICKNAMES[words[0].lower()].split()
        if len(words) == 5:
            words = ["0"] + words
        if len(words) == 6:
            words = words + ["*"]
        second, minute, hour, month_day, month, week_day, year = words
        self.times = [
            datetime.time(h, m, s)
            for h in sorted(field(hour, 0, 23))
            for m in sorted(field(minute, 0, 59))
            for s in sorted(field(second, 0, 59))
        ]
        self.month_days = field(month_day, 1, 31)
        self.months = field(month, 1, 12, MONTHS)
        self.week_days = {day % 7 for day in field(week_day, 0, 7, DAYS)}
        self.years = field(year, 1970, 2100)
        self.either = not (month_day.startswith("*") or week_day.startswith("*"))
        self.fixed = not any(word.startswith("*") for word in (second, minute, hour))

    def has_day(self, day):
        if day.year not in self.years or day.month not in self.months:
            return False
        by_month = day.day in self.month_days
        by_week = day.isoweekday() % 7 in self.week_days
        return by_month or by_week if self.either else by_month and by_week


def instants(wall, zone):
    """The instants at which the clock shows `wall`: none, one or two."""
    found = []
    for fold in (0, 1):
        instant = wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)
        if instant.astimezone(zone).replace(tzinfo=None) == wall and instant not in found:
            found.append(instant)
    return sorted(found)


def end_of_gap(wall, zone):
    low, high = wall.replace(tzinfo=UTC) - 40 * 3600 * SECOND, wall.replace(tzinfo=UTC) + 40 * 3600 * SECOND
    while high - low > SECOND:
        middle = low + int((high - low).total_seconds()) // 2 * SECOND
        if middle.astimezone(zone).replace(tzinfo=None) >= wall:
            high = middle
        else:
            low = middle
    return high


def slots(expression, zone_name, after, count):
    cron, zone = Cron(expression), zoneinfo.ZoneInfo(zone_name)
    found = set()
    day = after.astimezone(zone).date() - 2 * DAY
    for _ in range(12 * 366):
        for time in cron.times if cron.has_day(day) else []:
            wall = datetime.datetime.combine(day, time)
            shown = instants(wall, zone)
            if cron.fixed:
                shown = shown[:1] or [end_of_gap(wall, zone)]
            found.update(instant for instant in shown if instant > after)
        # A later wall day can bring no instant as early as this.
        settled = datetime.datetime.combine(day, datetime.time(), UTC) - 26 * 3600 * SECOND
        sure = sorted(instant for instant in found if instant < settled)
        if len(sure) >= count:
            return sure[:count]
        day += DAY
    return sorted(found)[:count]


SPOTS = [spot.split() for spot in """
Europe/Berlin 2026-03-28T12:00:00Z
Europe/Berlin 2026-10-24T12:00:00Z
America/New_York 2026-03-07T12:00:00Z
America/New_York 2026-10-31T20:00:00Z
America/Santiago 2026-04-04T12:00:00Z
America/Santiago 2026-09-05T12:00:00Z
Australia/Lord_Howe 2026-04-04T10:00:00Z
Australia/Lord_Howe 2026-10-03T10:00:00Z
Pacific/Apia 2011-12-29T12:00:00Z
Africa/Casablanca 2026-02-14T20:00:00Z
Africa/Casablanca 2026-03-21T20:00:00Z
Antarctica/Troll 2026-03-28T20:00:00Z
Antarctica/Troll 2026-10-24T20:00:00Z
Asia/Kathmandu 2026-01-01T00:00:00Z
Asia/Kolkata 2028-02-28T00:00:00Z
UTC 2028-02-28T00:00:00Z
UTC 2026-12-31T23:58:00Z
Europe/London 2026-10-24T22:00:00Z
Asia/Tehran 2022-03-21T12:00:00Z
America/Sao_Paulo 2018-11-03T12:00:00Z
America/Sao_Paulo 2018-02-17T12:00:00Z
America/Havana 2026-03-07T20:00:00Z
America/Caracas 2016-04-30T20:00:00Z
Pacific/Kiritimati 2026-06-01T00:00:00Z
Pacific/Chatham 2026-04-04T00:00:00Z
Africa/Cairo 2026-04-23T12:00:00Z
Asia/Gaza 2026-03-27T12:00:00Z
America/Asuncion 2024-10-05T12:00:00Z
Europe/Dublin 2026-03-28T12:00:00Z
America/Scoresbysund 2024-03-30T12:00:00Z
""".strip().splitlines()]

BY_HAND = """
0 0 * * *|30 2 * * *|0 2 * * *|0 3 * * *|15,45 2 * * *|0 0-4 * * *|0 * * * *|*/15 * * * *|*/30 2 * * *|* 2 * * *
0 */2 * * *|30 1 * * *|30 1,2,3 * * *|0 0 * * SUN|0 0 * * 7|30 23 * * 6|45 23 * * *|15 0 * * *|0 12 * * *|0 12 30 * *
@daily|@hourly|@weekly|@monthly|@yearly|@annually|@midnight|0 30 2 * * *|*/20 59 1 * * *|0 */20 1-3 * * *
10-50/20 30 1 * * *|0 0 2 * * * 2026-2029|0 0 2 29 2 * 2028,2032|0 0 29 2 *|0 0 31 * *|0 0 30 1-12/2 *|0 0 13 * FRI
0 0 13 * 5|0 0 */2 * SAT|0 0 1-31/2 * SAT|0 0 * * */2|0 0 1 * */2|0 9 * * MON-FRI|0 9 * * mon-fri/2|0 9 * jan,JUL sun
0 9 1-7 * MON|0 9 * * 0-7|0 9 * * 5-7|5,5,1-6 0 * * *|1-10/3 4 * * *|0-59 2 * * *|0-59/30 2 * * *|30,*/60 2 * * *
*/90 * * * *|0 0 1,15 * 3|0 22 * * 1-5|23 0-20/2 * * *|5 4 * * sun|0 0 1 1 *|59 23 31 12 *|0 0 28-31 * *|0 0 29-31 2 0
""".strip().replace("\n", "|").split("|")


def random_field(chance, low, high, star):
    if chance.random() < star:
        return "*"

    def item():
        kind = chance.random()
        first, last = sorted((chance.randint(low, high), chance.randint(low, high)))
        if kind < 0.45:
            return str(first)
        if kind < 0.65:
            return f"{first}-{last}"
        if kind < 0.8:
            return f"{first}-{last}/{chance.randint(1, max(2, (high - low) // 3))}"
        return f"*/{chance.randint(2, max(3, (high - low) // 2))}"

    return ",".join(item() for _ in range(chance.choice([1, 1, 1, 2, 3])))


def random_expression(chance):
    words = [random_field(chance, *range_) for range_ in
             ((0, 59, 0.25), (0, 23, 0.35), (1, 31, 0.6), (1, 12, 0.75), (0, 7, 0.6))]
    length = chance.choice([5, 5, 5, 5, 6, 6, 7])
    if length >= 6:
        words.insert(0, chance.choice(["0", "30", "15,45", "*/20", "0-40/20"]))
    if length == 7:
        words.append(chance.choice(["*", "2026-2030", "2018-2035/1", "*/2"]))
    return " ".join(words)


def main():
    chance = random.Random(int(sys.argv[1]) if len(sys.argv) > 1 else 11)
    rows = []
    for index, expression in enumerate(BY_HAND):
        for spot in {index % len(SPOTS), (index * 7 + 3) % len(SPOTS)}:
            rows.append((expression, SPOTS[spot], 6))
    for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 110):
        rows.append((random_expression(chance), chance.choice(SPOTS), chance.choice([4, 8, 20])))
    for expression, (zone, after), count in rows:
        found = slots(expression, zone, datetime.datetime.fromisoformat(after.replace("Z", "+00:00")), count)
        if found:
            shown = " ".join(slot.strftime("%Y-%m-%dT%H:%M:%SZ") for slot in found)
            print(expression, zone, after, shown, sep="\t")


if __name__ == "__main__":
    main()
