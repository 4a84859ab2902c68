//! What the report knows of each stage beyond what every manifest says.

/// A stage as people call it, and what is worth showing of it.
#[derive(Debug)]
pub(crate) struct Known {
    /// The stage's name in manifests.
    pub stage: &'static str,
    /// What it does, as a heading.
    pub title: &'static str,
    /// What came of it, in a few phrases: a JSON pointer into the summary, and words with `{}` for the value.
    pub headline: &'static [(&'static str, &'static str)],
    /// Entries of the summary that figures or texts show better than a table.
    pub drawn: &'static [&'static str],
    /// The rows that it wrote.
    pub rows: Option<Rows>,
}

/// A file of rows and which of its columns are for reading.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    /// The file, or the `save_to_disk` folder, within the stage's.
    pub file: &'static str,
    /// Columns to read, in this order; none where the rows are read elsewhere on the page.
    pub texts: &'static [&'static str],
    /// Columns whose lengths are counted.
    pub measured: &'static [&'static str],
}

/// What is known of a stage; nothing of one that the report has never heard of.
pub(crate) fn known(stage: &str) -> Option<&'static Known> {
    STAGES.iter().find(|known| known.stage == stage)
}

const TRAINED: &[(&str, &str)] =
    &[("/steps", "{} steps"), ("/examples", "{} examples"), ("/train_loss", "mean loss {}")];

/// Of training on what the model writes itself.
const WRITTEN: &[(&str, &str)] =
    &[("/steps", "{} steps"), ("/reward_before", "reward {} at first"), ("/reward_after", "{} at the end")];

const fn on_policy(stage: &'static str, title: &'static str) -> Known {
    Known { stage, title, headline: WRITTEN, drawn: &[], rows: None }
}

const fn training(stage: &'static str, title: &'static str) -> Known {
    Known { stage, title, headline: TRAINED, drawn: &[], rows: None }
}

const fn rows(
    file: &'static str,
    texts: &'static [&'static str],
    measured: &'static [&'static str],
) -> Option<Rows> {
    Some(Rows { file, texts, measured })
}

const STAGES: &[Known] = &[
    Known {
        stage: "data_clean",
        title: "Cleaning the data",
        headline: &[("/read", "{} rows read"), ("/kept", "{} kept")],
        drawn: &[],
        rows: rows("cleaned_data.json", &["instruction", "input", "output"], &["output"]),
    },
    Known {
        stage: "data_sft",
        title: "Rows for training and validation",
        headline: &[("/train", "{} rows to train on"), ("/validation", "{} to measure on")],
        drawn: &[],
        rows: rows("sft_train.jsonl", &["prompt", "response"], &["response"]),
    },
    Known {
        stage: "data_rejected",
        title: "Pairs of a better and a worse answer",
        headline: &[("/train", "{} pairs to train on"), ("/validation", "{} to measure on")],
        drawn: &[],
        rows: rows("prefs_train.jsonl", &["prompt", "chosen", "rejected"], &["chosen", "rejected"]),
    },
    Known {
        stage: "data_inspect",
        title: "A look into the pairs",
        headline: &[("/read", "{} rows read"), ("/duplicates", "{} duplicates")],
        drawn: &["samples"],
        rows: None,
    },
    training("train_sft", "Fine-tuning on examples"),
    training("train_dpo", "Training on preferences (DPO)"),
    training("train_orpo", "Training on preferences (ORPO)"),
    training("train_cpo", "Training on preferences (CPO)"),
    training("train_kto", "Training on labelled answers (KTO)"),
    training("train_reward", "Training a reward model"),
    on_policy("train_grpo", "Reinforcement learning (GRPO)"),
    on_policy("train_rloo", "Reinforcement learning (RLOO)"),
    on_policy("train_ppo", "Reinforcement learning (PPO)"),
    on_policy("train_online_dpo", "Training on preferences between its own answers (online DPO)"),
    Known {
        stage: "generate",
        title: "Answers of the model",
        headline: &[("/prompts", "{} prompts"), ("/samples", "{} samples")],
        drawn: &["examples"],
        rows: rows("output.jsonl", &["prompt", "gen"], &["gen"]),
    },
    Known {
        stage: "eval_loss",
        title: "Loss on held-out rows",
        headline: &[("/loss/value", "loss {}"), ("/sequences", "{} sequences")],
        drawn: &[],
        rows: None,
    },
    Known {
        stage: "eval_accuracy",
        title: "Accuracy on held-out pairs",
        headline: &[("/all/pairs", "{} pairs")],
        drawn: &["all", "groups"],
        rows: None,
    },
    Known {
        stage: "eval_rewards",
        title: "Rewards of answers",
        headline: &[
            ("/prompts", "{} prompts"),
            ("/completions", "{} completions"),
            ("/reward/mean/value", "mean reward {}"),
        ],
        drawn: &[],
        rows: None,
    },
    Known {
        stage: "eval_compare",
        title: "Answers side by side",
        headline: &[],
        drawn: &["rows"],
        rows: None,
    },
    Known {
        stage: "judge_prompts",
        title: "Questions for the judge",
        headline: &[("/read", "{} pairs read"), ("/written", "{} prompts")],
        drawn: &[],
        rows: rows("prompts.jsonl", &["q", "r1", "r2"], &["r1", "r2"]),
    },
    Known {
        stage: "judge_translate",
        title: "Translation",
        headline: &[("/translated", "{} translated"), ("/kept_aside", "{} kept aside")],
        drawn: &[],
        rows: rows("translated.jsonl", &["q", "r1", "r2"], &[]),
    },
    Known {
        stage: "judge_sample",
        title: "Judgements by repeated sampling",
        headline: &[("/prompts", "{} prompts"), ("/samples", "{} judgements")],
        drawn: &["examples", "positive", "negative", "unknown"],
        rows: rows("output.jsonl", &[], &["gen"]),
    },
    Known {
        stage: "judge_hint",
        title: "Judgements with a hint",
        headline: &[
            ("/prompts", "{} prompts"),
            ("/guide", "{} told the truth"),
            ("/guide_reverse", "{} the opposite"),
        ],
        drawn: &[],
        rows: None,
    },
    Known {
        stage: "judge_tidy",
        title: "Judgements put in order",
        headline: &[("/ids", "{} prompts with all their judgements")],
        drawn: &[],
        rows: None,
    },
    Known {
        stage: "judge_pairs",
        title: "Pairs of a better and a worse judgement",
        headline: &[("/ids/train", "{} prompts to train on"), ("/ids/validation", "{} to measure on")],
        drawn: &["verdicts", "pairs", "unpaired"],
        rows: rows("dataset/train", &[], &["chosen", "rejected"]),
    },
    Known {
        stage: "model_merge",
        title: "Adapters merged into their model",
        headline: &[("/dtype", "stored in {}"), ("/fidelity/change/kept", "{} of the change kept")],
        drawn: &[],
        rows: None,
    },
    Known {
        stage: "model_export",
        title: "A model for other programs",
        headline: &[("/dtype", "stored in {}"), ("/fidelity/rounding_rms", "rounded by {}")],
        drawn: &[],
        rows: None,
    },
];
