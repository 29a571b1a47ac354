//! The failure classes that took data from others (NATS, Kafka, etcd, Redpanda, redb, …), one named
//! test each, on the real engine and storage over the simulated disk. A2 and A3 are about several
//! nodes; here stands what one node owes them.

mod damage;
mod device;
mod limits;
mod power;
mod recovery;
