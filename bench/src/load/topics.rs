//! Topics of any broker that speaks Kafka's protocol, made through our client.

use std::net::SocketAddr;

use millpond_client::{Admin, Client, ClientConfig, NewTopic, OffsetSpec};

use crate::error::{Context, Outcome};

/// Makes a topic with settings.
pub(crate) fn create_topic(
    broker: SocketAddr,
    name: &str,
    partitions: usize,
    settings: &[(&str, &str)],
) -> Outcome<()> {
    let partitions = i32::try_from(partitions).context("partitions")?;
    with_admin(broker, async |admin| {
        let mut topic = NewTopic::new(name).partitions(partitions);
        for (key, value) in settings {
            topic = topic.setting(*key, *value);
        }
        admin.create_topic(topic).await.context("creating a topic")
    })
}

/// Where each partition of a topic ends.
pub(crate) fn end_offsets(broker: SocketAddr, topic: &str) -> Outcome<Vec<i64>> {
    with_admin(broker, async |admin| {
        let ends = admin.list_offsets(topic, OffsetSpec::Latest).await;
        Ok(ends.context("the ends of a topic")?.iter().map(|end| end.offset).collect())
    })
}

fn with_admin<T>(broker: SocketAddr, ask: impl AsyncFnOnce(Admin) -> Outcome<T>) -> Outcome<T> {
    let config = ClientConfig::new(&format!("tcp://{broker}")).context("an address")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("a runtime")?.block_on(async {
        let client = Client::connect(config).await.context("connecting")?;
        ask(Admin::new(client)).await
    })
}
