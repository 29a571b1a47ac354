//! Topics that come and go under load: made, filled, read, deleted, made again under the same name.
//! A new life holds nothing of the old one, and no power cut brings a deleted one back. Must never
//! look into the node.

use crate::client::{Surroundings, create_topic, delete_topic};
use crate::history::Partition;
use crate::producer::send_alone;
use crate::reader::read_all;
use crate::topics::{FLEETING_BASE, FLEETING_LIVES_MAX, place};
use millpond_storage::disk::sim::SimRng;

/// One name whose topic comes and goes.
pub struct FleetingTopic {
    /// Where it is.
    pub world: Surroundings,
    /// Which of them.
    pub lane: i32,
    /// The producer of its first life; each life has the next.
    pub first_producer: u32,
    /// Decides sizes and pauses.
    pub rng: SimRng,
}

/// More than a message travels: what was sent on a broken connection has arrived by then.
const SILENCE_MS: u64 = 10;

impl FleetingTopic {
    /// Life after life until the run is over; then the present one is judged.
    pub async fn run(mut self) {
        for life in 0..FLEETING_LIVES_MAX {
            let partition = FLEETING_BASE + self.lane * FLEETING_LIVES_MAX + life;
            let producer = self.first_producer + life as u32;
            self.live(partition, producer).await;
            self.judge(partition).await;
            if self.world.is_over.get() {
                return;
            }
            self.world.pause_ms(SILENCE_MS).await;
            delete_topic(&self.world, &place(partition).0).await;
            self.world.oracle.topic_ended();
            self.world.pause_ms(SILENCE_MS + self.rng.between(0, 60)).await;
        }
    }

    async fn live(&mut self, partition: Partition, producer: u32) {
        self.world.oracle.topic_began(place(partition).0, partition);
        create_topic(&self.world, &place(partition).0, 1, &[]).await;
        let identity = self.world.producer_id().await;
        let batches = self.rng.between(1, 12);
        let mut sequence = 0;
        for _ in 0..batches {
            let count = self.rng.between(1, 5);
            let at = (identity, sequence);
            send_alone(&self.world, partition, producer, count, at, SILENCE_MS).await;
            sequence += count as i32;
            self.world.pause_ms(self.rng.between(0, 40)).await;
        }
    }

    /// Nobody else writes here: what stands there now is what stands there.
    async fn judge(&self, partition: Partition) {
        let shown = self.world.oracle.shown(partition);
        read_all(&self.world, partition).await;
        self.world.oracle.judge(partition, &shown);
    }
}
