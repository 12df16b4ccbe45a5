//! ISO 8601 durations as the API writes them.
//!
//! What belongs here: the short form used by requests (`PT20M`, `P1Y`). What does not: dates and times, which are
//! RFC 3339 and come from the `time` crate.

use std::fmt;
use std::time::Duration;

use time::{Date, OffsetDateTime};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An ISO 8601 duration with its text kept, because a calendar unit (`P1Y`) means nothing exact until Azure applies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsoDuration {
    text: String,
    seconds: u64,
    /// How many of the seconds stand for months, and how many months those are.
    calendar: (u64, u64),
}

impl IsoDuration {
    /// Parses `P[nY][nM][nW][nD][T[nH][nM][nS]]` with whole, positive numbers. Fractions and signs are refused.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix('P')?;
        if rest.is_empty() || rest.len() > 40 {
            return None;
        }
        let (date, time) = match rest.split_once('T') {
            Some((_, "")) => return None,
            Some((date, time)) => (date, time),
            None => (rest, ""),
        };
        const DAY: u64 = 86_400;
        let (date_seconds, calendar) =
            sum(date, &[('Y', 365 * DAY, 12), ('M', 30 * DAY, 1), ('W', 7 * DAY, 0), ('D', DAY, 0)])?;
        let (time_seconds, _) = sum(time, &[('H', 3600, 0), ('M', 60, 0), ('S', 1, 0)])?;
        Some(Self { text: text.to_owned(), seconds: date_seconds.checked_add(time_seconds)?, calendar })
    }

    /// The length, a year counted as 365 days and a month as 30: exact for a text without calendar units.
    pub fn approximate(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// Whether the text holds years or months, whose length depends on the date they start at.
    pub fn has_calendar_units(&self) -> bool {
        self.calendar.1 > 0
    }

    /// Whether the text is made of days and longer units only, as periods of Key Vault are.
    pub fn is_whole_days(&self) -> bool {
        !self.text.contains('T')
    }

    /// The time that lies this far behind another: months as the calendar has them, a day that a month lacks being its
    /// last. `None` beyond the years that a date can have.
    pub fn after(&self, at: OffsetDateTime) -> Option<OffsetDateTime> {
        let (in_months, months) = self.calendar;
        let month = u64::from(u8::from(at.month())) - 1 + months;
        let year = at.year().checked_add(i32::try_from(month / 12).ok()?)?;
        let month = time::Month::try_from(u8::try_from(month % 12 + 1).ok()?).ok()?;
        let date = Date::from_calendar_date(year, month, at.day().min(month.length(year))).ok()?;
        at.replace_date(date).checked_add(time::Duration::try_from(Duration::from_secs(self.seconds - in_months)).ok()?)
    }

    /// The text as given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The shortest text for whole seconds, for instance `PT20M`.
    pub fn from_secs(seconds: u64) -> Self {
        let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let mut text = String::from("PT");
        for (value, unit) in [(hours, 'H'), (minutes, 'M'), (rest, 'S')] {
            if value > 0 {
                text.push_str(&format!("{value}{unit}"));
            }
        }
        if seconds == 0 {
            text.push_str("0S");
        }
        Self { text, seconds, calendar: (0, 0) }
    }
}

/// Sums `number unit` pairs; each unit may come once and only in the given order. A unit is so many seconds, and so many
/// months where it has them. The second answer is how much of the sum is months, in seconds and as months.
fn sum(mut text: &str, units: &[(char, u64, u64)]) -> Option<(u64, (u64, u64))> {
    let (mut total, mut calendar, mut next) = (0u64, (0, 0), 0usize);
    while !text.is_empty() {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let value: u64 = text.get(..digits).filter(|d| !d.is_empty())?.parse().ok()?;
        let unit = text[digits..].chars().next()?;
        let at = units.iter().skip(next).position(|(u, _, _)| *u == unit)? + next;
        let (_, seconds, months) = units[at];
        total = total.checked_add(value.checked_mul(seconds)?)?;
        if months > 0 {
            calendar = (total, calendar.1 + value * months);
        }
        next = at + 1;
        text = &text[digits + unit.len_utf8()..];
    }
    Some((total, calendar))
}

impl fmt::Display for IsoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for IsoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for IsoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not an ISO 8601 duration"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_parse_or_are_refused() {
        for (text, seconds) in
            [("PT20M", 1200), ("P1Y", 365 * 86_400), ("P1DT1H1M1S", 90_061), ("P2W", 1_209_600), ("PT0S", 0)]
        {
            assert_eq!(IsoDuration::parse(text).map(|d| d.approximate().as_secs()), Some(seconds), "{text}");
        }
        for bad in [
            "",
            "P",
            "PT",
            "20M",
            "PT1.5S",
            "-PT1S",
            "P1M1Y",
            "PT1M1H",
            "P1Y1Y",
            "PT",
            "P1",
            "PTM",
            "P99999999999999999999Y",
            "P9999999999999999Y",
            "PT1é",
        ] {
            assert_eq!(IsoDuration::parse(bad), None, "{bad}");
        }
        assert_eq!(IsoDuration::from_secs(1200).as_str(), "PT20M");
        assert_eq!(IsoDuration::from_secs(0).as_str(), "PT0S");
        assert!(IsoDuration::parse("P1M").is_some_and(|d| d.has_calendar_units()));
        assert!(IsoDuration::parse("P0M").is_some_and(|d| !d.has_calendar_units()));
        assert!(IsoDuration::parse("P1Y2D").is_some_and(|d| d.is_whole_days()));
        assert!(IsoDuration::parse("P1DT1H").is_some_and(|d| !d.is_whole_days()));
    }

    #[test]
    fn months_are_those_of_the_calendar() {
        use time::macros::datetime;
        for (at, text, want) in [
            (datetime!(2026-01-31 12:00 UTC), "P1M", Some(datetime!(2026-02-28 12:00 UTC))),
            (datetime!(2024-02-29 00:00 UTC), "P1Y", Some(datetime!(2025-02-28 00:00 UTC))),
            (datetime!(2026-11-30 23:59 UTC), "P2Y3M1D", Some(datetime!(2029-03-01 23:59 UTC))),
            (datetime!(2026-12-01 00:00 UTC), "P1M", Some(datetime!(2027-01-01 00:00 UTC))),
            (datetime!(2026-01-01 00:00 UTC), "P90DT1H", Some(datetime!(2026-04-01 01:00 UTC))),
            (datetime!(2026-01-01 00:00 UTC), "P9000Y", None),
            (datetime!(2026-01-01 00:00 UTC), "P100000Y", None),
        ] {
            assert_eq!(IsoDuration::parse(text).expect("a duration").after(at), want, "{text}");
        }
    }
}
