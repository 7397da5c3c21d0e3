//! A figure: samples of one quantity, those of its local limit beside them, and the goal. Pure.
//!
//! Sample N of a figure and sample N of its limit were taken one after the other, so a ratio is made of each such
//! pair: what disturbs the machine disturbs both.

use serde::Serialize;

/// What a figure is to reach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// At least this share of the limit.
    RatioAtLeast(f64),
    /// Every sample below this.
    Below(f64),
}

/// What the local machine or the raw server gives, measured in the same round.
#[derive(Debug, Clone, Serialize)]
pub struct Limit {
    /// What was measured.
    pub what: String,
    /// One sample each round.
    pub samples: Vec<f64>,
}

/// One quantity.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// Its unit.
    pub unit: &'static str,
    /// One sample each round.
    pub samples: Vec<f64>,
    /// The limit beside it.
    pub limit: Option<Limit>,
    /// The goal.
    pub goal: Option<Goal>,
}

impl Figure {
    /// A figure without limit and goal.
    pub fn new(name: impl Into<String>, unit: &'static str, samples: Vec<f64>) -> Self {
        Self { name: name.into(), unit, samples, limit: None, goal: None }
    }

    /// The same with its limit.
    pub fn beside(mut self, what: impl Into<String>, samples: Vec<f64>) -> Self {
        self.limit = Some(Limit { what: what.into(), samples });
        self
    }

    /// The same with a goal.
    pub fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    /// The ratio of each round, if there is a limit.
    pub fn ratios(&self) -> Option<Spread> {
        let limit = self.limit.as_ref()?;
        Spread::of(
            &self.samples.iter().zip(&limit.samples).map(|(ours, theirs)| ours / theirs).collect::<Vec<_>>(),
        )
    }

    /// Whether the goal is met; `None` without a goal.
    pub fn met(&self) -> Option<bool> {
        match self.goal? {
            Goal::RatioAtLeast(least) => Some(self.ratios()?.median >= least),
            Goal::Below(bound) => Some(Spread::of(&self.samples)?.max < bound),
        }
    }
}

/// Median, least and greatest of some samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// That of `samples`; `None` if there are none.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Some(Self { median, min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        let spread = Spread::of(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!(spread, Spread { median: 2.5, min: 1.0, max: 4.0 });
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn ratios_are_made_within_a_round() {
        let figure = Figure::new("read", "GiB/s", vec![1.0, 4.0, 9.0]).beside("disk", vec![2.0, 4.0, 10.0]);
        assert_eq!(figure.ratios().unwrap(), Spread { median: 0.9, min: 0.5, max: 1.0 });
        assert_eq!(figure.met(), None);
        assert_eq!(figure.clone().goal(Goal::RatioAtLeast(0.9)).met(), Some(true));
        assert_eq!(figure.goal(Goal::RatioAtLeast(0.91)).met(), Some(false));
    }

    #[test]
    fn a_bound_holds_for_every_sample() {
        let figure = Figure::new("memory", "MiB", vec![100.0, 250.0, 150.0]).goal(Goal::Below(200.0));
        assert_eq!(figure.met(), Some(false));
    }
}
