//! What the command line understands, and how it teaches it.

#![allow(clippy::doc_markdown)] // documentation is what people read as help: no backticks
#![allow(clippy::struct_excessive_bools)] // each is a flag of its own

use std::num::NonZeroUsize;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use domain::ids::{AccountId, ChangeId, Region};
use domain::image::repository_of;
use domain::ledger::change::statuses;
use domain::ledger::history_query::Order;
use serde_json::Value;

use crate::answers::IDENTITIES;
use crate::function::Function;
use crate::service::Service;
use crate::waves::WaveStep;

/// What the process ends with.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done, or nothing was to be done
  1  the request failed; the message says what was and was not changed
  2  the command or the event is wrong
  3  the function could not be called: credentials, permission, name, network
  4  a ledger is broken
  5  temporary failure: the same command (with the same --idempotency-key) may
     succeed later
  6  `plan --exit-code` found differences";

/// Change Amazon ECS services through the updater, and read who changed what.
///
/// Calls the updater and the history function of the hub account through the Lambda API, with your own AWS credentials:
/// whoever may invoke the functions may use this command. It has no rights of its own.
///
/// A SERVICE is named [ACCOUNT/][REGION/]CLUSTER/SERVICE, such as 222222222222/eu-west-1/prod/web, or by the ARN that the
/// console shows. The default is the account and the region of the function.
#[derive(Debug, Parser)]
#[command(
    name = "ecs-updater",
    version,
    max_term_width = 100,
    propagate_version = true,
    subcommand_required = true,
    after_long_help = format!("\
Examples:
  What did a service run on Tuesday, and who changed it?
    ecs-updater history 222222222222/eu-west-1/prod/web --day 2026-11-17
  What would this change? (nothing is changed)
    ecs-updater plan 222222222222/eu-west-1/prod/web --image nginx:1.27
  Change it, and say why
    ecs-updater update 222222222222/eu-west-1/prod/web --image nginx:1.27 \\
      --reason 'release 7'
  Go back to the state before the last change
    ecs-updater restore 222222222222/eu-west-1/prod/web --previous
  Has anybody changed the history?
    ecs-updater verify 222222222222/eu-west-1/prod/web

{EXIT_CODES}"),
    after_help = "Try `ecs-updater help COMMAND` for examples, and --help for exit codes."
)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Which functions, and as whom.
    #[command(flatten)]
    pub shared: SharedArgs,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Every command takes")]
pub(crate) struct SharedArgs {
    /// How answers are printed
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// AWS profile (AWS_PROFILE)
    #[arg(long, global = true)]
    pub profile: Option<String>,
    /// AWS region of the functions (AWS_REGION); the region of the service is part of its name
    #[arg(long, global = true)]
    pub region: Option<String>,
    /// Another endpoint of the Lambda API (AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_LAMBDA)
    #[arg(long, global = true, value_name = "URL", hide_short_help = true)]
    pub endpoint_url: Option<String>,
    /// Name or ARN of the updater function
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        hide_short_help = true,
        env = "ECS_UPDATER_FUNCTION",
        hide_env_values = true,
        default_value = "ecs-updater"
    )]
    pub updater_function: String,
    /// Name or ARN of the history function
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        hide_short_help = true,
        env = "ECS_UPDATER_HISTORY_FUNCTION",
        hide_env_values = true,
        default_value = "ecs-updater-history"
    )]
    pub history_function: String,
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people; with colours on a terminal only, and not if NO_COLOR is set
    Table,
    /// For programs: the body of the function's answer on standard output, or a failure on standard error
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Change a service: its image, its tags, its parameters
    // clap's own would name every option on one line, however wide.
    #[command(override_usage = "ecs-updater update [OPTIONS] <SERVICE> <WHAT…>\n\n\
        WHAT: one or more of --image, --tag, --replace-tags, --set,\n      --force-new-deployment")]
    #[command(after_long_help = "\
Examples:
  One image; the container is found by its repository
    ecs-updater update 222222222222/eu-west-1/prod/web --image nginx:1.27
  Two containers, a tag, and three tasks
    ecs-updater update prod/web --image web=edge:7 --image log=fluent:3 \\
      --tag release=7 --set desiredCount=3 --reason 'release 7'
  Exactly these tags and no others
    ecs-updater update prod/web --tag team=edge --replace-tags
  Only if the service still runs what it ran before
    ecs-updater update prod/web --image nginx:1.27 --expect web:7

APPLIED says that ECS accepted the change, not that the new tasks are healthy:
with --wait, the answer says how the deployment ended.")]
    Update(Update),
    /// Show what an update would change, and change nothing
    // clap's own would name every option on one line, however wide.
    #[command(override_usage = "ecs-updater plan [OPTIONS] <SERVICE> <WHAT…>\n\n\
        WHAT: one or more of --image, --tag, --replace-tags, --set,\n      --force-new-deployment")]
    #[command(after_long_help = "\
Examples:
  ecs-updater plan 222222222222/eu-west-1/prod/web --image nginx:1.27
  Has the desired count drifted? (in a script)
    ecs-updater plan prod/web --set desiredCount=3 --exit-code")]
    Plan(Plan),
    /// Put back the state of a service before a change
    #[command(after_long_help = "\
Puts back the image, the tags and the parameters (except desiredCount, which
belongs to the autoscaler). A restore is a change with a record of its own: the
restore of a restore brings the change back.

Examples:
  Undo the last change of a service
    ecs-updater restore 222222222222/eu-west-1/prod/web --previous
  Show it first, then go back to the state before a certain change
    ecs-updater restore --change 0194f1c0-5e0f-7cc3-9d52-1f2a3b4c5d6e --dry-run
    ecs-updater restore --change 0194f1c0-5e0f-7cc3-9d52-1f2a3b4c5d6e")]
    Restore(RestoreArgs),
    /// Continue the deployment of a change, which waits at a pause hook
    #[command(after_long_help = "\
A deployment with a pause hook (targetType PAUSE) waits until somebody continues
it, or until the hook's time is over. Each hook at which it waits now is
continued; it may come to another one.

Examples:
  Which deployments wait?
    ecs-updater history --status awaiting_action
  Would it continue? Continue it, and say why
    ecs-updater continue 0194f1c0-5e0f-7cc3-9d52-1f2a3b4c5d6e --dry-run
    ecs-updater continue 0194f1c0-5e0f-7cc3-9d52-1f2a3b4c5d6e \\
      --reason 'tested by hand'")]
    Continue(ActionArgs),
    /// Stop the deployment of a change while it is under way, and roll it back
    #[command(after_long_help = "\
ECS returns to what ran before. A deployment that has ended is left alone, and
the answer says how it ended: `restore` undoes its change.

Example:
  ecs-updater stop 0194f1c0-5e0f-7cc3-9d52-1f2a3b4c5d6e --reason 'errors rise'")]
    Stop(ActionArgs),
    /// Show who changed what, where, when, from what, to what, and how it ended
    #[command(after_long_help = "\
Examples:
  The last changes of the whole organization
    ecs-updater history
  One service on one day; an account since Monday; the services with an image
    ecs-updater history 222222222222/eu-west-1/prod/web --day 2026-11-17
    ecs-updater history --account 222222222222 --from 2026-11-16
    ecs-updater history --image registry.example/edge
  One change in full
    ecs-updater history --change 0194f1c0-5e0f-7cc3-9d52-1f2a3b4c5d6e
  Wait until its deployment has ended (exit code 0 if it completed, 5 if no end
  was recorded within --timeout seconds)
    ecs-updater history --change 0194f1c0-5e0f-7cc3-9d52-1f2a3b4c5d6e --follow
  As a page in the browser
    ecs-updater history --web

How a deployment ended is recorded within seconds if ECS sends an event, and
otherwise by the recorder's next sweep; until then its change stays APPLIED.

Times are UTC. --from is inclusive, --to is exclusive (a date as --to includes
that day). Without a service, account, image or change, the range is at most 31
days.")]
    History(History),
    /// Check that nobody has changed the history of a service
    #[command(after_long_help = "\
Every record has the hash of the one before it, so a record that was changed,
removed, added, moved or back-dated is found. The exit code is 4 if a ledger is
broken.

Examples:
  Ask the history function
    ecs-updater verify 222222222222/eu-west-1/prod/web
  Without the function: check a DynamoDB export (JSON lines, also .gz) here
    ecs-updater verify --export data/*.json.gz
  Has anybody rewritten records that the export of yesterday has?
    ecs-updater verify --export today/*.json.gz --against yesterday/*.json.gz

No chain can show that an administrator of the hub account has rewritten a whole
ledger and its head: keep exports where such a person has no access, and compare
them.

Files may overlap: an item that occurs twice and is identical counts once.
Broken ledgers are listed first, and the verdict on all comes last.")]
    Verify(Verify),
    /// List the services of many accounts, divided into waves for a rollout
    // clap's own would name every option on one line, however wide.
    #[command(override_usage = "ecs-updater targets [OPTIONS] <WHERE…>\n\n\
        WHERE: one or more of --organization, --unit, --account")]
    #[command(after_long_help = "\
Reads through the role ecs-updater/ecs-updater-reader of each account, whose
template has to name you in ReaderPrincipalArns. --organization and --unit query
AWS Organizations, from the management account or a delegated administrator's.

Examples:
  Every service edge-* in the prod clusters of a unit, one service first, then a
  tenth of them, then the rest; with the change, as input for a rollout
    ecs-updater targets --unit ou-a1b2-c3d4e5f6 --cluster prod --service 'edge-*' \\
      --waves 1,10%,100% --image registry.example/edge:7 -o json > edge.json
    ecs-updater rollout edge.json
  Services with a tag in two regions, five accounts a wave, the sandbox first
    ecs-updater targets --organization --regions eu-west-1,us-east-1 \\
      --tagged team=edge --by account --wave-size 5 --first 222222222222
  More than 500 services: waves as objects of the results bucket
    ecs-updater targets --organization --waves 1,10%,100% --objects edge-7 \\
      -o json > edge-7.json
    aws s3 cp edge-7 s3://BUCKET/inputs/edge-7 --recursive

An account that cannot be read is named on standard error, and the exit code is
1, because the list is not complete then. --exclude-account omits it.")]
    Targets(Targets),
    /// Change many services wave by wave, and show the progress
    // clap's own would name every option on one line, however wide.
    #[command(override_usage = "ecs-updater rollout [OPTIONS] <FILE>\n       \
        ecs-updater rollout [OPTIONS] --follow <EXECUTION>\n       \
        ecs-updater rollout [OPTIONS] --stop <EXECUTION>")]
    #[command(after_long_help = "\
Starts an execution of the hub's state machine, which does not depend on this
command: after Ctrl-C it goes on.

Examples:
  What would each wave change? (nothing is started)
    ecs-updater rollout edge.json --image registry.example/edge:7 --dry-run
  Start it, and watch
    ecs-updater rollout edge.json --image registry.example/edge:7 \\
      --reason 'release 7'
  Watch it again; stop it after the batches that are running
    ecs-updater rollout --follow arn:aws:states:…:execution:waves:cli-0194f1c0
    ecs-updater rollout --stop arn:aws:states:…:execution:waves:cli-0194f1c0

When an execution stops, the changes that were made stay: the summary has the
events that restore them. The exit code is 1 if a change failed or the rollout
stopped early.")]
    Rollout(Rollout),
    /// Send an event unchanged, and print the answer unchanged
    #[command(after_long_help = "\
Examples:
  ecs-updater invoke event.json
  echo '{\"account_id\": \"222222222222\", \"limit\": 1}' | \\
    ecs-updater invoke --function history -

An event without an idempotency_key is sent only once: if its answer is lost,
the history shows what happened.")]
    Invoke(Invoke),
    /// Print completions for a shell
    #[command(after_long_help = "\
Examples:
  ecs-updater completions bash > /etc/bash_completion.d/ecs-updater
  ecs-updater completions zsh > \"${fpath[1]}/_ecs-updater\"
  ecs-updater completions fish > ~/.config/fish/completions/ecs-updater.fish")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// What is to change.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("wanted")
    .args(["image", "tag", "replace_tags", "set", "force_new_deployment"]).required(true).multiple(true))]
pub(crate) struct UpdateArgs {
    /// [ACCOUNT/][REGION/]CLUSTER/SERVICE, or the service's ARN
    pub service: Service,
    #[command(flatten)]
    pub what: ChangeArgs,
    /// Fail unless the service runs this task definition, such as web:7
    #[arg(long, value_name = "FAMILY:REVISION")]
    pub expect: Option<String>,
    #[command(flatten)]
    pub asked: RequestArgs,
}

/// A change, whatever service it is for.
#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    /// The image; several images, each with its container
    #[arg(long, value_name = "[CONTAINER=]IMAGE")]
    pub image: Vec<String>,
    /// Pin each image to the digest that its registry has for the tag now
    #[arg(long, requires = "image")]
    pub resolve_digest: bool,
    /// Fail if the registry does not have the image
    #[arg(long, requires = "image")]
    pub check_image: bool,
    /// Set this tag of the service; all other tags stay
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub tag: Vec<(String, String)>,
    /// Remove every tag that no --tag names
    #[arg(long)]
    pub replace_tags: bool,
    /// A parameter of UpdateService by its API name, as JSON or text: desiredCount=3
    #[arg(long, value_name = "NAME=VALUE", value_parser = key_and_json)]
    pub set: Vec<(String, Value)>,
    /// Start a new deployment even if nothing differs
    #[arg(long)]
    pub force_new_deployment: bool,
}

/// Who asks, and why.
#[derive(Debug, Args)]
pub(crate) struct RequesterArgs {
    /// Why the change is made; recorded in the history
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Name to record as the requester: a plain name, which is not verified. Default: your user name on this machine
    #[arg(long, value_name = "NAME", env = "ECS_UPDATER_REQUESTED_BY", hide_env_values = true)]
    pub requested_by: Option<String>,
}

/// Who asks, why, and for which request.
#[derive(Debug, Args)]
pub(crate) struct RequestArgs {
    #[command(flatten)]
    pub who: RequesterArgs,
    /// Wait up to SECONDS (0 to 840) for the deployment to finish, and report the result
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(0..=840))]
    pub wait: Option<u16>,
    /// A key that was used before returns the first answer again. Default: a new key
    #[arg(long, value_name = "KEY", hide_short_help = true)]
    pub idempotency_key: Option<String>,
    /// When the event was first sent (RFC 3339), if you send it again under a key of your own. Default: now
    #[arg(long, value_name = "TIME", hide_short_help = true)]
    pub sent_at: Option<DateTime<Utc>>,
}

/// `update`.
#[derive(Debug, Args)]
pub(crate) struct Update {
    #[command(flatten)]
    pub wanted: UpdateArgs,
    /// Show what would change, and change nothing: the same as `plan`
    #[arg(long)]
    pub dry_run: bool,
}

/// `plan`.
#[derive(Debug, Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub wanted: UpdateArgs,
    /// End with exit code 6 if something differs
    #[arg(long)]
    pub exit_code: bool,
}

/// `restore`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").args(["change", "previous"]).required(true))]
pub(crate) struct RestoreArgs {
    /// [ACCOUNT/][REGION/]CLUSTER/SERVICE, or the service's ARN. Default with --change: the service of that change
    #[arg(required_unless_present = "change")]
    pub service: Option<Service>,
    /// Undo this change: what it set, and nothing else
    #[arg(long, value_name = "ID", value_parser = change_id)]
    pub change: Option<String>,
    /// Undo the last change
    #[arg(long)]
    pub previous: bool,
    /// Put back the whole state from before the change, but for the desired count: later changes and those of others are undone, too. See
    /// --dry-run
    #[arg(long)]
    pub exact: bool,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub asked: RequestArgs,
}

/// `continue` and `stop`.
#[derive(Debug, Args)]
pub(crate) struct ActionArgs {
    /// The change whose deployment is meant; the history tells its id
    #[arg(value_name = "CHANGE", value_parser = change_id)]
    pub change: String,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub who: RequesterArgs,
    /// A key that was used before returns the first answer again. Default: a new key
    #[arg(long, value_name = "KEY", hide_short_help = true)]
    pub idempotency_key: Option<String>,
    /// When the event was first sent (RFC 3339), if you send it again under a key of your own. Default: now
    #[arg(long, value_name = "TIME", hide_short_help = true)]
    pub sent_at: Option<DateTime<Utc>>,
}

/// `history`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("about").args(["service", "account", "image", "change"]))]
pub(crate) struct History {
    /// Show the changes of this service: ACCOUNT/[REGION/]CLUSTER/SERVICE, or its ARN
    pub service: Option<Service>,
    /// Show the changes in this account
    #[arg(long, value_name = "ID", value_parser = account_id)]
    pub account: Option<String>,
    /// Show the changes to images of this repository (a tag or digest is ignored)
    #[arg(long, value_name = "REPOSITORY", value_parser = repository)]
    pub image: Option<String>,
    /// Show this change in full
    #[arg(long, value_name = "ID", value_parser = change_id)]
    pub change: Option<String>,
    /// Only changes of this day (UTC)
    #[arg(long, value_name = "YYYY-MM-DD", conflicts_with_all = ["from", "to"])]
    pub day: Option<String>,
    /// Only changes from this day or time on (2026-11-17, or 2026-11-17T08:00:00Z)
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Only changes up to the end of this day, or before this time
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// Only changes with this status
    #[arg(long, ignore_case = true, value_parser = PossibleValuesParser::new(statuses()).map(|status| status.to_ascii_uppercase()))]
    pub status: Option<String>,
    /// Only changes that this requester asked for
    #[arg(long, value_name = "NAME")]
    pub requested_by: Option<String>,
    /// Only changes whose requester the API vouches for (verified), or nobody does (claimed)
    #[arg(long, value_parser = PossibleValuesParser::new(IDENTITIES))]
    pub identity: Option<String>,
    /// For the whole organization, show deployments that the updater did not start too
    #[arg(long)]
    pub external: bool,
    /// How many changes to show at a time
    #[arg(long, value_name = "1-100", default_value_t = 20, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub limit: u8,
    /// The order of the changes
    #[arg(long, value_enum, default_value_t = SortOrder::NewestFirst)]
    pub order: SortOrder,
    /// Show all pages, not only the first
    #[arg(long)]
    pub all: bool,
    /// Continue after another answer: its `next_token`, as `--output json` prints it
    #[arg(long, value_name = "TOKEN", hide_short_help = true)]
    pub next_token: Option<String>,
    /// Keep running and show new changes; with --change, until its deployment has ended
    #[arg(long, conflicts_with_all = ["day", "to", "all", "next_token", "order"])]
    pub follow: bool,
    /// Seconds between two queries of --follow
    #[arg(long, value_name = "SECONDS", default_value_t = 5, hide_short_help = true,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub interval: u64,
    /// Seconds after which --follow of one change ends with exit code 5
    #[arg(long, value_name = "SECONDS", default_value_t = 900, requires = "change", requires = "follow",
          value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub timeout: u64,
    /// Show the history as a page in the browser; Ctrl-C ends it
    #[arg(long, conflicts_with_all = ["follow", "all", "next_token"])]
    pub web: bool,
    /// Print the address of the page, and open no browser
    #[arg(long, requires = "web")]
    pub no_open: bool,
}

/// In which order changes are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortOrder {
    /// The newest first
    NewestFirst,
    /// The oldest first
    OldestFirst,
}

impl SortOrder {
    /// The same on the wire.
    pub(crate) fn order(self) -> Order {
        match self {
            Self::NewestFirst => Order::NewestFirst,
            Self::OldestFirst => Order::OldestFirst,
        }
    }

    /// As the history function names it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NewestFirst => "newest_first",
            Self::OldestFirst => "oldest_first",
        }
    }
}

/// `verify`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("where").args(["service", "export"]).required(true))]
pub(crate) struct Verify {
    /// ACCOUNT/[REGION/]CLUSTER/SERVICE, or the service's ARN
    pub service: Option<Service>,
    /// Check the files of a DynamoDB export instead (JSON lines, also gzipped; - for standard input)
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub export: Vec<PathBuf>,
    /// Files of an older export: everything in them must be in --export, unchanged
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "export")]
    pub against: Vec<PathBuf>,
}

/// `targets`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("where").args(["organization", "unit", "account"]).required(true).multiple(true))]
pub(crate) struct Targets {
    /// Look in all active accounts of the organization
    #[arg(long)]
    pub organization: bool,
    /// Look in the active accounts of this organizational unit or root, and of all units in it
    #[arg(long, value_name = "ID", value_delimiter = ',', value_parser = unit_id)]
    pub unit: Vec<String>,
    /// Look in this account
    #[arg(long, value_name = "ID", value_delimiter = ',', value_parser = AccountId::parse)]
    pub account: Vec<AccountId>,
    /// Do not look in this account
    #[arg(long, value_name = "ID", value_delimiter = ',', value_parser = AccountId::parse)]
    pub exclude_account: Vec<AccountId>,
    /// Look in these regions. Default: the region of the functions
    #[arg(long, value_name = "REGION", value_delimiter = ',', value_parser = Region::parse)]
    pub regions: Vec<Region>,
    /// Only clusters with this name; * stands for any characters and ? for one
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', default_value = "*", hide_default_value = true)]
    pub cluster: Vec<String>,
    /// Only services with this name; * stands for any characters and ? for one
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', default_value = "*", hide_default_value = true)]
    pub service: Vec<String>,
    /// Only services with this tag; * and ? in the value as above. If given several times: with all of these tags
    #[arg(long, value_name = "KEY[=PATTERN]", value_parser = key_and_pattern)]
    pub tagged: Vec<(String, String)>,
    /// How far each wave goes, together with the waves before it: numbers or percentages, such as 1,10%,100%
    #[arg(long, value_name = "STEPS", value_delimiter = ',', conflicts_with = "wave_size")]
    pub waves: Vec<WaveStep>,
    /// The largest size of a wave. Without this and --waves: one wave
    #[arg(long, value_name = "NUMBER")]
    pub wave_size: Option<NonZeroUsize>,
    /// What --waves and --wave-size count
    #[arg(long, value_enum, default_value_t = CutBy::Service)]
    pub by: CutBy,
    /// Put the services of this account first. The others follow in the order of --account, else by account id
    #[arg(long, value_name = "ID", value_delimiter = ',', value_parser = AccountId::parse)]
    pub first: Vec<AccountId>,
    /// Write each wave into a file in this folder, for the results bucket: needed for more than 500 services
    #[arg(long, value_name = "FOLDER")]
    pub objects: Option<PathBuf>,
    #[command(flatten)]
    pub pace: RolloutPace,
    #[command(flatten)]
    pub what: ChangeArgs,
    /// Path and name of the reader role
    #[arg(
        long,
        value_name = "NAME",
        env = "ECS_UPDATER_READER_ROLE",
        hide_env_values = true,
        hide_short_help = true,
        default_value = "ecs-updater/ecs-updater-reader"
    )]
    pub reader_role: String,
    /// The external id that the reader role requires
    #[arg(long, value_name = "ID", env = "ECS_UPDATER_EXTERNAL_ID", hide_env_values = true)]
    pub external_id: Option<String>,
}

/// What `--waves` and `--wave-size` count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CutBy {
    /// Services
    Service,
    /// Accounts: all services of an account are in the same wave
    Account,
}

/// How a rollout goes from wave to wave.
#[derive(Debug, Args)]
pub(crate) struct RolloutPace {
    /// Seconds to wait after each wave before its results are checked
    #[arg(long, value_name = "SECONDS")]
    pub bake_seconds: Option<u32>,
    /// Stop if more than this share of the targets of a wave failed
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub tolerated_failure_percentage: Option<u8>,
}

/// `rollout`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").args(["file", "follow", "stop"]).required(true))]
pub(crate) struct Rollout {
    /// The file with the waves, as `targets -o json` writes it; - for standard input
    pub file: Option<PathBuf>,
    /// Show the progress of the execution with this ARN
    #[arg(long, value_name = "EXECUTION", value_parser = execution_arn)]
    pub follow: Option<String>,
    /// Stop the execution with this ARN
    #[arg(long, value_name = "EXECUTION", value_parser = execution_arn)]
    pub stop: Option<String>,
    #[command(flatten)]
    pub what: ChangeArgs,
    #[command(flatten)]
    pub pace: RolloutPace,
    #[command(flatten)]
    pub who: RequesterArgs,
    /// Check the input and show what each wave would do; start nothing
    #[arg(long, requires = "file")]
    pub dry_run: bool,
    /// Start the rollout, and do not wait for its end
    #[arg(long, requires = "file")]
    pub detach: bool,
    /// Name of the execution: the same name with the same input is the same execution. Default: a new name
    #[arg(long, value_name = "NAME", requires = "file", hide_short_help = true)]
    pub name: Option<String>,
    /// ARN of the state machine, output WavesArn of hub.yaml
    #[arg(long, value_name = "ARN", env = "ECS_UPDATER_STATE_MACHINE", hide_env_values = true)]
    pub state_machine: Option<String>,
    /// Seconds between two queries
    #[arg(long, value_name = "SECONDS", default_value_t = 5, hide_short_help = true,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub interval: u64,
}

/// `invoke`.
#[derive(Debug, Args)]
pub(crate) struct Invoke {
    /// The file with the event. Default, and with -: standard input
    #[arg(default_value = "-", hide_default_value = true)]
    pub event: PathBuf,
    /// Which function to call
    #[arg(long, value_enum, default_value_t = Function::Updater)]
    pub function: Function,
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

fn key_and_json(text: &str) -> Result<(String, Value), String> {
    let (key, value) = key_and_value(text)?;
    let value = match serde_json::from_str(&value) {
        Ok(json) => json,
        // A word is a text without quotes; what begins like JSON was meant to be JSON.
        Err(fault) if value.starts_with(['{', '[', '"']) => return Err(format!("{key} is not JSON: {fault}")),
        Err(_) => value.into(),
    };
    Ok((key, value))
}

fn key_and_pattern(text: &str) -> Result<(String, String), String> {
    if text.contains('=') { key_and_value(text) } else { Ok((text.to_owned(), "*".to_owned())) }
}

/// `ou-…` or `r-…`, as the Organizations API has them ("ParentId").
fn unit_id(text: &str) -> Result<String, String> {
    let known = text.strip_prefix("ou-").or_else(|| text.strip_prefix("r-"));
    match known {
        Some(rest) if !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') => {
            Ok(text.to_owned())
        }
        _ => Err("expected the id of an organizational unit or root, such as ou-a1b2-c3d4e5f6".to_owned()),
    }
}

fn execution_arn(text: &str) -> Result<String, String> {
    match text.split(':').collect::<Vec<_>>()[..] {
        ["arn", _, "states", _, _, "execution", _, _] => Ok(text.to_owned()),
        _ => Err("expected the ARN of an execution (arn:aws:states:REGION:ACCOUNT:execution:NAME:ID)".to_owned()),
    }
}

fn account_id(text: &str) -> Result<String, String> {
    AccountId::parse(text).map(|id| id.to_string())
}

fn change_id(text: &str) -> Result<String, String> {
    ChangeId::parse(text).map(|id| id.to_string())
}

#[allow(clippy::unnecessary_wraps)] // clap's form of a parser
fn repository(text: &str) -> Result<String, String> {
    Ok(repository_of(text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn parameters_are_json_or_words() {
        assert_eq!(key_and_json("desiredCount=3").unwrap().1, 3);
        assert_eq!(key_and_json("platformVersion=1.4.0").unwrap().1, "1.4.0");
        assert_eq!(key_and_json("loadBalancers=[]").unwrap().1, serde_json::json!([]));
        assert_eq!(key_and_json("x=null").unwrap().1, Value::Null);
        assert!(key_and_json("x={").is_err());
        assert!(key_and_json("=3").is_err());
    }
}
