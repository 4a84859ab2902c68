//! `judge_score:MODEL`: the score from 1 to 10 that a judge gives a completion, over 10.

use collimate_judge::{HIGHEST_SCORE, Kind, score, score_schema};
use collimate_run::Context;

use super::{Judge, asked};
use crate::{Error, Item, Result, Reward};

const NAME: &str = "judge_score";
/// How often a judge is asked that gives no score.
const ATTEMPTS: u64 = 3;

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
        let mut scores = vec![0.0; items.len()];
        let mut open: Vec<usize> = (0..items.len()).collect();
        for number in 0..ATTEMPTS {
            let texts = self.0.ask(NAME, (&questions, number), score_schema, context)?;
            let (mut unread, mut still) = (Vec::new(), Vec::new());
            for ((at, question), text) in open.drain(..).zip(questions).zip(texts) {
                match score(&text) {
                    Some(score) => scores[at] = f64::from(score) / f64::from(HIGHEST_SCORE),
                    None if number + 1 < ATTEMPTS => {
                        unread.push(question);
                        still.push(at);
                    }
                    None => return Err(Error::NoScore { row: question.row, attempts: ATTEMPTS, text }),
                }
            }
            (questions, open) = (unread, still);
        }
        Ok(scores)
    }
}
