//! What all workers do at the same time: everyone hears what the leader says, or what everyone says.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Channel, LEADER, Team};
use crate::{Error, Result};

/// The leader's value, at every worker; what a follower gives is not looked at. Floats keep their bits.
///
/// # Errors
/// A worker is lost; a value that cannot be sent.
pub fn broadcast<T: Serialize + DeserializeOwned>(team: &dyn Team, value: T) -> Result<T> {
    if team.is_alone() {
        return Ok(value);
    }
    if team.leads() {
        broadcast_bytes(team, encode(&value)?)?;
        return Ok(value);
    }
    decode(&broadcast_bytes(team, Vec::new())?)
}

/// The leader's bytes, at every worker, handed on from worker to worker along a binomial tree.
///
/// # Errors
/// A worker is lost.
pub fn broadcast_bytes(team: &dyn Team, own: Vec<u8>) -> Result<Vec<u8>> {
    let rank = team.rank();
    let bytes =
        if rank == LEADER { own } else { team.mailbox().take(rank - reach(team), Channel::Lockstep)? };
    told_by(team).for_each(|other| team.send(other, Channel::Lockstep, bytes.clone()));
    Ok(bytes)
}

/// To whom this worker hands on what the leader says.
pub fn told_by(team: &dyn Team) -> impl Iterator<Item = usize> {
    let (rank, size) = (team.rank(), team.size());
    let distances = std::iter::successors(Some(reach(team) / 2), |distance| Some(distance / 2));
    let distances = distances.take_while(|distance| *distance > 0);
    distances.map(move |distance| rank + distance).filter(move |other| *other < size)
}

/// A worker hears from the one whose number lacks its lowest bit, which is this, and tells those that have one lower bit
/// more.
fn reach(team: &dyn Team) -> usize {
    let rank = team.rank();
    if rank == LEADER { team.size().next_power_of_two() } else { rank & rank.wrapping_neg() }
}

/// The values of all workers by their ranks, at every worker. Floats keep their bits.
///
/// # Errors
/// A worker is lost; a value that cannot be sent.
pub fn gather_all<T: Serialize + DeserializeOwned>(team: &dyn Team, own: T) -> Result<Vec<T>> {
    if team.is_alone() {
        return Ok(vec![own]);
    }
    if !team.leads() {
        team.send(LEADER, Channel::Lockstep, encode(&own)?);
        return decode(&broadcast_bytes(team, Vec::new())?);
    }
    let mut values = vec![own];
    for rank in 1..team.size() {
        values.push(decode(&team.mailbox().take(rank, Channel::Lockstep)?)?);
    }
    broadcast_bytes(team, encode(&values)?)?;
    Ok(values)
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>> {
    postcard::to_allocvec(value).map_err(misunderstood)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    postcard::from_bytes(bytes).map_err(misunderstood)
}

fn misunderstood(reason: postcard::Error) -> Error {
    Error::Message { reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::team::threads;

    #[test]
    fn everyone_hears_the_leader_and_all_others() {
        for size in 1..=9 {
            let heard = threads(size, |team| {
                let word =
                    broadcast(team, if team.leads() { "go".to_owned() } else { String::new() }).unwrap();
                let nan = f64::from_bits(f64::NAN.to_bits() | team.rank() as u64);
                (word, gather_all(team, (team.rank(), nan)).unwrap())
            });
            for (word, all) in heard {
                assert_eq!(word, "go");
                let expected = (0..size).map(|rank| (rank, f64::NAN.to_bits() | rank as u64));
                assert!(all.into_iter().map(|(rank, nan)| (rank, nan.to_bits())).eq(expected));
            }
        }
    }
}
