//! What a training works on: how many tokens and targets an example has, by the method that learns from it.

use std::str::FromStr;

use serde::Serialize;

/// How a training learns, under the names of the `train` commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names are those of the commands")]
pub enum Way {
    Sft,
    Dpo,
    Orpo,
    Cpo,
    Kto,
    Reward,
    Grpo,
    Rloo,
    Ppo,
    OnlineDpo,
}

impl Way {
    const ALL: [(Self, &'static str); 10] = [
        (Self::Sft, "sft"),
        (Self::Dpo, "dpo"),
        (Self::Orpo, "orpo"),
        (Self::Cpo, "cpo"),
        (Self::Kto, "kto"),
        (Self::Reward, "reward"),
        (Self::Grpo, "grpo"),
        (Self::Rloo, "rloo"),
        (Self::Ppo, "ppo"),
        (Self::OnlineDpo, "online-dpo"),
    ];

    /// The name of its command.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|way| way.0 == self).map_or("", |way| way.1)
    }

    /// Whether a model writes what is learnt from.
    pub fn writes(self) -> bool {
        matches!(self, Self::Grpo | Self::Rloo | Self::Ppo | Self::OnlineDpo)
    }

    /// Whether a reference model is asked once for every example, before training.
    pub fn asks_reference(self) -> bool {
        matches!(self, Self::Dpo | Self::Kto)
    }

    /// Whether all micro-batches of a step are gone through forward twice, as their examples look at each other.
    pub fn judges_together(self) -> bool {
        self == Self::Kto
    }
}

impl std::fmt::Display for Way {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Way {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|way| way.1 == text);
        let names = || Self::ALL.map(|way| way.1).join(", ");
        found.map(|way| way.0).ok_or_else(|| format!("no method of this name; there are {}", names()))
    }
}

/// One example: a prompt, and answers that share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens of an answer.
    pub answer: usize,
    /// Answers of a prompt.
    pub answers: usize,
}

impl Shape {
    /// Tokens that it adds to a batch.
    pub fn tokens(self) -> usize {
        self.prompt + self.answers * self.answer
    }

    /// Targets that it adds: of a sequence without a prompt, the first token is none.
    pub fn targets(self) -> usize {
        self.answers * (self.answer - usize::from(self.prompt == 0))
    }

    /// The most tokens and targets that go through the engine at once: an example beyond the limit stands alone; of
    /// smaller ones, as many as fit may all be like this one.
    pub fn largest(self, limit: usize) -> [usize; 2] {
        let tokens = limit.max(self.tokens());
        [tokens, self.targets() * (tokens / self.tokens().max(1)).max(1)]
    }
}
