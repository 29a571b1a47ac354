//! Administrative requests about transforms. A change is announced at once, so that jobs find
//! their transforms, and answered when it is durable.

use crate::engine::{Engine, Then};
use crate::entry::Fact;
use crate::transform::{
    AdminError, AdminRequest, AdminResponse, Canary, Deployment, TransformSpec,
};
use crate::units::{AdminId, EntrySeq, TransformId};
use millpond_wire::limits;
use millpond_wire::topic_name;

impl Engine {
    pub(crate) fn on_admin(&mut self, id: AdminId, request: AdminRequest) {
        let before = self.current_seq();
        let result = match request {
            AdminRequest::DeployTransform(spec) => self.deploy(spec),
            AdminRequest::CanaryTransform { spec, share_percent } => {
                self.start_canary(spec, share_percent)
            }
            AdminRequest::PromoteTransform { name } => self.promote(name),
            AdminRequest::RollBackTransform { name, of } => self.roll_back(name, of),
            AdminRequest::DeleteTransform { name } => self.delete_transform(&name),
            AdminRequest::PauseTransform { name, paused } => {
                self.change(&name, |name| Fact::TransformPaused { name, paused })
            }
            AdminRequest::ListTransforms => {
                return self.answer_admin(id, Ok(AdminResponse::Transforms(self.transforms())));
            }
            AdminRequest::DescribeTransform { name } => {
                let found = self.state.transforms.find(&name).cloned();
                let result = found.map(|found| AdminResponse::Transform(Box::new(found)));
                return self.answer_admin(id, result.ok_or(AdminError::UnknownTransform(name)));
            }
        };
        let seq = if result.is_ok() { before } else { EntrySeq(0) };
        if result.is_ok() {
            self.announce_transforms();
        }
        self.after(seq, Then::AdminReply(id, result));
    }

    fn answer_admin(&mut self, id: AdminId, result: Result<AdminResponse, AdminError>) {
        self.after(EntrySeq(0), Then::AdminReply(id, result));
    }

    fn change(
        &mut self,
        name: &str,
        fact: impl FnOnce(String) -> Fact,
    ) -> Result<AdminResponse, AdminError> {
        if self.state.transforms.find(name).is_none() {
            return Err(AdminError::UnknownTransform(name.to_owned()));
        }
        self.commit(fact(name.to_owned()));
        Ok(AdminResponse::Done)
    }

    /// Its state goes with it.
    fn delete_transform(&mut self, name: &str) -> Result<AdminResponse, AdminError> {
        let topics = self.state.transforms.find(name).map(|one| one.spec.topics.clone());
        let done = self.change(name, |name| Fact::TransformDeleted { name })?;
        for topic in topics.unwrap_or_default() {
            let keys = self.state.catalog.by_name(&topic).map(|t| t.keys().collect::<Vec<_>>());
            for key in keys.into_iter().flatten() {
                if let Some(log) = self.state.catalog.partition_mut(key) {
                    log.pending.forget_keeper(name);
                }
            }
        }
        for (_, changelog) in self.changelogs(Some(name), None) {
            self.delete_topic(changelog);
        }
        Ok(done)
    }

    fn deploy(&mut self, spec: TransformSpec) -> Result<AdminResponse, AdminError> {
        check_spec(&spec)?;
        self.check_mode(&spec)?;
        self.check_counter(&spec)?;
        let is_new = self.state.transforms.find(&spec.name).is_none();
        if is_new && self.state.transforms.len() >= limits::TRANSFORMS_MAX {
            return Err(AdminError::TooMany(limits::TRANSFORMS_MAX));
        }
        for topic in &spec.topics {
            let others = self.state.transforms.on_topic(topic, &spec.name);
            if others >= limits::TRANSFORMS_PER_TOPIC_MAX {
                let message = format!("topic {topic} has {others} transforms, which is the limit");
                return Err(AdminError::InvalidSpec(message));
            }
        }
        let previous = self.state.transforms.find(&spec.name).map(|now| Box::new(now.spec.clone()));
        Ok(self.put_in_force(spec, previous))
    }

    /// A signed package never takes the place of a newer one, but that in force may be altered, also
    /// after a roll-back. Whether packages must be signed is the node's affair.
    fn check_counter(&self, spec: &TransformSpec) -> Result<(), AdminError> {
        let (counter, highest) = (spec.package_counter, self.state.transforms.counter(&spec.name));
        let now = self.state.transforms.find(&spec.name);
        let is_altered = now.is_some_and(|now| now.spec.module == spec.module);
        if counter > 0 && counter < highest && !is_altered {
            return Err(AdminError::OldPackage { name: spec.name.clone(), counter, highest });
        }
        let is_new = counter > 0 && highest == 0;
        if is_new && self.state.transforms.counters_len() >= limits::PACKAGE_COUNTERS_MAX {
            return Err(AdminError::TooManyPackages(limits::PACKAGE_COUNTERS_MAX));
        }
        Ok(())
    }

    /// On all partitions, not paused.
    fn put_in_force(
        &mut self,
        spec: TransformSpec,
        previous: Option<Box<TransformSpec>>,
    ) -> AdminResponse {
        let id = self.state.transforms.next_id();
        self.commit_deployment(Deployment { id, spec, previous, ..Deployment::default() })
    }

    fn commit_deployment(&mut self, deployment: Deployment) -> AdminResponse {
        let before = self.state.transforms.find(&deployment.spec.name).map(|now| now.spec.clone());
        self.commit(Fact::TransformDeployed(deployment.clone()));
        self.begin_lanes(&deployment.spec, before.as_ref());
        AdminResponse::Transform(Box::new(deployment))
    }

    fn start_canary(
        &mut self,
        spec: TransformSpec,
        share_percent: u8,
    ) -> Result<AdminResponse, AdminError> {
        check_spec(&spec)?;
        self.check_mode(&spec)?;
        self.check_counter(&spec)?;
        let invalid = |message: &str| Err(AdminError::InvalidSpec(message.to_owned()));
        if !(1..=99).contains(&share_percent) {
            return invalid("a canary's share is from 1 to 99 percent of the partitions");
        }
        let mut deployment = self.named(&spec.name)?;
        let now = &deployment.spec;
        if (&now.topics, now.mode, now.order) != (&spec.topics, spec.mode, spec.order) {
            return invalid(
                "a canary runs on the topics, in the mode and in the order of the version in force; \
                 to change these, deploy it on all partitions",
            );
        }
        let id = self.state.transforms.next_id();
        deployment.canary = Some(Box::new(Canary { id, spec, share_percent }));
        Ok(self.commit_deployment(deployment))
    }

    fn promote(&mut self, name: String) -> Result<AdminResponse, AdminError> {
        let now = self.named(&name)?;
        let Some(canary) = now.canary else { return Err(AdminError::NoCanary(name)) };
        let promoted = Deployment {
            id: canary.id,
            spec: canary.spec,
            paused: now.paused,
            previous: Some(Box::new(now.spec)),
            canary: None,
        };
        Ok(self.commit_deployment(promoted))
    }

    /// The canary goes first. A version that was rolled back by hand is the previous one from then
    /// on, so that a second roll-back undoes the first; one that went by itself never comes back so.
    fn roll_back(
        &mut self,
        name: String,
        of: Option<TransformId>,
    ) -> Result<AdminResponse, AdminError> {
        let mut now = self.named(&name)?;
        let canary = now.canary.take().map(|canary| canary.id);
        let meant = of.or(canary).unwrap_or(now.id);
        if canary == Some(meant) {
            return Ok(self.commit_deployment(now));
        }
        if meant != now.id {
            return Err(AdminError::Superseded { name, of: meant });
        }
        let Some(previous) = now.previous else { return Err(AdminError::NoPrevious(name)) };
        self.check_mode(&previous)?;
        let undone = of.is_none().then(|| Box::new(now.spec));
        Ok(self.put_in_force(*previous, undone))
    }

    fn named(&self, name: &str) -> Result<Deployment, AdminError> {
        let found = self.state.transforms.find(name).cloned();
        found.ok_or_else(|| AdminError::UnknownTransform(name.to_owned()))
    }
}

fn check_spec(spec: &TransformSpec) -> Result<(), AdminError> {
    let invalid = |message: &str| Err(AdminError::InvalidSpec(message.to_owned()));
    if !topic_name::is_valid(&spec.name) || spec.name.len() > limits::TRANSFORM_NAME_BYTES_MAX {
        return invalid("names are letters, digits, '.', '_' and '-'");
    }
    if spec.version.len() > limits::TRANSFORM_NAME_BYTES_MAX {
        return invalid("the version label is too long");
    }
    if spec.topics.is_empty() || spec.topics.len() > limits::TOPICS_PER_TRANSFORM_MAX {
        return invalid("it must run on one topic at least, and not on too many");
    }
    let mut topics = spec.topics.iter().chain(&spec.dead_letter_topic);
    if !topics.all(|topic| topic_name::is_valid(topic)) {
        return invalid("a topic name is not allowed");
    }
    if spec.dead_letter_topic.as_ref().is_some_and(|topic| spec.topics.contains(topic)) {
        return invalid("its dead-letter topic must be another topic");
    }
    let fits = |(key, value): (&String, &String)| {
        key.len() <= limits::TRANSFORM_SETTING_KEY_BYTES_MAX
            && value.len() <= limits::TRANSFORM_SETTING_VALUE_BYTES_MAX
    };
    if spec.settings.len() > limits::TRANSFORM_SETTINGS_MAX || !spec.settings.iter().all(fits) {
        return invalid("there are too many settings, or one is too long");
    }
    if spec.limits.len() > limits::TRANSFORM_SETTINGS_MAX {
        return invalid("there are not so many limits");
    }
    Ok(())
}
