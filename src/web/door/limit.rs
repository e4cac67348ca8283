//! How often one address may call, and which deliveries have been here.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Calls that one address may make at once, and how soon each is earned again. Behind an ingress all of GitHub's calls come from
/// one: 300 merges in a minute × 8 events are 40 a second.
const BURST: u32 = 500;
const EARN: Duration = Duration::from_millis(10);
/// Addresses that are told apart. With all taken by callers that are not at rest, the others share one purse.
const ADDRESSES: usize = 1024;
/// Deliveries that are remembered: about the last ten minutes of a busy hour.
const DELIVERIES: usize = 2000;
/// Characters of the id of a delivery: GitHub's are 36.
const ID: usize = 64;

/// A purse of [`BURST`] calls for each address.
#[derive(Default)]
pub(super) struct Limiter {
    /// When the purse of an address is full again.
    full: Mutex<HashMap<Option<IpAddr>, Instant>>,
}

impl Limiter {
    /// Whether a call from there is taken now.
    pub(super) fn takes(&self, from: IpAddr, now: Instant) -> bool {
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        let mut whose = Some(network(from));
        if full.len() >= ADDRESSES && !full.contains_key(&whose) {
            full.retain(|_, at| *at > now);
            if full.len() >= ADDRESSES {
                whose = None;
            }
        }
        let at = full.entry(whose).or_insert(now);
        let after = (*at).max(now) + EARN;
        let taken = after <= now + EARN * BURST;
        if taken {
            *at = after;
        }
        taken
    }
}

/// One caller has a whole /64 of IPv6 addresses.
fn network(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => std::net::Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

/// The deliveries that were taken.
#[derive(Default)]
pub(super) struct Known {
    ids: Mutex<(HashSet<String>, VecDeque<String>)>,
}

impl Known {
    pub(super) fn has(&self, id: &str) -> bool {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).0.contains(id)
    }

    /// What has no id, or one that GitHub would not give, is not remembered.
    pub(super) fn learn(&self, id: &str) {
        if id.is_empty() || id.len() > ID {
            return;
        }
        let (set, order) = &mut *self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        if set.insert(id.to_owned()) {
            order.push_back(id.to_owned());
        }
        if order.len() > DELIVERIES
            && let Some(oldest) = order.pop_front()
        {
            set.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(n: u32) -> IpAddr {
        Ipv4Addr::from_bits(0xC633_6400 + n).into()
    }

    #[test]
    fn an_address_spends_its_purse_and_earns_it_again_while_others_have_theirs() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        assert_eq!((0..600).filter(|_| limiter.takes(address(1), now)).count(), 500);
        assert!(limiter.takes(address(2), now));
        assert_eq!((0..600).filter(|_| limiter.takes(address(1), now + Duration::from_secs(1))).count(), 100);
    }

    #[test]
    fn all_addresses_of_one_ipv6_network_are_one_caller() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let calls = (0..600_u128).filter(|n| limiter.takes(std::net::Ipv6Addr::from_bits((0x2001_0db8 << 96) + n).into(), now));
        assert_eq!(calls.count(), 500);
    }

    #[test]
    fn a_flood_of_addresses_takes_no_memory_and_a_known_caller_keeps_its_purse() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        assert!(limiter.takes(address(0), now));
        let taken = (1..10_000).filter(|n| limiter.takes(address(*n), now)).count();
        assert_eq!(taken, ADDRESSES - 1 + 500, "those that have a purse, and one for all others");
        assert_eq!(limiter.full.lock().unwrap().len(), ADDRESSES + 1);
        assert!(limiter.takes(address(0), now));
        // When they have gone, there is room again.
        assert!(limiter.takes(address(10_001), now + Duration::from_mins(1)));
    }

    #[test]
    fn the_last_deliveries_are_known_and_no_more() {
        let known = Known::default();
        for n in 0..=DELIVERIES {
            known.learn(&n.to_string());
            known.learn(&n.to_string());
        }
        assert!(!known.has("0") && known.has("1") && known.has(&DELIVERIES.to_string()));
        known.learn("");
        known.learn(&"x".repeat(65));
        assert!(!known.has("") && !known.has(&"x".repeat(65)));
    }
}
