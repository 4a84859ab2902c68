//! Which step comes after which: a step after those in whose folders its inputs lie.

use crate::run::Step;

/// The steps in the order of their dependencies; of those that could be next, the one that was started first.
///
/// Steps that wait for each other, which only a mended manifest can say, keep the order of their starts.
pub(crate) fn in_order(mut waiting: Vec<Step>, run: &str) -> Vec<Step> {
    waiting.sort_by(|a, b| (&a.manifest.started, &a.name).cmp(&(&b.manifest.started, &b.name)));
    let mut ordered = Vec::new();
    while !waiting.is_empty() {
        let free = |step: &Step| {
            let others = || waiting.iter().filter(|other| other.name != step.name);
            !step.manifest.inputs.iter().any(|input| others().any(|other| holds(other, &input.path, run)))
        };
        let next = waiting.iter().position(free).unwrap_or(0);
        ordered.push(waiting.remove(next));
    }
    ordered
}

/// The step in whose folder a path lies, if it lies in one.
pub(crate) fn source<'a>(steps: &'a [Step], path: &str, run: &str) -> Option<(usize, &'a Step)> {
    let holding = steps.iter().enumerate().filter(|(_, step)| holds(step, path, run));
    // `judge/prompts` rather than `judge`, where both are steps.
    holding.max_by_key(|(_, step)| step.name.len())
}

/// Whether a path, as it was typed, lies in a step's folder: it passes through `RUN/STEP`, or it was typed
/// within the run and begins with `STEP`, or begins as the step's folder was typed. The disk is not asked, for runs are copied to where people look at
/// them.
fn holds(step: &Step, path: &str, run: &str) -> bool {
    let parts = |text: &str| -> Vec<String> {
        text.split(['/', '\\']).filter(|part| !matches!(*part, "" | ".")).map(str::to_owned).collect()
    };
    let (path, folder) = (parts(path), parts(&step.name));
    if folder.is_empty() {
        return false;
    }
    let whole = [vec![run.to_owned()], folder.clone()].concat();
    path.windows(whole.len()).any(|window| window == whole)
        || path.starts_with(&folder)
        || path.starts_with(&parts(&step.folder.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use collimate_run::Manifest;
    use serde_json::json;

    use super::*;

    fn step(name: &str, started: &str, inputs: &[&str]) -> Step {
        let inputs: Vec<_> =
            inputs.iter().map(|path| json!({ "path": path, "blake3": "", "bytes": 0 })).collect();
        let manifest = json!({
            "stage": name, "key": "", "build": "", "settings": {}, "inputs": inputs, "started": started,
        });
        let manifest: Manifest = serde_json::from_value(manifest).unwrap();
        Step { folder: PathBuf::from(name), name: name.to_owned(), manifest, done: true }
    }

    fn names(steps: Vec<Step>) -> Vec<String> {
        in_order(steps, "run").into_iter().map(|step| step.name).collect()
    }

    #[test]
    fn a_step_comes_after_what_it_reads_and_else_by_its_start() {
        let steps = vec![
            step("train", "1", &["/a/run/sft/train.jsonl", "model"]),
            step("other", "3", &["model"]),
            step("sft", "5", &["run/data/clean/x.json"]),
            step("data/clean", "4", &["/raw/x.json"]),
        ];
        assert_eq!(names(steps), ["other", "data/clean", "sft", "train"]);
    }

    #[test]
    fn a_circle_keeps_the_order_of_the_starts() {
        let steps = vec![step("b", "2", &["run/a/x"]), step("a", "1", &["run/b/x"]), step("c", "3", &[])];
        assert_eq!(names(steps), ["c", "a", "b"]);
    }

    #[test]
    fn an_input_belongs_to_the_innermost_step() {
        let steps = [step("judge", "1", &[]), step("judge/prompts", "2", &[]), step("", "3", &[])];
        let found = |path| source(&steps, path, "run").map(|(index, _)| index);
        assert_eq!(found("/x/run/judge/prompts/prompts.jsonl"), Some(1));
        assert_eq!(found("judge/prompts"), Some(1));
        assert_eq!(found("./run/judge/x"), Some(0));
        assert_eq!(found("/elsewhere/judge/x"), None);
    }
}
