//! The figures as a page of HTML that needs no other file.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error};

use super::figures::Summary;
use crate::statistics::Estimate;

/// The ending makes minijinja escape all that is filled in.
const NAME: &str = "page.html";

/// The page; texts of rows stand in it as text, whatever they hold.
pub(super) fn html(summary: &Summary) -> Result<String, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.add_filter("share", share);
    environment.add_filter("percent", percent);
    environment.add_template(NAME, include_str!("page.html"))?;
    environment.get_template(NAME)?.render(Serde(summary))
}

/// A share in percent, with the ends of its interval.
fn share(Serde(Estimate { value, interval }): Serde<Estimate>) -> String {
    let ends = interval.map(|[low, high]| format!(" ({} to {})", percent(low), percent(high)));
    percent(value) + &ends.unwrap_or_default()
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::super::figures::{Sample, Split};
    use super::*;

    #[test]
    fn hostile_texts_stay_texts() {
        let hostile = "</pre><script>alert('&')</script>\"{{ 7 * 7 }}";
        let text = || Some(hostile.to_owned());
        let sample = Sample {
            split: hostile.to_owned(),
            pair_type: text(),
            test_id: text(),
            prompt: hostile.to_owned(),
            chosen: text(),
            rejected: text(),
        };
        let split = Split { split: hostile.to_owned(), rows: 1, ids: None };
        let page =
            html(&Summary { splits: vec![split], samples: vec![sample], ..Default::default() }).unwrap();
        assert!(!page.contains("<script") && !page.contains("49"), "{page}");
        let escaped = "&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;&#x2f;script&gt;&quot;{{ 7 * 7 }}";
        assert_eq!(page.matches(escaped).count(), 7, "{page}");
        assert!(!page.contains("://"), "the page needs no other file");
    }

    #[test]
    fn shares_have_their_intervals() {
        let shown = |estimate| share(Serde(estimate));
        assert_eq!(shown(Estimate::share(8, 10)), "80.0 % (49.0 % to 94.3 %)");
        assert_eq!(shown(Estimate { value: 0.5, interval: None }), "50.0 %");
    }
}
