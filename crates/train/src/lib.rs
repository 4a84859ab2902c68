//! The training loop: optimiser, schedule, sampler, checkpoints, metrics.
//!
//! One [`Trainer`] serves every objective. Give it an engine, a [`Curriculum`] (a [`DataSet`] with the objective that
//! judges it, or rollouts), [`Settings`] and what is trained (an adapter, or all weights); it writes `checkpoint-N/`, `metrics.jsonl`
//! and TensorBoard events into the output folder of its [`collimate_run::Context`]. May touch: that folder.

pub mod checkpoint;
mod curriculum;
mod data_set;
mod error;
mod evaluate;
mod foresight;
mod judgement;
mod learner;
mod log_probs;
mod metrics;
mod micro_batch;
mod model_card;
mod optimiser;
mod record;
mod sampler;
mod schedule;
mod settings;
mod state;
mod task;
mod tensorboard;
mod trainer;
mod tree;
mod valued;
mod watch;

pub use curriculum::{Curriculum, Policy};
pub use data_set::DataSet;
pub use error::{Error, Result};
pub use evaluate::{Evaluation, Probe, SequenceScore, evaluate};
pub use foresight::Cuts;
pub use log_probs::{LogProbs, Scorer};
pub use micro_batch::{MicroBatch, MicroBatches, TrainingExample, cut};
pub use model_card::ModelCard;
pub use optimiser::{AdamW, AdamWSettings, Moment, Optim, ParameterGroup, clip_norm};
pub use sampler::{BatchSize, Order, Position, Sampler};
pub use schedule::{Schedule, ScheduleKind, warmup_steps};
pub use settings::{EarlyStopping, Length, ReferenceSync, ScheduleSettings, Settings};
pub use state::{Callbacks, Progress, Record, TrainerState, Window};
pub use task::Task;
pub use trainer::{Trained, Trainer};
pub use tree::{Exchange, PIECE, gradient_vectors};
pub use valued::{ValuedExample, Values, values};
pub use watch::{Alarm, Guards};
