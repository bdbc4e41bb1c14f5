//! Moments as people write them: a time in UTC, a while ago, or the beginning of a commit's name.

use atlas_sid::history::query::When;
use jiff::{Span, SpanRelativeTo, Timestamp, civil, tz::TimeZone};

/// Reads a moment.
pub(super) fn parse(text: &str) -> Result<When, String> {
    parse_at(text, Timestamp::now())
}

fn parse_at(text: &str, now: Timestamp) -> Result<When, String> {
    let is_name =
        |text: &str| (4..=64).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    // A year alone could be either; a time has more to it.
    if is_name(text) {
        return Ok(When::Commit(text.to_owned()));
    }
    let seconds = |time: Timestamp| u64::try_from(time.as_second()).map(When::Time).map_err(|_| before_1970());
    if let Ok(time) = text.parse::<Timestamp>() {
        return seconds(time);
    }
    let civil =
        text.parse::<civil::DateTime>().or_else(|_| text.parse::<civil::Date>().map(|date| date.at(0, 0, 0, 0)));
    if let Ok(time) = civil.and_then(|time| TimeZone::UTC.to_timestamp(time)) {
        return seconds(time);
    }
    let back = text.strip_suffix("ago").map(str::trim_end).and_then(|span| span.parse::<Span>().ok());
    let back = back.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    if let Some(time) = back.and_then(|back| now.checked_sub(back.abs()).ok()) {
        return seconds(time);
    }
    Err("neither a time in UTC ('2026-03-01 12:00'), nor a while ago ('2 days ago'), nor the beginning of a change's name (4 digits or more)".into())
}

fn before_1970() -> String {
    "no history goes back so far".into()
}

/// A time as people read it.
pub(super) fn shown(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| seconds.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_in_every_form_that_the_help_shows() {
        let now: Timestamp = "2026-03-03T12:00:00Z".parse().unwrap();
        let noon = When::Time(1_772_366_400);
        for text in
            ["2026-03-01 12:00", "2026-03-01T12:00:00Z", "2026-03-01T13:00:00+01:00", "2 days ago", "48h ago", "2d ago"]
        {
            assert_eq!(parse_at(text, now).as_ref(), Ok(&noon), "{text}");
        }
        assert_eq!(parse_at("2026-03-01", now), Ok(When::Time(1_772_323_200)));
        assert_eq!(parse_at("3f2a", now), Ok(When::Commit("3f2a".into())));
        for bad in ["", "now-ish", "3f2", "ago", "2026-13-01", "1950-01-01"] {
            assert!(parse_at(bad, now).is_err(), "{bad}");
        }
        assert_eq!(shown(1_772_366_400), "2026-03-01T12:00:00Z");
    }
}
