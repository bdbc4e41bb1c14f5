//! Times by the calendar: as names of files, as stamps of lines, and for people. In UTC: the same on every server, and no hour twice a year.

use std::time::{Duration, SystemTime};

/// A moment, by the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    year: i64,
    month: i64,
    day: i64,
    hour: u64,
    minute: u64,
    second: u64,
    millisecond: u32,
}

impl Moment {
    /// As a clock of the system says it; what lies before 1970 is its beginning.
    pub fn of(time: SystemTime) -> Moment {
        Moment::after(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO))
    }

    /// So long after 1970 has begun.
    pub fn after(since: Duration) -> Moment {
        let (days, rest) = (i64::try_from(since.as_secs() / 86400).unwrap_or(0), since.as_secs() % 86400);
        // Days in eras of 400 years that begin on the first of March.
        let shifted = days + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let index = (5 * of_year + 2) / 153;
        let month = if index < 10 { index + 3 } else { index - 9 };
        Moment {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day: of_year - (153 * index + 2) / 5 + 1,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
            millisecond: since.subsec_millis(),
        }
    }

    /// `y04m06d03`
    pub fn day_name(&self) -> String {
        format!("y{:02}m{:02}d{:02}", self.year.rem_euclid(100), self.month, self.day)
    }

    /// `y04m06d03.h03m23s15`
    pub fn second_name(&self) -> String {
        format!("{}.h{:02}m{:02}s{:02}", self.day_name(), self.hour, self.minute, self.second)
    }

    /// `2004-06-03 03:23:15.042 `
    pub fn stamp(&self) -> String {
        let Moment { year, month, day, hour, minute, second, millisecond } = self;
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{millisecond:03} ")
    }
}

/// Seconds since 1970 as `2026-11-20 22:50:00`.
pub fn utc(seconds: u64) -> String {
    let Moment { year, month, day, hour, minute, second, .. } = Moment::after(Duration::from_secs(seconds));
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_description() {
        let moment = Moment::of(SystemTime::UNIX_EPOCH + Duration::from_millis(1_086_232_995_042));
        assert_eq!(moment.second_name(), "y04m06d03.h03m23s15");
        assert_eq!(moment.day_name(), "y04m06d03");
        assert_eq!(moment.stamp(), "2004-06-03 03:23:15.042 ");
    }

    #[test]
    fn a_time_is_shown_in_the_civil_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00");
        assert_eq!(utc(951_782_399), "2000-02-28 23:59:59");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(utc(1_795_128_600), "2026-11-19 22:50:00");
    }
}
