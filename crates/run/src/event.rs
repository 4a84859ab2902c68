//! How the libraries tell a person or a machine what they are doing.

/// Takes events; what becomes of them (a bar, lines, JSON, nothing) is the caller's business.
pub trait Reporter: Send + Sync {
    /// Takes one event; must be cheap, for some tasks report every row.
    fn report(&self, event: Event<'_>);
}

/// What a running stage says; at most one task runs at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event<'a> {
    /// A task begins, of `total` units if that is known beforehand.
    Started {
        /// What is being done, for instance `training`.
        task: &'a str,
        /// How many units there are.
        total: Option<u64>,
        /// What is counted, in the plural: `steps`, `rows`, `bytes`.
        unit: &'a str,
    },
    /// The running task has come this far.
    Advanced {
        /// Units done since the task began (not since the last event).
        done: u64,
        /// Figures worth showing, such as `loss`, `learning_rate`, `tokens_per_second`.
        fields: &'a [(&'a str, f64)],
    },
    /// Something worth knowing.
    Note(&'a str),
    /// Something that may not be what the person wanted.
    Warning(&'a str),
    /// The running task is done.
    Finished,
}

/// A reporter that drops everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn report(&self, _event: Event<'_>) {}
}

/// Passes on what is worth knowing, and says nothing of tasks: for work within the step of another task.
pub struct Aside<'a>(pub &'a dyn Reporter);

impl Reporter for Aside<'_> {
    fn report(&self, event: Event<'_>) {
        if matches!(event, Event::Note(_) | Event::Warning(_)) {
            self.0.report(event);
        }
    }
}
