//! Stop strings: where a growing text is to be cut, and how much of it is sure to stay until then.

/// Looks out for stop strings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stops<'a>(pub &'a [String]);

impl Stops<'_> {
    /// Where the text is to be cut, if a stop string ends behind the first `known` bytes: before the one that is
    /// the first to be complete, of several the longest. So the cut depends on the text alone, not on its pieces.
    pub fn cut(self, text: &str, known: usize) -> Option<usize> {
        let place = |stop: &String| {
            let from = known.saturating_sub(stop.len().saturating_sub(1));
            let from = (0..=from).rev().find(|&byte| text.is_char_boundary(byte)).unwrap_or(0);
            text[from..].find(stop.as_str()).map(|at| (from + at + stop.len(), from + at))
        };
        self.0.iter().filter_map(place).min().map(|(_, start)| start)
    }

    /// Bytes of the text that are no beginning of a stop string.
    pub fn sure(self, text: &str) -> usize {
        let longest = self.0.iter().map(String::len).max().unwrap_or(0);
        let from = text.len().saturating_sub(longest.saturating_sub(1));
        let begins = |&start: &usize| {
            text.is_char_boundary(start) && self.0.iter().any(|stop| stop.starts_with(&text[start..]))
        };
        (from..text.len()).find(begins).unwrap_or(text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stops(stops: &[&str]) -> Vec<String> {
        stops.iter().map(|&stop| stop.to_owned()).collect()
    }

    #[test]
    fn a_stop_string_is_found_over_pieces_and_within_them() {
        let stops = stops(&["###", "\nUser:"]);
        let stops = Stops(&stops);
        assert_eq!(stops.cut("yes ## no", 0), None);
        assert_eq!(stops.cut("yes ###", 6), Some(4));
        assert_eq!(stops.cut("yes ### and more", 2), Some(4));
        assert_eq!(stops.cut("é\nUser: é", 0), Some(2));
    }

    #[test]
    fn the_first_to_be_complete_counts_whatever_the_pieces() {
        let stops = stops(&["abcd", "c", "bc"]);
        assert_eq!(Stops(&stops).cut("xabcd", 0), Some(2));
        assert_eq!(Stops(&stops).cut("xabc", 3), Some(2));
    }

    #[test]
    fn what_may_become_a_stop_string_is_not_sure() {
        let stops = stops(&["###", "né"]);
        let sure = |text: &str| Stops(&stops).sure(text);
        assert_eq!(sure("yes #"), 4);
        assert_eq!(sure("yes ##"), 4);
        assert_eq!(sure("yes # "), 6);
        assert_eq!(sure("n"), 0);
        assert_eq!(sure("née"), 4);
        assert_eq!(Stops(&[]).sure("né"), 3);
    }
}
