//! The two text formats that a scrape may ask for.
//!
//! The crate writes OpenMetrics alone. The text format of Prometheus (version 0.0.4), which every scraper
//! understands, says the same with other descriptions: a counter is described by the name of its series, and
//! an info is a gauge.

use std::fmt::Write as _;

use axum::{
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use prometheus_client::{encoding::text, registry::Registry};

/// Everything that is registered, as OpenMetrics text.
pub(crate) fn encode(registry: &Registry) -> String {
    let mut written = String::new();
    // Writing to a String cannot fail; if it did, a scrape without the end mark is refused by Prometheus.
    if text::encode(&mut written, registry).is_err() {
        written.clear();
    }
    written
}

/// Format of a scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// The text format of Prometheus, version 0.0.4.
    Text,
}

/// One range of an Accept header field (RFC 9110 §12.5.1).
struct MediaRange {
    media_type: String,
    version: Option<String>,
    /// Weight in thousandths, 0 to 1000; 0: not acceptable.
    weight: u32,
}

impl Format {
    /// Chooses by the values of Accept: OpenMetrics where it is named and weighs at least as much. Where
    /// neither is acceptable, or nothing is asked for, it is the text format: a scraper that reads nothing
    /// else is worse off with a 406.
    pub fn negotiate<'a>(accept: impl IntoIterator<Item = &'a str>) -> Self {
        let ranges: Vec<MediaRange> = accept
            .into_iter()
            .flat_map(split_unquoted(','))
            .filter_map(|range| MediaRange::parse(&range))
            .collect();
        let (open_metrics, named) =
            weight(&ranges, "application/openmetrics-text", "application/*", &["1.0.0"]);
        let (text, _) = weight(&ranges, "text/plain", "text/*", &["0.0.4", "1.0.0"]);
        if named && open_metrics > 0 && open_metrics >= text { Self::OpenMetrics } else { Self::Text }
    }

    /// Chooses by the header fields of a request, see [`Format::negotiate`].
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self::negotiate(headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()))
    }

    /// A response in this format.
    pub(crate) fn response(self, open_metrics: String) -> Response {
        let described = [(header::CONTENT_TYPE, self.content_type()), (header::VARY, "Accept")];
        (described, self.convert(open_metrics)).into_response()
    }

    /// The content type of a response in this format.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Turns a whole OpenMetrics text into this format.
    pub fn convert(self, open_metrics: String) -> String {
        match self {
            Self::OpenMetrics => open_metrics,
            Self::Text => text_format(&open_metrics),
        }
    }
}

impl MediaRange {
    /// Reads one range; `None` where there is none. A weight that cannot be read counts as 1: the client
    /// named the format.
    fn parse(range: &str) -> Option<Self> {
        let mut parts = split_unquoted(';')(range).into_iter();
        let media_type = parts.next()?.trim().to_ascii_lowercase();
        let mut parsed = Self { media_type, version: None, weight: 1000 };
        for parameter in parts {
            let Some((name, value)) = parameter.split_once('=') else { continue };
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => parsed.weight = thousandths(value),
                "version" => parsed.version = Some(value.to_owned()),
                _ => {}
            }
        }
        (!parsed.media_type.is_empty()).then_some(parsed)
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Between 0 and 1000.
fn thousandths(weight: &str) -> u32 {
    match weight.parse::<f64>() {
        Ok(weight) if weight.is_finite() => (weight.clamp(0.0, 1.0) * 1000.0) as u32,
        _ => 1000,
    }
}

/// Returns the weight of a media type in one of these versions, and whether it was named itself: the most
/// precise range counts (RFC 9110 §12.5.1).
fn weight(ranges: &[MediaRange], media_type: &str, family: &str, versions: &[&str]) -> (u32, bool) {
    let named = ranges.iter().filter(|range| {
        range.media_type == media_type
            && range.version.as_ref().is_none_or(|version| versions.contains(&version.as_str()))
    });
    if let Some(weight) = named.map(|range| range.weight).max() {
        return (weight, true);
    }
    let of = |wanted: &str| {
        ranges.iter().filter(|range| range.media_type == wanted).map(|range| range.weight).max()
    };
    (of(family).or_else(|| of("*/*")).unwrap_or(0), false)
}

/// Splits at a separator that stands outside of quotes.
fn split_unquoted(separator: char) -> impl Fn(&str) -> Vec<String> {
    move |text| {
        let mut parts = vec![String::new()];
        let (mut quoted, mut escaped) = (false, false);
        for character in text.chars() {
            if character == separator && !quoted {
                parts.push(String::new());
                continue;
            }
            match character {
                '"' if !escaped => quoted = !quoted,
                _ => {}
            }
            escaped = quoted && character == '\\' && !escaped;
            if let Some(part) = parts.last_mut() {
                part.push(character);
            }
        }
        parts
    }
}

/// The text format of what OpenMetrics says.
fn text_format(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    // HELP comes before TYPE, and the name in it depends on the type.
    let mut help = None;
    for line in open_metrics.lines() {
        // Writing to a String cannot fail.
        let _ = match line.strip_prefix("# ").and_then(|rest| rest.split_once(' ')) {
            Some(("HELP", rest)) => {
                help = rest.split_once(' ').map(|(_, help)| help);
                Ok(())
            }
            Some(("TYPE", rest)) => {
                let (name, kind) = rest.split_once(' ').unwrap_or((rest, "unknown"));
                let (suffix, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "untyped"),
                    kind => ("", kind),
                };
                let help = help.take().unwrap_or_default();
                writeln!(text, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}")
            }
            // UNIT and EOF, which the format does not have.
            _ if line.starts_with('#') => Ok(()),
            _ => writeln!(text, "{}", without_exemplar(line)),
        };
    }
    text
}

/// A sample without the exemplar that OpenMetrics may have behind it. A label value may contain anything.
fn without_exemplar(line: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    for (at, character) in line.char_indices() {
        match character {
            '"' if !escaped => quoted = !quoted,
            '#' if !quoted => return line[..at].trim_end(),
            _ => {}
        }
        escaped = quoted && character == '\\' && !escaped;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_the_one_that_weighs_more() {
        use Format::{OpenMetrics, Text};
        // Of Prometheus 2.42 and 3.
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                            text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                            application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;\
                            escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        for (accept, expected) in [
            (&[][..], Text),
            (&[""], Text),
            (&["*/*"], Text),
            (&["application/*"], Text),
            (&["text/html, */*;q=0.8"], Text),
            (&["application/json"], Text),
            (&["text/plain"], Text),
            (&["application/openmetrics-text"], OpenMetrics),
            (&["application/openmetrics-text; version=1.0.0"], OpenMetrics),
            (&["Application/OpenMetrics-Text; Version=\"1.0.0\"; charset=utf-8"], OpenMetrics),
            (&["application/openmetrics-text;version=2.0.0"], Text),
            (&["application/openmetrics-text;q=0"], Text),
            (&["application/openmetrics-text;q=0.000, */*"], Text),
            (&["application/openmetrics-text;q=0.2, text/plain;q=0.9"], Text),
            (&["application/openmetrics-text;q=0.9, text/plain;q=0.2"], OpenMetrics),
            (&["application/openmetrics-text;q=0.3, text/*;q=0.9"], Text),
            (&["application/openmetrics-text;q=0.3, text/plain;q=0.1, */*;q=0.9"], OpenMetrics),
            (&["text/plain, application/openmetrics-text"], OpenMetrics),
            (&["text/plain;q=0.5", "application/openmetrics-text"], OpenMetrics),
            (&["application/openmetrics-text;q=much"], OpenMetrics),
            (&[",,;;, ;q=1"], Text),
            (&["text/plain;note=\"application/openmetrics-text, more\""], Text),
            (&[prometheus_2], OpenMetrics),
            (&[prometheus_3], OpenMetrics),
        ] {
            assert_eq!(Format::negotiate(accept.iter().copied()), expected, "{accept:?}");
        }
    }

    #[test]
    fn the_text_format_says_the_same_with_its_own_descriptions() {
        let open_metrics = concat!(
            "# HELP a_seconds Some time.\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n",
            "a_seconds_sum{x=\"#\\\"# {\"} 1.5\n",
            "a_seconds_bucket{le=\"+Inf\",x=\"y\"} 2 # {trace_id=\"0af7\"} 0.5 1520879607.789\n",
            "# HELP b Things.\n# TYPE b counter\nb_total 3\n",
            "# HELP c Version.\n# TYPE c info\nc_info{version=\"1\"} 1\n",
            "# HELP d None.\n# TYPE d unknown\nd 4\n",
            "# HELP e Level.\n# TYPE e gauge\ne{x=\"\\\\\"} 5.0 # {trace_id=\"1\"} 1.0\n# EOF\n",
        );
        let text = concat!(
            "# HELP a_seconds Some time.\n# TYPE a_seconds histogram\n",
            "a_seconds_sum{x=\"#\\\"# {\"} 1.5\na_seconds_bucket{le=\"+Inf\",x=\"y\"} 2\n",
            "# HELP b_total Things.\n# TYPE b_total counter\nb_total 3\n",
            "# HELP c_info Version.\n# TYPE c_info gauge\nc_info{version=\"1\"} 1\n",
            "# HELP d None.\n# TYPE d untyped\nd 4\n",
            "# HELP e Level.\n# TYPE e gauge\ne{x=\"\\\\\"} 5.0\n",
        );
        assert_eq!(Format::Text.convert(open_metrics.to_owned()), text);
        assert_eq!(Format::OpenMetrics.convert(open_metrics.to_owned()), open_metrics);
    }
}
