//! The recipes that come with the program.

/// A recipe in the program.
#[derive(Debug, Clone, Copy)]
pub struct Shipped {
    /// Its name.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

impl Shipped {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::JUDGE, Self::SFT_DPO, Self::RLHF, Self::DEMO];

    /// A model learns to judge pairs of answers.
    const JUDGE: Self = Self { name: "judge", text: include_str!("../../../../recipes/judge.toml") };
    /// A model is tuned on instructions, and on pairs that it made itself.
    const SFT_DPO: Self = Self { name: "sft-dpo", text: include_str!("../../../../recipes/sft-dpo.toml") };
    /// A model is tuned on instructions, and by a reward model of its own.
    const RLHF: Self = Self { name: "rlhf", text: include_str!("../../../../recipes/rlhf.toml") };
    /// Instructions and a judge in small.
    pub const DEMO: Self = Self { name: "demo", text: include_str!("../../../../recipes/demo.toml") };

    /// What it is for: the first line of its text.
    pub fn about(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches("# ")
    }
}
