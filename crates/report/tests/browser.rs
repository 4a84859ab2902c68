//! The page in a browser: no scrolling sideways on a phone, nothing loaded, nothing to complain of.
//!
//! Skipped, with a word, where no Chromium is installed.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::{file, run};
use serde_json::{Value, json};

const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// Narrow phone, and a desk.
const WIDTHS: [u32; 2] = [360, 1280];

/// Has the browser show a page and print what became of its document.
fn browse(browser: &str, folder: &Path, page: &Path) -> Option<Output> {
    let mut profile = std::ffi::OsString::from("--user-data-dir=");
    profile.push(folder.join("profile"));
    Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"])
        .args(["--enable-logging=stderr", "--disable-background-networking", "--virtual-time-budget=5000"])
        .arg(profile)
        .arg(page)
        .output()
        .ok()
}

/// A page that holds another one in frames of several widths, with all that is folded unfolded, and says in
/// its title what it found: the outer page may run scripts, the inner one's own policy forbids them.
fn checking(page: &str) -> String {
    let frames = WIDTHS.map(|width| format!("<iframe width={width} height=800></iframe>")).concat();
    // As a JavaScript string in a script element.
    let inner = json!(page).to_string().replace("</", "<\\/").replace("<!--", "<\\!--");
    format!(
        "<!doctype html><title></title>{frames}<script>
        const frames = [...document.querySelectorAll('iframe')];
        const look = frame => {{
            const page = frame.contentDocument;
            page.querySelectorAll('details').forEach(fold => fold.open = true);
            return {{
                width: frame.contentWindow.innerWidth,
                scroll: page.documentElement.scrollWidth,
                loaded: frame.contentWindow.performance.getEntriesByType('resource').length,
                results: [...page.querySelectorAll('.scroll:has(.results)')]
                    .map(table => table.scrollWidth - table.clientWidth),
                drawn: Math.round(page.querySelector('svg').getBoundingClientRect().width),
                heading: page.querySelector('h1').textContent,
            }};
        }};
        let waiting = frames.length;
        frames.forEach(frame => {{
            frame.onload = () => {{
                if (--waiting === 0) document.title = JSON.stringify(frames.map(look));
            }};
            frame.srcdoc = {inner};
        }});
        </script>"
    )
}

#[test]
fn a_phone_shows_all_of_it_and_nothing_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("run");
    run(&root);
    let report = root.join("report.html");
    collimate_report::write(&root, &report).unwrap();
    file(folder.path(), "check.html", &checking(&fs::read_to_string(report).unwrap()));
    let check = folder.path().join("check.html");
    let Some(output) = BROWSERS.iter().find_map(|browser| browse(browser, folder.path(), &check)) else {
        println!("skipped: no Chromium is installed");
        return;
    };
    let (dom, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let title = dom.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>")).unwrap().0;
    let found: Value = serde_json::from_str(title).unwrap_or_else(|_| panic!("{title:?}\n{log}"));
    for (frame, width) in found.as_array().unwrap().iter().zip(WIDTHS) {
        assert_eq!(
            (&frame["width"], &frame["loaded"], &frame["heading"]),
            (&json!(width), &json!(0), &json!("run"))
        );
        assert!(frame["scroll"].as_u64().unwrap() <= u64::from(width), "{frame}");
        assert_eq!(frame["results"], json!([0, 0]), "{frame}");
        assert!(frame["drawn"].as_u64().unwrap() > 250, "{frame}");
    }
    assert_eq!(found.as_array().unwrap().len(), WIDTHS.len());
    let complaints: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}
