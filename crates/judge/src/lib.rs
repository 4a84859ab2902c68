//! What a judge of answers is asked, how its verdict is read, and how its judgements become pairs.
//!
//! Touches nothing: texts and rows in, texts and rows out. The method is Con-J: Ye et al., "Learning LLM-as-a-Judge
//! for Preference Alignment", ICLR 2025. The stages that read and write files are in `collimate-stages`.

mod conversation;
mod inert;
mod language;
mod pattern;
mod row;
mod verdict;
mod template;

pub use conversation::{Turn, conversation};
pub use language::{Language, is_chinese};
pub use row::{Judgement, Number, PromptRow, fields};
pub use verdict::{Reading, judgement, verdict};
pub use template::{Kind, Question, Template, TemplateError};
