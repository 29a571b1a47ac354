//! `millpond acl`: who may do what. Must never decide anything: the node keeps the rules.

use clap::{Args, Subcommand};
use millpond_client::{Acl, AclFilter};
use millpond_wire::permission::{CLUSTER_NAME, MODULES_NAME, Operation, Resource, TRANSFORMS_NAME};
use serde::Serialize;

use super::table::Table;
use super::{Bootstrap, CliError, text};

/// `millpond acl`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  millpond acl add User:sensors write --topic readings
  millpond acl add User:sensors create,describe --topic line- --prefix
  millpond acl add User:report read --topic readings --group report
  millpond acl add User:guest all --topic secrets --deny
  millpond acl add User:ops describe,alter,alter-configs --transforms
  millpond acl add User:ops create --modules
  millpond acl add User:ops all --cluster --host 10.0.0.7
  millpond acl list --principal User:sensors
  millpond acl remove --principal User:guest

Denials come first. Read, write, delete and alter let describe, too. User:* is everybody, and * as a
name is every resource of the kind. --transforms is what runs on the node (describe, alter,
alter-configs), --modules what may be uploaded (create); all else is Kafka's.")]
pub(super) struct AclArgs {
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(subcommand)]
    command: AclCommand,
}

#[derive(Debug, Subcommand)]
enum AclCommand {
    /// Let somebody do something, or forbid it: one rule for each operation on each resource.
    Add {
        /// Whom, as User:NAME; User:* is everybody.
        principal: String,
        /// What, separated by commas: all, read, write, create, delete, alter, describe,
        /// cluster-action, describe-configs, alter-configs, idempotent-write.
        #[arg(value_delimiter = ',', required = true, value_parser = operation)]
        operations: Vec<Operation>,
        #[command(flatten)]
        on: On,
        /// Names are the beginnings of names.
        #[arg(long)]
        prefix: bool,
        /// From this address only.
        #[arg(long, default_value = "*", value_name = "ADDRESS")]
        host: String,
        /// Forbid it.
        #[arg(long)]
        deny: bool,
    },
    /// List rules: all of them, or those that are like this.
    List {
        #[command(flatten)]
        like: Like,
    },
    /// Delete the rules that are like this.
    Remove {
        #[command(flatten)]
        like: Like,
        /// Delete every rule there is.
        #[arg(long)]
        every: bool,
    },
}

/// Resources.
#[derive(Debug, Default, Args)]
struct On {
    /// A topic; may be repeated.
    #[arg(long = "topic", value_name = "NAME")]
    topics: Vec<String>,
    /// A consumer group; may be repeated.
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,
    /// A transactional id; may be repeated.
    #[arg(long = "transactional-id", value_name = "ID")]
    transactional_ids: Vec<String>,
    /// The node as a whole.
    #[arg(long)]
    cluster: bool,
    /// What runs on the node.
    #[arg(long)]
    transforms: bool,
    /// Modules that are uploaded.
    #[arg(long)]
    modules: bool,
}

/// Which rules.
#[derive(Debug, Default, Args)]
struct Like {
    /// About this principal.
    #[arg(long, value_name = "USER:NAME")]
    principal: Option<String>,
    /// Whatever is about this operation.
    #[arg(long, value_parser = operation)]
    operation: Option<Operation>,
    /// With this address.
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
    #[command(flatten)]
    on: On,
    /// Rules for the beginning of names, with exactly this one; without it: rules for exactly this
    /// name.
    #[arg(long)]
    prefix: bool,
}

fn operation(text: &str) -> Result<Operation, String> {
    let wanted = text.replace(['-', '_'], "").to_ascii_lowercase();
    let named = |op: &Operation| format!("{op:?}").to_ascii_lowercase() == wanted;
    Operation::EACH.into_iter().find(named).ok_or_else(|| format!("{text:?} is no operation"))
}

impl On {
    fn resources(&self) -> Vec<(Resource, String)> {
        let named = |resource, names: &[String]| {
            names.iter().map(|name| (resource, name.clone())).collect::<Vec<_>>()
        };
        let mut all = named(Resource::Topic, &self.topics);
        all.extend(named(Resource::Group, &self.groups));
        all.extend(named(Resource::TransactionalId, &self.transactional_ids));
        let own = [
            (self.cluster, CLUSTER_NAME),
            (self.transforms, TRANSFORMS_NAME),
            (self.modules, MODULES_NAME),
        ];
        let own = own.into_iter().filter(|(is_meant, _)| *is_meant);
        all.extend(own.map(|(_, name)| (Resource::Cluster, name.to_owned())));
        all
    }
}

impl Like {
    /// One for each resource, or one for all.
    fn filters(&self) -> Vec<AclFilter> {
        let whoever = AclFilter {
            principal: self.principal.clone(),
            operation: self.operation.map(|operation| operation as i8),
            host: self.host.clone(),
            ..AclFilter::default()
        };
        let resources = self.on.resources();
        if resources.is_empty() {
            return vec![whoever];
        }
        let pattern = Some(pattern(self.prefix));
        let of = |(resource, name): (Resource, String)| AclFilter {
            resource: Some(resource as i8),
            name: Some(name),
            pattern,
            ..whoever.clone()
        };
        resources.into_iter().map(of).collect()
    }
}

const fn pattern(is_prefix: bool) -> i8 {
    if is_prefix { PREFIXED } else { LITERAL }
}

/// Runs the command.
pub(super) async fn run(args: AclArgs, json: bool) -> Result<(), CliError> {
    let bootstrap = args.bootstrap;
    match args.command {
        AclCommand::Add { principal, operations, on, prefix, host, deny } => {
            let permission = if deny { DENY } else { ALLOW };
            let resources = on.resources();
            if resources.is_empty() {
                return Err(CliError::usage("say on what: --topic, --group, --cluster, ..."));
            }
            let rule = |(resource, name): &(Resource, String), operation: &Operation| Acl {
                resource: *resource as i8,
                name: name.clone(),
                pattern: pattern(prefix && *resource != Resource::Cluster),
                principal: principal.clone(),
                host: host.clone(),
                operation: *operation as i8,
                permission,
            };
            let each = resources.iter().flat_map(|on| operations.iter().map(|op| rule(on, op)));
            let acls: Vec<Acl> = each.collect();
            let admin = bootstrap.admin().await?;
            admin.create_acls(acls.clone()).await.map_err(|e| bootstrap.explain(&e))?;
            show(&acls, json)
        }
        AclCommand::List { like } => {
            let admin = bootstrap.admin().await?;
            let mut acls = Vec::new();
            for filter in like.filters() {
                acls.extend(admin.list_acls(&filter).await.map_err(|e| bootstrap.explain(&e))?);
            }
            show(&acls, json)
        }
        AclCommand::Remove { like, every } => {
            let filters = like.filters();
            if filters == [AclFilter::default()] && !every {
                return Err(CliError::usage("say which rules, or --every"));
            }
            let admin = bootstrap.admin().await?;
            let mut acls = Vec::new();
            for filter in filters {
                acls.extend(admin.delete_acls(&filter).await.map_err(|e| bootstrap.explain(&e))?);
            }
            show(&acls, json)
        }
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    principal: &'a str,
    permission: &'static str,
    operation: String,
    resource: String,
    pattern: &'static str,
    name: &'a str,
    host: &'a str,
}

impl<'a> Shown<'a> {
    fn of(acl: &'a Acl) -> Self {
        let unknown = |code: i8| format!("unknown ({code})");
        let operation = Operation::from_code(acl.operation).map(|op| format!("{op:?}"));
        let resource = Resource::from_code(acl.resource).map(|kind| format!("{kind:?}"));
        Shown {
            principal: &acl.principal,
            permission: if acl.permission == DENY { "deny" } else { "allow" },
            operation: operation.unwrap_or_else(|| unknown(acl.operation)),
            resource: resource.unwrap_or_else(|| unknown(acl.resource)),
            pattern: if acl.pattern == PREFIXED { "prefixed" } else { "literal" },
            name: &acl.name,
            host: &acl.host,
        }
    }
}

fn show(acls: &[Acl], json: bool) -> Result<(), CliError> {
    let shown: Vec<Shown<'_>> = acls.iter().map(Shown::of).collect();
    if json {
        return text::print_json(&shown);
    }
    if shown.is_empty() {
        return text::print("There are no such rules. `millpond acl add` makes one.\n");
    }
    let heads = ["PRINCIPAL", "MAY", "OPERATION", "RESOURCE", "PATTERN", "NAME", "HOST"];
    let mut table = Table::new(heads);
    for one in &shown {
        let cells = [
            one.principal,
            one.permission,
            &one.operation,
            &one.resource,
            one.pattern,
            one.name,
            one.host,
        ];
        table.row(cells.map(str::to_owned));
    }
    text::print(&table.render())
}

const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;
const DENY: i8 = 2;
const ALLOW: i8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_written_as_one_likes() {
        for text in ["alter-configs", "AlterConfigs", "ALTER_CONFIGS", "alterconfigs"] {
            assert_eq!(operation(text), Ok(Operation::AlterConfigs), "{text}");
        }
        assert!(operation("reed").is_err());
    }

    #[test]
    fn a_filter_without_a_resource_means_all_and_with_some_one_each() {
        let like = Like { principal: Some("User:a".to_owned()), ..Like::default() };
        let [filter] = &like.filters()[..] else { panic!() };
        assert_eq!((filter.resource, filter.pattern), (None, None));
        let on = On { topics: vec!["t".to_owned()], modules: true, ..On::default() };
        let filters = Like { on, ..Like::default() }.filters();
        let names: Vec<_> = filters.iter().map(|one| one.name.as_deref().unwrap()).collect();
        assert_eq!(names, ["t", MODULES_NAME]);
    }
}
