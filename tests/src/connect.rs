//! A Kafka Connect worker in distributed mode, in a process of its own, and its REST interface.
//! Its cluster's state is in three topics that Connect makes itself; the worker has none. Never
//! retries what Connect refused, but for a rebalance, which Connect says will pass.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use millpond_wire::messages::Response;
use millpond_wire::messages::describe_configs_request::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use serde_json::{Value, json};

use crate::broker::Broker;
use crate::jvm::Classes;
use crate::kafka::Kafka;
use crate::ports;
use crate::running::Running;

/// The three topics of a cluster of workers: configurations, offsets of sources, states.
pub const INTERNAL_TOPICS: [&str; 3] = ["story-configs", "story-offsets", "story-status"];

/// How long Connect may take for a step; a worker that was killed is missed after its session.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What all workers of the cluster share. Sources write in transactions, together with their
/// offsets; a worker that starts waits until transactions of the dead in its topics have run out.
/// Sessions are as short as Kafka lets them be.
const SETTINGS: &str = "\
group.id=story
config.storage.topic=story-configs
offset.storage.topic=story-offsets
status.storage.topic=story-status
config.storage.replication.factor=-1
offset.storage.replication.factor=-1
status.storage.replication.factor=-1
offset.storage.partitions=5
exactly.once.source.support=enabled
producer.transaction.timeout.ms=5000
key.converter=org.apache.kafka.connect.storage.StringConverter
value.converter=org.apache.kafka.connect.storage.StringConverter
offset.flush.interval.ms=500
session.timeout.ms=6000
consumer.session.timeout.ms=6000
heartbeat.interval.ms=500
consumer.heartbeat.interval.ms=500
scheduled.rebalance.max.delay.ms=0
task.shutdown.graceful.timeout.ms=2000
";

/// One worker, over all its lives.
pub struct Worker {
    name: &'static str,
    address: SocketAddr,
    settings: String,
    classes: Classes,
    running: Option<Running>,
}

impl Worker {
    /// Not started yet.
    #[track_caller]
    pub fn new(name: &'static str, broker: &Broker) -> Worker {
        let (address, bootstrap) = (ports::free(), broker.bootstrap());
        let own = format!("bootstrap.servers={bootstrap}\nlisteners=http://{address}\n");
        let settings = broker.file(name, format!("{SETTINGS}{own}").as_bytes());
        let classes = Classes::of_jars("connect");
        Worker { name, address, settings, classes, running: None }
    }

    /// Whether it was started and not killed since.
    pub fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// How Connect names it.
    pub fn id(&self) -> String {
        self.address.to_string()
    }

    /// Start it, and do not wait.
    #[track_caller]
    pub fn start(&mut self) {
        let class = "org.apache.kafka.connect.cli.ConnectDistributed";
        self.running = Some(self.classes.start(self.name, class, &[&self.settings]));
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// The process, to freeze and to thaw.
    #[track_caller]
    pub fn process(&mut self) -> &mut Running {
        match &mut self.running {
            Some(running) => running,
            None => panic!("{} does not run", self.name),
        }
    }

    /// SIGTERM: it leaves its group.
    #[track_caller]
    pub fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.stop(PATIENCE);
        }
    }

    /// Ask until the answer is as wanted. Between two tries it waits for a line of the worker's
    /// log, but not for long.
    #[track_caller]
    pub fn until<T>(&mut self, what: &str, mut ask: impl FnMut(&Worker) -> Result<T, String>) -> T {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let error = match ask(self) {
                Ok(answer) => return answer,
                Err(error) => error,
            };
            let name = self.name;
            let running = self.process();
            running.expect_alive();
            assert!(Instant::now() < give_up, "{name}: waited for {what}: {error}");
            running.log().wait_for_news(Duration::from_millis(50));
        }
    }

    /// Wait until it is a member of the cluster and answers.
    #[track_caller]
    pub fn expect_ready(&mut self) {
        self.until("its REST interface", |worker| worker.get("/connectors").map(drop));
    }

    /// Create a connector, or give it another configuration.
    #[track_caller]
    pub fn configure(&mut self, connector: &str, settings: &[(&str, &str)]) {
        let settings: serde_json::Map<String, Value> =
            settings.iter().map(|(name, value)| ((*name).into(), json!(value))).collect();
        let (path, body) = (format!("/connectors/{connector}/config"), Value::Object(settings));
        self.until(connector, |worker| worker.put(&path, &body.to_string()).map(drop));
    }

    /// Wait until the connector and one task run; who has them.
    #[track_caller]
    pub fn expect_running(&mut self, connector: &str) -> [String; 2] {
        self.until(&format!("{connector} to run"), |worker| worker.runs(connector))
    }

    /// The workers of the connector and of its one task, if both run. Panics if the task failed and
    /// cannot be mended.
    #[track_caller]
    pub fn runs(&self, connector: &str) -> Result<[String; 2], String> {
        let status = self.get(&format!("/connectors/{connector}/status"))?;
        let worker = |part: &Value| {
            let runs = part["state"] == "RUNNING";
            runs.then(|| part["worker_id"].as_str().unwrap_or_default().to_owned())
        };
        if status["tasks"][0]["state"] == "FAILED" {
            self.mend(connector, &status["tasks"][0]);
        }
        match (worker(&status["connector"]), worker(&status["tasks"][0])) {
            (Some(connector), Some(task)) => Ok([connector, task]),
            _ => Err(status.to_string()),
        }
    }

    /// A task that failed is started again if it is the client that failed it: the sender's thread
    /// of Kafka's producer takes an old answer to whether there is data, and ends a transaction
    /// before it has sent any of it. Panics for any other failure.
    #[track_caller]
    fn mend(&self, connector: &str, task: &Value) {
        let trace = task["trace"].as_str().unwrap_or_default();
        assert!(trace.contains("InvalidTxnStateException"), "{connector}: {trace}");
        println!("the task of {connector} ended a transaction too early; it is started again");
        let path = format!("/connectors/{connector}/restart?includeTasks=true&onlyFailed=true");
        self.post(&path).ok();
    }

    /// GET.
    pub fn get(&self, path: &str) -> Result<Value, String> {
        answer(self.agent().get(self.url(path)).call())
    }

    /// POST of nothing.
    pub fn post(&self, path: &str) -> Result<Value, String> {
        let call = self.agent().post(self.url(path)).content_type("application/json");
        answer(call.send(""))
    }

    /// PUT.
    pub fn put(&self, path: &str, body: &str) -> Result<Value, String> {
        let call = self.agent().put(self.url(path)).content_type("application/json");
        answer(call.send(body))
    }

    /// PATCH.
    pub fn patch(&self, path: &str, body: &str) -> Result<Value, String> {
        let call = self.agent().patch(self.url(path)).content_type("application/json");
        answer(call.send(body))
    }

    /// DELETE.
    pub fn delete(&self, path: &str) -> Result<Value, String> {
        answer(self.agent().delete(self.url(path)).call())
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn agent(&self) -> ureq::Agent {
        let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(30)));
        config.http_status_as_error(false).build().into()
    }
}

type Answer = Result<ureq::http::Response<ureq::Body>, ureq::Error>;

fn answer(answer: Answer) -> Result<Value, String> {
    let mut answer = answer.map_err(|error| error.to_string())?;
    let text = answer.body_mut().read_to_string().map_err(|error| error.to_string())?;
    if !answer.status().is_success() {
        return Err(format!("{}: {text}", answer.status()));
    }
    Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
}

/// The value of a setting of a topic.
#[track_caller]
pub fn setting(broker: &Broker, topic: &str, name: &str) -> String {
    const TOPIC: i8 = 2;
    let mut kafka = Kafka::connect(broker.kafka(), PATIENCE).expect("a connection");
    let resource = DescribeConfigsResource {
        resource_type: TOPIC,
        resource_name: topic.into(),
        configuration_keys: Some(vec![name.into()]),
    };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    match kafka.call(1, request.into()) {
        Ok(Response::DescribeConfigs(answer)) => {
            let found = answer.results.first().and_then(|topic| topic.configs.first());
            let value = found.and_then(|setting| setting.value.as_ref());
            value.map(ToString::to_string).unwrap_or_else(|| panic!("{topic}: {answer:?}"))
        }
        other => panic!("{topic}: {other:?}"),
    }
}
