//! Work that is known beforehand, cut into one part for each worker.

use std::ops::Range;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Team, gather_all};
use crate::Result;

/// Cuts items of these costs into neighbours, one part for each of `workers`, so that the dearest part is as cheap
/// as neighbours allow. Where items are fewer than workers, the last get none.
pub fn share(costs: &[u64], workers: usize) -> Vec<Range<usize>> {
    let (mut low, mut high) = (costs.iter().copied().max().unwrap_or(0), costs.iter().sum());
    while low < high {
        let middle = low + (high - low) / 2;
        if parts(costs, middle).count() <= workers { high = middle } else { low = middle + 1 }
    }
    let mut shares: Vec<_> = parts(costs, low).collect();
    shares.resize(workers, costs.len()..costs.len());
    shares
}

/// Neighbours that cost at most `limit` together, which no single item exceeds.
fn parts(costs: &[u64], limit: u64) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let first = start;
        let mut sum = 0;
        let fits = |cost: &&u64| {
            sum += **cost;
            sum <= limit
        };
        start += costs[first..].iter().take_while(fits).count();
        (first < start).then_some(first..start)
    })
}

/// This worker's own part of items of these costs.
pub fn own_share(team: &dyn Team, costs: &[u64]) -> Range<usize> {
    share(costs, team.size()).swap_remove(team.rank())
}

/// Does each item once, on one of the workers, and gives the results of all of them, in order, to everyone.
///
/// # Errors
/// Those of the work, and the loss of a worker.
pub fn shared_out<T, F>(
    team: &dyn Team,
    costs: &[u64],
    work: impl FnMut(usize) -> Result<T, F>,
) -> Result<Vec<T>, F>
where
    T: Serialize + DeserializeOwned,
    F: From<crate::Error>,
{
    let done = own_share(team, costs).map(work).collect::<Result<Vec<T>, F>>()?;
    Ok(gather_all(team, done)?.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::team::threads;
    use proptest::prelude::*;

    #[test]
    fn shares_are_neighbours_of_about_the_same_cost() {
        assert_eq!(share(&[1, 1, 1, 1, 1, 1], 3), [0..2, 2..4, 4..6]);
        assert_eq!(share(&[9, 1, 1, 1], 2), [0..1, 1..4]);
        assert_eq!(share(&[5, 5], 3), [0..1, 1..2, 2..2]);
        assert_eq!(share(&[], 2), [0..0, 0..0]);
        assert_eq!(share(&[0, 0], 2), [0..2, 2..2]);
    }

    proptest! {
        #[test]
        fn every_item_is_in_one_share(costs in prop::collection::vec(0_u64..50, 0..40), workers in 1_usize..9) {
            let shares = share(&costs, workers);
            prop_assert_eq!(shares.len(), workers);
            prop_assert!(shares.iter().cloned().flatten().eq(0..costs.len()));
            let dearest = shares.iter().map(|part| costs[part.clone()].iter().sum::<u64>()).max().unwrap_or(0);
            let fair = costs.iter().sum::<u64>().div_ceil(workers as u64);
            prop_assert!(dearest <= fair + costs.iter().copied().max().unwrap_or(0));
        }
    }

    #[test]
    fn results_come_back_in_order_at_every_worker() {
        let costs = [3, 1, 4, 1, 5, 9, 2, 6];
        let square = |item: usize| Ok::<_, crate::Error>(item * item);
        for found in threads(3, |team| shared_out(team, &costs, square).unwrap()) {
            assert_eq!(found, [0, 1, 4, 9, 16, 25, 36, 49]);
        }
    }
}
