//! `millpond topic`.

use clap::{Args, Subcommand};
use millpond_client::metadata::Topic;
use millpond_client::{Admin, NewTopic, OffsetSpec};
use serde::Serialize;

use super::table::Table;
use super::{Bootstrap, CliError, text};

/// `millpond topic`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  millpond topic create readings --partitions 4
  millpond topic create audit --config retention.ms=604800000
  millpond topic list
  millpond topic describe readings
  millpond topic delete readings")]
pub(super) struct TopicArgs {
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(subcommand)]
    command: TopicCommand,
}

#[derive(Debug, Subcommand)]
enum TopicCommand {
    /// Create topics.
    Create {
        /// Their names.
        #[arg(required = true)]
        topics: Vec<String>,
        /// Partitions of each [default: the broker's].
        #[arg(long, short)]
        partitions: Option<i32>,
        /// Copies of each partition [default: the broker's].
        #[arg(long)]
        replication_factor: Option<i16>,
        /// A setting, NAME=VALUE; may be repeated.
        #[arg(long = "config", value_name = "NAME=VALUE", value_parser = setting)]
        configs: Vec<(String, String)>,
    },
    /// List all topics.
    List,
    /// Show the partitions and settings of a topic.
    Describe {
        /// Its name.
        topic: String,
        /// Show settings that have their default as well.
        #[arg(long)]
        all: bool,
    },
    /// Delete topics and everything in them.
    Delete {
        /// Their names.
        #[arg(required = true)]
        topics: Vec<String>,
    },
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) =
        text.split_once('=').ok_or("write NAME=VALUE, for example retention.ms=86400000")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Runs the command.
pub(super) async fn run(args: TopicArgs, json: bool) -> Result<(), CliError> {
    let bootstrap = args.bootstrap;
    let admin = bootstrap.admin().await?;
    let done = match args.command {
        TopicCommand::Create { topics, partitions, replication_factor, configs } => {
            for name in topics {
                let mut topic = NewTopic::new(&name);
                topic = partitions.into_iter().fold(topic, NewTopic::partitions);
                topic = replication_factor.into_iter().fold(topic, NewTopic::replication_factor);
                topic = configs.iter().fold(topic, |topic, (key, value)| topic.setting(key, value));
                admin.create_topic(topic).await.map_err(|e| bootstrap.explain(&e))?;
                said(json, "created", &name)?;
            }
            return Ok(());
        }
        TopicCommand::Delete { topics } => {
            for name in topics {
                admin.delete_topic(&name).await.map_err(|e| bootstrap.explain(&e))?;
                said(json, "deleted", &name)?;
            }
            return Ok(());
        }
        TopicCommand::List => list(&admin, json).await,
        TopicCommand::Describe { topic, all } => describe(&admin, &topic, all, json).await,
    };
    done.map_err(|e| bootstrap.explain(&e))?
}

fn said(json: bool, what: &str, topic: &str) -> Result<(), CliError> {
    if json {
        return text::print_json(&serde_json::json!({ "topic": topic, "done": what }));
    }
    text::print(&format!("{what} topic {topic}\n"))
}

type Printed = Result<Result<(), CliError>, millpond_client::ClientError>;

#[derive(Serialize)]
struct ListedTopic {
    topic: String,
    partitions: usize,
    records: i64,
}

async fn list(admin: &Admin, json: bool) -> Printed {
    let mut topics = admin.list_topics().await?;
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    let mut listed = Vec::with_capacity(topics.len());
    for topic in topics {
        let offsets = offsets(admin, &topic).await?;
        let records = offsets.iter().map(|(first, next)| next - first).sum();
        listed.push(ListedTopic {
            topic: topic.name.to_string(),
            partitions: topic.partitions.len(),
            records,
        });
    }
    Ok(show_list(&listed, json))
}

fn show_list(listed: &[ListedTopic], json: bool) -> Result<(), CliError> {
    if json {
        return text::print_json(&listed);
    }
    if listed.is_empty() {
        return text::print("There are no topics yet. `millpond topic create NAME` makes one.\n");
    }
    let mut table = Table::new(["TOPIC", "PARTITIONS", "RECORDS"]);
    for topic in listed {
        table.row([topic.topic.clone(), topic.partitions.to_string(), topic.records.to_string()]);
    }
    text::print(&table.render())
}

/// The first and the next offset of each partition, in the order of the partitions.
async fn offsets(
    admin: &Admin,
    topic: &Topic,
) -> Result<Vec<(i64, i64)>, millpond_client::ClientError> {
    let first = admin.list_offsets(&topic.name, OffsetSpec::Earliest).await?;
    let next = admin.list_offsets(&topic.name, OffsetSpec::Latest).await?;
    Ok(first.iter().zip(&next).map(|(first, next)| (first.offset, next.offset)).collect())
}

#[derive(Serialize)]
struct DescribedTopic {
    topic: String,
    id: String,
    partitions: Vec<DescribedPartition>,
    settings: Vec<DescribedSetting>,
}

#[derive(Serialize)]
struct DescribedPartition {
    partition: i32,
    leader: Option<i32>,
    leader_epoch: i32,
    replicas: Vec<i32>,
    first_offset: i64,
    next_offset: i64,
}

#[derive(Serialize)]
struct DescribedSetting {
    name: String,
    value: Option<String>,
    is_default: bool,
}

async fn describe(admin: &Admin, name: &str, all: bool, json: bool) -> Printed {
    let topic = admin.describe_topic(name).await?;
    let offsets = offsets(admin, &topic).await?;
    let mut settings = admin.topic_settings(name).await?;
    settings.retain(|s| all || !s.is_default);
    let partition =
        |(p, (first_offset, next_offset)): (&millpond_client::metadata::Partition, (i64, i64))| {
            DescribedPartition {
                partition: p.index,
                leader: p.leader,
                leader_epoch: p.leader_epoch,
                replicas: p.replicas.clone(),
                first_offset,
                next_offset,
            }
        };
    let described = DescribedTopic {
        topic: topic.name.to_string(),
        id: topic.id.to_string(),
        partitions: topic.partitions.iter().zip(offsets).map(partition).collect(),
        settings: settings
            .into_iter()
            .map(|s| DescribedSetting { name: s.name, value: s.value, is_default: s.is_default })
            .collect(),
    };
    Ok(show_description(&described, json))
}

fn show_description(topic: &DescribedTopic, json: bool) -> Result<(), CliError> {
    if json {
        return text::print_json(topic);
    }
    let mut partitions =
        Table::new(["PARTITION", "LEADER", "EPOCH", "REPLICAS", "FIRST", "NEXT", "RECORDS"]);
    for p in &topic.partitions {
        partitions.row([
            p.partition.to_string(),
            p.leader.map_or("-".into(), |leader| leader.to_string()),
            p.leader_epoch.to_string(),
            p.replicas.iter().map(i32::to_string).collect::<Vec<_>>().join(","),
            p.first_offset.to_string(),
            p.next_offset.to_string(),
            (p.next_offset - p.first_offset).to_string(),
        ]);
    }
    let mut out = format!("topic {} ({})\n\n{}", topic.topic, topic.id, partitions.render());
    let mut settings = Table::new(["SETTING", "VALUE"]);
    for setting in &topic.settings {
        settings.row([setting.name.clone(), setting.value.clone().unwrap_or_else(|| "-".into())]);
    }
    if !settings.is_empty() {
        out.push('\n');
        out.push_str(&settings.render());
    }
    text::print(&out)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_setting_is_split_at_its_first_equals_sign() {
        assert_eq!(super::setting("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(super::setting("a").unwrap_err().contains("NAME=VALUE"));
    }
}
