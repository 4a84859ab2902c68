//! What a judge of answers is asked, how its verdict is read, and how its judgements become pairs.
//!
//! Touches nothing: texts and rows in, texts and rows out. The method is Con-J: Ye et al., "Learning LLM-as-a-Judge
//! for Preference Alignment", ICLR 2025. The stages that read and write files are in `collimate-stages`.

mod bare_reason;
mod conversation;
mod form;
mod inert;
mod language;
mod pairs;
mod pattern;
mod row;
mod score;
mod shorten;
mod template;
mod translation;
mod verdict;

pub use bare_reason::bare_reason;
pub use conversation::{Turn, conversation};
pub use form::{longest_reason, schema, score_schema};
pub use language::{Language, is_chinese};
pub use pairs::{Judged, Pair, PairType, Paired, Texts, Unpaired};
pub use row::{Judgement, Number, PromptRow, fields};
pub use score::{HIGHEST_SCORE, score};
pub use shorten::{Shortened, shorten};
pub use template::{Kind, Question, Template, TemplateError};
pub use translation::{Check, Fault, needs_translation, translated, translation_request};
pub use verdict::{Reading, judgement, verdict, verdict_at};
