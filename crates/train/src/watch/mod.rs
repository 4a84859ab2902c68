//! Watches: each looks out for one well-known way in which a training goes wrong, in nothing but its log records.

mod chosen;
mod entropy;
mod hacking;
mod kl;
mod length;
mod series;

use self::chosen::ChosenWatch;
use self::entropy::EntropyWatch;
use self::hacking::HackingWatch;
use self::kl::KlWatch;
use self::length::{CutWatch, GrowthWatch};
use crate::Record;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What the watches over on-policy training are told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guards {
    /// The bound of `kl`, in nats a token.
    pub max_kl: f64,
    /// The bound of `completions/mean_length`, in lengths of the first records' completions.
    pub max_length_growth: f64,
    /// Whether the first alarm ends the training.
    pub stop_on_alarm: bool,
}

impl Default for Guards {
    /// A nat a token: in texts of a hundred tokens a hundred nats, where Gao et al. (2023, figure 1) find that all
    /// of their reward models are exploited. Three lengths: more than a policy needs to learn a form.
    fn default() -> Self {
        Self { max_kl: 1.0, max_length_growth: 3.0, stop_on_alarm: false }
    }
}

/// Something that a watch has seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// The step whose record showed it.
    pub step: u64,
    /// What was seen, and what can be done about it.
    pub message: String,
}

impl fmt::Display for Alarm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "step {}: {}", self.step, self.message)
    }
}

/// Looks out for one way in which a training goes wrong; records are shown to it in their order, one by one.
trait Watch: fmt::Debug {
    /// What there is to say after this record; it is said once, and nothing is asked afterwards.
    fn look(&mut self, record: &Record) -> Option<String>;
}

/// The watches over a training, and what they have seen so far.
#[derive(Debug)]
pub(crate) struct Watches {
    /// Those that have seen nothing yet.
    watching: Vec<Box<dyn Watch>>,
    stop_on_alarm: bool,
    alarms: Vec<Alarm>,
}

impl Watches {
    /// The watches after these records. What they saw there was said then, and is not said again.
    ///
    /// `referenced`: whether the objective compares with a reference model; `guards`: for on-policy training.
    pub fn new(referenced: bool, guards: Option<Guards>, history: &[Record]) -> Self {
        let mut watching: Vec<Box<dyn Watch>> = Vec::new();
        if let Some(guards) = guards {
            watching.push(Box::new(KlWatch::new(guards.max_kl)));
            watching.push(Box::new(GrowthWatch::new(guards.max_length_growth)));
            watching.push(Box::new(CutWatch::default()));
            watching.push(Box::new(EntropyWatch::default()));
            watching.push(Box::new(HackingWatch::default()));
        } else {
            watching.push(Box::new(ChosenWatch::new(referenced)));
        }
        let stop_on_alarm = guards.is_some_and(|guards| guards.stop_on_alarm);
        let mut watches = Self { watching, stop_on_alarm, alarms: Vec::new() };
        for record in history {
            watches.look(record);
        }
        watches
    }

    /// What there is to say after this record.
    pub fn look(&mut self, record: &Record) -> &[Alarm] {
        let step = record.get("step").and_then(|step| step.as_u64()).unwrap_or_default();
        let said = self.alarms.len();
        self.watching.retain_mut(|watch| {
            let seen = watch.look(record);
            let silent = seen.is_none();
            self.alarms.extend(seen.map(|message| Alarm { step, message }));
            silent
        });
        &self.alarms[said..]
    }

    /// Whether the training is to end because of what was seen.
    pub fn end_training(&self) -> bool {
        self.stop_on_alarm && !self.alarms.is_empty()
    }

    /// Everything that was seen, in the order of the steps.
    pub fn into_alarms(self) -> Vec<Alarm> {
        self.alarms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A record for each value of a metric; the first step is 1.
    pub(super) fn history(name: &str, values: impl IntoIterator<Item = f64>) -> Vec<Record> {
        let record =
            |(step, value)| Record::from_iter([("step".into(), json!(step)), (name.into(), json!(value))]);
        (1..).zip(values).map(record).collect()
    }

    /// The first step after whose record the watch speaks, and what it says.
    pub(super) fn seen(watch: &mut dyn Watch, history: &[Record]) -> Option<(u64, String)> {
        history.iter().find_map(|record| Some((record["step"].as_u64()?, watch.look(record)?)))
    }

    fn guards(stop_on_alarm: bool) -> Option<Guards> {
        Some(Guards { stop_on_alarm, ..Guards::default() })
    }

    #[test]
    fn an_alarm_is_raised_once_with_its_step() {
        let found = history("kl", [0.1, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 0.1, 2.0, 2.0, 2.0, 2.0, 2.0]);
        let mut watches = Watches::new(false, guards(false), &[]);
        let said: Vec<String> = found
            .iter()
            .flat_map(|record| watches.look(record).to_vec())
            .map(|alarm| alarm.to_string())
            .collect();
        assert!(said[0].starts_with("step 6: kl has been above 1 "), "{said:?}");
        assert_eq!((said.len(), watches.end_training()), (1, false));
        assert_eq!(watches.into_alarms()[0].step, 6);
    }

    #[test]
    fn going_on_anywhere_says_what_was_not_said_and_stops_where_the_whole_would() {
        let found = history("kl", [0.1, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]);
        for cut in 0..=found.len() {
            let mut watches = Watches::new(false, guards(true), &found[..cut]);
            assert_eq!(watches.end_training(), cut >= 6, "{cut}");
            let said: usize = found[cut..].iter().map(|record| watches.look(record).len()).sum();
            assert_eq!(said, usize::from(cut < 6), "{cut}");
            assert_eq!(watches.into_alarms()[0].step, 6);
        }
    }

    /// Completions of one's own may all become less likely than they were under the reference.
    #[test]
    fn on_policy_trainings_do_not_look_at_chosen_answers() {
        let found = history("rewards/chosen", [-1.0; 20]);
        for (guards, said) in [(None, 1), (guards(false), 0)] {
            assert_eq!(Watches::new(true, guards, &found).into_alarms().len(), said);
        }
    }

    #[test]
    fn other_trainings_have_no_guards() {
        let mut watches = Watches::new(false, None, &history("kl", [9.0; 9]));
        assert!(watches.look(&history("kl", [9.0])[0]).is_empty() && !watches.end_training());
    }
}
