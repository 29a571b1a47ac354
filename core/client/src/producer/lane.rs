//! The lanes to a broker: requests on different lanes do not wait for each other. Over QUIC each is
//! a stream, so that a lost packet holds up the partitions of one lane and no others; over TCP there
//! is one, for there a lost packet holds up everything anyway and a lane costs a connection.
//!
//! It never sends a partition's batches over two lanes at a time: they could overtake each other.

use crate::url::Scheme;
use millpond_wire::limits::CLIENT_LANES_MAX;

/// One of the lanes to one broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LaneId {
    /// Where it leads.
    pub(crate) broker: i32,
    /// Which of that broker's: 0 is there first, and tells over what the others would go.
    pub(crate) slot: usize,
}

impl LaneId {
    /// The lane that is opened before all others.
    pub(crate) fn first(broker: i32) -> Self {
        Self { broker, slot: 0 }
    }
}

/// Where a partition's batches go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leader {
    /// The broker.
    pub(crate) broker: i32,
    /// How many lanes there may be to it, at least one.
    pub(crate) lanes: usize,
}

impl Leader {
    /// The lane of the partition that was the `nth` to be written to: with no more partitions than
    /// lanes each has its own.
    pub(crate) fn lane_of(self, nth: usize) -> LaneId {
        LaneId { broker: self.broker, slot: nth.checked_rem(self.lanes).unwrap_or(0) }
    }
}

/// Whether something can be sent on a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// So many more requests.
    Open(usize),
    /// There is none; one is wanted.
    Wanted,
    /// There is none, and it is not to be asked for now.
    Waiting,
}

/// How many lanes to use to a broker whose first one goes over this.
pub(crate) fn lanes_over(scheme: Scheme) -> usize {
    match scheme {
        Scheme::Quic => CLIENT_LANES_MAX,
        Scheme::Tcp | Scheme::Tls | Scheme::Either => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_partitions_have_eight_lanes_over_quic_and_one_over_tls() {
        let slots = |scheme| {
            let leader = Leader { broker: 7, lanes: lanes_over(scheme) };
            let lanes: std::collections::BTreeSet<_> = (0..8).map(|n| leader.lane_of(n)).collect();
            assert!(lanes.contains(&LaneId::first(7)));
            lanes.len()
        };
        assert_eq!((slots(Scheme::Quic), slots(Scheme::Tls), slots(Scheme::Tcp)), (8, 1, 1));
    }
}
