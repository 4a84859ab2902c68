//! Which rewards completions get, with their weights: the settings, and what is opened from them.

use std::path::{Path, PathBuf};

use collimate_reward::{Reward, Rewards, Spec};
use collimate_run::Context;
use secrecy::SecretString;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::Error;
use crate::sampling::described;

/// Which rewards completions get.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize)]
#[command(rename_all = "snake_case", next_help_heading = "Rewards")]
pub struct RewardSettings {
    /// A reward; may be repeated. exact: the final answer (behind ####, or in \boxed{}) is the row's answer;
    /// regex:PATTERN: it matches somewhere; length:MIN-MAX: so many characters, less for others.
    #[arg(long, value_name = "REWARD", required = true)]
    pub reward_funcs: Vec<Spec>,
    /// The weight of each reward in the sum, in their order and separated by commas; 1 for each, if not given.
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', allow_negative_numbers = true)]
    pub reward_weights: Vec<f64>,
}

/// What rewards are opened with.
#[derive(Debug, Clone, Copy)]
pub struct Means<'a> {
    /// The model on which adapters stand that name no other.
    pub model: Option<&'a Path>,
    /// Threads of models in the memory; one a core, if not given.
    pub threads: Option<usize>,
    /// The key of the server that judges.
    pub api_key: Option<&'a SecretString>,
}

impl RewardSettings {
    /// The rewards, ready to be given.
    ///
    /// # Errors
    /// A reward or weights that cannot be used; what goes wrong in loading a model.
    pub fn open(&self, _means: Means<'_>, _context: &Context) -> Result<Rewards, Error> {
        let open = |spec: &Spec| -> Result<Box<dyn Reward>, Error> {
            Ok(match spec {
                Spec::Rule { name, argument } => Box::new(Spec::rule(name, argument)?),
            })
        };
        let rewards = self.reward_funcs.iter().map(open).collect::<Result<Vec<_>, Error>>()?;
        Ok(Rewards::new(rewards, &self.reward_weights)?)
    }

    /// The settings as a manifest keeps them.
    pub fn described(&self) -> Map<String, Value> {
        described(self, &[])
    }

    /// The files and folders that are read.
    pub fn inputs(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}
