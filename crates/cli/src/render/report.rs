//! Where a report stands.

use collimate_report::Summary;

use super::count;

/// What the page shows, and where it is.
pub fn report(summary: &Summary) -> String {
    let Summary { report, stages, unfinished, unreadable } = summary;
    let some = |number: &usize, words: &str| match number {
        0 => String::new(),
        number => format!(", {} {words}", count(*number as u64)),
    };
    let stages = format!("{} {}", count(*stages as u64), if *stages == 1 { "stage" } else { "stages" });
    let others = some(unfinished, "of them unfinished") + &some(unreadable, "folders that cannot be read");
    format!("A report of {stages}{others}, to be opened in a browser, stands in {}", report.display())
}
