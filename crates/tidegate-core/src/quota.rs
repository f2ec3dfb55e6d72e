//! Usage plans of API keys: how many handshakes a key may make in a day, week or month. Periods begin at midnight, UTC.
//!
//! Source: *UsagePlan* and *QuotaSettings* in the API Gateway reference of CloudFormation.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// A day, in milliseconds.
const DAY: u64 = 24 * 3600 * 1000;

/// 1970-01-01 was a Thursday, four days after a Sunday.
const FIRST_WEEKDAY: u64 = 4;

/// How many requests in which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Requests of one period.
    pub limit: u64,
    /// How long that is.
    pub period: Period,
    /// The day on which a period begins: of a week 0 (Sunday) to 6, of a month 0 (the first) to 27, of a day 0.
    #[serde(default)]
    pub offset: u64,
}

/// How long a quota lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Period {
    /// From midnight to midnight.
    Day,
    /// Seven days.
    Week,
    /// A month of the calendar.
    Month,
}

impl Period {
    /// The largest offset that a quota of this period may have.
    pub const fn max_offset(self) -> u64 {
        match self {
            Self::Day => 0,
            Self::Week => 6,
            Self::Month => 27,
        }
    }
}

impl Quota {
    /// When the period of `now` began; both in milliseconds since 1970.
    pub fn period_start(&self, now: u64) -> u64 {
        let day = now / DAY;
        match self.period {
            Period::Day => day * DAY,
            Period::Week => {
                let since = (day + FIRST_WEEKDAY + 7 - self.offset.min(6)) % 7;
                day.saturating_sub(since) * DAY
            }
            Period::Month => self.month_start(now).unwrap_or(day * DAY),
        }
    }

    fn month_start(&self, now: u64) -> Option<u64> {
        let time = Timestamp::from_millisecond(i64::try_from(now).ok()?).ok()?.to_zoned(TimeZone::UTC);
        let day_of_month = i8::try_from(self.offset.min(27) + 1).ok()?;
        let (mut year, mut month) = (time.year(), time.month());
        if time.day() < day_of_month {
            (year, month) = if month == 1 { (year - 1, 12) } else { (year, month - 1) };
        }
        let start =
            DateTime::new(year, month, day_of_month, 0, 0, 0, 0).ok()?.to_zoned(TimeZone::UTC).ok()?;
        u64::try_from(start.timestamp().as_millisecond()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(period: Period, offset: u64, now: &str, expected: &str) {
        let millis = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond() as u64;
        let quota = Quota { limit: 1, period, offset };
        assert_eq!(quota.period_start(millis(now)), millis(expected), "{period:?} {offset} {now}");
    }

    #[test]
    fn periods_begin_on_their_day() {
        check(Period::Day, 0, "2025-01-15T23:59:59.999Z", "2025-01-15T00:00:00Z");
        check(Period::Day, 0, "2025-01-16T00:00:00Z", "2025-01-16T00:00:00Z");
        // 2025-01-15 was a Wednesday.
        check(Period::Week, 0, "2025-01-15T12:00:00Z", "2025-01-12T00:00:00Z");
        check(Period::Week, 3, "2025-01-15T00:00:00Z", "2025-01-15T00:00:00Z");
        check(Period::Week, 4, "2025-01-15T12:00:00Z", "2025-01-09T00:00:00Z");
        check(Period::Month, 0, "2025-01-31T12:00:00Z", "2025-01-01T00:00:00Z");
        check(Period::Month, 14, "2025-01-15T00:00:00Z", "2025-01-15T00:00:00Z");
        check(Period::Month, 14, "2025-01-14T23:00:00Z", "2024-12-15T00:00:00Z");
        check(Period::Month, 27, "2025-03-01T00:00:00Z", "2025-02-28T00:00:00Z");
    }
}
