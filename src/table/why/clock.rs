//! Clock times: local and UTC, side by side.

use jiff::{Timestamp, Zoned, tz::TimeZone};

/// Clock that times are shown by.
#[derive(Clone, Debug)]
pub struct Clock {
    /// `None` for UTC alone.
    local: Option<TimeZone>,
    /// True where columns have the date, too.
    dates: bool,
}

impl Clock {
    /// UTC alone.
    pub fn utc() -> Self {
        Self { local: None, dates: true }
    }

    /// The time zone of this machine (`TZ`, else its own) beside UTC; UTC alone where it is that, or unknown.
    pub fn local() -> Self {
        Self::of(TimeZone::system())
    }

    fn of(zone: TimeZone) -> Self {
        let is_utc =
            zone.is_unknown() || matches!(zone.iana_name(), Some("UTC" | "Etc/UTC" | "Zulu" | "UCT"));
        Self { local: Some(zone).filter(|zone| !is_utc && *zone != TimeZone::UTC), dates: true }
    }

    /// This zone beside UTC.
    #[cfg(test)]
    pub(super) fn in_zone(zone: TimeZone) -> Self {
        Self::of(zone)
    }

    /// The same clock, whose columns show dates only where one of these times is of another day than now.
    pub(super) fn with_dates_for(&self, times: impl Iterator<Item = u64>, now_ms: u64) -> Self {
        let days = |ms| (day(&self.shown(ms)), day(&at(ms, TimeZone::UTC)));
        let today = days(now_ms);
        let mut times = times;
        Self { dates: times.any(|ms| days(ms) != today), ..self.clone() }
    }

    /// A moment within a sentence, with its date unless it is today: `23:01:14 (22:01:14 UTC)`.
    pub(super) fn moment(&self, ms: u64, now_ms: u64) -> String {
        let (shown, now) = (self.shown(ms), self.shown(now_ms));
        let form = if day(&shown) == day(&now) { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
        let text = shown.strftime(form).to_string();
        if self.local.is_none() {
            return format!("{text} UTC");
        }
        let utc = at(ms, TimeZone::UTC);
        let form = if day(&utc) == day(&shown) { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
        format!("{text} ({} UTC)", utc.strftime(form))
    }

    /// A moment within a cell: as the first of the columns has it.
    pub(super) fn brief(&self, ms: u64) -> String {
        self.shown(ms).strftime(self.form()).to_string()
    }

    /// Heads of the columns: `TIME (CET)` and `UTC`, or the latter alone.
    pub(super) fn headers(&self, now_ms: u64) -> Vec<String> {
        match &self.local {
            Some(_) => vec![format!("TIME ({})", self.shown(now_ms).strftime("%Z")), "UTC".to_owned()],
            None => vec!["TIME (UTC)".to_owned()],
        }
    }

    /// A moment as the columns under [`Clock::headers`] have it.
    pub(super) fn columns(&self, ms: u64) -> Vec<String> {
        let utc = at(ms, TimeZone::UTC).strftime(self.form()).to_string();
        if self.local.is_some() { vec![self.brief(ms), utc] } else { vec![utc] }
    }

    fn form(&self) -> &'static str {
        if self.dates { "%Y-%m-%d %H:%M:%S" } else { "%H:%M:%S" }
    }

    fn shown(&self, ms: u64) -> Zoned {
        at(ms, self.local.clone().unwrap_or(TimeZone::UTC))
    }
}

/// A time in milliseconds since the Unix epoch; what no calendar has is its last moment.
fn at(ms: u64, zone: TimeZone) -> Zoned {
    let time = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.unwrap_or(Timestamp::MAX).to_zoned(zone)
}

fn day(time: &Zoned) -> jiff::civil::Date {
    time.date()
}
