//! `millpond group`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use millpond_client::{Admin, ClientError};
use serde::Serialize;

use super::table::Table;
use super::{Bootstrap, CliError, text};

/// `millpond group`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  millpond group list
  millpond group describe dashboards
  millpond group delete dashboards")]
pub(super) struct GroupArgs {
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(subcommand)]
    command: GroupCommand,
}

#[derive(Debug, Subcommand)]
enum GroupCommand {
    /// List all consumer groups.
    List,
    /// Show the members of a group, what they have committed and how far behind they are.
    Describe {
        /// Its name.
        group: String,
    },
    /// Delete a group without members, with its committed offsets.
    Delete {
        /// Its name.
        group: String,
    },
}

/// Runs the command.
pub(super) async fn run(args: GroupArgs, json: bool) -> Result<(), CliError> {
    let bootstrap = args.bootstrap;
    let admin = bootstrap.admin().await?;
    match args.command {
        GroupCommand::List => list(&bootstrap, &admin, json).await,
        GroupCommand::Describe { group } => {
            let described = describe(&admin, &group).await.map_err(|e| bootstrap.explain(&e))?;
            show(&described, json)
        }
        GroupCommand::Delete { group } => {
            admin.delete_group(&group).await.map_err(|e| bootstrap.explain(&e))?;
            match json {
                true => text::print_json(&serde_json::json!({ "group": group, "done": "deleted" })),
                false => text::print(&format!("deleted group {group}\n")),
            }
        }
    }
}

#[derive(Serialize)]
struct ListedGroup {
    group: String,
    state: String,
    protocol_type: String,
}

async fn list(bootstrap: &Bootstrap, admin: &Admin, json: bool) -> Result<(), CliError> {
    let groups = admin.list_groups().await.map_err(|e| bootstrap.explain(&e))?;
    let mut listed: Vec<ListedGroup> = groups
        .into_iter()
        .map(|g| ListedGroup { group: g.group_id, state: g.state, protocol_type: g.protocol_type })
        .collect();
    listed.sort_by(|a, b| a.group.cmp(&b.group));
    if json {
        return text::print_json(&listed);
    }
    if listed.is_empty() {
        return text::print("There are no consumer groups.\n");
    }
    let mut table = Table::new(["GROUP", "STATE", "TYPE"]);
    for group in listed {
        table.row([group.group, group.state, group.protocol_type]);
    }
    text::print(&table.render())
}

#[derive(Serialize)]
struct DescribedGroup {
    group: String,
    state: String,
    assignor: String,
    members: Vec<Member>,
    offsets: Vec<Offset>,
}

#[derive(Serialize)]
struct Member {
    member: String,
    client: String,
    host: String,
    assignment: BTreeMap<String, Vec<i32>>,
}

#[derive(Serialize)]
struct Offset {
    topic: String,
    partition: i32,
    committed: i64,
    next_offset: i64,
    lag: i64,
}

async fn describe(admin: &Admin, name: &str) -> Result<DescribedGroup, ClientError> {
    let group = admin.describe_group(name).await?;
    let lags = admin.group_lag(name).await?.into_iter();
    let offsets = lags.filter_map(|lag| {
        let records = lag.records();
        Some(Offset {
            topic: lag.topic,
            partition: lag.partition,
            committed: lag.committed?,
            next_offset: lag.end,
            lag: records,
        })
    });
    let members = group.members.into_iter().map(|m| Member {
        member: m.member_id,
        client: m.client_id,
        host: m.host,
        assignment: m.assignment,
    });
    Ok(DescribedGroup {
        group: group.group_id,
        state: group.state,
        assignor: group.assignor,
        members: members.collect(),
        offsets: offsets.collect(),
    })
}

fn show(group: &DescribedGroup, json: bool) -> Result<(), CliError> {
    if json {
        return text::print_json(group);
    }
    let mut out = format!("group {}, {}", group.group, group.state);
    if !group.assignor.is_empty() {
        out.push_str(&format!(", assigned by {}", group.assignor));
    }
    out.push_str("\n\n");
    let mut offsets = Table::new(["TOPIC", "PARTITION", "COMMITTED", "NEXT", "LAG", "MEMBER"]);
    for offset in &group.offsets {
        let owns = |m: &&Member| {
            m.assignment.get(&offset.topic).is_some_and(|p| p.contains(&offset.partition))
        };
        let owner = group.members.iter().find(owns);
        offsets.row([
            offset.topic.clone(),
            offset.partition.to_string(),
            offset.committed.to_string(),
            offset.next_offset.to_string(),
            offset.lag.to_string(),
            owner.map_or("-".into(), |m| format!("{} ({})", m.member, m.host)),
        ]);
    }
    match offsets.is_empty() {
        true => out.push_str("Nothing was committed yet.\n"),
        false => out.push_str(&offsets.render()),
    }
    if !group.members.is_empty() {
        let mut members = Table::new(["MEMBER", "CLIENT", "HOST", "PARTITIONS"]);
        for m in &group.members {
            let partitions = m.assignment.iter().map(|(topic, p)| {
                format!("{topic}:{}", p.iter().map(i32::to_string).collect::<Vec<_>>().join(","))
            });
            let partitions: Vec<String> = partitions.collect();
            members.row([m.member.clone(), m.client.clone(), m.host.clone(), partitions.join(" ")]);
        }
        out.push('\n');
        out.push_str(&members.render());
    }
    text::print(&out)
}
