//! The dates of a signature: `20250115T120000Z` and back, without asking a clock.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::rfc2822::DateTimeParser;
use jiff::tz::Offset;

/// A request's date in the basic form of ISO 8601, with its value in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AmzDate {
    text: String,
    unix_seconds: i64,
}

impl AmzDate {
    /// Reads `20250115T120000Z`, and nothing else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes: &[u8; 16] = text.as_bytes().try_into().ok()?;
        if bytes[8] != b'T' || bytes[15] != b'Z' {
            return None;
        }
        let number = |from: usize, to: usize| {
            bytes[from..to]
                .iter()
                .try_fold(0_i16, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i16::from(byte - b'0')))
        };
        let small = |from: usize| number(from, from + 2).and_then(|value| i8::try_from(value).ok());
        let civil =
            DateTime::new(number(0, 4)?, small(4)?, small(6)?, small(9)?, small(11)?, small(13)?, 0).ok()?;
        let timestamp = Offset::UTC.to_timestamp(civil).ok()?;
        Some(Self { text: text.to_owned(), unix_seconds: timestamp.as_second() })
    }

    /// Reads the value of a `Date` header: `Wed, 15 Jan 2025 12:00:00 GMT`, or the form of [`AmzDate::parse`].
    pub(crate) fn parse_http(text: &str) -> Option<Self> {
        Self::parse(text).or_else(|| {
            let timestamp = DateTimeParser::new().parse_timestamp(text).ok()?;
            Some(Self::from_unix_seconds(timestamp.as_second()))
        })
    }

    /// The date of a moment; one beyond the years -9999 to 9999 becomes 1970.
    pub(crate) fn from_unix_seconds(unix_seconds: i64) -> Self {
        let timestamp = Timestamp::from_second(unix_seconds).unwrap_or(Timestamp::UNIX_EPOCH);
        let text = timestamp.strftime("%Y%m%dT%H%M%SZ").to_string();
        Self { text, unix_seconds: timestamp.as_second() }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The day, as in a credential scope: `20250115`.
    pub(crate) fn day(&self) -> &str {
        self.text.split_once('T').map_or("", |(day, _)| day)
    }

    pub(crate) fn unix_seconds(&self) -> i64 {
        self.unix_seconds
    }
}

/// Whole seconds since 1970, rounded down; the nearest that fits for moments no calendar knows.
pub(crate) fn to_unix_seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => {
            let before = before.duration();
            let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            -seconds - i64::from(before.subsec_nanos() > 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_are_read_and_written() {
        let date = AmzDate::parse("20250115T120000Z").unwrap();
        assert_eq!(
            (date.unix_seconds(), date.day(), date.as_str()),
            (1_736_942_400, "20250115", "20250115T120000Z")
        );
        assert_eq!(AmzDate::from_unix_seconds(1_736_942_400), date);
        assert_eq!(AmzDate::parse_http("Wed, 15 Jan 2025 12:00:00 GMT"), Some(date.clone()));
        assert_eq!(AmzDate::parse_http("20250115T120000Z"), Some(date));
    }

    #[test]
    fn other_texts_are_not_dates() {
        for text in [
            "",
            "20250115",
            "2025-01-15T12:00:00Z",
            "20250115T120000",
            "20250115t120000z",
            "20250115T120000+",
            "20251315T120000Z",
            "20250230T120000Z",
            "20250115T240000Z",
            "20250115T126000Z",
            "+0250115T120000Z",
            "2025011 T120000Z",
            "2025011äT12000Z",
        ] {
            assert_eq!(AmzDate::parse(text), None, "{text}");
        }
    }

    #[test]
    fn moments_before_1970_round_down() {
        assert_eq!(to_unix_seconds(UNIX_EPOCH - Duration::from_millis(1_500)), -2);
        assert_eq!(to_unix_seconds(UNIX_EPOCH + Duration::from_millis(1_500)), 1);
    }

    proptest! {
        #[test]
        fn any_second_survives_a_round_trip(unix_seconds in -62_135_596_800_i64..253_402_207_200) {
            let date = AmzDate::from_unix_seconds(unix_seconds);
            prop_assert_eq!(AmzDate::parse(date.as_str()), Some(date));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = AmzDate::parse_http(&text);
        }

        #[test]
        fn no_number_panics(unix_seconds: i64) {
            let _ = AmzDate::from_unix_seconds(unix_seconds);
        }
    }
}
