//! Time where several topics share one state: the watermark is that of the topic that is furthest
//! behind, of those that are not silent. It never goes back, and has no clock.

use crate::state::State;
use bytes::Bytes;

/// Which of the topics that share a state a batch came to.
#[derive(Debug, Clone, Copy)]
pub struct Shared<'a> {
    /// Its topic; without a batch the first.
    pub topic: &'a str,
    /// All of them, that one included.
    pub sources: &'a [SharedSource],
}

/// One of the topics that share a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedSource {
    /// Its name.
    pub topic: String,
    /// It is silent for longer than time waits for it.
    pub is_idle: bool,
}

impl State {
    /// As [`State::advance`], for a batch of one of several topics, or for the time since the last of
    /// any of them.
    pub(crate) fn advance_shared(
        &mut self,
        seen_ms: Option<i64>,
        idle_ms: u64,
        delay_ms: u64,
        shared: Shared<'_>,
    ) {
        let key = seen_key(shared.topic);
        let before_ms = self.host_time(&key);
        if let Some(seen_ms) = seen_ms.filter(|seen| *seen >= 0 && Some(*seen) > before_ms) {
            self.set_host_time(&key, seen_ms);
        }
        let times = shared.sources.iter().map(|one| (one, self.host_time(&seen_key(&one.topic))));
        let (waited_for, all): (Vec<_>, Vec<_>) =
            times.map(|(one, time)| ((!one.is_idle).then_some(time), time)).unzip();
        let furthest_behind = waited_for.into_iter().flatten().min();
        let reached = match furthest_behind {
            // Before each of them had a record there is no time.
            Some(time) => time,
            // All are silent: time goes on for all of them.
            None => all.into_iter().max().flatten().map(|ms| ms.saturating_add_unsigned(idle_ms)),
        };
        self.reach(seen_ms, reached.map(|ms| ms.saturating_sub_unsigned(delay_ms)));
    }
}

/// Where the greatest timestamp of a topic stands.
fn seen_key(topic: &str) -> Bytes {
    [&b"\x02seen-"[..], topic.as_bytes()].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::NO_WATERMARK;

    fn after(state: &mut State, topic: &str, seen: Option<i64>, idle: [bool; 2]) -> i64 {
        let names = ["left", "right"].into_iter().zip(idle);
        let sources: Vec<SharedSource> = names
            .map(|(topic, is_idle)| SharedSource { topic: topic.to_owned(), is_idle })
            .collect();
        state.begin_run(usize::MAX);
        let idle_ms = if seen.is_none() { 1_000 } else { 0 };
        state.advance_shared(seen, idle_ms, 5, Shared { topic, sources: &sources });
        state.commit_run();
        state.watermark_ms()
    }

    #[test]
    fn time_waits_for_the_topic_behind_unless_it_is_silent() {
        let mut state = State::default();
        assert_eq!(after(&mut state, "left", Some(100), [false, false]), NO_WATERMARK);
        assert_eq!(after(&mut state, "right", Some(30), [false, false]), 25);
        assert_eq!(after(&mut state, "left", Some(200), [false, false]), 25);
        assert_eq!(after(&mut state, "left", Some(200), [false, true]), 195);
        assert_eq!(after(&mut state, "right", Some(40), [false, false]), 195, "never back");
        assert_eq!(after(&mut state, "left", None, [true, true]), 1_195);
    }

    #[test]
    fn a_topic_that_never_had_a_record_is_waited_for_as_long_as_any() {
        let mut state = State::default();
        assert_eq!(after(&mut state, "right", Some(-1), [true, false]), NO_WATERMARK);
        assert_eq!(after(&mut state, "right", Some(70), [true, false]), 65);
    }
}
