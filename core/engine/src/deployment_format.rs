//! Deployments as they are written. Never reads what it does not know as if it did.
//!
//! ```text
//! deployment  fields of version 1 (fact 9, snapshots up to 6), then parts (fact 50, snapshots from 7):
//!             varint x (tag u8 | length varint | body), in ascending order of tags
//! part  1 mode      u8: 1 derive | start u8: 0 latest, 1 earliest, 2 timestamp ms i64
//!       2 route by key, no body
//!       3 previous  a specification: its fields of version 1, then its own parts
//!       5 counter   of the signed package that it came in u64
//!       4 canary    transform id u64 | share in percent u8 | a specification
//!       6 keeps state, no body
//!       7 one state for all of its topics, no body
//! ```
//! A part that is not there stands for the default. An unknown part is refused, never skipped.

use crate::codec::{
    CodecError, Take, put_count, put_option_string, put_string, put_strings, put_varint,
};
use crate::transform::{
    Canary, Deployment, DeriveStart, FailureAction, Mode, OnFailure, TransformSpec,
};
use crate::units::TransformId;
use bytes::{BufMut, BytesMut};

impl Deployment {
    pub(crate) fn put(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.id.0);
        out.put_u8(u8::from(self.paused));
        self.spec.put_fields(out);
        put_parts(out, self.parts());
    }

    fn parts(&self) -> Vec<Part> {
        let mut parts = self.spec.parts();
        if let Some(previous) = &self.previous {
            let mut body = BytesMut::new();
            previous.put(&mut body);
            parts.push((PART_PREVIOUS, body));
        }
        if let Some(canary) = &self.canary {
            let mut body = BytesMut::new();
            body.put_u64_le(canary.id.0);
            body.put_u8(canary.share_percent);
            canary.spec.put(&mut body);
            parts.push((PART_CANARY, body));
        }
        parts.sort_unstable_by_key(|(tag, _)| *tag);
        parts
    }

    pub(crate) fn take(take: &mut Take, has_parts: bool) -> Result<Deployment, CodecError> {
        let id = TransformId(take.u64("transform id")?);
        let paused = take.bool("paused")?;
        let spec = TransformSpec::take_fields(take)?;
        let mut deployment = Deployment { id, spec, paused, ..Deployment::default() };
        if has_parts {
            take_parts(take, |tag, body| deployment.take_part(tag, body))?;
        }
        Ok(deployment)
    }

    fn take_part(&mut self, tag: u8, body: &mut Take) -> Result<(), CodecError> {
        match tag {
            PART_PREVIOUS => self.previous = Some(Box::new(TransformSpec::take(body)?)),
            PART_CANARY => {
                let id = TransformId(body.u64("transform id of a canary")?);
                let share_percent = body.u8("share of a canary")?;
                let spec = TransformSpec::take(body)?;
                self.canary = Some(Box::new(Canary { id, spec, share_percent }));
            }
            tag => self.spec.take_part(tag, body)?,
        }
        Ok(())
    }
}

impl TransformSpec {
    /// A specification that is part of something else.
    fn put(&self, out: &mut impl BufMut) {
        self.put_fields(out);
        put_parts(out, self.parts());
    }

    fn take(take: &mut Take) -> Result<TransformSpec, CodecError> {
        let mut spec = TransformSpec::take_fields(take)?;
        take_parts(take, |tag, body| spec.take_part(tag, body))?;
        Ok(spec)
    }

    fn put_fields(&self, out: &mut impl BufMut) {
        put_string(out, &self.name);
        put_string(out, &self.version);
        out.put_slice(&self.module);
        put_strings(out, &self.settings);
        put_count(out, self.topics.len());
        for topic in &self.topics {
            put_string(out, topic);
        }
        put_count(out, self.outputs.len());
        for topic in &self.outputs {
            put_string(out, topic);
        }
        put_count(out, self.limits.len());
        for (name, value) in &self.limits {
            put_string(out, name);
            out.put_u64_le(*value);
        }
        out.put_u32_le(self.on_failure.retries);
        out.put_u8(self.on_failure.then as u8);
        put_option_string(out, self.dead_letter_topic.as_deref());
        out.put_i32_le(self.order);
    }

    fn take_fields(take: &mut Take) -> Result<TransformSpec, CodecError> {
        let name = take.string("transform name")?;
        let version = take.string("transform version")?;
        let module = take.array::<32>("module hash")?;
        let settings = take.strings("transform settings")?;
        let count = take.count("transform topics", 4)?;
        let topics = (0..count).map(|_| take.string("topic")).collect::<Result<_, _>>()?;
        let count = take.count("transform outputs", 4)?;
        let outputs = (0..count).map(|_| take.string("output topic")).collect::<Result<_, _>>()?;
        let count = take.count("transform limits", 12)?;
        let limits = (0..count)
            .map(|_| Ok((take.string("limit")?, take.u64("limit")?)))
            .collect::<Result<_, CodecError>>()?;
        let on_failure =
            OnFailure { retries: take.u32("retries")?, then: FailureAction::take(take)? };
        let dead_letter_topic = take.option_string("dead letter topic")?;
        let order = take.i32("order")?;
        Ok(TransformSpec {
            name,
            version,
            module,
            settings,
            topics,
            outputs,
            limits,
            on_failure,
            dead_letter_topic,
            order,
            mode: Mode::Inline,
            package_counter: 0,
            route_by_key: false,
            keeps_state: false,
            shares_state: false,
        })
    }

    /// What differs from the defaults.
    fn parts(&self) -> Vec<Part> {
        let mut parts: Vec<Part> =
            self.mode.part().map(|body| (PART_MODE, body)).into_iter().collect();
        if self.route_by_key {
            parts.push((PART_ROUTE_BY_KEY, BytesMut::new()));
        }
        if self.package_counter > 0 {
            let mut body = BytesMut::new();
            body.put_u64_le(self.package_counter);
            parts.push((PART_COUNTER, body));
        }
        if self.keeps_state {
            parts.push((PART_KEEPS_STATE, BytesMut::new()));
        }
        if self.shares_state {
            parts.push((PART_SHARES_STATE, BytesMut::new()));
        }
        parts
    }

    fn take_part(&mut self, tag: u8, body: &mut Take) -> Result<(), CodecError> {
        match tag {
            PART_MODE => self.mode = Mode::take(body)?,
            PART_ROUTE_BY_KEY => self.route_by_key = true,
            PART_KEEPS_STATE => self.keeps_state = true,
            PART_SHARES_STATE => self.shares_state = true,
            PART_COUNTER => self.package_counter = body.u64("package counter")?,
            value => {
                let what = "deployment part";
                return Err(CodecError::Impossible { what, value: value.into() });
            }
        }
        Ok(())
    }
}

impl FailureAction {
    fn take(take: &mut Take) -> Result<FailureAction, CodecError> {
        Ok(match take.u8("failure action")? {
            0 => FailureAction::DeadLetter,
            1 => FailureAction::Skip,
            2 => FailureAction::Pass,
            3 => FailureAction::Reject,
            value => {
                return Err(CodecError::Impossible { what: "failure action", value: value.into() });
            }
        })
    }
}

/// Tag and body.
type Part = (u8, BytesMut);

fn put_parts(out: &mut impl BufMut, parts: Vec<Part>) {
    put_varint(out, parts.len() as u64);
    for (tag, body) in parts {
        out.put_u8(tag);
        put_varint(out, body.len() as u64);
        out.put_slice(&body);
    }
}

fn take_parts(
    take: &mut Take,
    mut each: impl FnMut(u8, &mut Take) -> Result<(), CodecError>,
) -> Result<(), CodecError> {
    for _ in 0..take.varint_count("deployment parts", 2)? {
        let tag = take.u8("deployment part")?;
        let len = take.varint_count("deployment part", 1)?;
        let mut body = Take::new(take.slice("deployment part", len)?);
        each(tag, &mut body)?;
        body.end("deployment part")?;
    }
    Ok(())
}

/// The part with the specification that was in force before.
const PART_PREVIOUS: u8 = 3;
/// The part with the counter of its package.
const PART_COUNTER: u8 = 5;
/// The part with the version that is tried.
const PART_CANARY: u8 = 4;
/// The part that is there when records are routed by key.
const PART_ROUTE_BY_KEY: u8 = 2;
/// The part that is there when the module keeps state.
const PART_KEEPS_STATE: u8 = 6;
/// The part that is there when all topics share one state.
const PART_SHARES_STATE: u8 = 7;
/// The part that says the mode.
const PART_MODE: u8 = 1;

impl Mode {
    fn part(self) -> Option<BytesMut> {
        let Mode::Derive(start) = self else { return None };
        let mut out = BytesMut::new();
        out.put_u8(1);
        match start {
            DeriveStart::Latest => out.put_u8(0),
            DeriveStart::Earliest => out.put_u8(1),
            DeriveStart::TimestampMs(timestamp_ms) => {
                out.put_u8(2);
                out.put_i64_le(timestamp_ms);
            }
        }
        Some(out)
    }

    fn take(take: &mut Take) -> Result<Mode, CodecError> {
        let impossible = |what, value: u8| CodecError::Impossible { what, value: value.into() };
        match take.u8("transform mode")? {
            1 => {}
            value => return Err(impossible("transform mode", value)),
        }
        Ok(Mode::Derive(match take.u8("derive start")? {
            0 => DeriveStart::Latest,
            1 => DeriveStart::Earliest,
            2 => DeriveStart::TimestampMs(take.i64("derive start")?),
            value => return Err(impossible("derive start", value)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(mode: Mode) -> Deployment {
        let spec = TransformSpec { name: "mean".into(), mode, ..TransformSpec::default() };
        Deployment { id: TransformId(7), spec, paused: true, ..Deployment::default() }
    }

    fn written(deployment: &Deployment) -> BytesMut {
        let mut out = BytesMut::new();
        deployment.put(&mut out);
        out
    }

    #[test]
    fn a_deployment_reads_as_it_was_written_in_every_mode() {
        let starts = [DeriveStart::Latest, DeriveStart::Earliest, DeriveStart::TimestampMs(-5)];
        for mode in starts.into_iter().map(Mode::Derive).chain([Mode::Inline]) {
            let mut deployment = deployment(mode);
            deployment.spec.route_by_key = mode == Mode::Inline;
            deployment.spec.keeps_state = mode != Mode::Inline;
            deployment.spec.shares_state = mode == Mode::Derive(DeriveStart::Earliest);
            deployment.previous = Some(Box::new(deployment.spec.clone()));
            let version = "2".to_owned();
            let spec = TransformSpec { version, package_counter: 9, ..deployment.spec.clone() };
            deployment.canary =
                Some(Box::new(Canary { id: TransformId(8), spec, share_percent: 30 }));
            let mut take = Take::new(written(&deployment).freeze());
            assert_eq!(Deployment::take(&mut take, true), Ok(deployment));
            assert_eq!(take.end("deployment"), Ok(()));
        }
    }

    #[test]
    fn a_part_of_a_newer_version_is_refused() {
        let mut bytes = written(&deployment(Mode::Inline));
        // One part in place of none: tag 200, no body.
        bytes.truncate(bytes.len() - 1);
        bytes.put_slice(&[1, 200, 0]);
        assert!(Deployment::take(&mut Take::new(bytes.freeze()), true).is_err());
    }
}
