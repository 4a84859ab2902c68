//! Samples through the journal: a generator writes those that are missing, each is kept once it is finished.

use std::collections::BTreeMap;
use std::time::Instant;

use collimate_data::{BadRow, Rejects};
use collimate_generate::{Answer, Error as GenerateError, Generator, Request, Sample, SamplingOptions};
use collimate_run::{Context, Error as RunError, Event, Journal};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Samples under the key of their request and their number.
pub(crate) type Samples = Journal<[u64; 2], Sample>;

/// Requests to one generator, and how it is to answer them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order<'a> {
    pub requests: &'a [Request],
    pub options: &'a SamplingOptions,
    /// Whether a request that cannot be answered ends it all.
    pub strict: bool,
    /// What is added to the numbers of samples in the journal, where several models answer the same requests.
    pub side: u64,
}

/// What came of an order; its samples stand in the journal.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    /// Requests that can never be answered, by their index, and why.
    pub refused: BTreeMap<usize, GenerateError>,
    /// What it took.
    pub effort: Effort,
}

impl Delivery {
    /// Sets the rows of refused requests aside, as `row` makes them of index and reason, and warns of the
    /// first.
    ///
    /// # Errors
    /// [`Error::Unanswerable`] for the first, where none may be set aside.
    pub(crate) fn set_aside(
        &self,
        rejects: Option<&mut Rejects>,
        context: &Context,
        row: impl Fn(usize, String) -> BadRow,
    ) -> Result<(), Error> {
        let mut rows = self.refused.iter().map(|(index, reason)| (row(*index, reason.to_string()), reason));
        let Some((first, reason)) = rows.next() else { return Ok(()) };
        let Some(rejects) = rejects else {
            let hint = reason.help().map(|help| help.to_string()).unwrap_or_default();
            return Err(Error::Unanswerable { row: first.to_string(), hint });
        };
        let many = self.refused.len();
        context.report(Event::Warning(&format!(
            "rows without an answer, set aside: {many}; the first: {first}"
        )));
        rejects.add(first)?;
        Ok(rows.try_for_each(|(row, _)| rejects.add(row))?)
    }
}

/// What answers took since the last start, prompts included.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Effort {
    /// Tokens written.
    pub tokens: u64,
    /// Seconds.
    pub seconds: f64,
    /// Tokens written a second.
    pub tokens_per_second: f64,
}

impl Effort {
    /// So many tokens since then.
    pub(crate) fn since(begun: Instant, tokens: u64) -> Self {
        Self::new(begun.elapsed().as_secs_f64(), tokens)
    }

    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self::new(self.seconds + other.seconds, self.tokens + other.tokens)
    }

    fn new(seconds: f64, tokens: u64) -> Self {
        Self { tokens, seconds, tokens_per_second: tokens as f64 / seconds.max(f64::MIN_POSITIVE) }
    }
}

/// Has the samples written that the journal lacks.
///
/// # Errors
/// Those of the generator; [`Error::Unanswered`], once all else is in the journal, for requests at which a
/// server failed for now.
pub(crate) fn write_missing(
    order: Order<'_>,
    generator: &mut dyn Generator,
    journal: &mut Samples,
    context: &Context,
) -> Result<Delivery, Error> {
    // What is finished stays as a request without samples: a refusal names its prompt by its place.
    let mut requests = order.requests.to_vec();
    for request in &mut requests {
        let key = request.key;
        request.samples.retain(|number| !journal.contains(&[key, *number + order.side]));
    }
    let (mut delivery, mut passing) = (Delivery::default(), BTreeMap::new());
    if requests.iter().all(|request| request.samples.is_empty()) {
        return Ok(delivery);
    }
    let (begun, mut tokens) = (Instant::now(), 0);
    let written = generator.generate(&requests, order.options, context, &mut |answer| {
        match answer {
            Answer::Sample { request, number, sample } => {
                // A server names no tokens, and counts them for a call.
                tokens +=
                    sample.usage.as_ref().map_or(sample.tokens.len() as u64, |usage| usage.completion_tokens);
                journal.append([requests[request].key, number + order.side], &sample)?;
            }
            // Nothing was asked.
            Answer::Refused { request, .. } if requests[request].samples.is_empty() => {}
            Answer::Refused { request, error } if error.may_pass() => {
                passing.entry(request).or_insert(error);
            }
            Answer::Refused { request, error } => {
                delivery.refused.entry(request).or_insert(error);
                if order.strict {
                    // Ends the work; what is said of it is the refusal.
                    return Err(RunError::Interrupted.into());
                }
            }
            Answer::Piece { .. } => {}
        }
        Ok(())
    });
    if delivery.refused.is_empty() || !order.strict {
        written?;
        let count = passing.len();
        if let Some((_, first)) = passing.pop_first() {
            return Err(Error::Unanswered { count, first: Box::new(first) });
        }
    }
    delivery.effort = Effort::since(begun, tokens);
    Ok(delivery)
}
