//! Two records that count together or not at all. Never run as a test: it needs a broker.
//!
//! `cargo run -p millpond-client --example transfer -- quic://127.0.0.1:9092 FINGERPRINT`

use millpond_client::{ClientConfig, Producer, Record, Trust};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("usage: transfer URL FINGERPRINT");
    let config = ClientConfig::new(&next()?)?.trust(Trust::fingerprint(&next()?)?);
    let builder = Producer::builder().transactional_id("transfer-1");
    let producer = builder.connect_transactional(config).await?;
    producer.begin().await?;
    let debit = producer.send(Record::to("debits").key("ann").value("5")).await?;
    let credit = producer.send(Record::to("credits").key("bob").value("5")).await?;
    producer.commit().await?;
    println!("{:?}, {:?}", debit.await?.offset, credit.await?.offset);
    producer.close().await;
    Ok(())
}
