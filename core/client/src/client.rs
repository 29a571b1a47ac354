//! A client: its settings, its lines, its picture of the cluster. Producer, consumer and admin
//! stand on one and may share it.
//!
//! It connects when it is first needed, and never by itself.

use crate::config::ClientConfig;
use crate::connection::Connection;
use crate::error::{CallError, ClientError, ConnectError};
use crate::metadata::{Cluster, topic_error};
use crate::transport::Connector;
use crate::url::Scheme;
use millpond_wire::ApiKey;
use millpond_wire::messages::metadata_request::MetadataRequestTopic;
use millpond_wire::messages::{
    FindCoordinatorRequest, FindCoordinatorResponse, MetadataRequest, MetadataResponse, Request,
    Response,
};
use std::sync::{Arc, Mutex, PoisonError};

/// The last version of FindCoordinator with a single key.
const FIND_COORDINATOR_SINGLE: i16 = 3;

/// A handle to a cluster. Clones share lines and metadata.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: ClientConfig,
    connector: Connector,
    /// The line for questions; the lock is held while it is opened, not while it is used.
    control: tokio::sync::Mutex<Option<Connection>>,
    cluster: Mutex<Arc<Cluster>>,
}

/// Takes the one variant that answers the request just made.
macro_rules! expect_response {
    ($connection:expr, $response:expr, $api:ident) => {
        match $response {
            millpond_wire::messages::Response::$api(response) => response,
            _ => {
                let api = millpond_wire::ApiKey::$api;
                return Err($connection.unexpected(api, "another API's response").into());
            }
        }
    };
}
pub(crate) use expect_response;

impl Client {
    /// A client that connects when it is first used.
    pub fn new(config: ClientConfig) -> Self {
        let connector = Connector::new(config.clone());
        Self {
            inner: Arc::new(Inner {
                config,
                connector,
                control: tokio::sync::Mutex::default(),
                cluster: Mutex::default(),
            }),
        }
    }

    /// A client that has reached a broker: a wrong address or trust shows here.
    ///
    /// # Errors
    /// [`ClientError`] of the first contact.
    pub async fn connect(config: ClientConfig) -> Result<Self, ClientError> {
        let client = Self::new(config);
        client.refresh(&[], false).await?;
        Ok(client)
    }

    /// The settings.
    pub fn config(&self) -> &ClientConfig {
        &self.inner.config
    }

    /// The picture of the cluster as it was last seen; empty before the first contact.
    pub fn cluster(&self) -> Arc<Cluster> {
        let cluster = self.inner.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&cluster)
    }

    /// Asks for the metadata of `topics` and keeps it. `create`: the broker may create topics that
    /// it does not have, if it is set up to.
    ///
    /// # Errors
    /// If no broker answers, or the first topic with an error.
    pub async fn refresh(
        &self,
        topics: &[Arc<str>],
        create: bool,
    ) -> Result<Arc<Cluster>, ClientError> {
        let response = self.metadata(Some(topics), create).await?;
        let error = topics.iter().find_map(|topic| topic_error(&response, topic));
        let cluster = self.keep(response, Some(topics));
        error.map_or(Ok(cluster), Err)
    }

    /// Asks for the metadata of every topic and keeps it.
    ///
    /// # Errors
    /// If no broker answers.
    pub async fn refresh_all(&self) -> Result<Arc<Cluster>, ClientError> {
        let response = self.metadata(None, false).await?;
        Ok(self.keep(response, None))
    }

    fn keep(&self, response: MetadataResponse, asked: Option<&[Arc<str>]>) -> Arc<Cluster> {
        let mut cluster = self.inner.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        *cluster = Arc::new(cluster.updated(response, asked, self.scheme()));
        Arc::clone(&cluster)
    }

    async fn metadata(
        &self,
        topics: Option<&[Arc<str>]>,
        create: bool,
    ) -> Result<MetadataResponse, ClientError> {
        let named = |name: &Arc<str>| MetadataRequestTopic {
            name: Some(name.to_string()),
            ..Default::default()
        };
        let request = Request::Metadata(MetadataRequest {
            topics: topics.map(|topics| topics.iter().map(named).collect()),
            allow_auto_topic_creation: create,
            ..Default::default()
        });
        let (connection, response) = self.ask(request).await?;
        Ok(expect_response!(connection, response, Metadata))
    }

    /// Sends `request` to any broker, over the line for questions; once more if the line broke.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ask(&self, request: Request) -> Result<(Connection, Response), ClientError> {
        let connection = self.control().await?;
        match connection.call(request.clone()).await {
            Ok(response) => Ok((connection, response)),
            Err(CallError::Lost { .. }) => {
                let connection = self.control().await?;
                let response = connection.call(request).await?;
                Ok((connection, response))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The line for questions.
    pub(crate) async fn control(&self) -> Result<Connection, ClientError> {
        let mut control = self.inner.control.lock().await;
        if let Some(connection) = control.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let mut brokers = self.inner.config.bootstrap.clone();
        let known = self.cluster();
        for url in known.brokers.values() {
            if !brokers.contains(url) {
                brokers.push(url.clone());
            }
        }
        let connection =
            Connection::open_any(&self.inner.connector, &self.inner.config, &brokers).await?;
        *control = Some(connection.clone());
        Ok(connection)
    }

    /// A new lane to a broker of the cluster, for one purpose: its requests wait for no others.
    /// Over QUIC it is a stream of the one connection to that broker.
    ///
    /// # Errors
    /// [`ClientError::NotFound`] if the broker is not (or no longer) part of the cluster.
    pub async fn lane(&self, broker_id: i32) -> Result<Connection, ClientError> {
        let url = self.cluster().brokers.get(&broker_id).cloned();
        let url =
            url.ok_or_else(|| ClientError::NotFound { what: format!("broker {broker_id}") })?;
        let inner = &self.inner;
        Ok(Connection::open_to(&inner.connector, &inner.config, &url).await?)
    }

    /// The QUIC connection to a broker of the cluster; none where it is reached otherwise.
    pub(crate) async fn quic_connection(
        &self,
        broker_id: i32,
    ) -> Result<Option<quinn::Connection>, ClientError> {
        let url = self.cluster().brokers.get(&broker_id).cloned();
        let url =
            url.ok_or_else(|| ClientError::NotFound { what: format!("broker {broker_id}") })?;
        let (timeout, connector) = (self.inner.config.connect_timeout, &self.inner.connector);
        match tokio::time::timeout(timeout, connector.quic_connection(&url)).await {
            Ok(connection) => Ok(connection?),
            Err(_) => {
                let after_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                Err(ConnectError::Timeout { broker: url, after_ms }.into())
            }
        }
    }

    /// The id of the broker that coordinates a consumer group.
    ///
    /// # Errors
    /// [`ClientError`]; `COORDINATOR_NOT_AVAILABLE` is worth another try.
    pub async fn group_coordinator(&self, group: &str) -> Result<i32, ClientError> {
        self.coordinator(group, 0, format!("the coordinator of group `{group}`")).await
    }

    /// The id of the broker that coordinates the transactions of a transactional id.
    ///
    /// # Errors
    /// As of [`Client::group_coordinator`].
    pub async fn transaction_coordinator(&self, id: &str) -> Result<i32, ClientError> {
        self.coordinator(id, 1, format!("the coordinator of transactional id `{id}`")).await
    }

    /// `key_type`: Kafka's number, 0 for groups and 1 for transactions.
    async fn coordinator(&self, key: &str, key_type: i8, what: String) -> Result<i32, ClientError> {
        let connection = self.control().await?;
        let api = ApiKey::FindCoordinator;
        let version = connection.version_up_to(api, FIND_COORDINATOR_SINGLE);
        let version = version
            .ok_or_else(|| CallError::Unsupported { broker: connection.broker().clone(), api })?;
        let request = Request::FindCoordinator(FindCoordinatorRequest {
            key: key.to_owned(),
            key_type,
            ..Default::default()
        });
        let response = connection.call_version(request, version).await?;
        let response: FindCoordinatorResponse =
            expect_response!(connection, response, FindCoordinator);
        if let Some(error) = ClientError::refused(what, response.error_code, response.error_message)
        {
            return Err(error);
        }
        if !self.cluster().brokers.contains_key(&response.node_id) {
            self.refresh(&[], false).await?;
        }
        Ok(response.node_id)
    }

    /// Closes QUIC connections so that the brokers know at once; TCP lines end with their last
    /// handle anyway.
    pub async fn close(&self) {
        if let Some(control) = self.inner.control.lock().await.take() {
            control.close();
        }
        self.inner.connector.close().await;
    }

    fn scheme(&self) -> Scheme {
        let first = self.inner.config.bootstrap.first();
        first.map_or(Scheme::Tcp, |url| url.scheme)
    }
}
