//! How long to wait before a request is sent again.

use std::time::{Duration, SystemTime};

use chrono::DateTime;
use ureq::http::HeaderMap;

/// The longest wait, whoever asks for it.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The wait before the retry number `attempt` (from 0): `first`, doubled each time up to `longest`, of which
/// a random share between a half and all is taken, so that calls which failed together do not come back
/// together.
pub fn backoff(first: Duration, longest: Duration, attempt: u32, draw: f64) -> Duration {
    first
        .saturating_mul(2_u32.saturating_pow(attempt))
        .min(longest)
        .min(LONGEST_WAIT)
        .mul_f64(0.5 + 0.5 * draw)
}

/// The wait that a server asks for: `retry-after-ms`, or `Retry-After` in seconds or as a date.
///
/// Source: RFC 9110, section 10.2.3; the header in milliseconds is OpenAI's.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let number = |text: &str| text.parse::<f64>().ok().filter(|number| *number >= 0.0);
    let milliseconds = value("retry-after-ms").and_then(number).map(|wait| wait / 1000.0);
    let seconds = milliseconds.or_else(|| value("retry-after").and_then(number));
    if let Some(seconds) = seconds {
        return Some(Duration::from_secs_f64(seconds.min(LONGEST_WAIT.as_secs_f64())));
    }
    let date: SystemTime = DateTime::parse_from_rfc2822(value("retry-after")?).ok()?.into();
    Some(date.duration_since(now).unwrap_or_default().min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &'static str, value: &str) -> Option<Duration> {
        let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
        // Sunday, 6 November 1994, 08:49:37: the date of the examples in RFC 9110.
        retry_after(&headers, SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777))
    }

    #[test]
    fn the_wish_of_a_server_is_read_in_every_form() {
        assert_eq!(asked("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(asked("retry-after", "0.25"), Some(Duration::from_millis(250)));
        assert_eq!(asked("retry-after-ms", "40"), Some(Duration::from_millis(40)));
        assert_eq!(asked("retry-after", "Sun, 06 Nov 1994 08:49:42 GMT"), Some(Duration::from_secs(5)));
        assert_eq!(asked("retry-after", "Sun, 06 Nov 1994 08:49:00 GMT"), Some(Duration::ZERO));
        for absurd in ["1e300", "inf", "Sat, 06 Nov 2094 08:49:37 GMT"] {
            assert_eq!(asked("retry-after", absurd), Some(LONGEST_WAIT), "{absurd}");
        }
        for nonsense in ["soon", "-1", "NaN", ""] {
            assert_eq!(asked("retry-after", nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let wait = |attempt, draw| backoff(Duration::from_millis(100), Duration::from_secs(1), attempt, draw);
        assert_eq!(
            [0, 1, 2, 9, 99].map(|attempt| wait(attempt, 1.0).as_millis()),
            [100, 200, 400, 1000, 1000]
        );
        assert_eq!(wait(1, 0.0), Duration::from_millis(100));
    }
}
