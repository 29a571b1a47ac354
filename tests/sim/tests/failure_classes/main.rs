//! The failure classes that took data from others (NATS, Kafka, etcd, Redpanda, Bufstream, …), named
//! tests, on the real engine and storage over the simulated disk. A2, A3, C1 and D5 are about several
//! nodes too; here stands what one node owes them.
//!
//! | class | tests here | and elsewhere |
//! |---|---|---|
//! | A1 to A11, F1, F2 | `a01` to `a11`, `f01`, `f02` | `power_cuts`, `disk_faults` |
//! | C1 duplicates with idempotence | `c01` | `power_cuts`; `consistency` of millpond-tests |
//! | C2 a producer that was forgotten | `c02` | `producing` of the engine |
//! | C3 aborted reads, lost or doubled effects | `c03` | `transactions`; `consistency` |
//! | C4 the coordinator's memory is lost | `c04` | `transactions` |
//! | C5 a late end, a torn transaction, a zombie | `c05` | `transactions`; `consistency` |
//! | C6 wrong without any fault | `c06` | |
//! | D1 a group or a reader is stuck | `d01` | the oracle's "no progress"; `consistency` (`expect_progress`) |
//! | D2 a stale commit counts, a valid one is lost | `d02` | `consistency` |
//! | D3 a stale epoch makes a consumer jump | `d03` | `consumer_groups` of the engine |
//! | D4 two owners | `d04` | `group_chaos`, `consumer_chaos` of the engine; `consistency` |
//! | D5 a commit goes back | `d05` | `power_cuts`; `consistency` |
//! | D6 truncation looks like an offset out of range | `d06` | `power_cuts`: what was shown stays |

mod calls;
mod damage;
mod device;
mod groups;
mod limits;
mod power;
mod recovery;
mod transactions;
