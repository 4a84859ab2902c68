//! `judge_score:MODEL`: the score from 1 to 10 that a judge gives a completion, over 10.

use collimate_judge::{HIGHEST_SCORE, Kind, score, score_schema};
use collimate_run::Context;

use super::{Judge, asked};
use crate::{Error, Item, Result, Reward};

const NAME: &str = "judge_score";

/// A judge that scores.
pub struct JudgeScore(pub Judge);

impl Reward for JudgeScore {
    fn name(&self) -> &str {
        NAME
    }

    fn score(&mut self, items: &[Item<'_>], context: &Context) -> Result<Vec<f64>> {
        let mut places = 0;
        let mut questions = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            places = if at > 0 && items[at - 1].row == item.row { places + 1 } else { 0 };
            let question = asked(item, &[item.completion], &[places], Kind::Score);
            questions.push(question.map_err(|reason| Error::Row {
                reward: NAME.to_owned(),
                row: item.row,
                reason,
            })?);
        }
        let scores = self.0.judge(NAME, &questions, (score_schema, score), context)?;
        Ok(scores.into_iter().map(|score| f64::from(score) / f64::from(HIGHEST_SCORE)).collect())
    }
}
