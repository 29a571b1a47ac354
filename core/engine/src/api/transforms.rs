//! Administrative requests about transforms. A change is announced at once, so that jobs find
//! their transforms, and answered when it is durable.

use crate::engine::{Engine, Then};
use crate::entry::Fact;
use crate::topic::is_valid_topic_name;
use crate::transform::{AdminError, AdminRequest, AdminResponse, Deployment, TransformSpec};
use crate::units::{AdminId, EntrySeq};
use millpond_wire::limits;

impl Engine {
    pub(crate) fn on_admin(&mut self, id: AdminId, request: AdminRequest) {
        let before = self.current_seq();
        let result = match request {
            AdminRequest::DeployTransform(spec) => self.deploy(spec),
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
        let id = self.state.transforms.next_id();
        let before = self.state.transforms.find(&spec.name).map(|before| before.spec.clone());
        let deployment = Deployment { id, spec, paused: false };
        self.commit(Fact::TransformDeployed(deployment.clone()));
        self.begin_lanes(&deployment.spec, before.as_ref());
        Ok(AdminResponse::Transform(Box::new(deployment)))
    }
}

fn check_spec(spec: &TransformSpec) -> Result<(), AdminError> {
    let invalid = |message: &str| Err(AdminError::InvalidSpec(message.to_owned()));
    if !is_valid_topic_name(&spec.name) || spec.name.len() > limits::TRANSFORM_NAME_BYTES_MAX {
        return invalid("names are letters, digits, '.', '_' and '-'");
    }
    if spec.version.len() > limits::TRANSFORM_NAME_BYTES_MAX {
        return invalid("the version label is too long");
    }
    if spec.topics.is_empty() || spec.topics.len() > limits::TOPICS_PER_TRANSFORM_MAX {
        return invalid("it must run on one topic at least, and not on too many");
    }
    let mut topics = spec.topics.iter().chain(&spec.dead_letter_topic);
    if !topics.all(|topic| is_valid_topic_name(topic)) {
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
