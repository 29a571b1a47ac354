//! Lines to a broker: every transport, trust and distrust, pipelining, timeouts, cancellation.

use crate::support::FakeBroker;
use futures::future::join_all;
use millpond_client::{
    Admin, CallError, Client, ClientConfig, ClientError, ConnectError, Connection, NewTopic,
    Scheme, Trust,
};
use millpond_wire::messages::{MetadataRequest, Request, Response};
use millpond_wire::{ApiKey, ErrorCode};
use std::time::Duration;

const ALL: [Scheme; 3] = [Scheme::Tcp, Scheme::Tls, Scheme::Quic];

#[tokio::test]
async fn every_transport_negotiates_and_answers() {
    for scheme in ALL {
        let broker = FakeBroker::with_topic(scheme, "telemetry", 3).await;
        let client = Client::connect(broker.config()).await.unwrap();
        let topics = Admin::new(client.clone()).list_topics().await.unwrap();
        assert_eq!(topics.len(), 1, "{scheme}");
        assert_eq!(topics[0].partitions.len(), 3);
        client.close().await;
    }
}

#[tokio::test]
async fn lanes_of_a_quic_client_are_streams_and_of_the_others_connections() {
    let broker = FakeBroker::start(Scheme::Quic).await;
    let client = Client::connect(broker.config()).await.unwrap();
    let (one, two) = (
        client.lane(crate::support::NODE_ID).await.unwrap(),
        client.lane(crate::support::NODE_ID).await.unwrap(),
    );
    let request = || Request::Metadata(MetadataRequest::default());
    assert!(one.call(request()).await.is_ok() && two.call(request()).await.is_ok());
    assert_eq!(broker.state().connections, 3);
}

#[tokio::test]
async fn a_certificate_with_another_fingerprint_is_refused_before_a_request() {
    for scheme in [Scheme::Tls, Scheme::Quic] {
        let (broker, other) = (FakeBroker::start(scheme).await, FakeBroker::start(scheme).await);
        let config = broker.config().trust(Trust::Fingerprint(other.fingerprint));
        let error = Client::connect(config).await.unwrap_err();
        let ClientError::Connect(ConnectError::Handshake { reason, .. }) = &error else {
            panic!("{scheme}: {error}");
        };
        assert!(reason.contains(&broker.fingerprint.to_string()), "{reason}");
        assert!(!error.is_retriable());
        assert_eq!(broker.state().connections, 0, "{scheme}");
    }
}

#[tokio::test]
async fn a_self_signed_certificate_may_stand_for_its_own_authority() {
    for scheme in [Scheme::Tls, Scheme::Quic] {
        let broker = FakeBroker::start(scheme).await;
        let own = Trust::CaPem(broker.certificate_pem.clone().into_bytes());
        Client::connect(broker.config().trust(own)).await.unwrap();
        let foreign = FakeBroker::start(scheme).await.certificate_pem.clone().into_bytes();
        let error =
            Client::connect(broker.config().trust(Trust::CaPem(foreign))).await.unwrap_err();
        assert!(matches!(error, ClientError::Connect(ConnectError::Handshake { .. })), "{error}");
    }
}

#[tokio::test]
async fn without_trust_nothing_is_sent_over_tls_or_quic() {
    for scheme in [Scheme::Tls, Scheme::Quic] {
        let broker = FakeBroker::start(scheme).await;
        let error = Client::connect(broker.config().trust(Trust::Nothing)).await.unwrap_err();
        assert!(matches!(error, ClientError::Connect(ConnectError::Trust { .. })), "{error}");
        assert!(Client::connect(broker.config().trust(Trust::InsecureNoVerify)).await.is_ok());
    }
}

#[tokio::test]
async fn a_broker_that_knows_only_old_api_versions_is_asked_again() {
    let broker = FakeBroker::start(Scheme::Tcp).await;
    broker.state().is_old = true;
    let connection = Connection::open(&broker.config()).await.unwrap();
    assert!(connection.version(ApiKey::Produce).is_some());
}

#[tokio::test]
async fn calls_under_way_together_get_their_own_answers() {
    for scheme in ALL {
        let broker = FakeBroker::start(scheme).await;
        for n in 0..40 {
            broker.add_topic(&format!("topic-{n}"), 1);
        }
        let connection = Connection::open(&broker.config()).await.unwrap();
        let call = |n: usize| {
            let topic = millpond_wire::messages::metadata_request::MetadataRequestTopic {
                name: Some(format!("topic-{n}")),
                ..Default::default()
            };
            let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
            connection.call(Request::Metadata(request))
        };
        let answers = join_all((0..40).map(call)).await;
        for (n, answer) in answers.into_iter().enumerate() {
            let Response::Metadata(response) = answer.unwrap() else { panic!("another API") };
            assert_eq!(response.topics[0].name, Some(format!("topic-{n}")), "{scheme}");
        }
    }
}

#[tokio::test]
async fn a_cancelled_call_does_not_disturb_the_ones_after_it() {
    let broker = FakeBroker::start(Scheme::Tcp).await;
    let connection = Connection::open(&broker.config()).await.unwrap();
    let request = || Request::Metadata(MetadataRequest::default());
    for _ in 0..20 {
        let version = connection.version(ApiKey::Metadata).unwrap();
        drop(connection.begin(request(), version, Duration::from_secs(5)).unwrap());
    }
    assert!(connection.call(request()).await.is_ok());
    assert!(!connection.is_closed());
}

#[tokio::test]
async fn a_request_that_is_not_answered_in_time_ends_the_line() {
    let broker = FakeBroker::with_topic(Scheme::Tcp, "t", 1).await;
    broker.state().topics.clear();
    broker.plan([crate::support::Fault::NeverAnswer]);
    let connection = Connection::open(&broker.config()).await.unwrap();
    let produce = millpond_wire::messages::ProduceRequest { acks: 1, ..Default::default() };
    let error = connection
        .call_within(Request::Produce(produce), 9, Duration::from_millis(50))
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::Timeout { .. }), "{error}");
    connection.closed().await;
    let error = connection.call(Request::Metadata(MetadataRequest::default())).await.unwrap_err();
    assert!(matches!(error, CallError::Lost { .. }), "{error}");
}

#[tokio::test]
async fn nobody_listening_is_a_clear_error() {
    let address = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap()
    };
    let error =
        Client::connect(ClientConfig::new(&address.to_string()).unwrap()).await.unwrap_err();
    assert!(matches!(error, ClientError::Connect(ConnectError::Io { .. })), "{error}");
    let quic = ClientConfig::new(&format!("quic://{address}"))
        .unwrap()
        .trust(Trust::InsecureNoVerify)
        .connect_timeout(Duration::from_millis(200));
    let error = Client::connect(quic).await.unwrap_err();
    assert!(matches!(error, ClientError::Connect(ConnectError::Timeout { .. })), "{error}");
    assert!(error.is_retriable());
}

#[tokio::test]
async fn the_admin_reports_what_the_broker_refuses() {
    let broker = FakeBroker::start(Scheme::Quic).await;
    let admin = Admin::new(Client::connect(broker.config()).await.unwrap());
    admin.create_topic(NewTopic::new("t").partitions(4)).await.unwrap();
    let error = admin.create_topic(NewTopic::new("t")).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TopicAlreadyExists));
    assert_eq!(admin.describe_topic("t").await.unwrap().partitions.len(), 4);
    let error = admin.describe_topic("absent").await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition));
}
